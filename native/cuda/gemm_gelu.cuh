// GELU and its derivative for operands and results in bfloat16: these errors are far below the rounding that follows.
// float32 and float64 take native/formulas.
#pragma once
#include "cuda/gemm_tensor.cuh"

namespace qm::cuda {

/// |x|, but 13.3 for what is greater and for NaN.
__device__ __forceinline__ float bounded_size(float x) { return fminf(fabsf(x), 13.3f); }

/// 1 - Phi(a) for 0 <= a <= 13.3 as 2^P(a), P fitted to log2 of it: relative error 3.5e-4 up to 3, 9e-4 up to
/// 5, 1 % up to 7.5; 0 at the end. A term more of P is too much where every element of an operand passes.
__device__ __forceinline__ float normal_tail(float a) {
  float p = fmaf(-0.000206668483f, a, 0.0046274825f);
  p = fmaf(p, a, -0.0439788029f);
  p = fmaf(p, a, -0.469884276f);
  p = fmaf(p, a, -1.14696681f);
  return exp2_approximate(fmaf(p, a, -1.0f));
}
__device__ __forceinline__ float normal_cdf_near(float x) {
  const float tail = normal_tail(bounded_size(x));
  return x > 0 ? 1 - tail : tail;
}

/// max(x, 0) - |x| (1 - Phi(|x|)), within 5e-5 and 1e-3 of itself up to -5.
__device__ __forceinline__ float gelu_near(float x) {
  const float size = bounded_size(x);
  return fmaf(-size, normal_tail(size), max_or_nan(x, 0.0f));
}

/// Phi(x) + x phi(x), within 7e-5.
__device__ __forceinline__ float gelu_grad_near(float x) {
  const float density = exp2_approximate(fmaf(x * -0.72134752f, x, -1.32574806f));
  return fmaf(x, density, normal_cdf_near(x));
}

/// Two elements in a word, the first one in its low half.
__device__ __forceinline__ float low_half(uint32_t word) { return __uint_as_float(word << 16); }
__device__ __forceinline__ float high_half(uint32_t word) { return __uint_as_float(word & 0xffff0000u); }

}  // namespace qm::cuda
