// Division of positions.
#pragma once
#include "cuda/kernel.cuh"

namespace qm::cuda {

/// n / d for 0 <= n, 0 < d: 64-bit division is slow, and seldom needed.
__device__ __forceinline__ int64_t quotient(int64_t n, int64_t d) {
  if (((n | d) >> 32) == 0) return static_cast<uint32_t>(n) / static_cast<uint32_t>(d);
  return n / d;
}
__device__ __forceinline__ int quotient(int n, int d) {
  return static_cast<int>(static_cast<uint32_t>(n) / static_cast<uint32_t>(d));
}

}  // namespace qm::cuda
