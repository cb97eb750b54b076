// GELU and its derivative for operands and results in bfloat16: 1e-4 is far below the rounding that follows.
// float32 and float64 take native/formulas.
#pragma once
#include "cuda/gemm_tensor.cuh"

namespace qm::cuda {

/// 1 - Phi(a) for a >= 0 as 2^P(a), P fitted to log2 of it on [0, 13.3]: relative error 1e-4 up to 3, 2.4e-4
/// up to 5, 1 % up to the end, where it is 0.
__device__ __forceinline__ float normal_tail(float a) {
  a = fminf(a, 13.3f);
  float p = fmaf(-6.9281532e-07f, a, 3.28315145e-05f);
  p = fmaf(p, a, -0.000649934809f);
  p = fmaf(p, a, 0.00717760529f);
  p = fmaf(p, a, -0.050801795f);
  p = fmaf(p, a, -0.461896718f);
  p = fmaf(p, a, -1.15000021f);
  return exp2_approximate(fmaf(p, a, -1.0f));
}
__device__ __forceinline__ float normal_cdf_near(float x) {
  const float tail = normal_tail(fabsf(x));
  return x > 0 ? 1 - tail : tail;
}

__device__ __forceinline__ float gelu_near(float x) { return x * normal_cdf_near(x); }

/// Phi(x) + x phi(x), within 4e-5.
__device__ __forceinline__ float gelu_grad_near(float x) {
  const float density = exp2_approximate(fmaf(x * -0.72134752f, x, -1.32574806f));
  return fmaf(x, density, normal_cdf_near(x));
}

/// Two elements in a word, the first one in its low half.
__device__ __forceinline__ float low_half(uint32_t word) { return __uint_as_float(word << 16); }
__device__ __forceinline__ float high_half(uint32_t word) { return __uint_as_float(word & 0xffff0000u); }

}  // namespace qm::cuda
