// Several elements moved by one instruction.
#pragma once
#include "cuda/kernel.cuh"

namespace qm::cuda {

template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T v[N];
};

/// Elements in 16 bytes.
template <class T>
constexpr int kPack = 16 / static_cast<int>(sizeof(T));

template <class T, int N = kPack<T>>
__device__ __forceinline__ Pack<T, N> load_pack(const T* p) {
  return *reinterpret_cast<const Pack<T, N>*>(p);
}
template <class T, int N = kPack<T>>
__device__ __forceinline__ void store_pack(T* p, const Pack<T, N>& v) {
  *reinterpret_cast<Pack<T, N>*>(p) = v;
}

template <int N>
inline bool aligned_to(const void* p) {
  return reinterpret_cast<uintptr_t>(p) % N == 0;
}

}  // namespace qm::cuda
