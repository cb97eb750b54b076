// The kernel of float32 products whose operands may be rounded to TF32, for the tensor cores.
//
// A block owns one tile of C, [kRows, kColumns], of one product and one piece of k; its eight warps lie four
// down and two across. Steps of 32 values of k are copied ahead through three stages of shared memory, where
// a tile lies as in memory: rows along k, or (k_rows) rows along the outer index. Fragments are rounded to
// nearest on their way to the tensor cores; sums are float32, over k in ascending order.
#pragma once
#include "cuda/device/pack.cuh"
#include "cuda/gemm.h"
#include "cuda/gemm_tensor.cuh"

namespace qm::cuda {

constexpr int kTf32Stages = 3;
constexpr int kTf32Depth = 32;

struct Tf32Operand {
  const float* data;
  int64_t pitch, outers;
  bool wide;  // 16 bytes can be copied at once
};

struct Tf32Product {
  int64_t m, n, k;
  Tf32Operand a, b;
  float* c;
  int64_t ldc;
  bool wide_c;  // pairs of C, and of h, can be moved at once
  bool gelu_a, gelu_b;
  const float *h, *bias;  // h: for gelu_grad
  int64_t k_piece, piece_stride;
  unsigned row_tiles, column_tiles, pieces;
  Batches batches;
};

/// e^(-x^2 / 2) and Phi(-|x|), to 1e-7 (Abramowitz and Stegun 7.1.26).
struct NormalTail {
  float bell, tail;
  __device__ __forceinline__ explicit NormalTail(float x) {
    const float t = __fdividef(1.0f, fmaf(0.3275911f * 0.70710678f, fabsf(x), 1.0f));
    bell = exp2_approximate(x * x * (-0.5f * 1.44269504f));
    float p = 0.5f * 1.061405429f;
    p = fmaf(p, t, 0.5f * -1.453152027f);
    p = fmaf(p, t, 0.5f * 1.421413741f);
    p = fmaf(p, t, 0.5f * -0.284496736f);
    p = fmaf(p, t, 0.5f * 0.254829592f);
    tail = p * t * bell;
  }
};
__device__ __forceinline__ float gelu_tf32(float x) {
  const NormalTail s(x);
  return x * (x < 0 ? s.tail : 1 - s.tail);
}
__device__ __forceinline__ float gelu_slope_tf32(float x) {
  const NormalTail s(x);
  return (x < 0 ? s.tail : 1 - s.tail) + x * s.bell * 0.39894228f;
}

__device__ __forceinline__ uint32_t round_tf32(float x) {
  uint32_t y;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
  return y;
}

/// d [16, 8] += a [16, 8] b [8, 8]. With g = lane / 4, t = lane % 4, lane holds of a (g, t), (g + 8, t),
/// (g, t + 4), (g + 8, t + 4); of b (t, g), (t + 4, g); of d (g, 2t), (g, 2t + 1) and the same of g + 8.
__device__ __forceinline__ void multiply_add_tf32(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                                  uint32_t b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// A tile of one operand in shared memory. A thread copies, and changes, the same chunks of 4 every time: one
/// of every kRowsAtOnce-th row.
template <int kOuter, bool kKRows>
struct Tf32Tile {
  static constexpr int kRows = kKRows ? kTf32Depth : kOuter, kColumns = kKRows ? kOuter : kTf32Depth;
  /// Padded so that what a warp reads at once, 8 rows of 16 bytes or 4 rows of 32, touches all banks.
  static constexpr int kPitch = kColumns + (kKRows ? 8 : 4);
  static constexpr int kSize = kRows * kPitch;
  static constexpr int kLanes = kColumns > 64 ? 32 : (kColumns > 32 ? 16 : 8);  // of a row, some may idle
  static constexpr int kRowsAtOnce = kThreads / kLanes, kPasses = kRows / kRowsAtOnce;
  static_assert(kRows % kRowsAtOnce == 0 && kColumns <= kLanes * 4);

  __device__ __forceinline__ static int first_row() { return static_cast<int>(threadIdx.x) / kLanes; }
  __device__ __forceinline__ static int first_column() { return static_cast<int>(threadIdx.x) % kLanes * 4; }
  __device__ __forceinline__ static bool idle() { return first_column() >= kColumns; }

  /// Starts the copies of a step; `from` is this thread's first element. Of the tile, outers_left and k_left
  /// exist, the rest becomes zero.
  __device__ __forceinline__ static void copy(float* tile, const float* from, int64_t pitch, bool wide,
                                              int outers_left, int k_left) {
    if (idle()) return;
    const int rows = (kKRows ? k_left : outers_left) - first_row();
    const int columns = (kKRows ? outers_left : k_left) - first_column();
    const uint32_t to = shared_address(tile) + (first_row() * kPitch + first_column()) * 4;
    if (wide) {
      const int bytes = min(max(columns, 0), 4) * 4;
#pragma unroll
      for (int i = 0; i < kPasses; i++)
        copy_async_16(to + i * kRowsAtOnce * kPitch * 4, from + i * kRowsAtOnce * pitch,
                      i * kRowsAtOnce < rows ? bytes : 0);
    } else {
#pragma unroll 1
      for (int i = 0; i < kPasses; i++)
#pragma unroll
        for (int e = 0; e < 4; e++)
          copy_async_4(to + (i * kRowsAtOnce * kPitch + e) * 4, from + i * kRowsAtOnce * pitch + e,
                       i * kRowsAtOnce < rows && e < columns ? 4 : 0);
    }
  }

  /// gelu of the chunks that this thread copied, once they have arrived. gelu(0) = 0: the filling stays.
  __device__ __forceinline__ static void gelu(float* tile) {
    if (idle()) return;
    float* chunk = tile + first_row() * kPitch + first_column();
#pragma unroll 1
    for (int i = 0; i < kPasses; i++, chunk += kRowsAtOnce * kPitch) {
      Pack<float, 4> pack = load_pack(chunk);
#pragma unroll
      for (int e = 0; e < 4; e++) pack.v[e] = gelu_tf32(pack.v[e]);
      store_pack(chunk, pack);
    }
  }

  /// Elements (outer + g, k + t), (outer + g + 8, k + t), and the same of k + 4: of operand A one fragment; of
  /// B the first of two fragments, the second of both, and so on.
  __device__ __forceinline__ static void fragment(uint32_t (&r)[4], const float* tile, int outer, int k) {
    const int lane = threadIdx.x % kWarp;
    if constexpr (kKRows) {
      const float* from = tile + (k + lane % 4) * kPitch + outer + lane / 4;
      r[0] = round_tf32(from[0]);
      r[1] = round_tf32(from[8]);
      r[2] = round_tf32(from[4 * kPitch]);
      r[3] = round_tf32(from[4 * kPitch + 8]);
    } else {
      // a row of an 8 x 8 matrix of 16 bits is 4 floats
      const int row = outer + lane % 16, column = k + lane / 16 * 4;
      load_matrices(r, shared_address(tile) + (row * kPitch + column) * 4);
#pragma unroll
      for (int i = 0; i < 4; i++) r[i] = round_tf32(__uint_as_float(r[i]));
    }
  }
};

template <int kRows_, int kColumns_>
struct Tf32Shape {
  static constexpr int kRows = kRows_, kColumns = kColumns_;
  static constexpr int kWarpRows = kRows / 4, kWarpColumns = kColumns / 2;
  static constexpr int kDown = kWarpRows / 16, kAcross = kWarpColumns / 8;
  static_assert(kWarpRows % 16 == 0 && kWarpColumns % 16 == 0);
};

template <class S, bool kKRowsA, bool kKRowsB>
constexpr size_t kTf32Shared = kTf32Stages * sizeof(float) *
                               (Tf32Tile<S::kRows, kKRowsA>::kSize + Tf32Tile<S::kColumns, kKRowsB>::kSize);

template <class S, bool kKRowsA, bool kKRowsB, bool kGrad>
__global__ void __launch_bounds__(kThreads, 2) gemm_tf32_kernel(const Tf32Product p) {
  using A = Tf32Tile<S::kRows, kKRowsA>;
  using B = Tf32Tile<S::kColumns, kKRowsB>;
  constexpr int kStage = A::kSize + B::kSize;
  float* const shared = reinterpret_cast<float*>(dynamic_shared());

  unsigned index = blockIdx.x;
  const int64_t column = int64_t{index % p.column_tiles} * S::kColumns;
  index /= p.column_tiles;
  const int64_t row = int64_t{index % p.row_tiles} * S::kRows;
  index /= p.row_tiles;
  const int64_t piece = index % p.pieces;
  int64_t batch = index / p.pieces;
  const int64_t c_offset = batch * p.batches.c + piece * p.piece_stride;
  const int64_t k_begin = piece * p.k_piece, k_count = min(p.k - k_begin, p.k_piece);
  const float* a = p.a.data + (kKRowsA ? k_begin * p.a.pitch + row : row * p.a.pitch + k_begin);
  const float* b = p.b.data + (kKRowsB ? k_begin * p.b.pitch + column : column * p.b.pitch + k_begin);
  for (int axis = p.batches.rank - 1; axis >= 0; axis--) {
    a += batch % p.batches.dims[axis] * p.batches.a[axis];
    b += batch % p.batches.dims[axis] * p.batches.b[axis];
    batch /= p.batches.dims[axis];
  }
  a += A::first_row() * p.a.pitch + A::first_column();
  b += B::first_row() * p.b.pitch + B::first_column();
  const int a_left = static_cast<int>(min(p.a.outers - row, int64_t{S::kRows}));
  const int b_left = static_cast<int>(min(p.b.outers - column, int64_t{S::kColumns}));
  const int64_t a_step = kTf32Depth * (kKRowsA ? p.a.pitch : 1);
  const int64_t b_step = kTf32Depth * (kKRowsB ? p.b.pitch : 1);

  int64_t k_left = k_count;  // of what has not been copied yet
  // A group is closed for every step, the ones past the end being empty: their number tells what has arrived.
  const auto copy = [&](int stage) {
    if (k_left > 0) {
      float* to = shared + stage * kStage;
      const int k = static_cast<int>(min(k_left, int64_t{kTf32Depth}));
      A::copy(to, a, p.a.pitch, p.a.wide, a_left, k);
      B::copy(to + A::kSize, b, p.b.pitch, p.b.wide, b_left, k);
      a += a_step;
      b += b_step;
      k_left -= kTf32Depth;
    }
    commit_copies();
  };

  const int warp = threadIdx.x / kWarp;
  const int warp_row = warp % 4 * S::kWarpRows, warp_column = warp / 4 * S::kWarpColumns;
  float sums[S::kDown][S::kAcross][4] = {};
#pragma unroll
  for (int stage = 0; stage < kTf32Stages - 1; stage++) copy(stage);
  int stage = 0, free_stage = kTf32Stages - 1;
  for (int steps = static_cast<int>((k_count + kTf32Depth - 1) / kTf32Depth); steps > 0; steps--) {
    float* tile_a = shared + stage * kStage;
    float* tile_b = tile_a + A::kSize;
    wait_copies<kTf32Stages - 2>();
    if (p.gelu_a) A::gelu(tile_a);
    if (p.gelu_b) B::gelu(tile_b);
    __syncthreads();  // the step has arrived, and the one before it has been multiplied by all
    copy(free_stage);
#pragma unroll
    for (int depth = 0; depth < kTf32Depth; depth += 8) {
      uint32_t fragments_a[S::kDown][4], fragments_b[S::kAcross / 2][4];
#pragma unroll
      for (int i = 0; i < S::kDown; i++) A::fragment(fragments_a[i], tile_a, warp_row + i * 16, depth);
#pragma unroll
      for (int j = 0; j < S::kAcross / 2; j++)
        B::fragment(fragments_b[j], tile_b, warp_column + j * 16, depth);
#pragma unroll
      for (int i = 0; i < S::kDown; i++)
#pragma unroll
        for (int j = 0; j < S::kAcross; j++)
          multiply_add_tf32(sums[i][j], fragments_a[i], fragments_b[j / 2][j % 2],
                            fragments_b[j / 2][j % 2 + 2]);
    }
    free_stage = stage;
    stage = stage + 1 == kTf32Stages ? 0 : stage + 1;
  }

  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int j = 0; j < S::kAcross; j++) {
    const int64_t to_column = column + warp_column + j * 8 + lane % 4 * 2, left = p.n - to_column;
    if (left <= 0) continue;
    float bias[2] = {};
    if (p.bias) {
      bias[0] = p.bias[to_column];
      if (left > 1) bias[1] = p.bias[to_column + 1];
    }
#pragma unroll
    for (int part = 0; part < S::kDown * 2; part++) {
      const int64_t to_row = row + warp_row + part * 8 + lane / 4;
      if (to_row >= p.m) continue;
      const int64_t offset = c_offset + to_row * p.ldc + to_column;
      Pack<float, 2> values;
#pragma unroll
      for (int e = 0; e < 2; e++) values.v[e] = sums[part / 2][j][part % 2 * 2 + e] + bias[e];
      if constexpr (kGrad) {
        Pack<float, 2> h = {};
        if (p.wide_c)
          h = load_pack<float, 2>(p.h + offset);
        else
#pragma unroll
          for (int e = 0; e < 2; e++)
            if (e < left) h.v[e] = p.h[offset + e];
#pragma unroll
        for (int e = 0; e < 2; e++) values.v[e] *= gelu_slope_tf32(h.v[e]);
      }
      if (p.wide_c) {
        store_two(p.c + offset, values.v[0], values.v[1]);
      } else {
#pragma unroll
        for (int e = 0; e < 2; e++)
          if (e < left) p.c[offset + e] = values.v[e];
      }
    }
  }
}

}  // namespace qm::cuda
