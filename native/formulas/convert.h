// Conversions between element types, one element at a time. A device brings QM_INLINE and includes this file
// inside its namespace. Bool and Bf16 name the two element types that C++ has no arithmetic type for.

struct Bool {
  uint8_t byte;
};
struct Bf16 {
  uint16_t bits;
};

/// Float to integer: toward zero, saturating, NaN to 0.
template <class To, class From>
QM_INLINE To saturate(From x) {
  constexpr To low = std::numeric_limits<To>::min(), high = std::numeric_limits<To>::max();
  // as From, `high` may round up to the first value that does not fit, hence >= there
  if (!(x > static_cast<From>(low))) return x == x ? low : To{0};
  return x >= static_cast<From>(high) ? high : static_cast<To>(x);
}

QM_INLINE float bf16_to_float(Bf16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float y;
  __builtin_memcpy(&y, &bits, sizeof(y));
  return y;
}
/// To nearest, ties to even; NaN stays NaN.
QM_INLINE Bf16 float_to_bf16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const uint32_t rounded = bits + 0x7fffu + (bits >> 16 & 1u);
  return {static_cast<uint16_t>((x == x ? rounded : bits | 0x400000u) >> 16)};
}
/// The float next to x towards zero, its last bit set when it is not exact: rounding that again is rounding x
/// once.
QM_INLINE float round_to_odd(double x) {
  const float nearest = static_cast<float>(x);
  const double back = static_cast<double>(nearest);
  uint32_t bits;
  __builtin_memcpy(&bits, &nearest, sizeof(bits));
  if (back != x && x == x) {
    if (__builtin_fabs(back) > __builtin_fabs(x)) bits--;
    bits |= 1u;
  }
  float y;
  __builtin_memcpy(&y, &bits, sizeof(y));
  return y;
}
/// As round_to_odd, for integers that a double cannot hold.
QM_INLINE double integer_to_double_odd(int64_t x) {
  constexpr int64_t exact = int64_t{1} << 53;
  if (x >= -exact && x <= exact) return static_cast<double>(x);
  const int64_t low = x & 0x7ff;  // two's complement: clearing rounds towards -infinity
  return static_cast<double>((x - low) | (low ? int64_t{0x800} : 0));
}

/// `to.from(x)` for every pair of types: Convert<To>::from.
template <class To>
struct Convert {
  template <class From>
  QM_INLINE To from(From x) {
    if constexpr (std::is_same_v<From, Bool>)
      return static_cast<To>(x.byte != 0);
    else if constexpr (std::is_same_v<From, Bf16>)
      return from(bf16_to_float(x));
    else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>)
      return saturate<To>(x);
    else
      return static_cast<To>(x);
  }
};
template <>
struct Convert<Bool> {
  template <class From>
  QM_INLINE Bool from(From x) {
    if constexpr (std::is_same_v<From, Bool>)
      return {static_cast<uint8_t>(x.byte != 0)};
    else if constexpr (std::is_same_v<From, Bf16>)
      return from(bf16_to_float(x));
    else
      return {static_cast<uint8_t>(x != From{0})};
  }
};
template <>
struct Convert<Bf16> {
  template <class From>
  QM_INLINE Bf16 from(From x) {
    if constexpr (std::is_same_v<From, Bf16>)
      return x;
    else if constexpr (std::is_same_v<From, Bool>)
      return float_to_bf16(x.byte != 0 ? 1.0f : 0.0f);
    else if constexpr (std::is_same_v<From, float>)
      return float_to_bf16(x);
    else if constexpr (std::is_same_v<From, double>)
      return float_to_bf16(round_to_odd(x));
    else
      return float_to_bf16(round_to_odd(integer_to_double_odd(static_cast<int64_t>(x))));
  }
};

/// Calls body with a value of the element type of any dtype.
template <class Body>
void dtype_dispatch(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f32:
      return body(float{});
    case DType::f64:
      return body(double{});
    case DType::i32:
      return body(int32_t{});
    case DType::i64:
      return body(int64_t{});
    case DType::u8:
      return body(uint8_t{});
    case DType::boolean:
      return body(Bool{});
    case DType::bf16:
      return body(Bf16{});
  }
}

/// The element that `value` becomes in a dtype, as bits in the low bytes.
static inline uint64_t bits_of(DType dtype, double value) {
  uint64_t bits = 0;
  dtype_dispatch(dtype, [&](auto zero) {
    const auto element = Convert<decltype(zero)>::from(value);
    __builtin_memcpy(&bits, &element, sizeof(element));
  });
  return bits;
}
