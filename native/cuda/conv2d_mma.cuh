// Convolutions of bfloat16 with one group on tensor cores, as implicit products: tiles of source pixels are
// copied 16 bytes at a time from where the taps read, through a ring of stages in shared memory; products are
// summed in float32 in registers. Weights are rounded to bfloat16.
#pragma once
#include "cuda/conv2d_taps.cuh"
#include "cuda/device/pack.cuh"
#include "cuda/device/tensor_core.cuh"

namespace qm::cuda {

constexpr int kStages = 4;
constexpr int kMmaDepth = 32;         // of a stage: terms of the sum
constexpr int kChunk = 8;             // bfloat16 elements in 16 bytes
constexpr int kNowhere = -(1 << 30);  // the row of a pixel past the end: no tap of it is inside the image

/// 0 <= k < n, in one comparison.
__device__ __forceinline__ bool within(int k, int n) {
  return static_cast<unsigned>(k) < static_cast<unsigned>(n);
}

/// Which column of kTiles x 8 columns is held as element e of lane quarter t in tile u. Chosen so that a lane
/// holds runs of 8, then 4, then 2 neighbours, which it can store at once.
template <int kTiles>
__host__ __device__ constexpr int column_of(int u, int t, int e) {
  int first = 0;
  for (;;) {
    const int left = kTiles - first, run = left >= 4 ? 4 : left >= 2 ? 2 : 1;
    if (u < first + run) return first * 8 + t * 2 * run + (u - first) * 2 + e;
    first += run;
  }
}

/// Stores a lane's columns of one row, at `row` + column: those below `columns` (a multiple of 8). bias may be
/// null.
template <int kTiles, int kFirst = 0>
__device__ __forceinline__ void store_row(bf16* row, const float* bias, int columns,
                                          const float (&sum)[kTiles][4], int half) {
  constexpr int kLeft = kTiles - kFirst, kRun = kLeft >= 4 ? 4 : kLeft >= 2 ? 2 : 1;
  const int column = column_of<kTiles>(kFirst, threadIdx.x % 4, 0);
  if (column < columns) {
    Pack<uint32_t, kRun> out;
#pragma unroll
    for (int u = 0; u < kRun; u++) {
      float low = sum[kFirst + u][2 * half], high = sum[kFirst + u][2 * half + 1];
      if (bias) {
        low += bias[column + 2 * u];
        high += bias[column + 2 * u + 1];
      }
      out.v[u] = pack_bf16(low, high);
    }
    store_pack<uint32_t, kRun>(reinterpret_cast<uint32_t*>(row + column), out);
  }
  if constexpr (kFirst + kRun < kTiles) store_row<kTiles, kFirst + kRun>(row, bias, columns, sum, half);
}

/// Byte offset of 16-byte chunk `chunk` (of 4) of row `row` in a tile of kMmaDepth columns. Eight rows of one
/// chunk, as load_matrices reads them, lie in different banks.
__device__ __forceinline__ uint32_t chunk_offset(int row, int chunk) {
  return static_cast<uint32_t>(row * 64 + ((chunk ^ (row >> 1 & 3)) << 4));
}

template <int kBM, int kBN, int kWM, int kWN>
struct MmaTile {
  static constexpr int kWarpsM = kBM / kWM, kWarpsN = kBN / kWN, kBlock = kWarpsM * kWarpsN * kWarp;
  static constexpr int kStageBytes = (kBM + kBN) * kMmaDepth * 2, kShared = kStages * kStageBytes;
};

/// A block of (kBM / kWM) x (kBN / kWN) warps makes kBM pixels x kBN columns, a warp kWM x kWN of them.
/// weight: [columns, taps, depth]. The sum runs over taps, then channels.
template <int kBM, int kBN, int kWM, int kWN, int kBlocks>
__global__ void __launch_bounds__((MmaTile<kBM, kBN, kWM, kWN>::kBlock), kBlocks)
    conv_mma_kernel(const __grid_constant__ Product<bf16> g, const bf16* weight) {
  using Tile = MmaTile<kBM, kBN, kWM, kWN>;
  constexpr int kLanes = Tile::kBlock / 4;  // rows that the block copies at once, 4 chunks each
  constexpr int kLoadsA = kBM / kLanes, kLoadsB = (kBN + kLanes - 1) / kLanes;
  constexpr int kTilesM = kWM / 16, kTilesN = kWN / 8;
  static_assert(kBM % kLanes == 0 && kTilesN % 2 == 0);
  const uint32_t shared = shared_address(dynamic_shared());

  const int depth = static_cast<int>(g.depth), columns = static_cast<int>(g.columns);
  const int column_blocks = (columns + kBN - 1) / kBN;
  int64_t block = blockIdx.x / column_blocks;
  const int column0 = static_cast<int>(blockIdx.x % column_blocks) * kBN;
  const int phase = phase_of_block(g.phases, g.batch, kBM, &block);
  const TapAxis &ay = g.phases.y[phase / g.phases.nx], &ax = g.phases.x[phase % g.phases.nx];
  const int count_y = static_cast<int>(ay.count), count_x = static_cast<int>(ax.count);
  const int pixels = static_cast<int>(g.batch) * count_y * count_x, row0 = static_cast<int>(block) * kBM;
  const int extent_y = static_cast<int>(ay.extent), extent_x = static_cast<int>(ax.extent);
  const int taps_y = static_cast<int>(ay.taps), taps_x = static_cast<int>(ax.taps);

  // what this thread copies: one chunk of a stage's columns, of kLoadsA pixels and kLoadsB rows of weights
  const int chunk = threadIdx.x % 4, lane = threadIdx.x / 4;
  int image[kLoadsA], y0[kLoadsA], x0[kLoadsA];
#pragma unroll
  for (int i = 0; i < kLoadsA; i++) {
    const int m = row0 + lane + i * kLanes;
    const PixelOf<int> at(m < pixels ? m : 0, count_y, count_x);
    image[i] = at.image * extent_y;
    y0[i] = m < pixels ? at.i * static_cast<int>(ay.step) + static_cast<int>(ay.offset) : kNowhere;
    x0[i] = at.j * static_cast<int>(ax.step) + static_cast<int>(ax.offset);
  }
  int weight_row[kLoadsB];  // its first element, or -1
#pragma unroll
  for (int i = 0; i < kLoadsB; i++) {
    const int row = lane + i * kLanes, in_warp = row % kWN;
    const int column =
        column0 + row / kWN * kWN + column_of<kTilesN>(in_warp / 8, in_warp % 8 / 2, in_warp % 2);
    weight_row[i] = row < kBN && column < columns ? column * static_cast<int>(g.taps) * depth : -1;
  }
  TapCursor<int> from;
  from.advance(chunk * kChunk, depth, taps_x);
  // where the taps lie in a row of weights
  const int weight_first = static_cast<int>(ay.tap * g.kernel_width + ax.tap) * depth;
  const int weight_y = static_cast<int>(ay.tap_step * g.kernel_width) * depth;
  const int weight_x = static_cast<int>(ax.tap_step) * depth;

  const auto copy = [&](int stage) {
    const uint32_t a = shared + stage * Tile::kStageBytes, b = a + kBM * kMmaDepth * 2;
    const bool valid = from.y < taps_y;
    const int dy = from.y * static_cast<int>(ay.offset_step), dx = from.x * static_cast<int>(ax.offset_step);
#pragma unroll
    for (int i = 0; i < kLoadsA; i++) {
      const int y = y0[i] + dy, x = x0[i] + dx;
      const bool inside = valid && within(y, extent_y) && within(x, extent_x);
      const int64_t pixel = inside ? (image[i] + y) * extent_x + x : 0;
      copy_async(a + chunk_offset(lane + i * kLanes, chunk),
                 g.source + pixel * g.source_channels + from.channel, inside);
    }
    const int weight_at = weight_first + from.y * weight_y + from.x * weight_x + from.channel;
#pragma unroll
    for (int i = 0; i < kLoadsB; i++) {
      const bool inside = valid && weight_row[i] >= 0;
      if (kBN % kLanes == 0 || lane + i * kLanes < kBN)
        copy_async(b + chunk_offset(lane + i * kLanes, chunk),
                   weight + (inside ? weight_row[i] + weight_at : 0), inside);
    }
    from.advance(kMmaDepth, depth, taps_x);
  };

  // what load_matrices reads, for the first 16 terms of stage 0
  const int warp_m = threadIdx.x / kWarp % Tile::kWarpsM, warp_n = threadIdx.x / kWarp / Tile::kWarpsM;
  const int l = threadIdx.x % kWarp;
  const uint32_t read_a = shared + chunk_offset(warp_m * kWM + l % 16, l / 16);
  const uint32_t read_b =
      shared + kBM * kMmaDepth * 2 + chunk_offset(warp_n * kWN + l / 16 * 8 + l % 8, l / 8 % 2);

  float sum[kTilesM][kTilesN][4] = {};
  const int steps = (taps_y * taps_x * depth + kMmaDepth - 1) / kMmaDepth;
#pragma unroll
  for (int stage = 0; stage < kStages - 1; stage++) {
    if (stage < steps) copy(stage);
    commit_copies();
  }
  for (int step = 0; step < steps; step++) {
    wait_copies<kStages - 2>();
    __syncthreads();
    if (step + kStages - 1 < steps) copy((step + kStages - 1) % kStages);
    commit_copies();
    const uint32_t stage = step % kStages * Tile::kStageBytes;
#pragma unroll
    for (int k = 0; k < kMmaDepth / 16; k++) {
      uint32_t b[kTilesN / 2][4];
#pragma unroll
      for (int n = 0; n < kTilesN / 2; n++) load_matrices(b[n], (stage + read_b + n * 16 * 64) ^ (k << 5));
#pragma unroll
      for (int m = 0; m < kTilesM; m++) {
        uint32_t a[4];
        load_matrices(a, (stage + read_a + m * 16 * 64) ^ (k << 5));
#pragma unroll
        for (int n = 0; n < kTilesN; n++)
          multiply_add(sum[m][n], a, b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
      }
    }
  }

  const int column = column0 + warp_n * kWN;
  const float* bias = g.bias ? g.bias + column : nullptr;
#pragma unroll
  for (int m = 0; m < kTilesM; m++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int row = row0 + warp_m * kWM + m * 16 + half * 8 + l / 4;
      if (row >= pixels) continue;
      const PixelOf<int> at(row, count_y, count_x);
      const int64_t pixel =
          (at.image * g.height + ay.first + at.i * ay.pitch) * g.width + ax.first + at.j * ax.pitch;
      store_row<kTilesN>(g.target + pixel * g.target_channels + column, bias, columns - column, sum[m], half);
    }
}

/// The gradient by the weights.
struct MmaWeightProduct {
  const bf16 *dy, *x;  // [pixels, cout]; [batch, h, w, cin]
  float* partial;      // [splits, cout, taps, cin]
  int h, w, cin, oh, ow, cout, taps, kernel_width;
  int stride[2], padding[2], dilation[2];
  int pixels, split_pixels;
};

template <int kWarpsM, int kWarpsN, int kWM, int kWN>
struct MmaWeightTile {
  static constexpr int kBM = kWarpsM * kWM, kBN = kWarpsN * kWN, kBlock = kWarpsM * kWarpsN * kWarp;
  // 16 bytes more than the row: an odd number of chunks, so that eight rows of one chunk lie in different banks
  static constexpr int kPitchA = kBM * 2 + 16, kPitchB = kBN * 2 + 16;
  static constexpr int kStageBytes = kMmaDepth * (kPitchA + kPitchB);
  static constexpr int kShared = kStages * (kStageBytes + kMmaDepth * static_cast<int>(sizeof(int4)));
};

/// A block makes kBM channels of dy x kBN pairs (tap, channel of x), from one split of the pixels, in order.
/// Blocks: column blocks, row blocks, splits, from the innermost. A stage is kMmaDepth pixels of both; where
/// the first tap of a pixel reads is worked out by one warp, a stage ahead of the copies.
template <int kWarpsM, int kWarpsN, int kWM, int kWN, int kBlocks>
__global__ void __launch_bounds__((MmaWeightTile<kWarpsM, kWarpsN, kWM, kWN>::kBlock), kBlocks)
    conv_weight_mma_kernel(const __grid_constant__ MmaWeightProduct g) {
  using Tile = MmaWeightTile<kWarpsM, kWarpsN, kWM, kWN>;
  constexpr int kBM = Tile::kBM, kBN = Tile::kBN, kBlock = Tile::kBlock;
  constexpr int kChunksA = kBM / kChunk, kChunksB = kBN / kChunk;
  constexpr int kLoadsA = (kMmaDepth * kChunksA + kBlock - 1) / kBlock;
  constexpr int kLoadsB = (kMmaDepth * kChunksB + kBlock - 1) / kBlock;
  constexpr int kTilesM = kWM / 16, kTilesN = kWN / 8;
  static_assert(kBlock >= kWarp * kStages && kTilesN % 2 == 0);
  char* memory = dynamic_shared();
  const uint32_t shared = shared_address(memory);
  int4* pixel_of = reinterpret_cast<int4*>(memory + kStages * Tile::kStageBytes);  // [kStages][kMmaDepth]

  const int columns = g.taps * g.cin;
  const int column_blocks = (columns + kBN - 1) / kBN, row_blocks = (g.cout + kBM - 1) / kBM;
  int block = blockIdx.x;
  const int column0 = block % column_blocks * kBN;
  block /= column_blocks;
  const int row0 = block % row_blocks * kBM, split = block / row_blocks;
  const int first = split * g.split_pixels;
  const int last = first + g.split_pixels < g.pixels ? first + g.split_pixels : g.pixels;

  /// {row, column, pixel of x that the first tap reads, unused}; a pixel past the end reads nothing.
  const auto locate = [&](int step, int k) {
    const int p = first + step * kMmaDepth + k;
    const PixelOf<int> at(p < last ? p : 0, g.oh, g.ow);
    const int y = at.i * g.stride[0] - g.padding[0], x = at.j * g.stride[1] - g.padding[1];
    pixel_of[step % kStages * kMmaDepth + k] =
        make_int4(p < last ? y : kNowhere, x, (at.image * g.h + y) * g.w + x, 0);
  };
  // what this thread copies of x: (tap, chunk of channels) of pixels of the stage; the tap's row and column as
  // the halves of a word, and how many elements it lies past the first
  int tap_at[kLoadsB], ahead[kLoadsB];
#pragma unroll
  for (int i = 0; i < kLoadsB; i++) {
    const int column = column0 + (threadIdx.x + i * kBlock) % kChunksB * kChunk, tap = column / g.cin;
    const int dy = tap / g.kernel_width * g.dilation[0], dx = tap % g.kernel_width * g.dilation[1];
    tap_at[i] = column < columns ? dy << 16 | dx : -1;
    ahead[i] = (dy * g.w + dx) * g.cin + column % g.cin;
  }
  const auto copy = [&](int step) {
    const int stage = step % kStages;
    const uint32_t a = shared + stage * Tile::kStageBytes, b = a + kMmaDepth * Tile::kPitchA;
#pragma unroll
    for (int i = 0; i < kLoadsA; i++) {
      const int item = threadIdx.x + i * kBlock, k = item / kChunksA, c = item % kChunksA;
      const int p = first + step * kMmaDepth + k, row = row0 + c * kChunk;
      const bool inside = p < last && row < g.cout;
      if (kMmaDepth * kChunksA % kBlock == 0 || k < kMmaDepth)
        copy_async(a + k * Tile::kPitchA + c * 16,
                   g.dy + (inside ? static_cast<int64_t>(p) * g.cout + row : 0), inside);
    }
#pragma unroll
    for (int i = 0; i < kLoadsB; i++) {
      const int item = threadIdx.x + i * kBlock, k = item / kChunksB, c = item % kChunksB;
      if (kMmaDepth * kChunksB % kBlock != 0 && k >= kMmaDepth) continue;
      const int4 at = pixel_of[stage * kMmaDepth + k];
      const int y = at.x + (tap_at[i] >> 16), x = at.y + (tap_at[i] & 0xffff);
      const bool inside = tap_at[i] >= 0 && within(y, g.h) && within(x, g.w);
      copy_async(b + k * Tile::kPitchB + c * 16,
                 g.x + (inside ? static_cast<int64_t>(at.z) * g.cin + ahead[i] : 0), inside);
    }
  };

  const int warp_m = threadIdx.x / kWarp % kWarpsM, warp_n = threadIdx.x / kWarp / kWarpsM;
  const int l = threadIdx.x % kWarp;
  const uint32_t read_a = shared + (l / 16 * 8 + l % 8) * Tile::kPitchA + (warp_m * kWM + l / 8 % 2 * 8) * 2;
  const uint32_t read_b =
      shared + kMmaDepth * Tile::kPitchA + l % 16 * Tile::kPitchB + (warp_n * kWN + l / 16 * 8) * 2;

  float sum[kTilesM][kTilesN][4] = {};
  const int steps = last > first ? (last - first + kMmaDepth - 1) / kMmaDepth : 0;
  if (threadIdx.x < kMmaDepth * kStages) locate(threadIdx.x / kMmaDepth, threadIdx.x % kMmaDepth);
  __syncthreads();
#pragma unroll
  for (int stage = 0; stage < kStages - 1; stage++) {
    if (stage < steps) copy(stage);
    commit_copies();
  }
  for (int step = 0; step < steps; step++) {
    wait_copies<kStages - 2>();
    __syncthreads();
    if (step + kStages - 1 < steps) copy(step + kStages - 1);
    commit_copies();
    if (threadIdx.x < kMmaDepth) locate(step + kStages, threadIdx.x);
    const uint32_t stage = step % kStages * Tile::kStageBytes;
#pragma unroll
    for (int k = 0; k < kMmaDepth / 16; k++) {
      uint32_t b[kTilesN / 2][4];
#pragma unroll
      for (int n = 0; n < kTilesN / 2; n++)
        load_transposed(b[n], stage + read_b + k * 16 * Tile::kPitchB + n * 32);
#pragma unroll
      for (int m = 0; m < kTilesM; m++) {
        uint32_t a[4];
        load_transposed(a, stage + read_a + k * 16 * Tile::kPitchA + m * 32);
#pragma unroll
        for (int n = 0; n < kTilesN; n++)
          multiply_add(sum[m][n], a, b[n / 2][n % 2 * 2], b[n / 2][n % 2 * 2 + 1]);
      }
    }
  }

  float* to = g.partial + static_cast<int64_t>(split) * g.cout * columns;
#pragma unroll
  for (int m = 0; m < kTilesM; m++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int row = row0 + warp_m * kWM + m * 16 + half * 8 + l / 4;
#pragma unroll
      for (int n = 0; n < kTilesN; n++) {
        const int column = column0 + warp_n * kWN + n * 8 + l % 4 * 2;
        if (row < g.cout && column < columns)
          store_pack<float, 2>(to + static_cast<int64_t>(row) * columns + column,
                               Pack<float, 2>{{sum[m][n][2 * half], sum[m][n][2 * half + 1]}});
      }
    }
}

}  // namespace qm::cuda
