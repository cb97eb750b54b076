// Sums and products that are rounded by themselves, never contracted to a multiply-add: where bits must be
// those of another computation, or a difference of equal products must be zero.
#pragma once
#include "cuda/kernel.cuh"

namespace qm::cuda {

__device__ __forceinline__ float times(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double times(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ float plus(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ double plus(double a, double b) { return __dadd_rn(a, b); }

}  // namespace qm::cuda
