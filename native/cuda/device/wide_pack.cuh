// Packs to and from the type that is computed in. A bfloat16 is the upper half of a float, so that two of them
// are widened by one bit operation each, and narrowed by one instruction.
#pragma once
#include "cuda/device/pack.cuh"

namespace qm::cuda {

template <class T, int P>
constexpr bool kPaired = std::is_same_v<T, bf16> && P % 2 == 0;

/// P elements of T as they are kept in registers: bfloat16 in words, which nothing takes apart but widen.
template <class T, int P>
using Kept = std::conditional_t<kPaired<T, P>, Pack<uint32_t, P / 2>, Pack<T, P>>;

template <class T, int P>
__device__ __forceinline__ Kept<T, P> load_kept(const T* p) {
  return *reinterpret_cast<const Kept<T, P>*>(p);
}

template <class T, int P>
__device__ __forceinline__ Pack<Acc<T>, P> widen_kept(const Kept<T, P>& x) {
  Pack<Acc<T>, P> y;
  if constexpr (kPaired<T, P>) {
#pragma unroll
    for (int k = 0; k < P / 2; k++) {
      const uint32_t low = x.v[k] << 16, high = x.v[k] & 0xffff0000u;
      memcpy(&y.v[2 * k], &low, sizeof low);
      memcpy(&y.v[2 * k + 1], &high, sizeof high);
    }
  } else {
#pragma unroll
    for (int k = 0; k < P; k++) y.v[k] = widen(x.v[k]);
  }
  return y;
}

/// To nearest, ties to even.
template <class T, int P>
__device__ __forceinline__ void store_narrow(T* p, const Pack<Acc<T>, P>& x) {
  Kept<T, P> y;
  if constexpr (kPaired<T, P>) {
#pragma unroll
    for (int k = 0; k < P / 2; k++) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(x.v[2 * k], x.v[2 * k + 1]);
      memcpy(&y.v[k], &pair, sizeof pair);
    }
  } else {
#pragma unroll
    for (int k = 0; k < P; k++) y.v[k] = narrow<T>(x.v[k]);
  }
  *reinterpret_cast<Kept<T, P>*>(p) = y;
}

}  // namespace qm::cuda
