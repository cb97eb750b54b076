// The kernel of the bfloat16 engine, C [m, n] = A B^T with float32 sums.
//
// A block of 256 threads owns one panel of C, kWidth columns of one product and one piece of k, and walks
// down its row tiles of 128, every `walkers`-th. Steps of 64 values of k form one sequence across tiles, and
// copies run some steps ahead, so that the next tile arrives while this one is multiplied and stored. Where
// B's panel fits, it stays in shared memory and only A streams. Sums run over k in ascending order; how rows
// are dealt out to blocks changes no bit.
//
// Stores pass no shared memory: the four lanes that share a row exchange words until each holds 16 bytes.
#pragma once
#include "cuda/gemm.h"
#include "cuda/gemm_tile.cuh"
#include "cuda/gemm_warpgroup.cuh"

namespace qm::cuda {

constexpr int kTileRows = 128, kWidestTile = 256;
constexpr int kLeastAhead = 2, kMostAhead = 6;  // steps

/// Eight warps share a tile as (8 / across) x across, each with its rows and columns in blocks of 16 x 8; a
/// warpgroup's instruction gives every warp 16 rows of all columns, and one such product stays in flight.
template <int width, bool warpgroup>
struct Tile {
  static constexpr int kRows = kTileRows;
  static constexpr int kWidth = width;
  static constexpr int kMultipliers = kThreads;
  static constexpr bool kWarpgroup = warpgroup;
  static constexpr int kAcross = warpgroup || width <= 48 ? 1 : 2;
  static constexpr int kWarpRows = kTileRows * kAcross / 8;
  static constexpr int kWarpColumns = width / kAcross;
  static constexpr int kRowBlocks = kWarpRows / 16;
  static constexpr int kColumnBlocks = kWarpColumns / 8;
  static constexpr int kInUse = warpgroup ? 2 : 1;  // stages that products may be reading
  static constexpr int kBlocks = width <= 48 ? 3 : (width <= 128 ? 2 : 1);  // of a multiprocessor
};

/// A tile of gemm_bf16_bulk.cuh: every multiplying warpgroup has 64 rows of all columns.
template <int rows, int width>
struct BulkTile {
  static constexpr int kRows = rows;
  static constexpr int kWidth = width;
  static constexpr int kMultipliers = rows * 2;
  static constexpr bool kWarpgroup = true;
  static constexpr int kWarpRows = 16;
  static constexpr int kWarpColumns = width;
  static constexpr int kRowBlocks = 1;
  static constexpr int kColumnBlocks = width / 8;
  static constexpr int kInUse = 2;
  static constexpr int kBlocks = 1;
};

template <bool a_k_rows, bool b_k_rows, Fuse fuse, class out>
struct Form {
  static constexpr bool kAKRows = a_k_rows;
  static constexpr bool kBKRows = b_k_rows;
  static constexpr Fuse kFuse = fuse;
  using Out = out;
};

template <class Out>
struct Bf16Product {
  int64_t m, n, k;
  const bf16 *a, *b, *h;
  int64_t pitch_a, pitch_b, ldc;
  int width_a, width_b;  // bytes that copies of the operands can move at once
  bool wide_c;           // rows of C (and h) may be stored in chunks: of 16 bytes, or two sums of float
  bool resident;         // B's panel stays in shared memory
  Out* c;
  const float* bias;
  int64_t k_piece;       // a multiple of kDepth, or all
  int64_t piece_stride;  // in C
  int n_tiles, pieces, walkers, stages;
  Batches batches;
};

template <class T, class F>
constexpr int kStageBytes = kOperandBytes<T::kRows, F::kAKRows> + kOperandBytes<T::kWidth, F::kBKRows>;

template <class T>
using Sums = float[T::kRowBlocks][T::kColumnBlocks][4];

/// sums += A B^T for values 16 k16 to 16 k16 + 15 of a step, by the eight warps.
template <class T, class F>
__device__ __forceinline__ void multiply_by_warps(Sums<T>& sums, const unsigned char* tile_a,
                                                  const unsigned char* tile_b, int k16) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int row = warp / T::kAcross * T::kWarpRows, column = warp % T::kAcross * T::kWarpColumns;
  const int in8 = lane % 8, low = lane / 8 % 2, high = lane / 16;  // the row that this lane addresses
  uint32_t a[T::kRowBlocks][4];
#pragma unroll
  for (int i = 0; i < T::kRowBlocks; i++) {
    const int outer = row + i * 16;
    if constexpr (F::kAKRows) {
      const int chunk = outer / kChunk + low, k = k16 * 16 + high * 8 + in8;
      load_transposed(
          a[i], shared_address(tile_a) + chunk / 8 * kPanelBytes + k * kRowBytes + ((chunk % 8 ^ in8) << 4));
    } else {
      load_matrices(a[i], shared_address(tile_a) + (outer + low * 8 + in8) * kRowBytes +
                              (((k16 * 2 + high) ^ in8) << 4));
    }
  }
#pragma unroll
  for (int j = 0; j < T::kColumnBlocks; j += 2) {
    const int outer = column + j * 8;
    uint32_t b[4];  // k halves of the first block, then of the second one
    if constexpr (F::kBKRows) {
      const int chunk = outer / kChunk + high, k = k16 * 16 + low * 8 + in8;
      load_transposed(
          b, shared_address(tile_b) + chunk / 8 * kPanelBytes + k * kRowBytes + ((chunk % 8 ^ in8) << 4));
    } else {
      load_matrices(
          b, shared_address(tile_b) + (outer + high * 8 + in8) * kRowBytes + (((k16 * 2 + low) ^ in8) << 4));
    }
#pragma unroll
    for (int i = 0; i < T::kRowBlocks; i++) {
      multiply_add(sums[i][j], a[i], b[0], b[1]);
      multiply_add(sums[i][j + 1], a[i], b[2], b[3]);
    }
  }
}

/// The same for one step, as products in flight; `accumulate` is false for the first of a tile.
template <class T, class F>
__device__ __forceinline__ void multiply_by_warpgroups(Sums<T>& sums, const unsigned char* tile_a,
                                                       const unsigned char* tile_b, int depth,
                                                       bool accumulate) {
  constexpr int kStepA = (F::kAKRows ? 16 * kRowBytes : 16 * 2) >> 4;  // descriptors count 16 bytes
  constexpr int kStepB = (F::kBKRows ? 16 * kRowBytes : 16 * 2) >> 4;
  // rows of 64 outer indices, or a panel of them, are equally long
  const uint32_t half = threadIdx.x / 128 * kPanelBytes;
  const uint64_t a = describe_operand(shared_address(tile_a) + half, kPanelBytes);
  const uint64_t b = describe_operand(shared_address(tile_b), kPanelBytes);
  // two straight runs: between branches, the compiler would fence every product
  if (depth == kDepth) {
    begin_products();
#pragma unroll
    for (int k16 = 0; k16 < kDepth / 16; k16++)
      multiply_warpgroup<T::kWidth, F::kAKRows, F::kBKRows>(sums[0], a + k16 * kStepA, b + k16 * kStepB,
                                                            accumulate || k16 > 0);
    commit_products();
  } else {
#pragma unroll 1
    for (int k16 = 0; k16 * 16 < depth; k16++) {
      begin_products();
      multiply_warpgroup<T::kWidth, F::kAKRows, F::kBKRows>(sums[0], a + k16 * kStepA, b + k16 * kStepB,
                                                            accumulate || k16 > 0);
      commit_products();
    }
  }
}

/// Of four neighbouring lanes each holds four words; afterwards lane q of them has word q of all four.
__device__ __forceinline__ void transpose_quad(uint32_t (&w)[4]) {
  const bool odd = threadIdx.x & 1, upper = threadIdx.x & 2;
#pragma unroll
  for (int j = 0; j < 4; j += 2) {
    const uint32_t got = __shfl_xor_sync(0xffffffffu, odd ? w[j] : w[j + 1], 1);
    (odd ? w[j] : w[j + 1]) = got;
  }
#pragma unroll
  for (int j = 0; j < 2; j++) {
    const uint32_t got = __shfl_xor_sync(0xffffffffu, upper ? w[j] : w[j + 2], 2);
    (upper ? w[j] : w[j + 2]) = got;
  }
}

/// Where the sums of a warp go.
template <class Out>
struct Place {
  Out* c;         // of the product
  const bf16* h;  // likewise
  int64_t row, column;
  const float* bias;  // in shared memory, from that column on
};

/// Columns in pairs, as they lie in registers.
template <class T, class F, class Out>
__device__ __forceinline__ void store_pairs(const Bf16Product<Out>& p, const Sums<T>& sums,
                                            const Place<Out>& at) {
  const int lane = threadIdx.x % kWarp, pair = lane % 4 * 2;
  const int columns = static_cast<int>(clamp(p.n - at.column - pair, T::kWarpColumns));
#pragma unroll
  for (int i = 0; i < T::kRowBlocks; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int64_t row = at.row + i * 16 + half * 8 + lane / 4, offset = row * p.ldc + at.column + pair;
      if (row >= p.m) continue;
      Out* c = at.c + offset;
#pragma unroll
      for (int j = 0; j < T::kColumnBlocks; j++) {
        float v[2] = {sums[i][j][half * 2] + at.bias[j * 8 + pair],
                      sums[i][j][half * 2 + 1] + at.bias[j * 8 + pair + 1]};
        if constexpr (std::is_same_v<Out, float>) {
          if (p.wide_c) {
            if (j * 8 < columns) store_two(c + j * 8, v[0], v[1]);
            continue;
          }
        }
#pragma unroll
        for (int e = 0; e < 2; e++) {
          if (j * 8 + e >= columns) continue;
          if constexpr (F::kFuse == Fuse::gelu_grad) v[e] *= gelu_grad_near(widen(at.h[offset + j * 8 + e]));
          c[j * 8 + e] = narrow<Out>(v[e]);
        }
      }
    }
}

/// 16 bytes of h, or zeros.
template <class F>
__device__ __forceinline__ Pack<uint32_t, 4> load_h(const bf16* h, bool inside) {
  if constexpr (F::kFuse == Fuse::gelu_grad)
    if (inside) return load_pack<uint32_t, 4>(reinterpret_cast<const uint32_t*>(h));
  return {};
}

/// Four pairs of columns that each of four lanes holds, as 16 bytes a lane: lane q stores pair q of all four
/// at its own `c`, and has the same part of h.
template <class F>
__device__ __forceinline__ void store_four(const float* const (&pairs)[4], const float* const (&bias)[4],
                                           bf16* c, const Pack<uint32_t, 4>& h, bool inside) {
  uint32_t words[4];
  if constexpr (F::kFuse == Fuse::gelu_grad) {
#pragma unroll
    for (int q = 0; q < 4; q++) words[q] = h.v[q];
    transpose_quad(words);
  }
#pragma unroll
  for (int q = 0; q < 4; q++) {
    if constexpr (F::kFuse == Fuse::gelu_grad)
      words[q] = pack_bf16(pairs[q][0] * gelu_grad_near(low_half(words[q])),
                           pairs[q][1] * gelu_grad_near(high_half(words[q])));
    else
      words[q] = pack_bf16(pairs[q][0] + bias[q][0], pairs[q][1] + bias[q][1]);
  }
  transpose_quad(words);
  if (inside) store_16_bytes(c, words);
}

template <class T, class F>
__device__ __forceinline__ void store_chunks(const Bf16Product<bf16>& p, const Sums<T>& sums,
                                             const Place<bf16>& at) {
  constexpr int kLoads = T::kWarpgroup ? 2 : 1;  // of h, that are under way
  constexpr int kAcross = T::kColumnBlocks >= 4 ? T::kColumnBlocks / 4 : 1;
  constexpr int kGroups = T::kRowBlocks * 2 * (T::kColumnBlocks / 4);
  const int lane = threadIdx.x % kWarp, quad_lane = lane % 4;
  const float* bias = at.bias + quad_lane * 2;
  // four column blocks of one row
  const int64_t own_column = at.column + quad_lane * 8, first_row = at.row + lane / 4;
  const int64_t first = first_row * p.ldc + own_column;
  const int columns = static_cast<int>(clamp(p.n - own_column, T::kWarpColumns));
  const int rows = static_cast<int>(clamp(p.m - first_row, T::kWarpRows));
  const auto offset = [&](int group) { return first + group / kAcross * 8 * p.ldc + group % kAcross * 32; };
  const auto inside = [&](int group) { return group / kAcross * 8 < rows && group % kAcross * 32 < columns; };
  Pack<uint32_t, 4> h[kLoads];
#pragma unroll
  for (int group = 0; group < kLoads && group < kGroups; group++)
    h[group] = load_h<F>(at.h + offset(group), inside(group));
#pragma unroll
  for (int group = 0; group < kGroups; group++) {
    const Pack<uint32_t, 4> own_h = h[group % kLoads];
    if (group + kLoads < kGroups)
      h[group % kLoads] = load_h<F>(at.h + offset(group + kLoads), inside(group + kLoads));
    const int i = group / kAcross / 2, half = group / kAcross % 2, j = group % kAcross * 4;
    store_four<F>({&sums[i][j][half * 2], &sums[i][j + 1][half * 2], &sums[i][j + 2][half * 2],
                   &sums[i][j + 3][half * 2]},
                  {bias + j * 8, bias + j * 8 + 8, bias + j * 8 + 16, bias + j * 8 + 24},
                  at.c + offset(group), own_h, inside(group));
  }
  // the last two, of two rows
  if constexpr (T::kColumnBlocks % 4 != 0) {
    constexpr int j = T::kColumnBlocks - 2;
#pragma unroll
    for (int i = 0; i < T::kRowBlocks; i++) {
      const int64_t row = first_row + i * 16 + quad_lane / 2 * 8;
      const int64_t column = at.column + j * 8 + quad_lane % 2 * 8, place = row * p.ldc + column;
      const bool stored = row < p.m && column < p.n;
      store_four<F>({&sums[i][j][0], &sums[i][j + 1][0], &sums[i][j][2], &sums[i][j + 1][2]},
                    {bias + j * 8, bias + j * 8 + 8, bias + j * 8, bias + j * 8 + 8}, at.c + place,
                    load_h<F>(at.h + place, stored), stored);
    }
  }
}

template <class T>
__device__ __forceinline__ void clear(Sums<T>& sums) {
#pragma unroll
  for (int i = 0; i < T::kRowBlocks; i++)
#pragma unroll
    for (int j = 0; j < T::kColumnBlocks; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) sums[i][j][e] = 0;
}

/// The epilogue will read this part of h: it is on its way while the tile is multiplied.
template <class T, class Out>
__device__ __forceinline__ void prefetch_h(const Bf16Product<Out>& p, int64_t c_offset, int64_t row,
                                           int64_t column) {
  constexpr int kLine = 64, kLines = (T::kWidth + kLine - 1) / kLine;
  for (int index = threadIdx.x; index < T::kRows * kLines; index += T::kMultipliers) {
    const int64_t r = row + index / kLines, j = column + index % kLines * kLine;
    if (r < p.m && j < p.n) prefetch_l2(p.h + c_offset + r * p.ldc + j);
  }
}

/// The oldest of the steps under way has arrived.
__device__ __forceinline__ void wait_step(int ahead) {
  static_assert(kMostAhead == 6);
  switch (ahead) {
    case 2:
      return wait_copies<1>();
    case 3:
      return wait_copies<2>();
    case 4:
      return wait_copies<3>();
    case 5:
      return wait_copies<4>();
    default:
      return wait_copies<5>();
  }
}

template <class T, class F>
__global__ void __launch_bounds__(kThreads, T::kBlocks)
    gemm_bf16_kernel(const Bf16Product<typename F::Out> p) {
  if constexpr (T::kWarpgroup && !kHasWarpgroup) return;
  using Out = typename F::Out;
  constexpr int kBytesA = kOperandBytes<kTileRows, F::kAKRows>;
  constexpr int kBytesB = kOperandBytes<T::kWidth, F::kBKRows>;
  extern __shared__ __align__(1024) unsigned char shared[];

  // the panel
  const int panels = gridDim.x / p.walkers, panel = blockIdx.x % panels, piece = panel / p.n_tiles % p.pieces;
  int64_t batch = panel / p.n_tiles / p.pieces;
  const int64_t column = int64_t{panel % p.n_tiles} * T::kWidth;
  const int64_t k_begin = piece * p.k_piece, k_count = min(p.k - k_begin, p.k_piece);
  const int steps = max(static_cast<int>(ceil_div(k_count, kDepth)), 1);
  const int64_t c_offset = batch * p.batches.c + piece * p.piece_stride;
  Source a{p.a + k_begin * (F::kAKRows ? p.pitch_a : 1), p.pitch_a, 0, p.m, p.width_a};
  Source b{p.b + k_begin * (F::kBKRows ? p.pitch_b : 1), p.pitch_b, column, p.n, p.width_b};
  for (int axis = p.batches.rank - 1; axis >= 0; axis--) {
    a.data += batch % p.batches.dims[axis] * p.batches.a[axis];
    b.data += batch % p.batches.dims[axis] * p.batches.b[axis];
    batch /= p.batches.dims[axis];
  }

  // shared memory: the stages (A, and B unless it stays), B's panel step by step, the bias
  const int stage_bytes = kBytesA + (p.resident ? 0 : kBytesB);
  unsigned char* panel_b = shared + p.stages * stage_bytes;
  float* bias = reinterpret_cast<float*>(panel_b + (p.resident ? steps * kBytesB : 0));
  for (int j = threadIdx.x; j < T::kWidth; j += kThreads)
    bias[j] = p.bias && column + j < p.n ? p.bias[column + j] : 0.0f;
  if (p.resident)
    for (int step = 0; step < steps; step++)
      copy_operand<T::kWidth, F::kBKRows>(panel_b + step * kBytesB, b, step, k_count);

  // copies run ahead of the products, over tile borders
  const int ahead = p.stages - T::kInUse;
  const int row_tiles = static_cast<int>(ceil_div(p.m, kTileRows)), first = blockIdx.x / panels;
  int ahead_tile = first, ahead_step = 0, ahead_stage = 0;
  const auto copy_ahead = [&] {
    if (ahead_tile < row_tiles) {
      unsigned char* stage = shared + ahead_stage * stage_bytes;
      a.outer = int64_t{ahead_tile} * kTileRows;
      copy_operand<kTileRows, F::kAKRows>(stage, a, ahead_step, k_count);
      if (!p.resident) copy_operand<T::kWidth, F::kBKRows>(stage + kBytesA, b, ahead_step, k_count);
      if (++ahead_step == steps) {
        ahead_step = 0;
        ahead_tile += p.walkers;
      }
      ahead_stage = ahead_stage + 1 == p.stages ? 0 : ahead_stage + 1;
    }
    commit_copies();
  };
#pragma unroll 1
  for (int i = 0; i < ahead; i++) copy_ahead();

  const int warp = threadIdx.x / kWarp;
  const int warp_row = warp / T::kAcross * T::kWarpRows, warp_column = warp % T::kAcross * T::kWarpColumns;
  int stage_index = 0;
  for (int tile = first; tile < row_tiles; tile += p.walkers) {
    Sums<T> sums;
    if constexpr (F::kFuse == Fuse::gelu_grad) prefetch_h<T>(p, c_offset, int64_t{tile} * kTileRows, column);
    if constexpr (!T::kWarpgroup) clear<T>(sums);
    for (int step = 0; step < steps; step++) {
      unsigned char* tile_a = shared + stage_index * stage_bytes;
      unsigned char* tile_b = p.resident ? panel_b + step * kBytesB : tile_a + kBytesA;
      const int depth = step_depth(step, k_count);
      wait_step(ahead);
      if constexpr (F::kFuse == Fuse::gelu_a) gelu_operand<kTileRows, F::kAKRows>(tile_a, depth);
      if constexpr (F::kFuse == Fuse::gelu_b) gelu_operand<T::kWidth, F::kBKRows>(tile_b, depth);
      if constexpr (T::kWarpgroup) publish_to_warpgroups();
      __syncthreads();
      // Every warp is done with the stage before this one (with products in flight, with the one before
      // that).
      if constexpr (T::kWarpgroup) {
        multiply_by_warpgroups<T, F>(sums, tile_a, tile_b, depth, step > 0);
        copy_ahead();
        wait_products<1>();
      } else {
        copy_ahead();
        if (depth == kDepth) {
#pragma unroll(F::kAKRows || F::kBKRows ? 2 : 4)
          for (int k16 = 0; k16 < kDepth / 16; k16++) multiply_by_warps<T, F>(sums, tile_a, tile_b, k16);
        } else {
#pragma unroll 1
          for (int k16 = 0; k16 * 16 < depth; k16++) multiply_by_warps<T, F>(sums, tile_a, tile_b, k16);
        }
      }
      stage_index = stage_index + 1 == p.stages ? 0 : stage_index + 1;
    }
    if constexpr (T::kWarpgroup) finish_products(sums[0]);
    const Place<Out> at{p.c + c_offset, p.h + c_offset, int64_t{tile} * kTileRows + warp_row,
                        column + warp_column, bias + warp_column};
    if constexpr (std::is_same_v<Out, bf16>)
      if (p.wide_c) {
        store_chunks<T, F>(p, sums, at);
        continue;
      }
    store_pairs<T, F>(p, sums, at);
  }
}

}  // namespace qm::cuda
