// The formulas of native/formulas for one lane. Include inside no namespace; they land in qm::cuda.
#pragma once
#include "cuda/kernel.cuh"

namespace qm::cuda {

using VecF32 = float;
using VecF64 = double;
using VecI32 = int32_t;
using VecI64 = int64_t;

template <class T>
QM_INLINE T splat(T x) {
  return x;
}
QM_INLINE float same(float, double c) { return static_cast<float>(c); }
QM_INLINE double same(double, double c) { return c; }
QM_INLINE float mul_add(float a, float b, float c) { return fmaf(a, b, c); }
QM_INLINE double mul_add(double a, double b, double c) { return fma(a, b, c); }
template <class To, class From>
QM_INLINE To same_bits(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  memcpy(&y, &x, sizeof(y));
  return y;
}
QM_INLINE int32_t as_int(float x) { return same_bits<int32_t>(x); }
QM_INLINE int64_t as_int(double x) { return same_bits<int64_t>(x); }
QM_INLINE float as_float(int32_t x) { return same_bits<float>(x); }
QM_INLINE double as_float(int64_t x) { return same_bits<double>(x); }
QM_INLINE float to_float(int32_t x) { return static_cast<float>(x); }
template <class V, class Fn>
QM_INLINE V per_lane(V x, Fn fn) {
  return fn(x);
}
template <class T>
QM_INLINE T at_most(T x, T c) {
  return x > c ? c : x;
}
template <class T>
QM_INLINE T at_least(T x, T c) {
  return x < c ? c : x;
}
/// In two halves, so that neither leaves the normal range.
QM_INLINE float times_power_of_2(float x, float n) {
  const int32_t k = static_cast<int32_t>(n), half = k >> 1;
  return x * as_float((half + 127) << 23) * as_float((k - half + 127) << 23);
}
QM_INLINE double times_power_of_2(double x, double n) {
  const int64_t k = static_cast<int64_t>(n), half = k >> 1;
  return x * as_float((half + 1023) << 52) * as_float((k - half + 1023) << 52);
}
template <class T>
QM_INLINE T square_rest(T x, T s) {
  return mul_add(x, x, -s);
}

#include "formulas/elementwise.h"

}  // namespace qm::cuda
