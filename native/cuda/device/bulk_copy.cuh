// Boxes of a matrix that the copy engine of Hopper brings to shared memory by itself, the barriers that tell
// of their arrival, and pairs of blocks (clusters) that share what is copied. Elsewhere these functions are
// empty and kernels that use them are not launched. Shared memory is addressed by 32-bit numbers.
#pragma once
#include <cuda.h>

#include "cuda/kernel.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define QM_HOPPER(...) asm volatile(__VA_ARGS__)
#else
#define QM_HOPPER(...)
#endif

namespace qm::cuda {

/// A barrier is eight bytes. A phase ends after `arrivals` and all bytes expected by then; phases alternate
/// between parity 0 and 1.
__device__ __forceinline__ void init_barrier([[maybe_unused]] uint32_t barrier,
                                             [[maybe_unused]] int arrivals) {
  QM_HOPPER("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
/// Shows new barriers to the copy engine and to the other block; a barrier of all threads must follow.
__device__ __forceinline__ void publish_barriers() {
  QM_HOPPER("fence.mbarrier_init.release.cluster;" ::: "memory");
}
/// Waits until the phase of this parity has ended.
__device__ __forceinline__ void wait_barrier([[maybe_unused]] uint32_t barrier, [[maybe_unused]] int parity) {
  QM_HOPPER(
      "{.reg .pred done;\n"
      "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}
/// Arrives, and makes the phase wait for so many bytes of copies.
__device__ __forceinline__ void expect_bytes([[maybe_unused]] uint32_t barrier, [[maybe_unused]] int bytes) {
  QM_HOPPER("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
/// Arrives at the same barrier of a block of the cluster. It orders nothing that this thread wrote: at the scope
/// of a cluster that would cost a fence as slow as a step of a product.
__device__ __forceinline__ void arrive_at([[maybe_unused]] uint32_t barrier, [[maybe_unused]] int block) {
  QM_HOPPER(
      "{.reg .b32 there; mapa.shared::cluster.u32 there, %0, %1;"
      "mbarrier.arrive.shared::cluster.b64 _, [there];}" ::"r"(barrier),
      "r"(block)
      : "memory");
}

/// Copies the map's box at column x and row y; what lies outside of the matrix becomes zero.
__device__ __forceinline__ void copy_box([[maybe_unused]] uint32_t to,
                                         [[maybe_unused]] const CUtensorMap& map, [[maybe_unused]] int x,
                                         [[maybe_unused]] int y, [[maybe_unused]] uint32_t barrier) {
  QM_HOPPER(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3}], "
      "[%4];" ::"r"(to),
      "l"(&map), "r"(x), "r"(y), "r"(barrier)
      : "memory");
}
/// The same to both blocks of a pair, at the same place and barrier of each.
__device__ __forceinline__ void copy_box_to_pair([[maybe_unused]] uint32_t to,
                                                 [[maybe_unused]] const CUtensorMap& map,
                                                 [[maybe_unused]] int x, [[maybe_unused]] int y,
                                                 [[maybe_unused]] uint32_t barrier) {
  QM_HOPPER(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster "
      "[%0], "
      "[%1, {%2, %3}], [%4], %5;" ::"r"(to),
      "l"(&map), "r"(x), "r"(y), "r"(barrier), "h"(static_cast<uint16_t>(3))
      : "memory");
}
__device__ __forceinline__ void prefetch_map([[maybe_unused]] const CUtensorMap& map) {
  QM_HOPPER("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

/// Waits for all threads of all blocks of the cluster; orders no memory but new barriers that were published.
__device__ __forceinline__ void sync_cluster() {
  QM_HOPPER("barrier.cluster.arrive.relaxed;\nbarrier.cluster.wait.acquire;" ::: "memory");
}
/// Waits for the 128 threads of a warpgroup; `id` from 1 on.
__device__ __forceinline__ void sync_warpgroup([[maybe_unused]] int id) {
  QM_HOPPER("bar.sync %0, 128;" ::"r"(id) : "memory");
}

/// Changes how many registers each thread of this warpgroup may have: all warps of it must call.
template <int kCount>
__device__ __forceinline__ void take_registers() {
  QM_HOPPER("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void leave_registers() {
  QM_HOPPER("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}

}  // namespace qm::cuda
#undef QM_HOPPER
