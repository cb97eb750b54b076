// The gradients of the sliding depthwise convolution, with or without silu after it, in one pass over x and dy.
#pragma once
#include "cuda/depthwise_slide.cuh"

namespace qm::cuda {

/// Channels of a thread: fewer than forward, as each needs more registers.
template <class T>
constexpr int kBackwardLane = std::is_same_v<T, double> ? 1 : 2;

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
