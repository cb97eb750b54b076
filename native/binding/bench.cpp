#include "binding/bench.h"

#include <algorithm>
#include <cmath>

#include "bench/bench.h"
#include "binding/convert.h"

namespace qm::binding {

namespace {

constexpr int64_t kMostRounds = int64_t{1} << 24;
constexpr int64_t kMostElements = int64_t{1} << 34;

/// The elements of argument `index`, which must be as many as expected.
template <class T>
T* elements(const Napi::CallbackInfo& info, size_t index, int64_t expected) {
  const Bytes b = bytes(info, index, sizeof(T) == 4 ? DType::f32 : DType::f64);
  if (b.size != static_cast<size_t>(expected) * sizeof(T))
    throw Error(ErrorKind::shape,
                "argument " + std::to_string(index) + " must have " + std::to_string(expected) + " elements");
  return reinterpret_cast<T*>(b.data);
}

bench::ScanSizes sizes_of(const Napi::CallbackInfo& info) {
  const Doubles given = doubles(info, 0);
  if (given.size != 5) throw Error(ErrorKind::shape, "a scan has five sizes");
  double product = 1;
  for (size_t k = 0; k < given.size; k++) {
    if (!(given.data[k] >= 1) || given.data[k] != std::floor(given.data[k]))
      throw Error(ErrorKind::shape, "sizes of a scan are whole numbers of at least 1");
    product *= given.data[k];
  }
  if (product > static_cast<double>(kMostElements)) throw Error(ErrorKind::shape, "the scan is too large");
  const auto size = [&](int k) { return static_cast<int64_t>(given.data[k]); };
  return {size(0), size(1), size(2), size(3), size(4)};
}

template <class T>
void scan(const Napi::CallbackInfo& info) {
  const bench::ScanSizes s = sizes_of(info);
  const int64_t tokens = s.batch * s.length, all = s.directions * s.channels;
  const int64_t u = tokens * s.channels, delta = tokens * all, a = all * s.states;
  const int64_t b = tokens * s.directions * s.states, h = delta * s.states;
  const bench::ScanInputs<T> in{elements<T>(info, 1, u), elements<T>(info, 2, delta), elements<T>(info, 3, a),
                                elements<T>(info, 4, b), elements<T>(info, 5, b)};
  T* y = elements<T>(info, 6, u);
  const bool backward = info.Length() > 8;
  const bool keep = backward || bytes(info, 7, sizeof(T) == 4 ? DType::f32 : DType::f64).size > 0;
  T* states = keep ? elements<T>(info, 7, h) : nullptr;
  if (!backward) return bench::plain_scan(s, in, y, states);
  const T* dy = elements<T>(info, 8, u);
  const bench::ScanGradients<T> grad{elements<T>(info, 9, u), elements<T>(info, 10, delta),
                                     elements<T>(info, 11, a), elements<T>(info, 12, b),
                                     elements<T>(info, 13, b)};
  std::fill_n(grad.u, u, T{0});
  std::fill_n(grad.a, a, T{0});
  std::fill_n(grad.b, b, T{0});
  std::fill_n(grad.c, b, T{0});
  bench::plain_scan(s, in, y, states);
  bench::plain_scan_backward(s, in, states, dy, grad);
}

}  // namespace

Napi::Value multiply_adds(const Napi::CallbackInfo& info) {
  const DType type = dtype(number(info, 0));
  const int64_t rounds = integer(info, 1);
  if (rounds < 1 || rounds > kMostRounds) throw Error(ErrorKind::argument, "rounds must be 1 to 2^24");
  if (type != DType::f32 && type != DType::f64)
    throw Error(ErrorKind::dtype, "multiplyAdds: expected float32 or float64");
  return Napi::Number::New(
      info.Env(), type == DType::f32 ? bench::multiply_adds_f32(rounds) : bench::multiply_adds_f64(rounds));
}

Napi::Value plain_scan(const Napi::CallbackInfo& info) {
  const bool wide = info.Length() > 1 && info[1].IsTypedArray() &&
                    info[1].As<Napi::TypedArray>().TypedArrayType() == napi_float64_array;
  wide ? scan<double>(info) : scan<float>(info);
  return info.Env().Undefined();
}

}  // namespace qm::binding
