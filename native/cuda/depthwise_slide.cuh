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

/// Channels of a thread: of the forward kernel, and of the gradients, which need more registers for each.
template <class T>
constexpr int kForwardLane = std::is_same_v<T, double> ? 2 : 4;
template <class T>
constexpr int kBackwardLane = std::is_same_v<T, double> ? 1 : 2;

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

/// Bytes of the rings of x and dy and of two rows of dz, or of the sums of the threads.
template <class T, bool kSilu>
int slide_bwd_shared(const SlideShape& s) {
  const int size = static_cast<int>(sizeof(T)), acc = static_cast<int>(sizeof(Acc<T>));
  const int ring = kRing * (4 * s.pairs + 2) * s.slab * size;
  const int exchange = kSilu ? 2 * (2 * s.pairs + 2) * s.slab * acc : 0;
  return std::max(ring + exchange, s.pairs * s.slab * 10 * acc);
}

/// With kSilu: dz = dy silu'(z), z = conv(x) + bias made again; dx = the gradient by x; and the sums below of
/// dz. Without: dz is dy, and only the sums are made. Sums: partial [parts, 9 taps (and the bias), channels],
/// of every image, run and strip, in Acc<T>, a thread's rows in order, then the threads of a channel in order.
///
/// Step r takes row r of x and row r - 1 of dy, and makes row r - 1 of dz. A row of dz goes through shared
/// memory to the neighbouring threads, which add it to dx a step later.
template <class T, bool kSilu>
__global__ void __launch_bounds__(kThreads, 2)
    slide_bwd_kernel(const __grid_constant__ SlideShape s, const T* dy, const T* x, const Acc<T>* weight,
                     const Acc<T>* bias, T* dx, Acc<T>* partial) {
  using A = Acc<T>;
  constexpr int kLane = kBackwardLane<T>, kItems = std::is_same_v<T, bf16> ? 1 : 2, kSums = kSilu ? 10 : 9;
  const SlidePlace p = SlidePlace::of<kLane>(s);
  const int x_columns = 2 * s.pairs + 2, dy_columns = 2 * s.pairs;
  const int x_elements = x_columns * s.slab, dy_elements = dy_columns * s.slab;
  T* x_ring = reinterpret_cast<T*>(dynamic_shared());
  T* dy_ring = x_ring + kRing * x_elements;
  A* exchange = reinterpret_cast<A*>(dy_ring + kRing * dy_elements);  // [2][x_columns][slab]
  const int first = p.column0 - s.lead;                               // column of the first pair
  const RowCopy<T, kItems> x_copy(s, p, first - 1, x_columns);
  const RowCopy<T, 1> dy_copy(s, p, first, dy_columns);
  const T* x_image = x + p.image * s.h * s.line();
  const T* dy_image = dy + p.image * s.h * s.line();
  const uint32_t x_shared = shared_address(x_ring), dy_shared = shared_address(dy_ring);

  // dz of rows row0 - 1 to row1 is needed for dx, of rows row0 to row1 - 1 for the sums; rows outside the image
  // are 0. Row r of x completes row r - 1 of z, row r - 2 of dz is added to dx, whose row r - 3 is done then.
  const int dz0 = kSilu && p.row0 > 0 ? p.row0 - 1 : p.row0;
  const int dz1 = kSilu && p.row1 < s.h ? p.row1 + 1 : p.row1;
  const int r0 = dz0 > 0 ? dz0 - 1 : 0, r1 = kSilu ? p.row1 + 3 : p.row1 + 1;
  const auto slot_of = [&](int r) { return static_cast<int>(static_cast<unsigned>(r - r0) % kRing); };
  const auto start = [&](int r) {
    const int slot = slot_of(r);
    const bool x_inside = r < s.h && r <= dz1, dy_inside = r - 1 >= dz0 && r - 1 < dz1;
    x_copy.start(x_image + (x_inside ? static_cast<int64_t>(r) * s.line() : 0), x_inside,
                 x_shared + slot * x_elements * static_cast<int>(sizeof(T)));
    dy_copy.start(dy_image + (dy_inside ? static_cast<int64_t>(r - 1) * s.line() : 0), dy_inside,
                  dy_shared + slot * dy_elements * static_cast<int>(sizeof(T)));
  };
#pragma unroll
  for (int n = 0; n < kRing - 1; n++) {
    if (r0 + n < r1) start(r0 + n);
    commit_copies();
  }
  if constexpr (kSilu)
    for (int k = threadIdx.x; k < 2 * x_elements; k += blockDim.x) exchange[k] = A{0};

  const int channel = p.channel0 + p.channel, j = first + 2 * p.pair;
  const int end = p.column0 + s.strip < s.w ? p.column0 + s.strip : s.w;
  A w[3][3][kLane] = {}, start_sum[kLane] = {};
  if constexpr (kSilu)
    if (p.active) {
      read_weights(weight + int64_t{9} * channel, false, w);
      if (bias)
#pragma unroll
        for (int e = 0; e < kLane; e++) start_sum[e] = bias[channel + e];
    }
  bool inside[2], own[2];  // the image; the block's strip
#pragma unroll
  for (int c = 0; c < 2; c++) {
    inside[c] = j + c >= 0 && j + c < s.w;
    own[c] = j + c >= p.column0 && j + c < end;
  }
  A z_here[2][kLane], z_next[2][kLane], dx_here[2][kLane] = {}, dx_next[2][kLane] = {};
#pragma unroll
  for (int e = 0; e < kLane; e++) z_here[0][e] = z_here[1][e] = z_next[0][e] = z_next[1][e] = start_sum[e];
  A x_rows[3][4][kLane] = {};
  A sum[kSums][kLane] = {};
  T* to = dx + (p.image * s.h * s.w + j) * s.channels + channel;

  /// above, middle: rows r - 2 and r - 1 of x; v becomes row r.
  const auto step = [&](int r, A(&above)[4][kLane], A(&middle)[4][kLane], A(&v)[4][kLane]) {
    if (r >= r1) return;
    wait_copies<kRing - 2>();
    __syncthreads();
    if (r + kRing - 1 < r1) start(r + kRing - 1);
    commit_copies();
    if (!p.active) return;
    const int slot = slot_of(r);

    if (r <= dz1) {
      const T* from = x_ring + slot * x_elements + p.pair * s.slab + p.channel;
#pragma unroll
      for (int c = 0; c < 4; c++) read_lane<T, kLane>(from + (c % 2 * (s.pairs + 1) + c / 2) * s.slab, v[c]);
      A dz[2][kLane];
      const T* dy_from = dy_ring + slot * dy_elements + p.pair * s.slab + p.channel;
#pragma unroll
      for (int c = 0; c < 2; c++) read_lane<T, kLane>(dy_from + c * s.pairs * s.slab, dz[c]);
      if constexpr (kSilu) {
        A z[2][kLane];
#pragma unroll
        for (int c = 0; c < 2; c++)
#pragma unroll
          for (int e = 0; e < kLane; e++) {
            z[c][e] = z_here[c][e];
            z_here[c][e] = z_next[c][e];
            z_next[c][e] = start_sum[e];
          }
        add_row(z, v, w[2]);
        add_row(z_here, v, w[1]);
        add_row(z_next, v, w[0]);
        A* dz_to = exchange + (r & 1) * x_elements + p.pair * s.slab + p.channel;
#pragma unroll
        for (int c = 0; c < 2; c++) {
          Pack<A, kLane> out;
#pragma unroll
          for (int e = 0; e < kLane; e++) {
            const bool valid = inside[c] && r - 1 >= dz0 && r - 1 < dz1;
            dz[c][e] = valid ? silu_gradient<T>(z[c][e], dz[c][e]) : A{0};
            out.v[e] = dz[c][e];
          }
          // column 2 pair + c, and one more for the column before the first
          store_pack<A, kLane>(dz_to + (c == 0 ? s.pairs + 1 : 1) * s.slab, out);
        }
      }
      if (r - 1 >= p.row0 && r - 1 < p.row1) {
#pragma unroll
        for (int c = 0; c < 2; c++)
#pragma unroll
          for (int e = 0; e < kLane; e++) {
            const A d = own[c] ? dz[c][e] : A{0};
#pragma unroll
            for (int k = 0; k < 3; k++) {
              sum[k][e] += d * above[c + k][e];
              sum[3 + k][e] += d * middle[c + k][e];
              sum[6 + k][e] += d * v[c + k][e];
            }
            if constexpr (kSilu) sum[9][e] += d;
          }
      }
    }

    if constexpr (kSilu) {
      A done[2][kLane];
#pragma unroll
      for (int c = 0; c < 2; c++)
#pragma unroll
        for (int e = 0; e < kLane; e++) {
          done[c][e] = dx_here[c][e];
          dx_here[c][e] = dx_next[c][e];
          dx_next[c][e] = A{0};
        }
      if (r - 2 >= dz0 && r - 2 < dz1) {
        A d[4][kLane];
        const A* dz_from = exchange + (1 - (r & 1)) * x_elements + p.pair * s.slab + p.channel;
#pragma unroll
        for (int c = 0; c < 4; c++) {
          const Pack<A, kLane> in = load_pack<A, kLane>(dz_from + (c % 2 * (s.pairs + 1) + c / 2) * s.slab);
          // the kernel turned around: column j takes dz of column j + 1 through the first weight
#pragma unroll
          for (int e = 0; e < kLane; e++) d[3 - c][e] = in.v[e];
        }
        A turned[2][kLane];
        const auto add = [&](A(&sums)[2][kLane], const A(&row)[3][kLane]) {
#pragma unroll
          for (int c = 0; c < 2; c++)
#pragma unroll
            for (int e = 0; e < kLane; e++) turned[1 - c][e] = sums[c][e];
          add_row(turned, d, row);
#pragma unroll
          for (int c = 0; c < 2; c++)
#pragma unroll
            for (int e = 0; e < kLane; e++) sums[c][e] = turned[1 - c][e];
        };
        add(done, w[0]);
        add(dx_here, w[1]);
        add(dx_next, w[2]);
      }
      if (r - 3 >= p.row0 && r - 3 < p.row1)
#pragma unroll
        for (int c = 0; c < 2; c++)
          if (own[c])
            write_lane<T, kLane>(to + static_cast<int64_t>(r - 3) * s.line() + c * s.channels, done[c]);
    }
  };
  // the rows of x take turns, so that none is moved
#pragma unroll 1
  for (int r = r0; r < r1; r += 3) {
    step(r, x_rows[0], x_rows[1], x_rows[2]);
    step(r + 1, x_rows[1], x_rows[2], x_rows[0]);
    step(r + 2, x_rows[2], x_rows[0], x_rows[1]);
  }
  wait_copies<0>();
  __syncthreads();

  A* room = reinterpret_cast<A*>(dynamic_shared());  // [pairs][kSums][slab]
  if (p.active)
#pragma unroll
    for (int k = 0; k < kSums; k++)
#pragma unroll
      for (int e = 0; e < kLane; e++) room[(p.pair * kSums + k) * s.slab + p.channel + e] = sum[k][e];
  __syncthreads();
  for (int k = threadIdx.x; k < kSums * s.slab; k += blockDim.x) {
    const int c = p.channel0 + k % s.slab;
    if (c >= s.channels) continue;
    A total = A{0};
    for (int pair = 0; pair < s.pairs; pair++) total += room[pair * kSums * s.slab + k];
    partial[(p.part * kSums + k / s.slab) * s.channels + c] = total;
  }
}

}  // namespace qm::cuda
