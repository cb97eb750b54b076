// The product of a warpgroup (four warps, Hopper only): both operands stay in shared memory, the sums in
// registers, and the instruction runs on while the warps go on. Elsewhere these functions are empty and
// kernels that use them are not launched.
#pragma once
#include "cuda/kernel.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define QM_WARPGROUP(...) asm volatile(__VA_ARGS__)
#define QM_HAS_WARPGROUP true
#else
#define QM_WARPGROUP(...)
#define QM_HAS_WARPGROUP false
#endif

namespace qm::cuda {

constexpr bool kHasWarpgroup = QM_HAS_WARPGROUP;  // in the code being compiled

/// Makes shared memory that this thread wrote (its finished copies too) visible to the products.
__device__ __forceinline__ void publish_to_warpgroups() {
  QM_WARPGROUP("fence.proxy.async.shared::cta;" ::: "memory");
}
/// Products follow: before the first one, and whenever other instructions have used the sums.
__device__ __forceinline__ void begin_products() { QM_WARPGROUP("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit_products() {
  QM_WARPGROUP("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void wait_products() {
  QM_WARPGROUP("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
/// After this the sums may be used. The compiler must not see them as known before.
template <int kBlocks>
__device__ __forceinline__ void finish_products(float (&d)[kBlocks][4]) {
  wait_products<0>();
#pragma unroll
  for (int j = 0; j < kBlocks; j++)
    QM_WARPGROUP("" : "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])::"memory");
}

/// An operand in rows of 128 bytes whose 16 byte chunks are swizzled, chunk ^ row % 8, 8 rows in 1024 bytes.
/// `panel_bytes` leads from 64 outer elements to the next 64 where rows run along k (with rows along the
/// outer index it has no meaning).
__device__ __forceinline__ uint64_t describe_operand(uint32_t address, uint32_t panel_bytes) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kEightRows = uint64_t{1024 >> 4} << 32;
  return kSwizzle128 | kEightRows | uint64_t{panel_bytes >> 4} << 16 | uint64_t{(address & 0x3ffff) >> 4};
}

#define QM_SUM(j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
#define QM_SUMS_16(j) QM_SUM(j), QM_SUM(j + 1), QM_SUM(j + 2), QM_SUM(j + 3)
#define QM_SUMS_32(j) QM_SUMS_16(j), QM_SUMS_16(j + 4)
#define QM_REGISTERS_0 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define QM_REGISTERS_1 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define QM_REGISTERS_2 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define QM_REGISTERS_3 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define QM_REGISTERS_4 "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define QM_REGISTERS_5 "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define QM_REGISTERS_6 \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define QM_REGISTERS_7 \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

/// D [64, kN] = A [64, 16] B [16, kN], or += with accumulate. d[j] holds columns 8 j + 2 (lane % 4) + {0, 1}
/// of rows lane / 4 and lane / 4 + 8 of the warp's sixteen. kRowsAlongK: k is the row index of an operand's
/// memory.
template <int kN, bool kARowsAlongK, bool kBRowsAlongK>
__device__ __forceinline__ void multiply_warpgroup(float (&d)[kN / 8][4], uint64_t a, uint64_t b,
                                                   bool accumulate) {
  static_assert(kN == 96 || kN == 128 || kN == 192 || kN == 256);
  if constexpr (kN == 96)
    QM_WARPGROUP(
        "{.reg .pred p; setp.ne.b32 p, %50, 0;"
        "wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 {" QM_REGISTERS_0 ", " QM_REGISTERS_1
        ", " QM_REGISTERS_2 "}, %48, %49, p, 1, 1, %51, %52;}"
        : QM_SUMS_32(0), QM_SUMS_16(8)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(int{kARowsAlongK}), "n"(int{kBRowsAlongK}));
  else if constexpr (kN == 128)
    QM_WARPGROUP(
        "{.reg .pred p; setp.ne.b32 p, %66, 0;"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" QM_REGISTERS_0 ", " QM_REGISTERS_1
        ", " QM_REGISTERS_2 ", " QM_REGISTERS_3 "}, %64, %65, p, 1, 1, %67, %68;}"
        : QM_SUMS_32(0), QM_SUMS_32(8)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(int{kARowsAlongK}), "n"(int{kBRowsAlongK}));
  else if constexpr (kN == 192)
    QM_WARPGROUP(
        "{.reg .pred p; setp.ne.b32 p, %98, 0;"
        "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {" QM_REGISTERS_0 ", " QM_REGISTERS_1
        ", " QM_REGISTERS_2 ", " QM_REGISTERS_3 ", " QM_REGISTERS_4 ", " QM_REGISTERS_5
        "}, %96, %97, p, 1, 1, %99, %100;}"
        : QM_SUMS_32(0), QM_SUMS_32(8), QM_SUMS_32(16)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(int{kARowsAlongK}), "n"(int{kBRowsAlongK}));
  else
    QM_WARPGROUP(
        "{.reg .pred p; setp.ne.b32 p, %130, 0;"
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" QM_REGISTERS_0 ", " QM_REGISTERS_1
        ", " QM_REGISTERS_2 ", " QM_REGISTERS_3 ", " QM_REGISTERS_4 ", " QM_REGISTERS_5 ", " QM_REGISTERS_6
        ", " QM_REGISTERS_7 "}, %128, %129, p, 1, 1, %131, %132;}"
        : QM_SUMS_32(0), QM_SUMS_32(8), QM_SUMS_32(16), QM_SUMS_32(24)
        : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(int{kARowsAlongK}), "n"(int{kBRowsAlongK}));
}

#undef QM_SUM
#undef QM_SUMS_16
#undef QM_SUMS_32
#undef QM_REGISTERS_0
#undef QM_REGISTERS_1
#undef QM_REGISTERS_2
#undef QM_REGISTERS_3
#undef QM_REGISTERS_4
#undef QM_REGISTERS_5
#undef QM_REGISTERS_6
#undef QM_REGISTERS_7
#undef QM_WARPGROUP
#undef QM_HAS_WARPGROUP

}  // namespace qm::cuda
