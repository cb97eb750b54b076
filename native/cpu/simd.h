// One vector type per element type, as wide as the instruction set has. Built on the compilers' vector
// extensions, so + - * / and comparisons work on it as on a scalar, and `mask ? a : b` selects lanes. Only
// `mul_add` needs more: the build forbids contraction (-ffp-contract=off), and a fused multiply-add is
// written where one is meant.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

// Internal linkage: the same template in two instruction sets must not be merged by the linker.
#define QM_INLINE static inline __attribute__((always_inline))
#define QM_TABLE constexpr

namespace qm::cpu::QM_ISA {

#if defined(__AVX512F__)
constexpr int kVecBytes = 64;
#elif defined(__AVX2__)
constexpr int kVecBytes = 32;
#else
constexpr int kVecBytes = 16;
#endif

using VecF32 = float __attribute__((vector_size(kVecBytes)));
using VecF64 = double __attribute__((vector_size(kVecBytes)));
using VecI32 = int32_t __attribute__((vector_size(kVecBytes)));
using VecI64 = int64_t __attribute__((vector_size(kVecBytes)));

template <class T>
struct VecOf;
template <>
struct VecOf<float> {
  using type = VecF32;
};
template <>
struct VecOf<double> {
  using type = VecF64;
};
template <>
struct VecOf<int32_t> {
  using type = VecI32;
};
template <>
struct VecOf<int64_t> {
  using type = VecI64;
};
template <class T>
using Vec = typename VecOf<T>::type;
template <class T>
constexpr int kLanes = kVecBytes / static_cast<int>(sizeof(T));

template <class T>
QM_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
template <class T>
QM_INLINE void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof(v));
}
// Masked loads and stores where there are any. Not under a sanitizer, which does not see them.
#if defined(__AVX512F__) && !QM_SANITIZED
#define QM_MASKED_AVX512 1
#elif defined(__AVX2__) && !QM_SANITIZED
#define QM_MASKED_AVX2 1
#endif

#if QM_MASKED_AVX2
/// All bits of the first n lanes.
template <class T>
QM_INLINE __m256i first_lanes(int64_t n) {
  if constexpr (sizeof(T) == 4)
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  else
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
#endif

/// The first n lanes, n from 1; the rest are zero.
template <class T>
QM_INLINE Vec<T> load_n(const T* p, int64_t n) {
  if (n >= kLanes<T>) return load(p);
#if QM_MASKED_AVX512
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm512_maskz_loadu_epi32(static_cast<__mmask16>((1u << n) - 1), p);
  else
    return (Vec<T>)_mm512_maskz_loadu_epi64(static_cast<__mmask8>((1u << n) - 1), p);
#elif QM_MASKED_AVX2
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)_mm256_maskload_epi32(reinterpret_cast<const int*>(p), first_lanes<T>(n));
  else
    return (Vec<T>)_mm256_maskload_epi64(reinterpret_cast<const long long*>(p), first_lanes<T>(n));
#else
  Vec<T> v = {};
  std::memcpy(&v, p, static_cast<size_t>(n) * sizeof(T));
  return v;
#endif
}
/// Writes the first n lanes, n from 1.
template <class T>
QM_INLINE void store_n(T* p, Vec<T> v, int64_t n) {
  if (n >= kLanes<T>) return store(p, v);
#if QM_MASKED_AVX512
  if constexpr (sizeof(T) == 4)
    _mm512_mask_storeu_epi32(p, static_cast<__mmask16>((1u << n) - 1), (__m512i)v);
  else
    _mm512_mask_storeu_epi64(p, static_cast<__mmask8>((1u << n) - 1), (__m512i)v);
#elif QM_MASKED_AVX2
  if constexpr (sizeof(T) == 4)
    _mm256_maskstore_epi32(reinterpret_cast<int*>(p), first_lanes<T>(n), (__m256i)v);
  else
    _mm256_maskstore_epi64(reinterpret_cast<long long*>(p), first_lanes<T>(n), (__m256i)v);
#else
  std::memcpy(p, &v, static_cast<size_t>(n) * sizeof(T));
#endif
}
/// Writes past the caches where the instruction set can; p is aligned to a vector. Other threads see it after
/// finish_streams.
template <class T>
QM_INLINE void store_stream(T* p, Vec<T> v) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#elif defined(__AVX2__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#else
  store(p, v);
#endif
}
QM_INLINE void finish_streams() {
#if defined(__AVX2__) || defined(__AVX512F__)
  _mm_sfence();
#endif
}
template <class T>
QM_INLINE Vec<T> splat(T x) {
  return x - Vec<T>{};
}

/// The same bits, and the same number.
QM_INLINE VecI32 as_int(VecF32 x) { return (VecI32)x; }
QM_INLINE VecI64 as_int(VecF64 x) { return (VecI64)x; }
QM_INLINE VecF32 as_float(VecI32 x) { return (VecF32)x; }
QM_INLINE VecF64 as_float(VecI64 x) { return (VecF64)x; }
QM_INLINE VecF32 to_float(VecI32 x) { return __builtin_convertvector(x, VecF32); }

/// The constant c in the type of the first argument: lets a formula be written once for float and double.
QM_INLINE VecF32 same(VecF32, double c) { return splat(static_cast<float>(c)); }
QM_INLINE VecF64 same(VecF64, double c) { return splat(c); }

// Whether mul_add rounds once.
#if defined(__AVX512F__) || defined(__AVX2__) || defined(__ARM_NEON)
#define QM_FUSED 1
#else
#define QM_FUSED 0
#endif

QM_INLINE VecF32 mul_add(VecF32 a, VecF32 b, VecF32 c) {
#if defined(__AVX512F__)
  return (VecF32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (VecF32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_NEON)
  return (VecF32)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}
QM_INLINE VecF64 mul_add(VecF64 a, VecF64 b, VecF64 c) {
#if defined(__AVX512F__)
  return (VecF64)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__AVX2__)
  return (VecF64)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#elif defined(__ARM_NEON)
  return (VecF64)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
#else
  return a * b + c;
#endif
}

#if defined(__AVX512F__)
// gcc 12 takes the forms without a mask for reads of something uninitialised.
#define QM_ALL_LANES static_cast<__mmask16>(-1)
#endif

/// The smaller and the larger of x and c; NaN where x is NaN.
QM_INLINE VecF32 at_most(VecF32 x, VecF32 c) {
#if defined(__AVX512F__)
  return (VecF32)_mm512_maskz_min_ps(QM_ALL_LANES, (__m512)c, (__m512)x);
#elif defined(__AVX2__)
  return (VecF32)_mm256_min_ps((__m256)c, (__m256)x);
#else
  return x > c ? c : x;
#endif
}
QM_INLINE VecF32 at_least(VecF32 x, VecF32 c) {
#if defined(__AVX512F__)
  return (VecF32)_mm512_maskz_max_ps(QM_ALL_LANES, (__m512)c, (__m512)x);
#elif defined(__AVX2__)
  return (VecF32)_mm256_max_ps((__m256)c, (__m256)x);
#else
  return x < c ? c : x;
#endif
}
QM_INLINE VecF64 at_most(VecF64 x, VecF64 c) { return x > c ? c : x; }
QM_INLINE VecF64 at_least(VecF64 x, VecF64 c) { return x < c ? c : x; }

/// x 2^n for a whole n of at most twice the range of exponents.
QM_INLINE VecF32 times_power_of_2(VecF32 x, VecF32 n) {
#if defined(__AVX512F__)
  return (VecF32)_mm512_maskz_scalef_ps(QM_ALL_LANES, (__m512)x, (__m512)n);
#else
  // in two halves, so that neither leaves the normal range
  const VecI32 k = as_int(n + splat(12582912.0f)) - splat(int32_t{0x4b400000});
  const VecI32 k1 = k >> 1, k2 = k - k1;
  return x * as_float((k1 + 127) << 23) * as_float((k2 + 127) << 23);
#endif
}
QM_INLINE VecF64 times_power_of_2(VecF64 x, VecF64 n) {
  const VecI64 k = as_int(n + splat(6755399441055744.0)) - splat(int64_t{0x4338000000000000});
  const VecI64 k1 = k >> 1, k2 = k - k1;
  return x * as_float((k1 + 1023) << 52) * as_float((k2 + 1023) << 52);
}

/// x^2 - s, exact, for s = x^2 rounded.
QM_INLINE VecF32 square_rest(VecF32 x, VecF32 s) {
#if QM_FUSED
  return mul_add(x, x, -s);
#else
  const VecF32 top = as_float(as_int(x) & splat(int32_t{-4096}));  // 12 bits: its square is exact
  return (top * top - s) + (x - top) * (x + top);
#endif
}
QM_INLINE VecF64 square_rest(VecF64 x, VecF64 s) {
#if QM_FUSED
  return mul_add(x, x, -s);
#else
  const VecF64 top = as_float(as_int(x) & splat(int64_t{-134217728}));  // 26 bits
  return (top * top - s) + (x - top) * (x + top);
#endif
}

/// Sum of all lanes, by halves: the same tree for every call.
template <class T, int kBytes>
QM_INLINE T lane_sum_of(const void* lanes) {
  using Wide __attribute__((vector_size(kBytes))) = T;
  if constexpr (kBytes == 2 * sizeof(T)) {
    Wide v;
    std::memcpy(&v, lanes, sizeof(v));
    return v[0] + v[1];
  } else {
    using Half __attribute__((vector_size(kBytes / 2))) = T;
    Half a, b;
    std::memcpy(&a, lanes, sizeof(a));
    std::memcpy(&b, static_cast<const char*>(lanes) + sizeof(a), sizeof(b));
    a += b;
    return lane_sum_of<T, kBytes / 2>(&a);
  }
}
template <class T>
QM_INLINE T lane_sum(Vec<T> v) {
  return lane_sum_of<T, kVecBytes>(&v);
}

/// Lanes of a and b in turn, from their lower or their upper halves.
template <bool kUpper, class T, size_t... L>
QM_INLINE Vec<T> interleave(Vec<T> a, Vec<T> b, std::index_sequence<L...>) {
  constexpr int N = kLanes<T>;
#if defined(__clang__)
  return __builtin_shufflevector(a, b, (L / 2 + (kUpper ? N / 2 : 0) + (L % 2) * N)...);
#else
  using Index = decltype(as_int(a));
  return __builtin_shuffle(a, b, Index{static_cast<int>(L / 2 + (kUpper ? N / 2 : 0) + (L % 2) * N)...});
#endif
}
/// Lane l is the sum of the lanes of vector l, of kLanes vectors in a row: by halves, each step for two vectors.
template <class T>
QM_INLINE Vec<T> lane_sums(const T* vectors) {
  constexpr auto lanes = std::make_index_sequence<kLanes<T>>{};
  Vec<T> v[kLanes<T>];
  for (int r = 0; r < kLanes<T>; r++) v[r] = load(vectors + r * kLanes<T>);
  for (int half = kLanes<T> / 2; half > 0; half /= 2)
    for (int r = 0; r < half; r++)
      v[r] = interleave<false, T>(v[r], v[r + half], lanes) + interleave<true, T>(v[r], v[r + half], lanes);
  return v[0];
}

/// fn applied to each lane: for functions that have no vector form (float64, square root).
template <class V, class Fn>
QM_INLINE V per_lane(V x, Fn fn) {
  V y = x;
  for (size_t l = 0; l < sizeof(V) / sizeof(x[0]); l++) y[l] = fn(x[l]);
  return y;
}

}  // namespace qm::cpu::QM_ISA
