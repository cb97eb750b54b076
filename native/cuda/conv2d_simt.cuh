// Convolutions of any geometry and type, without tensor cores: tiles of the product in shared memory, summed
// in registers by fused multiply-adds, the next tile on its way meanwhile.
#pragma once
#include "cuda/conv2d_taps.cuh"
#include "cuda/device/pack.cuh"

namespace qm::cuda {

constexpr int kTileDepth = 16;

/// Tile sizes by type: a thread sums kRows x kColumns elements, a block of 16 x 16 threads 16 times that.
template <class T, int kVec>
constexpr int kTileRows = std::is_same_v<T, float> && kVec > 1 ? 8 : 4;
/// Positions fit 32 bits where vectors are used: see fits_int.
template <int kVec>
using TileIndex = std::conditional_t<kVec == 1, int64_t, int>;

/// sum[r][c] += rows of `a` times columns of `b`, both [kTileDepth][pitch]; the thread's rows are neighbours,
/// its columns 16 apart.
template <int kRows, int kColumns, int kPitchA, int kPitchB, class A>
__device__ __forceinline__ void multiply_tile(const A (*a)[kPitchA], const A (*b)[kPitchB],
                                              A (&sum)[kRows][kColumns]) {
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll 4
  for (int k = 0; k < kTileDepth; k++) {
    A u[kRows], v[kColumns];
#pragma unroll
    for (int r = 0; r < kRows; r += kPack<A>) {
      const Pack<A, kPack<A>> p = load_pack(a[k] + ty * kRows + r);
#pragma unroll
      for (int e = 0; e < kPack<A>; e++) u[r + e] = p.v[e];
    }
#pragma unroll
    for (int c = 0; c < kColumns; c++) v[c] = b[k][tx + 16 * c];
#pragma unroll
    for (int r = 0; r < kRows; r++)
#pragma unroll
      for (int c = 0; c < kColumns; c++) sum[r][c] += u[r] * v[c];
  }
}

/// A block makes 16 kRows pixels x 16 kColumns columns. weight: [groups, taps, depth, columns]. The sum runs
/// over taps, then channels, in Acc<T>.
template <class T, int kVec, int kColumns>
__global__ void __launch_bounds__(kThreads, 2)
    conv_tile_kernel(const __grid_constant__ Product<T> g, const Acc<T>* weight) {
  using A = Acc<T>;
  using Index = TileIndex<kVec>;
  constexpr int kRows = kTileRows<T, kVec>, kBM = 16 * kRows, kBN = 16 * kColumns;
  constexpr int kPitchA = kBM + 16 / static_cast<int>(sizeof(A)), kPitchB = kBN + 16;
  constexpr int kParts = kTileDepth / kVec, kStride = kThreads / kParts, kLoads = kBM / kStride;
  __shared__ __align__(16) A tile_a[2][kTileDepth][kPitchA];
  __shared__ A tile_b[2][kTileDepth][kPitchB];

  const int64_t column_blocks = ceil_div(g.columns, kBN);
  int64_t block = blockIdx.x;
  const int64_t column0 = block % column_blocks * kBN;
  block /= column_blocks;
  const int64_t group = block % g.groups;
  block /= g.groups;
  const int phase = phase_of_block(g.phases, g.batch, kBM, &block);
  const TapAxis &ay = g.phases.y[phase / g.phases.nx], &ax = g.phases.x[phase % g.phases.nx];
  const int64_t pixels = g.batch * ay.count * ax.count, row0 = block * kBM;
  const Index extent_y = static_cast<Index>(ay.extent), extent_x = static_cast<Index>(ax.extent);
  const Index depth = static_cast<Index>(g.depth);
  const int taps_y = static_cast<int>(ay.taps), taps_x = static_cast<int>(ax.taps);

  // this thread's part of a tile of source pixels: kVec channels of kLoads rows
  const T* source = g.source + group * g.depth;
  const int part = threadIdx.x % kParts, lane = threadIdx.x / kParts;
  Index image[kLoads], y0[kLoads], x0[kLoads];
#pragma unroll
  for (int i = 0; i < kLoads; i++) {
    const int64_t m = row0 + lane + i * kStride;
    const PixelOf<Index> at(static_cast<Index>(m < pixels ? m : 0), static_cast<Index>(ay.count),
                            static_cast<Index>(ax.count));
    image[i] = at.image * extent_y;
    y0[i] = at.i * static_cast<Index>(ay.step) + static_cast<Index>(ay.offset);
    x0[i] = at.j * static_cast<Index>(ax.step) + static_cast<Index>(ax.offset);
    if (m >= pixels) image[i] = -1;
  }
  TapCursor<Index> from_a, from_b;
  from_a.advance(part * kVec, depth, taps_x);
  // and of a tile of weights: one channel, kColumns columns
  const int weight_row = threadIdx.x / 16, weight_column = threadIdx.x % 16;
  const A* weights = weight + group * g.taps * g.depth * g.columns + column0;
  from_b.advance(weight_row, depth, taps_x);

  Pack<T, kVec> next_a[kLoads];
  A next_b[kColumns];
  const auto fetch = [&] {
    const Index dy = from_a.y * static_cast<Index>(ay.offset_step),
                dx = from_a.x * static_cast<Index>(ax.offset_step);
#pragma unroll
    for (int i = 0; i < kLoads; i++) {
      const Index y = y0[i] + dy, x = x0[i] + dx;
      const bool inside =
          from_a.y < taps_y && image[i] >= 0 && y >= 0 && y < extent_y && x >= 0 && x < extent_x;
      next_a[i] = {};
      if (inside)
        next_a[i] = load_pack<T, kVec>(
            source + (static_cast<int64_t>(image[i] + y) * extent_x + x) * g.source_channels +
            from_a.channel);
    }
    const int64_t tap = (ay.tap + from_b.y * ay.tap_step) * g.kernel_width + ax.tap + from_b.x * ax.tap_step;
    const A* row = weights + (tap * g.depth + from_b.channel) * g.columns;
#pragma unroll
    for (int c = 0; c < kColumns; c++) {
      const int column = weight_column + 16 * c;
      next_b[c] = from_b.y < taps_y && column0 + column < g.columns ? row[column] : A{0};
    }
    from_a.advance(kTileDepth, depth, taps_x);
    from_b.advance(kTileDepth, depth, taps_x);
  };
  const auto keep = [&](int to) {
#pragma unroll
    for (int i = 0; i < kLoads; i++)
#pragma unroll
      for (int e = 0; e < kVec; e++) tile_a[to][part * kVec + e][lane + i * kStride] = widen(next_a[i].v[e]);
#pragma unroll
    for (int c = 0; c < kColumns; c++) tile_b[to][weight_row][weight_column + 16 * c] = next_b[c];
  };

  A sum[kRows][kColumns] = {};
  const int64_t steps = ceil_div(ay.taps * ax.taps * g.depth, kTileDepth);
  if (steps > 0) {
    fetch();
    keep(0);
  }
  __syncthreads();
  for (int64_t step = 0; step < steps; step++) {
    const int now = static_cast<int>(step % 2);
    if (step + 1 < steps) fetch();
    multiply_tile(tile_a[now], tile_b[now], sum);
    if (step + 1 < steps) keep(1 - now);
    __syncthreads();
  }

  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
#pragma unroll
  for (int r = 0; r < kRows; r++) {
    const int64_t m = row0 + ty * kRows + r;
    if (m >= pixels) break;
    const PixelOf<Index> at(static_cast<Index>(m), static_cast<Index>(ay.count),
                            static_cast<Index>(ax.count));
    T* to = g.target +
            ((at.image * g.height + ay.first + at.i * ay.pitch) * g.width + ax.first + at.j * ax.pitch) *
                g.target_channels;
#pragma unroll
    for (int c = 0; c < kColumns; c++) {
      const int64_t column = column0 + tx + 16 * c;
      if (column >= g.columns) continue;
      const int64_t channel = group * g.columns + column;
      to[channel] = narrow<T>(g.bias ? sum[r][c] + g.bias[channel] : sum[r][c]);
    }
  }
}

/// The gradient by the weights: pixels of dy [out_pixels, cout], times what the taps read of x.
template <class T>
struct WeightProduct {
  const T *dy, *x;
  Acc<T>* partial;  // [splits, groups, taps, group_in, group_out]
  int64_t h, w, cin, oh, ow, cout, group_in, group_out, groups, taps, kernel_width;
  int64_t stride[2], padding[2], dilation[2];
  int64_t pixels, split_pixels;
};

/// A block makes 16 kRows pairs (tap, channel of x) x 16 kColumns channels of dy, from one split of the
/// pixels, in order, in Acc<T>. Blocks: column blocks, row blocks, groups, splits, from the innermost.
template <class T, int kVec, int kColumns>
__global__ void __launch_bounds__(kThreads, 2)
    conv_weight_tile_kernel(const __grid_constant__ WeightProduct<T> g) {
  using A = Acc<T>;
  using Index = TileIndex<kVec>;
  constexpr int kRows = kTileRows<T, kVec>, kBM = 16 * kRows, kBN = 16 * kColumns;
  constexpr int kPitchA = kBM + 16 / static_cast<int>(sizeof(A)), kPitchB = kBN + 16;
  constexpr int kPartsA = kBM / kVec, kStride = kThreads / kPartsA, kLoadsA = kTileDepth / kStride;
  constexpr int kPartsB = kBN / kVec, kLoadsB = (kTileDepth * kPartsB + kThreads - 1) / kThreads;
  struct Pixel {
    Index row, y, x;  // image * h, and where the first tap reads; row < 0: past the end
  };
  __shared__ __align__(16) A tile_a[2][kTileDepth][kPitchA];
  __shared__ A tile_b[2][kTileDepth][kPitchB];
  __shared__ Pixel pixel_of[2][kTileDepth];

  const int64_t rows = g.taps * g.group_in;
  const int64_t column_blocks = ceil_div(g.group_out, kBN), row_blocks = ceil_div(rows, kBM);
  int64_t block = blockIdx.x;
  const int64_t column0 = block % column_blocks * kBN;
  block /= column_blocks;
  const int64_t row0 = block % row_blocks * kBM;
  block /= row_blocks;
  const int64_t group = block % g.groups, split = block / g.groups;
  const Index first = static_cast<Index>(split * g.split_pixels),
              end = first + static_cast<Index>(g.split_pixels);
  const Index last = end < static_cast<Index>(g.pixels) ? end : static_cast<Index>(g.pixels);

  // this thread's part of a tile of x: one (tap, kVec channels), of kLoadsA pixels
  const int part = threadIdx.x % kPartsA, lane = threadIdx.x / kPartsA;
  const int64_t row = row0 + part * kVec;
  const bool row_inside = row < rows;
  const int64_t tap = row / g.group_in;
  const Index dy = static_cast<Index>(tap / g.kernel_width * g.dilation[0]);
  const Index dx = static_cast<Index>(tap % g.kernel_width * g.dilation[1]);
  const T* x_from = g.x + group * g.group_in + row % g.group_in;
  const T* dy_from = g.dy + group * g.group_out + column0;

  const auto locate = [&](Index step) {
    if (threadIdx.x >= kTileDepth) return;
    const Index p = first + step * kTileDepth + static_cast<Index>(threadIdx.x);
    const PixelOf<Index> at(p < last ? p : 0, static_cast<Index>(g.oh), static_cast<Index>(g.ow));
    pixel_of[step % 2][threadIdx.x] = {
        p < last ? at.image * static_cast<Index>(g.h) : Index{-1},
        at.i * static_cast<Index>(g.stride[0]) - static_cast<Index>(g.padding[0]),
        at.j * static_cast<Index>(g.stride[1]) - static_cast<Index>(g.padding[1])};
  };
  Pack<T, kVec> next_a[kLoadsA], next_b[kLoadsB];
  const auto fetch = [&](Index step) {
#pragma unroll
    for (int i = 0; i < kLoadsA; i++) {
      const Pixel at = pixel_of[step % 2][lane + i * kStride];
      const Index y = at.y + dy, x = at.x + dx;
      next_a[i] = {};
      if (row_inside && at.row >= 0 && y >= 0 && y < static_cast<Index>(g.h) && x >= 0 &&
          x < static_cast<Index>(g.w))
        next_a[i] = load_pack<T, kVec>(x_from + (static_cast<int64_t>(at.row + y) * g.w + x) * g.cin);
    }
#pragma unroll
    for (int i = 0; i < kLoadsB; i++) {
      const int item = threadIdx.x + i * kThreads, k = item / kPartsB, column = item % kPartsB * kVec;
      const Index p = first + step * kTileDepth + k;
      next_b[i] = {};
      if (k < kTileDepth && p < last && column0 + column < g.group_out)
        next_b[i] = load_pack<T, kVec>(dy_from + static_cast<int64_t>(p) * g.cout + column);
    }
  };
  const auto keep = [&](int to) {
#pragma unroll
    for (int i = 0; i < kLoadsA; i++)
#pragma unroll
      for (int e = 0; e < kVec; e++) tile_a[to][lane + i * kStride][part * kVec + e] = widen(next_a[i].v[e]);
#pragma unroll
    for (int i = 0; i < kLoadsB; i++) {
      const int item = threadIdx.x + i * kThreads, k = item / kPartsB, column = item % kPartsB * kVec;
      if (k >= kTileDepth) continue;
#pragma unroll
      for (int e = 0; e < kVec; e++) tile_b[to][k][column + e] = widen(next_b[i].v[e]);
    }
  };

  A sum[kRows][kColumns] = {};
  const Index steps = last > first ? (last - first + kTileDepth - 1) / kTileDepth : 0;
  if (steps > 0) {
    locate(0);
    locate(1);
    __syncthreads();
    fetch(0);
    keep(0);
  }
  __syncthreads();
  for (Index step = 0; step < steps; step++) {
    const int now = static_cast<int>(step % 2);
    if (step + 1 < steps) fetch(step + 1);
    if (step + 2 < steps) locate(step + 2);
    multiply_tile(tile_a[now], tile_b[now], sum);
    if (step + 1 < steps) keep(1 - now);
    __syncthreads();
  }

  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  A* to = g.partial + (split * g.groups + group) * rows * g.group_out;
#pragma unroll
  for (int r = 0; r < kRows; r++) {
    const int64_t at = row0 + ty * kRows + r;
#pragma unroll
    for (int c = 0; c < kColumns; c++) {
      const int64_t column = column0 + tx + 16 * c;
      if (at < rows && column < g.group_out) to[at * g.group_out + column] = sum[r][c];
    }
  }
}

}  // namespace qm::cuda
