// Operands of the bfloat16 engine in shared memory. One step of a product takes kDepth values of k; a tile of
// an operand for it is kept as it lies in memory, in rows of 128 bytes: one row per outer index, or (k_rows)
// one row per k and 64 outer indices, such panels one after another. The eight 16 byte chunks of a row are
// swizzled, chunk ^ row % 8, so that eight rows of one column of chunks touch all banks; both kinds of tensor
// instruction read this. A thread copies, and changes, the same chunks every time.
#pragma once
#include "cuda/device/pack.cuh"
#include "cuda/gemm_gelu.cuh"
#include "cuda/gemm_tensor.cuh"

namespace qm::cuda {

constexpr int kDepth = 64;
constexpr int kRowBytes = 128;
constexpr int kPanelBytes = kDepth * kRowBytes;
constexpr int kChunk = 8;  // elements

template <int kOuter, bool kKRows>
constexpr int kOperandBytes = kKRows ? (kOuter + 63) / 64 * kPanelBytes : kOuter * kRowBytes;

/// One operand of a block: outer indices from `outer` on of a matrix that has `outers` of them.
struct Source {
  const bf16* data;  // at the block's first k
  int64_t pitch;
  int64_t outer;
  int64_t outers;
  int width;  // bytes that copies can move at once: 16, 4 or 2
};

__device__ __forceinline__ int64_t clamp(int64_t x, int64_t high) {
  return x < 0 ? 0 : (x < high ? x : high);
}

/// Values of k that a step multiplies, a multiple of 16: zeros fill it up.
__device__ __forceinline__ int step_depth(int step, int64_t k_count) {
  const int64_t left = k_count - int64_t{step} * kDepth;
  return left >= kDepth ? kDepth : max(static_cast<int>(left + 15) / 16, 1) * 16;
}

/// Which chunks of a tile are this thread's: `chunk` of every kRowsAtOnce-th row from `first` on.
template <int kOuter, bool kKRows>
struct Share {
  static constexpr int kAcross = kKRows ? kOuter / kChunk : 8;
  static constexpr int kLanes = kAcross > 16 ? 32 : (kAcross > 8 ? 16 : (kAcross > 2 ? 8 : 2));
  static constexpr int kRowsAtOnce = kThreads / kLanes;
  static constexpr int kRows = kKRows ? kDepth : kOuter;
  static constexpr int kPasses = (kRows + kRowsAtOnce - 1) / kRowsAtOnce;
  static_assert(kAcross <= kLanes && kRowsAtOnce % 8 == 0, "the swizzle is the same in every pass");
  int chunk, first, rows;  // of rows, those that a step needs

  __device__ __forceinline__ explicit Share(int depth)
      : chunk(static_cast<int>(threadIdx.x) % kLanes), first(static_cast<int>(threadIdx.x) / kLanes) {
    rows = chunk >= kAcross || (!kKRows && chunk * kChunk >= depth) ? 0 : (kKRows ? depth : kOuter);
  }
  __device__ __forceinline__ bool has(int pass) const { return first + pass * kRowsAtOnce < rows; }
  __device__ __forceinline__ int offset() const {
    return chunk / 8 * kPanelBytes + first * kRowBytes + ((chunk % 8 ^ first % 8) << 4);
  }
  static constexpr int kPassBytes = kRowsAtOnce * kRowBytes;
};

/// For rows that 16 byte copies cannot read. `valid` elements exist, the rest becomes zero.
__device__ __forceinline__ void copy_chunk_narrow(unsigned char* to, const bf16* from, int valid, int width) {
  if (width == 4) {
#pragma unroll
    for (int j = 0; j < 4; j++)
      copy_async_4(shared_address(to) + 4 * j, from + 2 * j, min(max(valid - 2 * j, 0), 2) * 2);
  } else {
    bf16* elements = reinterpret_cast<bf16*>(to);
#pragma unroll
    for (int j = 0; j < kChunk; j++) elements[j] = j < valid ? from[j] : narrow<bf16>(0.0f);
  }
}

/// Starts the copies of one step. Elements outside of the matrix, or of the block's k, become zero.
template <int kOuter, bool kKRows>
__device__ __forceinline__ void copy_operand(unsigned char* tile, const Source& s, int step,
                                             int64_t k_count) {
  using S = Share<kOuter, kKRows>;
  const S share(step_depth(step, k_count));
  const int64_t k = int64_t{step} * kDepth, row = (kKRows ? k : s.outer) + share.first;
  const int64_t along = (kKRows ? s.outer : k) + share.chunk * kChunk;
  const int valid = static_cast<int>(clamp((kKRows ? s.outers : k_count) - along, kChunk));
  const int rows = static_cast<int>(clamp((kKRows ? k_count : s.outers) - row, S::kRows));
  const bf16* from = s.data + row * s.pitch + along;
  const int64_t pass_pitch = S::kRowsAtOnce * s.pitch;
  if (s.width == 16) {
    const uint32_t to = shared_address(tile) + share.offset();
#pragma unroll
    for (int pass = 0; pass < S::kPasses; pass++, from += pass_pitch)
      if (share.has(pass))
        copy_async_16(to + pass * S::kPassBytes, from, pass * S::kRowsAtOnce < rows ? valid * 2 : 0);
  } else {
#pragma unroll 1
    for (int pass = 0; pass < S::kPasses; pass++, from += pass_pitch)
      if (share.has(pass))
        copy_chunk_narrow(tile + share.offset() + pass * S::kPassBytes, from,
                          pass * S::kRowsAtOnce < rows ? valid : 0, s.width);
  }
}

/// gelu of the chunks that this thread copied, once they have arrived. gelu(0) = 0: the filling stays.
template <int kOuter, bool kKRows>
__device__ __forceinline__ void gelu_operand(unsigned char* tile, int depth) {
  using S = Share<kOuter, kKRows>;
  const S share(depth);
  uint32_t* words = reinterpret_cast<uint32_t*>(tile + share.offset());
#pragma unroll
  for (int pass = 0; pass < S::kPasses; pass++, words += S::kPassBytes / 4) {
    if (!share.has(pass)) continue;
    Pack<uint32_t, 4> pack = load_pack<uint32_t, 4>(words);
#pragma unroll
    for (int j = 0; j < 4; j++)
      pack.v[j] = pack_bf16(gelu_near(low_half(pack.v[j])), gelu_near(high_half(pack.v[j])));
    store_pack<uint32_t, 4>(words, pack);
  }
}

}  // namespace qm::cuda
