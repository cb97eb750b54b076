// Decay, step size and its slope in the precision that each data type asks for.
//
//   scale          rates are A times this, so that decay is a power of 2 where that is cheaper
//   decay(e)       exp of e / scale
//   softplus(x)    log(1 + e^x), the identity above 20, with a small relative error at both ends
//   slope(x, dt)   softplus'(x), the sigmoid, of x and dt = softplus(x)
#pragma once
#include "cuda/device/formulas.cuh"
#include "cuda/device/scan_ptx.cuh"

namespace qm::cuda {

template <class T>
struct ScanMath;

template <int kTerms>
__device__ __forceinline__ float scan_polynomial(float x, const float (&c)[kTerms]) {
  float p = c[kTerms - 1];
#pragma unroll
  for (int k = kTerms - 2; k >= 0; k--) p = fmaf(p, x, c[k]);
  return p;
}

/// bfloat16 data: errors well below its own rounding of 4e-3. Those of dt and of
/// the slope are 2e-7, which is 2e-4 of dt = 0.001.
template <>
struct ScanMath<bf16> {
  static constexpr float scale = 1.44269504f;
  static constexpr float unscale = 0.69314718f;

  __device__ static __forceinline__ float decay(float e) { return fast_exp2(e); }
  __device__ static __forceinline__ float softplus(float x) {
    return fmaf(fast_log2(1.0f + fast_exp2(-fabsf(x) * scale)), unscale, fmaxf(x, 0.0f));
  }
  /// 1 - e^-dt: the sigmoid of x.
  __device__ static __forceinline__ float slope(float, float dt) { return 1.0f - fast_exp2(-dt * scale); }
};

/// float32 data. Decays lie close below 1 and a state multiplies hundreds of them, so that one needs an
/// error that is small and has no bias; the fast exponential serves where an error is not multiplied.
template <>
struct ScanMath<float> {
  static constexpr float scale = 1.44269504f;
  static constexpr float scale_rest = 1.92596303e-8f;  // log2 e = scale + scale_rest
  static constexpr float unscale = 0.69314718f;

  /// Error 7e-8; 0 below 2^-127, infinite from 2^128.
  __device__ static __forceinline__ float decay(float e) {
    e = min_nan(max_nan(e, -127.0f), 128.0f);
    // n = round(e): adding 1.5 * 2^23 + 127 leaves n + 127, the exponent's field, in the low bits
    constexpr float shift = 12583039.0f;
    const float shifted = e + shift;
    const float r = e - (shifted - shift);
    // (2^r - 1) / r on [-1/2, 1/2], fitted at Chebyshev nodes (5e-9)
    constexpr float series[] = {0.6931471881f,   0.2402265076f,   0.05550356682f,
                                0.009618082183f, 0.001339109325f, 0.0001545336197f};
    return fmaf(r, scan_polynomial(r, series), 1.0f) * __int_as_float(__float_as_int(shifted) << 23);
  }
  /// Error 3e-7.
  __device__ static __forceinline__ float softplus(float x) {
    const float t = exp_minus_abs(x);
    // log(1 + t) / t on [0, 1], minimax (5e-9)
    constexpr float series[] = {0.9999999953f,  -0.4999990242f,  0.3332996242f, -0.2495413364f,
                                0.1967593917f,  -0.153055923f,   0.1060365441f, -0.05695952952f,
                                0.01985145982f, -0.003244024608f};
    return fmaf(t, scan_polynomial(t, series), fmaxf(x, 0.0f));
  }
  __device__ static __forceinline__ float slope(float x, float) {
    const float t = exp_minus_abs(x);
    return (x < 0.0f ? t : 1.0f) * fast_reciprocal(1.0f + t);
  }

 private:
  /// e^-|x|, with the rounding of the exponent put back.
  __device__ static __forceinline__ float exp_minus_abs(float x) {
    const float a = -min_nan(fabsf(x), 100.0f);
    const float e = a * scale;
    const float rest = fmaf(a, scale_rest, fmaf(a, scale, -e));
    const float t = fast_exp2(e);
    return fmaf(t, rest * unscale, t);
  }
};

template <>
struct ScanMath<double> {
  static constexpr double scale = 1.0;
  static constexpr double unscale = 1.0;

  __device__ static __forceinline__ double decay(double e) { return exp_of(e); }
  __device__ static __forceinline__ double softplus(double x) { return softplus_of(x); }
  __device__ static __forceinline__ double slope(double x, double) { return x > 20.0 ? 1.0 : sigmoid_of(x); }
};

}  // namespace qm::cuda
