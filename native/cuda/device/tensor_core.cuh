// Copies to shared memory that run behind the threads' backs, and products of bfloat16 tiles. Shared memory
// is addressed by the 32-bit numbers that these instructions take.
#pragma once
#include "cuda/kernel.cuh"

namespace qm::cuda {

/// The dynamic shared memory of the block.
__device__ __forceinline__ char* dynamic_shared() {
  extern __shared__ __align__(128) char qm_dynamic_shared[];
  return qm_dynamic_shared;
}

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

/// 16 bytes from global memory; zeros where `inside` is false, and nothing is read then.
__device__ __forceinline__ void copy_async(uint32_t to, const void* from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from), "r"(inside ? 16 : 0)
               : "memory");
}
/// Closes the group of copies that this thread has begun.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
/// Waits until at most kPending of this thread's groups are under way.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

/// Four 8 x 8 matrices, of whose rows lane l names row l % 8 of matrix l / 8. Lane l gets of each the elements
/// 2 (l % 4) and the next of row l / 4.
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}
/// The same of the transposed matrices.
__device__ __forceinline__ void load_transposed(uint32_t (&r)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}

/// d += a b with a [16, 16] and b [16, 8] of bfloat16, d [16, 8] of float32. With g = lane / 4, t = lane % 4,
/// lane holds of d: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1); of a, as pairs of columns: (g, 2t),
/// (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8); of b, as pairs of rows: (2t, g), (2t + 8, g).
__device__ __forceinline__ void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, "
      "%1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &pair, sizeof(bits));
  return bits;
}

}  // namespace qm::cuda
