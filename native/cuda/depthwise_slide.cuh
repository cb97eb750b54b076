// Depthwise 3 x 3 convolution with stride 1 and padding 1, sliding down the rows: every row of a block's part
// of the images is copied to shared memory once, through a ring of rows, and added at once to the three rows of
// sums that it reaches, which stay in registers.
//
// The images lie below one another with one row between neighbours, of which nothing is read or written: it
// stands for the padding of both. So a block's run of rows may cross images, and a grid of one wave has blocks
// of equal work. A block owns a strip of columns, a slab of channels and a run of rows; a thread kColumns
// neighbouring columns and kLane neighbouring channels. Columns lie in shared memory by their place in a
// thread's columns first, so that neighbouring threads read neighbouring memory.
#pragma once
#include "cuda/conv.cuh"
#include "cuda/device/formulas.cuh"
#include "cuda/device/pack.cuh"
#include "cuda/device/tensor_core.cuh"

namespace qm::cuda {

constexpr int kColumns = 4;    // of a thread
constexpr int kMaxStrip = 64;  // columns of a block that has whole rows; otherwise 2 kColumns fewer

/// Channels of a thread.
template <class T>
constexpr int kSlideLane = std::is_same_v<T, double> ? 1 : 2;
/// Rows in shared memory: as many bytes for every type but double.
template <class T>
constexpr int kRing = std::is_same_v<T, bf16> ? 8 : 4;

/// How the images are cut into blocks. Blocks: slabs, strips, runs of rows, from the innermost.
struct SlideShape {
  int64_t rows;  // of all images, with the rows between them
  int h, w, channels;
  int slab, slabs, strip, strips, run, runs;
  int lead;    // groups beside the strip whose values the block makes for itself
  int groups;  // of kColumns columns, of a block

  __host__ __device__ int line() const { return w * channels; }
  /// Places for columns in a row in shared memory: those of the groups and one on either side.
  __host__ __device__ int places() const { return kColumns * (groups + 1); }
  int64_t blocks() const { return int64_t{slabs} * strips * runs; }
  int threads(int lane) const { return static_cast<int>(ceil_div(groups * slab / lane, kWarp)) * kWarp; }
};

/// The cut for threads of `lane` channels: at most kThreads threads, slabs of whole 32-byte sectors that divide
/// the channels where there are such, strips of equal width, and runs of rows such that few waves of `wave`
/// blocks, each making `extra` rows more than its run, do the work soonest.
inline SlideShape slide_shape(const TensorView& x, int lane, bool halo, int64_t wave, int64_t extra) {
  constexpr int64_t kMinRun = 8, kMaxRun = 192, kMaxWaves = 4;
  const int chunk = 16 / static_cast<int>(dtype_size(x.dtype));
  SlideShape s = {};
  s.h = static_cast<int>(x.shape[1]);
  s.w = static_cast<int>(x.shape[2]);
  s.channels = static_cast<int>(x.shape[3]);
  s.rows = x.shape[0] * (x.shape[1] + 1) - 1;
  s.strip = s.w;
  if (s.w > kMaxStrip) {
    const int64_t strips = ceil_div(s.w, kMaxStrip - 2 * kColumns);
    s.strip = static_cast<int>(ceil_div(ceil_div(s.w, strips), kColumns) * kColumns);
  }
  s.strips = static_cast<int>(ceil_div(s.w, s.strip));
  s.lead = halo && s.strips > 1;
  s.groups = static_cast<int>(ceil_div(s.strip, kColumns)) + 2 * s.lead;
  const int most = kThreads / s.groups * lane / chunk * chunk;
  s.slabs = static_cast<int>(ceil_div(s.channels, most));
  s.slab = static_cast<int>(ceil_div(ceil_div(s.channels, s.slabs), chunk)) * chunk;
  for (int slab = 2 * chunk; slab <= most; slab += 2 * chunk)
    if (s.channels % slab == 0) s.slab = slab;
  s.slabs = static_cast<int>(ceil_div(s.channels, s.slab));
  const int64_t others = int64_t{s.slabs} * s.strips, fewest = ceil_div(s.rows, kMaxRun);
  int64_t soonest = std::numeric_limits<int64_t>::max();
  for (int64_t waves = 1; waves <= kMaxWaves; waves++) {
    const int64_t runs = std::max(std::min(waves * wave / others, s.rows / kMinRun), fewest);
    const int64_t run = ceil_div(s.rows, std::max<int64_t>(1, runs));
    const int64_t time = ceil_div(others * ceil_div(s.rows, run), wave) * (run + extra);
    if (time < soonest) {
      soonest = time;
      s.run = static_cast<int>(run);
    }
  }
  s.runs = static_cast<int>(ceil_div(s.rows, s.run));
  return s;
}

/// Whether the sliding kernels take a tensor: rows of whole 16-byte chunks, counted in 32 bits.
inline bool slide_fits(const TensorView& x) {
  const int64_t chunk = 16 / static_cast<int64_t>(dtype_size(x.dtype));
  return x.numel() > 0 && x.shape[3] % chunk == 0 && x.shape[2] * x.shape[3] < (int64_t{1} << 30) &&
         x.shape[1] < (int64_t{1} << 30) && x.shape[0] * (x.shape[1] + 1) < (int64_t{1} << 38);
}

/// The place of a block and of this thread in it.
struct SlidePlace {
  int64_t row0;  // of all rows: the first of the run
  int part;      // number of (run, strip)
  int rows;      // of the run
  int channel0, column0;
  int group, channel;  // of this thread, within the block
  bool active;

  template <int kLane>
  static __device__ __forceinline__ SlidePlace of(const SlideShape& s) {
    SlidePlace p;
    const unsigned slabs = s.slabs, strips = s.strips, lanes = s.slab / kLane, part = blockIdx.x / slabs;
    p.channel0 = static_cast<int>(blockIdx.x - part * slabs) * s.slab;
    p.part = static_cast<int>(part);
    const unsigned run = part / strips;
    p.column0 = static_cast<int>(part - run * strips) * s.strip;
    p.row0 = int64_t{run} * s.run;
    p.rows = s.rows - p.row0 < s.run ? static_cast<int>(s.rows - p.row0) : s.run;
    const unsigned group = threadIdx.x / lanes;
    p.group = static_cast<int>(group);
    p.channel = static_cast<int>(threadIdx.x - group * lanes) * kLane;
    p.active = p.group < s.groups && p.channel0 + p.channel < s.channels;
    return p;
  }
};

/// A row of all rows: its row within the image, h for one between images, and where in memory the first row
/// from it on that an image has begins.
struct SlideRow {
  int row;
  int64_t offset;

  /// `at` may be as little as -1, the row before the first image.
  __device__ __forceinline__ SlideRow(const SlideShape& s, int64_t at) {
    const int64_t period = s.h + 1, image = (at + period) / period;
    row = static_cast<int>(at + period - image * period);
    offset = ((image - 1) * s.h + row) * s.line();
  }
};

/// One thread's share of copying a row of the columns that shared memory has places for, as far as the image
/// has them. The places of others are to be zeros from the start.
template <class T>
struct RowCopy {
  /// A thread's own columns, and two more of a block.
  static constexpr int kItems = ceil_div(kColumns * kSlideLane<T>, kPack<T>) + 1;
  int from[kItems];  // elements from the start of the image row
  int to[kItems];    // bytes from the start of the row in shared memory; -1: nothing

  /// `first`: the column of the first place.
  __device__ __forceinline__ RowCopy(const SlideShape& s, const SlidePlace& p, int first) {
    constexpr int kChunk = kPack<T>;
    const unsigned chunks = s.slab / kChunk;
    const int left = first > 0 ? first : 0, end = first + kColumns * s.groups + 2;
#pragma unroll
    for (int i = 0; i < kItems; i++) {
      const unsigned item = threadIdx.x + i * blockDim.x, column = item / chunks;
      const int channel = static_cast<int>(item - column * chunks) * kChunk,
                x = left + static_cast<int>(column);
      const int at = x - first, place = at % kColumns * (s.groups + 1) + at / kColumns;
      const bool inside = x < s.w && x < end && p.channel0 + channel < s.channels;
      from[i] = x * s.channels + p.channel0 + channel;
      to[i] = inside ? (place * s.slab + channel) * static_cast<int>(sizeof(T)) : -1;
    }
  }
  __device__ __forceinline__ void start(const T* row, uint32_t shared) const {
#pragma unroll
    for (int i = 0; i < kItems; i++)
      if (to[i] >= 0) copy_async(shared + to[i], row + from[i], true);
  }
};

/// Zeros to `bytes` of the dynamic shared memory, a multiple of 16, before anything is copied there.
__device__ __forceinline__ void clear_shared(int bytes) {
  for (int k = threadIdx.x * 16; k < bytes; k += blockDim.x * 16)
    *reinterpret_cast<int4*>(dynamic_shared() + k) = make_int4(0, 0, 0, 0);
  __syncthreads();
}

/// kLane channels of a column, widened.
template <class T, int kLane>
__device__ __forceinline__ void read_lane(const T* from, Acc<T> (&to)[kLane]) {
  const Pack<T, kLane> p = load_pack<T, kLane>(from);
#pragma unroll
  for (int e = 0; e < kLane; e++) to[e] = widen(p.v[e]);
}
template <class T, int kLane>
__device__ __forceinline__ void write_lane(T* to, const Acc<T> (&from)[kLane]) {
  Pack<T, kLane> p;
#pragma unroll
  for (int e = 0; e < kLane; e++) p.v[e] = narrow<T>(from[e]);
  store_pack<T, kLane>(to, p);
}

/// sum[column][e] += the three columns of x that reach it, through one kernel row of weights.
template <int kLane, class A>
__device__ __forceinline__ void add_row(A (&sum)[kColumns][kLane], const A (&x)[kColumns + 2][kLane],
                                        const A (&w)[3][kLane]) {
#pragma unroll
  for (int c = 0; c < kColumns; c++)
#pragma unroll
    for (int k = 0; k < 3; k++)
#pragma unroll
      for (int e = 0; e < kLane; e++) sum[c][e] += x[c + k][e] * w[k][e];
}
template <int kLane, class A>
__device__ __forceinline__ void fill(A (&sum)[kColumns][kLane], const A (&value)[kLane]) {
#pragma unroll
  for (int c = 0; c < kColumns; c++)
#pragma unroll
    for (int e = 0; e < kLane; e++) sum[c][e] = value[e];
}

/// The weights [channels, 3, 3] of this thread's channels; `flip` turns the kernel around.
template <int kLane, class A>
__device__ __forceinline__ void read_weights(const A* weight, bool flip, A (&w)[3][3][kLane]) {
#pragma unroll
  for (int k = 0; k < 9; k++)
#pragma unroll
    for (int e = 0; e < kLane; e++) w[k / 3][k % 3][e] = weight[e * 9 + (flip ? 8 - k : k)];
}

/// 1 / (1 + e^-z) by the hardware's exponential and reciprocal: to a few units of 2^-22.
__device__ __forceinline__ float quick_sigmoid(float z) {
  float e, s;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(z * -1.44269504f));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(s) : "f"(1.0f + e));
  return s;
}

/// silu and its derivative, for results in bfloat16 the quick way.
template <class T>
__device__ __forceinline__ Acc<T> silu_of(Acc<T> z) {
  if constexpr (std::is_same_v<T, bf16>)
    return z * quick_sigmoid(z);
  else
    return Silu::forward(z);
}
template <class T>
__device__ __forceinline__ Acc<T> silu_gradient(Acc<T> z, Acc<T> dy) {
  if constexpr (std::is_same_v<T, bf16>) {
    const float s = quick_sigmoid(z);
    return dy * fmaf(s, fmaf(-z, s, z), s);
  } else {
    return Silu::backward(z, dy);
  }
}

/// Blocks of the forward kernel on all multiprocessors of an H200.
constexpr int64_t kForwardWave = 3 * kSplitBlocks / 2;

/// Bytes of the ring.
template <class T>
__host__ __device__ __forceinline__ int slide_fwd_shared(const SlideShape& s) {
  return kRing<T> * s.places() * s.slab * static_cast<int>(sizeof(T));
}

/// y = conv(x) + bias, through silu if kSilu; with `flip`, the gradient by x from dy. Sums in Acc<T>, kernel
/// rows from top to bottom.
template <class T, bool kSilu>
__global__ void __launch_bounds__(kThreads, std::is_same_v<T, double> ? 1 : 3)
    slide_fwd_kernel(const __grid_constant__ SlideShape s, const T* x, const Acc<T>* weight, bool flip,
                     const Acc<T>* bias, T* y) {
  using A = Acc<T>;
  constexpr int kLane = kSlideLane<T>, kSlots = kRing<T>;
  const SlidePlace p = SlidePlace::of<kLane>(s);
  const int quarter = (s.groups + 1) * s.slab, row_elements = s.places() * s.slab;
  T* ring = reinterpret_cast<T*>(dynamic_shared());
  const uint32_t shared = shared_address(ring);
  clear_shared(slide_fwd_shared<T>(s));
  const RowCopy<T> copy(s, p, p.column0 - 1);
  // step n takes row row0 - 1 + n of all rows and completes the sums of the row before
  const int steps = p.rows + 2;
  const SlideRow start(s, p.row0 - 1);
  const T* source = x + start.offset;
  int row = start.row, ahead_row = start.row;
  const auto fetch = [&](int n) {
    if (n >= steps) return;
    if (ahead_row < s.h) {
      copy.start(source, shared + n % kSlots * row_elements * static_cast<int>(sizeof(T)));
      source += s.line();
      ahead_row++;
    } else {
      ahead_row = 0;
    }
  };
#pragma unroll 1
  for (int n = 0; n < kSlots - 1; n++) {
    fetch(n);
    commit_copies();
  }

  A w[3][3][kLane] = {}, start_sum[kLane] = {};
  const int channel = p.channel0 + p.channel;
  if (p.active) {
    read_weights(weight + int64_t{9} * channel, flip, w);
    if (bias)
#pragma unroll
      for (int e = 0; e < kLane; e++) start_sum[e] = bias[channel + e];
  }
  const int j = p.column0 + kColumns * p.group, end = p.column0 + s.strip < s.w ? p.column0 + s.strip : s.w;
  const int own = p.active ? end - j : 0;  // columns to store, if fewer than kColumns
  T* to = y + SlideRow(s, p.row0).offset + static_cast<int64_t>(j) * s.channels + channel;
  const T* lane = ring + (p.active ? p.group * s.slab + p.channel : 0);
  A sums[3][kColumns][kLane] = {};

  /// above, here, below: sums of the row before, of this row and of the next.
  const auto step = [&](int n, A(&above)[kColumns][kLane], A(&here)[kColumns][kLane],
                        A(&below)[kColumns][kLane]) {
    if (n >= steps) return;
    wait_copies<kSlots - 2>();
    __syncthreads();
    fetch(n + kSlots - 1);
    commit_copies();
    if (row < s.h) {
      A v[kColumns + 2][kLane];
      const T* from = lane + n % kSlots * row_elements;
#pragma unroll
      for (int c = 0; c < kColumns + 2; c++)
        read_lane<T, kLane>(from + c % kColumns * quarter + c / kColumns * s.slab, v[c]);
      add_row(above, v, w[2]);
      add_row(here, v, w[1]);
      fill(below, start_sum);
      add_row(below, v, w[0]);
    } else {
      fill(below, start_sum);
    }
    if (n >= 2 && row > 0) {
#pragma unroll
      for (int c = 0; c < kColumns; c++) {
        if constexpr (kSilu)
#pragma unroll
          for (int e = 0; e < kLane; e++) above[c][e] = silu_of<T>(above[c][e]);
        if (c < own) write_lane<T, kLane>(to + c * s.channels, above[c]);
      }
      to += s.line();
    }
    row = row < s.h ? row + 1 : 0;
  };
  // the rows of sums take turns, so that none is moved
#pragma unroll 1
  for (int n = 0; n < steps; n += 3) {
    step(n, sums[0], sums[1], sums[2]);
    step(n + 1, sums[1], sums[2], sums[0]);
    step(n + 2, sums[2], sums[0], sums[1]);
  }
}

}  // namespace qm::cuda
