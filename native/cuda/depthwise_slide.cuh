// Depthwise 3 x 3 convolution with stride 1 and padding 1, sliding down the rows: every row of a block's part
// of the image is copied to shared memory once, through a ring of rows, and added at once to the three rows of
// sums that it reaches, which stay in registers.
//
// A block owns a strip of columns, a slab of channels and a run of rows of one image; a thread two
// neighbouring columns and kLane neighbouring channels. Columns lie in shared memory with the even ones first,
// so that neighbouring threads read neighbouring memory.
#pragma once
#include "cuda/conv.cuh"
#include "cuda/device/formulas.cuh"
#include "cuda/device/pack.cuh"
#include "cuda/device/tensor_core.cuh"

namespace qm::cuda {

constexpr int kRing = 8;       // rows in shared memory
constexpr int kMaxStrip = 64;  // columns of a block that has whole rows; otherwise 4 fewer

/// How an image is cut into blocks. Blocks: slabs, strips, runs of rows, images, from the innermost.
struct SlideShape {
  int64_t batch;
  int h, w, channels;
  int slab, slabs, strip, strips, run, runs;
  int lead;   // columns beside the strip of which the block makes values for itself
  int pairs;  // of columns, of a block

  __host__ __device__ int line() const { return w * channels; }
  int64_t blocks() const { return batch * slabs * strips * runs; }
  int threads(int lane) const { return static_cast<int>(ceil_div(pairs * slab / lane, kWarp)) * kWarp; }
};

/// The cut for threads of `lane` channels: at most kThreads threads, slabs of whole 32-byte sectors that divide
/// the channels where there are such, strips of equal width, and runs so short that there are blocks for every
/// multiprocessor several times.
inline SlideShape slide_shape(const TensorView& x, int lane, bool halo) {
  constexpr int64_t kBlocks = 3 * kSplitBlocks, kMinRun = 8;
  const int chunk = 16 / static_cast<int>(dtype_size(x.dtype));
  SlideShape s = {};
  s.batch = x.shape[0];
  s.h = static_cast<int>(x.shape[1]);
  s.w = static_cast<int>(x.shape[2]);
  s.channels = static_cast<int>(x.shape[3]);
  s.strips = s.w <= kMaxStrip ? 1 : static_cast<int>(ceil_div(s.w, kMaxStrip - 4));
  s.strip = static_cast<int>(ceil_div(ceil_div(s.w, s.strips), 2) * 2);
  if (s.strips == 1) s.strip = s.w;
  s.lead = halo && s.strips > 1;
  s.pairs = (s.strip + 2 * s.lead + 1) / 2;
  const int most = std::max(chunk, kThreads / s.pairs * lane / chunk * chunk);
  s.slab = std::min(most, s.channels);
  for (int slab = 2 * chunk; slab <= most; slab += 2 * chunk)
    if (s.channels % slab == 0) s.slab = slab;
  s.slabs = static_cast<int>(ceil_div(s.channels, s.slab));
  const int64_t others = std::max<int64_t>(1, s.batch * s.slabs * s.strips);
  const int64_t runs = std::max<int64_t>(1, std::min(ceil_div(kBlocks, others), s.h / kMinRun));
  s.run = static_cast<int>(ceil_div(s.h, runs));
  s.runs = static_cast<int>(ceil_div(s.h, s.run));
  return s;
}

/// Whether the sliding kernels take a tensor: rows of whole 16-byte chunks, counted in 32 bits.
inline bool slide_fits(const TensorView& x) {
  const int64_t chunk = 16 / static_cast<int64_t>(dtype_size(x.dtype));
  return x.numel() > 0 && x.shape[3] % chunk == 0 && x.shape[2] * x.shape[3] < (int64_t{1} << 30) &&
         x.shape[1] < (int64_t{1} << 30);
}

/// The place of a block and of this thread in it.
struct SlidePlace {
  int64_t image, part;  // part: number of (image, run, strip)
  int channel0, column0, row0, row1;
  int pair, channel;  // of this thread, within the block
  bool active;

  template <int kLane>
  static __device__ __forceinline__ SlidePlace of(const SlideShape& s) {
    SlidePlace p;
    int64_t block = blockIdx.x;
    p.channel0 = static_cast<int>(block % s.slabs) * s.slab;
    block /= s.slabs;
    p.part = block;
    p.column0 = static_cast<int>(block % s.strips) * s.strip;
    block /= s.strips;
    p.row0 = static_cast<int>(block % s.runs) * s.run;
    p.row1 = p.row0 + s.run < s.h ? p.row0 + s.run : s.h;
    p.image = block / s.runs;
    const int lanes = s.slab / kLane;
    p.pair = threadIdx.x / lanes;
    p.channel = threadIdx.x % lanes * kLane;
    p.active = p.pair < s.pairs && p.channel0 + p.channel < s.channels;
    return p;
  }
};

/// One thread's share of copying a row of `columns` columns (an even number) from image column `first` on:
/// kItems chunks. Zeros come from outside the image.
template <class T, int kItems>
struct RowCopy {
  int from[kItems];  // elements from the start of the image row; -1: zeros
  int to[kItems];    // bytes from the start of the row in shared memory; -1: nothing

  __device__ __forceinline__ RowCopy(const SlideShape& s, const SlidePlace& p, int first, int columns) {
    constexpr int kChunk = kPack<T>;
    const int chunks = s.slab / kChunk;
#pragma unroll
    for (int i = 0; i < kItems; i++) {
      const int item = threadIdx.x + i * static_cast<int>(blockDim.x), column = item / chunks;
      const int channel = item % chunks * kChunk, x = first + column;
      const bool inside = x >= 0 && x < s.w && p.channel0 + channel < s.channels;
      from[i] = inside ? x * s.channels + p.channel0 + channel : -1;
      const int place = column / 2 + column % 2 * (columns / 2);
      to[i] = column < columns ? (place * s.slab + channel) * static_cast<int>(sizeof(T)) : -1;
    }
  }
  /// `row`: start of the image row, inside the tensor or not.
  __device__ __forceinline__ void start(const T* row, bool row_inside, uint32_t shared) const {
#pragma unroll
    for (int i = 0; i < kItems; i++) {
      const bool inside = row_inside && from[i] >= 0;
      if (to[i] >= 0) copy_async(shared + to[i], inside ? row + from[i] : row, inside);
    }
  }
};

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
__device__ __forceinline__ void add_row(A (&sum)[2][kLane], const A (&x)[4][kLane], const A (&w)[3][kLane]) {
#pragma unroll
  for (int c = 0; c < 2; c++)
#pragma unroll
    for (int k = 0; k < 3; k++)
#pragma unroll
      for (int e = 0; e < kLane; e++) sum[c][e] += x[c + k][e] * w[k][e];
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
    return dy * (s + z * s * (1.0f - s));
  } else {
    return Silu::backward(z, dy);
  }
}

/// Channels of a thread of the forward kernel.
template <class T>
constexpr int kForwardLane = std::is_same_v<T, double> ? 2 : 4;

/// Bytes of the ring.
template <class T>
int slide_fwd_shared(const SlideShape& s) {
  return kRing * (2 * s.pairs + 2) * s.slab * static_cast<int>(sizeof(T));
}

/// y = conv(x) + bias, through silu if kSilu; with `flip`, the gradient by x from dy. Sums in Acc<T>, kernel
/// rows from top to bottom.
template <class T, bool kSilu>
__global__ void __launch_bounds__(kThreads)
    slide_fwd_kernel(const __grid_constant__ SlideShape s, const T* x, const Acc<T>* weight, bool flip,
                     const Acc<T>* bias, T* y) {
  using A = Acc<T>;
  constexpr int kLane = kForwardLane<T>, kItems = std::is_same_v<T, bf16> ? 2 : 4;
  const SlidePlace p = SlidePlace::of<kLane>(s);
  const int columns = 2 * s.pairs + 2, half = columns / 2, row_elements = columns * s.slab;
  T* ring = reinterpret_cast<T*>(dynamic_shared());
  const uint32_t shared = shared_address(ring);
  const RowCopy<T, kItems> copy(s, p, p.column0 - 1, columns);
  const T* image = x + p.image * s.h * s.line();
  // rows row0 - 1 to row1 of x, as far as there are any; row r of x completes row r - 1 of y
  const int r0 = p.row0 > 0 ? p.row0 - 1 : 0;
  const auto slot_of = [&](int r) {
    return static_cast<int>(static_cast<unsigned>(r - r0) % kRing) * row_elements;
  };
  const auto start = [&](int r) {
    copy.start(image + (r < s.h ? static_cast<int64_t>(r) * s.line() : 0), r < s.h,
               shared + slot_of(r) * static_cast<int>(sizeof(T)));
  };
#pragma unroll
  for (int n = 0; n < kRing - 1; n++) {
    if (r0 + n <= p.row1) start(r0 + n);
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
  A here[2][kLane], next[2][kLane];  // sums of the row above the coming one, and of that one
#pragma unroll
  for (int e = 0; e < kLane; e++) here[0][e] = here[1][e] = next[0][e] = next[1][e] = start_sum[e];
  const int j = p.column0 + 2 * p.pair, end = p.column0 + s.strip < s.w ? p.column0 + s.strip : s.w;
  T* to = y + ((p.image * s.h + p.row0) * s.w + j) * s.channels + channel;
  for (int r = r0; r <= p.row1; r++) {
    wait_copies<kRing - 2>();
    __syncthreads();
    if (r + kRing - 1 <= p.row1) start(r + kRing - 1);
    commit_copies();
    if (!p.active) continue;
    A v[4][kLane];
    const T* from = ring + slot_of(r) + p.pair * s.slab + p.channel;
#pragma unroll
    for (int c = 0; c < 4; c++) read_lane<T, kLane>(from + (c % 2 * half + c / 2) * s.slab, v[c]);
    A done[2][kLane];
#pragma unroll
    for (int c = 0; c < 2; c++)
#pragma unroll
      for (int e = 0; e < kLane; e++) {
        done[c][e] = here[c][e];
        here[c][e] = next[c][e];
        next[c][e] = start_sum[e];
      }
    add_row(done, v, w[2]);
    add_row(here, v, w[1]);
    add_row(next, v, w[0]);
    if (r <= p.row0) continue;
#pragma unroll
    for (int c = 0; c < 2; c++) {
      if constexpr (kSilu)
#pragma unroll
        for (int e = 0; e < kLane; e++) done[c][e] = silu_of<T>(done[c][e]);
      if (j + c < end) write_lane<T, kLane>(to + c * s.channels, done[c]);
    }
    to += s.line();
  }
}

}  // namespace qm::cuda
