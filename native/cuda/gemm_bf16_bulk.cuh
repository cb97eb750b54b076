// The same products on Hopper, where operands start and have rows at 16 bytes: the copy engine fills the
// stages by itself. Two or three warpgroups multiply, 64 rows each of a tile of 128 or 192 rows, and one thread
// of another one orders copies, as far ahead as stages are free, over tile borders. The multiplying warpgroups
// meet only where they free a stage, so that one may store while the other multiplies. Blocks live as long as the
// kernel and take every so many-th tile; sums run over k in ascending order, and how tiles are dealt out
// changes no bit.
//
// Two blocks may be a pair (a cluster): they work on neighbouring tiles, in a column (and share B) or in a row
// (and share A), and each copies half of what is shared to both. Tiles are numbered down groups of kGroupRows
// tiles, column by column, so that those under way at a time share rows and columns in L2.
#pragma once
#include "cuda/device/bulk_copy.cuh"
#include "cuda/gemm_bf16.cuh"

namespace qm::cuda {

constexpr int kGroupRows = 16;
constexpr int kBarrierBytes = 16;  // of a stage
constexpr int64_t kMostStages = 8;

template <class T>
constexpr int kBulkThreads = T::kMultipliers + 128;
/// Registers of a multiplying thread, and of one that copies: together what a multiprocessor has.
template <class T>
constexpr int kMultiplierRegisters = T::kRows == 128 ? 232 : 160;
template <class T>
constexpr int kCopierRegisters = T::kRows == 128 ? 40 : 32;

template <class Out>
struct BulkProduct : Bf16Product<Out> {
  int units;      // tiles, or pairs of them, times pieces
  int blocks;     // that share copies: 1 or 2
  bool shares_b;  // of a pair: tiles in a column
};

/// A tile of C and its piece of k.
struct TilePlace {
  int64_t row, column, k_begin, k_count;
  int piece;
};

/// The tile of this block in unit `unit`, a tile or a pair of them.
template <class T, class Out>
__device__ __forceinline__ TilePlace bulk_tile(const BulkProduct<Out>& p, int unit, int rank) {
  const int tall = p.shares_b ? p.blocks : 1, across = p.shares_b ? 1 : p.blocks;
  const int row_units = (static_cast<int>(ceil_div(p.m, T::kRows)) + tall - 1) / tall;
  const int column_units = (p.n_tiles + across - 1) / across, units = row_units * column_units;
  const int piece = unit / units, in_piece = unit % units;
  const int group_rows = kGroupRows / tall, first = in_piece / (group_rows * column_units) * group_rows;
  const int rows = min(group_rows, row_units - first), in_group = in_piece - first * column_units;
  TilePlace tile;
  tile.row = (int64_t{first + in_group % rows} * tall + (p.shares_b ? rank : 0)) * T::kRows;
  tile.column = (int64_t{in_group / rows} * across + (p.shares_b ? 0 : rank)) * T::kWidth;
  tile.piece = piece;
  tile.k_begin = piece * p.k_piece;
  tile.k_count = min(p.k - tile.k_begin, p.k_piece);
  return tile;
}
__device__ __forceinline__ int bulk_steps(const TilePlace& tile) {
  return static_cast<int>(ceil_div(tile.k_count, kDepth));
}

/// Rows of 128 bytes in a panel of an operand's tile, which is what a box has: of both blocks, if shared.
template <int kOuter, bool kKRows>
constexpr int kBoxRows = kKRows ? kDepth : kOuter;

/// Orders the copies of one operand and step; of a shared one, this block's half to both.
template <int kOuter, bool kKRows>
__device__ __forceinline__ void order_operand(const CUtensorMap& map, uint32_t to, uint32_t barrier,
                                              int outer, int k, bool is_shared, int rank) {
  constexpr int kPanels = kKRows ? kOuter / 64 : 1;
  const int first = is_shared ? rank * (kBoxRows<kOuter, kKRows> / 2) : 0;
#pragma unroll
  for (int panel = 0; panel < kPanels; panel++) {
    const int x = kKRows ? outer + panel * 64 : k, y = (kKRows ? k : outer) + first;
    const uint32_t at = to + panel * kPanelBytes + first * kRowBytes;
    if (is_shared)
      copy_box_to_pair(at, map, x, y, barrier);
    else
      copy_box(at, map, x, y, barrier);
  }
}

/// Where a run over the stages is.
struct StageWalk {
  int stage = 0, parity = 0;
  __device__ __forceinline__ void advance(int stages) {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

template <class T, class F>
__global__ void __launch_bounds__(kBulkThreads<T>, 1)
    gemm_bulk_kernel(const __grid_constant__ CUtensorMap map_a, const __grid_constant__ CUtensorMap map_b,
                     const __grid_constant__ BulkProduct<typename F::Out> p) {
  if constexpr (!kHasWarpgroup) return;
  using Out = typename F::Out;
  constexpr int kBytesA = kOperandBytes<T::kRows, F::kAKRows>, kBytes = kStageBytes<T, F>;
  extern __shared__ __align__(1024) unsigned char shared[];
  // the stages, two rows of bias for each multiplying warpgroup, barriers of full and of free stages
  float* bias = reinterpret_cast<float*>(shared + p.stages * kBytes);
  const uint32_t full = shared_address(bias + T::kMultipliers / 64 * T::kWidth), empty = full + 8 * p.stages;
  const int rank = blockIdx.x % p.blocks, warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int clusters = gridDim.x / p.blocks, cluster = blockIdx.x / p.blocks;

  if (threadIdx.x == 0) {
    for (int stage = 0; stage < p.stages; stage++) {
      init_barrier(full + 8 * stage, 1);
      init_barrier(empty + 8 * stage, T::kMultipliers / kWarp * p.blocks);
    }
    publish_barriers();
  }
  sync_cluster();

  if (threadIdx.x >= T::kMultipliers) {
    leave_registers<kCopierRegisters<T>>();
    if (threadIdx.x == T::kMultipliers) {
      const bool pair = p.blocks == 2;
      StageWalk walk;
      for (int unit = cluster; unit < p.units; unit += clusters) {
        const TilePlace tile = bulk_tile<T>(p, unit, rank);
        const int steps = bulk_steps(tile);
#pragma unroll 1
        for (int step = 0; step < steps; step++, walk.advance(p.stages)) {
          wait_barrier(empty + 8 * walk.stage, walk.parity ^ 1);
          const uint32_t barrier = full + 8 * walk.stage, to = shared_address(shared) + walk.stage * kBytes;
          const int k = static_cast<int>(tile.k_begin) + step * kDepth;
          expect_bytes(barrier, kBytes);
          order_operand<T::kRows, F::kAKRows>(map_a, to, barrier, static_cast<int>(tile.row), k,
                                              pair && !p.shares_b, rank);
          order_operand<T::kWidth, F::kBKRows>(map_b, to + kBytesA, barrier, static_cast<int>(tile.column), k,
                                               pair && p.shares_b, rank);
        }
      }
    }
  } else {
    take_registers<kMultiplierRegisters<T>>();
    const int warpgroup = threadIdx.x / 128, in_group = threadIdx.x % 128;
    const auto release = [&](int stage) {
      if (lane < p.blocks) arrive_at(empty + 8 * stage, lane);
    };
    StageWalk walk;
    int turn = 0;
    for (int unit = cluster; unit < p.units; unit += clusters, turn ^= 1) {
      const TilePlace tile = bulk_tile<T>(p, unit, rank);
      const int steps = bulk_steps(tile);
      const int64_t c_offset = tile.piece * p.piece_stride;
      float own_bias[2];
#pragma unroll
      for (int j = 0; j < 2; j++) {
        const int64_t column = tile.column + in_group + j * 128;
        own_bias[j] = p.bias && column < p.n ? p.bias[column] : 0.0f;
      }
      if constexpr (F::kFuse == Fuse::gelu_grad) prefetch_h<T>(p, c_offset, tile.row, tile.column);

      Sums<T> sums;
      int previous = 0;
      for (int step = 0; step < steps; step++, walk.advance(p.stages)) {
        const unsigned char* tile_a = shared + walk.stage * kBytes;
        wait_barrier(full + 8 * walk.stage, walk.parity);
        multiply_by_warpgroups<T, F>(sums, tile_a, tile_a + kBytesA, step_depth(step, tile.k_count),
                                     step > 0);
        wait_products<1>();
        if (step > 0) release(previous);
        previous = walk.stage;
      }
      finish_products(sums[0]);
      release(previous);

      float* tile_bias = bias + (warpgroup * 2 + turn) * T::kWidth;
#pragma unroll
      for (int j = 0; j < 2; j++)
        if (in_group + j * 128 < T::kWidth) tile_bias[in_group + j * 128] = own_bias[j];
      sync_warpgroup(1 + warpgroup);
      const Place<Out> at{p.c + c_offset, p.h + c_offset, tile.row + warp * T::kWarpRows, tile.column,
                          tile_bias};
      bool chunks = false;
      if constexpr (std::is_same_v<Out, bf16>) {
        chunks = p.wide_c;
        if (chunks) store_chunks<T, F>(p, sums, at);
      }
      if (!chunks) store_pairs<T, F>(p, sums, at);
    }
  }
  // the other block may still copy to, and arrive at, this one
  sync_cluster();
}

}  // namespace qm::cuda
