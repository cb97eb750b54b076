// The instructions of the selective scan that CUDA C++ has no name for.
#pragma once
#include "cuda/kernel.cuh"

namespace qm::cuda {

/// 2^x to 22 bits; subnormal results are 0.
__device__ __forceinline__ float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/// 1 / x to 23 bits.
__device__ __forceinline__ float fast_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/// log2 to an absolute error of 2^-22 around 1, and a relative one elsewhere.
__device__ __forceinline__ float fast_log2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/// Minimum and maximum that a NaN wins.
__device__ __forceinline__ float min_nan(float a, float b) {
  float y;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
  return y;
}
__device__ __forceinline__ float max_nan(float a, float b) {
  float y;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
  return y;
}

/// address + a b, the product with 64 bits.
template <class T>
__device__ __forceinline__ T* address_plus(T* address, unsigned a, unsigned b) {
  uint64_t sum;
  asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(sum) : "r"(a), "r"(b), "l"(reinterpret_cast<uint64_t>(address)));
  return reinterpret_cast<T*>(sum);
}

/// Stores where `present` is true, without a branch.
template <class P>
__device__ __forceinline__ void store_if(bool present, void* to, const P& value) {
  const auto address = reinterpret_cast<uint64_t>(to);
  const auto flag = static_cast<unsigned>(present);
  if constexpr (sizeof(P) == 2) {
    uint16_t bits;
    memcpy(&bits, &value, sizeof(bits));
    asm volatile("{.reg .pred p; setp.ne.u32 p, %2, 0; @p st.global.b16 [%0], %1;}" ::"l"(address), "h"(bits),
                 "r"(flag)
                 : "memory");
  } else if constexpr (sizeof(P) == 4) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    asm volatile("{.reg .pred p; setp.ne.u32 p, %2, 0; @p st.global.b32 [%0], %1;}" ::"l"(address), "r"(bits),
                 "r"(flag)
                 : "memory");
  } else {
    static_assert(sizeof(P) == 8);
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    asm volatile("{.reg .pred p; setp.ne.u32 p, %2, 0; @p st.global.b64 [%0], %1;}" ::"l"(address), "l"(bits),
                 "r"(flag)
                 : "memory");
  }
}

/// Starts a copy to shared memory that no thread waits for; zeros, and nothing read, where `present` is
/// false. The compiler may move it past other accesses: what was read there before needs a barrier in
/// between.
__device__ __forceinline__ void copy_async16(void* shared, const void* global, bool present) {
  const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(present ? 16 : 0));
}
__device__ __forceinline__ void copy_async4(void* shared, const void* global, bool present) {
  const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(global), "r"(present ? 4 : 0));
}
/// Ends a group of copies; waits for the groups before the last one; waits for all copies. Of this thread.
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
__device__ __forceinline__ void copy_async_wait_but_last() {
  asm volatile("cp.async.wait_group 1;" ::: "memory");
}
__device__ __forceinline__ void copy_async_wait() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/// Makes the compiler load again what it has loaded from shared memory: registers are dearer there.
__device__ __forceinline__ void forget_loads() { asm volatile("" ::: "memory"); }

}  // namespace qm::cuda
