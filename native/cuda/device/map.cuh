// y = fn(x) and y = fn(a, b) over tensors of one shape and dtype, 16 bytes a thread.
#pragma once
#include "cuda/device/pack.cuh"

namespace qm::cuda {

template <class T, class Fn>
__global__ void __launch_bounds__(kThreads) map1_kernel(const T* x, T* y, int64_t n, Fn fn) {
  const int64_t first = (blockIdx.x * int64_t{kThreads} + threadIdx.x) * kPack<T>;
  if (first + kPack<T> <= n) {
    const Pack<T, kPack<T>> a = load_pack(x + first);
    Pack<T, kPack<T>> r;
#pragma unroll
    for (int k = 0; k < kPack<T>; k++) r.v[k] = narrow<T>(fn(widen(a.v[k])));
    store_pack(y + first, r);
  } else {
    for (int64_t i = first; i < n; i++) y[i] = narrow<T>(fn(widen(x[i])));
  }
}

template <class T, class Fn>
__global__ void __launch_bounds__(kThreads) map2_kernel(const T* a, const T* b, T* y, int64_t n, Fn fn) {
  const int64_t first = (blockIdx.x * int64_t{kThreads} + threadIdx.x) * kPack<T>;
  if (first + kPack<T> <= n) {
    const Pack<T, kPack<T>> u = load_pack(a + first), v = load_pack(b + first);
    Pack<T, kPack<T>> r;
#pragma unroll
    for (int k = 0; k < kPack<T>; k++) r.v[k] = narrow<T>(fn(widen(u.v[k]), widen(v.v[k])));
    store_pack(y + first, r);
  } else {
    for (int64_t i = first; i < n; i++) y[i] = narrow<T>(fn(widen(a[i]), widen(b[i])));
  }
}

/// Buffers come whole from the allocator, so that they are aligned.
template <class T, class Fn>
void map1(const Call& call, Fn fn) {
  const int64_t n = call.out[0].numel();
  QM_LAUNCH(call, (map1_kernel<T, Fn>), grid_of(n, kThreads * kPack<T>), kThreads, 0, call.in[0].as<T>(),
            call.out[0].as<T>(), n, fn);
}
template <class T, class Fn>
void map2(const Call& call, Fn fn) {
  const int64_t n = call.out[0].numel();
  QM_LAUNCH(call, (map2_kernel<T, Fn>), grid_of(n, kThreads * kPack<T>), kThreads, 0, call.in[0].as<T>(),
            call.in[1].as<T>(), call.out[0].as<T>(), n, fn);
}

}  // namespace qm::cuda
