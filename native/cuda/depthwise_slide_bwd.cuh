// The gradients of the sliding depthwise convolution, with or without silu after it, in one pass over x and dy.
#pragma once
#include "cuda/depthwise_slide.cuh"

namespace qm::cuda {

/// Blocks of the backward kernel on all multiprocessors of an H200.
constexpr int64_t kBackwardWave = kSplitBlocks;

/// Elements of one buffer of the columns of dz that neighbouring groups need, with a group more on either side.
__host__ __device__ __forceinline__ int edge_elements(const SlideShape& s) {
  return 2 * (s.groups + 1) * s.slab;
}
/// Bytes of the rings of x and dy and of two buffers of edges; all start as zeros.
template <class T>
__host__ __device__ __forceinline__ int slide_bwd_rings(const SlideShape& s) {
  return 2 * kRing<T> * s.places() * s.slab * static_cast<int>(sizeof(T)) +
         2 * edge_elements(s) * static_cast<int>(sizeof(Acc<T>));
}
/// Bytes of these, or of the sums of the threads.
template <class T>
int slide_bwd_shared(const SlideShape& s) {
  return std::max(slide_bwd_rings<T>(s), s.groups * s.slab * 10 * static_cast<int>(sizeof(Acc<T>)));
}

/// With kSilu: dz = dy silu'(z), z = conv(x) + bias made again; dx = the gradient by x; and the sums below of
/// dz. Without: dz is dy, and only the sums are made. Sums: partial [parts, 9 taps (and the bias), channels],
/// of every run and strip, in Acc<T>, a thread's rows in order, then the threads of a channel in order.
///
/// Step n takes row q = row0 - 2 + n of x and makes row q - 1 of dz. A thread keeps its columns of dz and gives
/// the outer ones to its neighbours through shared memory; a step later it adds them to dx, and their products
/// with its own columns of x to the sums.
template <class T, bool kSilu>
__global__ void __launch_bounds__(kThreads, 2)
    slide_bwd_kernel(const __grid_constant__ SlideShape s, const T* dy, const T* x, const Acc<T>* weight,
                     const Acc<T>* bias, T* dx, Acc<T>* partial) {
  using A = Acc<T>;
  constexpr int kLane = kSlideLane<T>, kSlots = kRing<T>, kSums = kSilu ? 10 : 9;
  constexpr int kAhead = kSlots - 2;  // the row of dy before the one of x is still read
  using Row = Pack<T, kLane>[kColumns];
  const SlidePlace p = SlidePlace::of<kLane>(s);
  const int quarter = (s.groups + 1) * s.slab, row_elements = s.places() * s.slab;
  T* x_ring = reinterpret_cast<T*>(dynamic_shared());
  T* dy_ring = x_ring + kSlots * row_elements;
  A* edges = reinterpret_cast<A*>(dy_ring + kSlots * row_elements);
  const uint32_t x_shared = shared_address(x_ring), dy_shared = shared_address(dy_ring);
  clear_shared(slide_bwd_rings<T>(s));
  const int first = p.column0 - kColumns * s.lead;  // column of the first group
  const RowCopy<T> copy(s, p, first - 1);

  // dz of rows row0 - 1 to row0 + rows is needed for dx, its own rows for the sums. There is no row -2, nor any
  // after row s.rows, which like row -1 is between images.
  const int steps = p.rows + 5, n0 = p.row0 == 0;
  const int fetched = p.row0 + p.rows < s.rows ? p.rows + 4 : p.rows + 3;
  const SlideRow start(s, p.row0 - 2 + n0);
  int64_t ahead = start.offset;
  int row = start.row, ahead_row = start.row;
  const auto fetch = [&](int n) {
    if (n >= fetched) return;
    if (ahead_row < s.h) {
      const int slot = n % kSlots * row_elements * static_cast<int>(sizeof(T));
      copy.start(x + ahead, x_shared + slot);
      copy.start(dy + ahead, dy_shared + slot);
      ahead += s.line();
      ahead_row++;
    } else {
      ahead_row = 0;
    }
  };
#pragma unroll 1
  for (int n = n0; n < n0 + kAhead; n++) {
    fetch(n);
    commit_copies();
  }

  const int channel = p.channel0 + p.channel, j = first + kColumns * p.group;
  const int end = p.column0 + s.strip < s.w ? p.column0 + s.strip : s.w;
  const int own = p.active && j >= p.column0 ? end - j : 0;  // columns of the strip, if fewer than kColumns
  A w[3][3][kLane] = {}, start_sum[kLane] = {};
  if constexpr (kSilu)
    if (p.active) {
      read_weights(weight + int64_t{9} * channel, false, w);
      if (bias)
#pragma unroll
        for (int e = 0; e < kLane; e++) start_sum[e] = bias[channel + e];
    }
  A z_rows[3][kColumns][kLane] = {}, dx_rows[3][kColumns][kLane] = {}, dz[kColumns][kLane] = {};
  Row x_rows[3] = {};
  A sum[kSums][kLane] = {};
  T* to = dx + SlideRow(s, p.row0).offset + static_cast<int64_t>(j) * s.channels + channel;
  const int at = p.group * s.slab + p.channel;
  bool made = false;  // whether dz holds a row
  const A zero[kLane] = {};

  /// z_above, z_here, z_below: sums of rows q - 1, q and q + 1 of z; dx_above, dx_here, dx_below: of rows q - 3
  /// to q - 1 of dx; x_above, x_here, x_below: rows q - 3 to q - 1 of x, of which the first becomes row q.
  const auto step = [&](int n, A(&z_above)[kColumns][kLane], A(&z_here)[kColumns][kLane],
                        A(&z_below)[kColumns][kLane], A(&dx_above)[kColumns][kLane],
                        A(&dx_here)[kColumns][kLane], A(&dx_below)[kColumns][kLane], Row& x_above,
                        const Row& x_here, const Row& x_below) {
    if (n >= steps) return;
    wait_copies<kAhead - 1>();
    __syncthreads();
    fetch(n + kAhead);
    commit_copies();
    if (p.active) {
      if (made) {
        if constexpr (kSilu) fill(dx_below, zero);
        const A* edge = edges + (n + 1) % 2 * edge_elements(s) + at;
        A d[kColumns + 2][kLane];
        read_lane<A, kLane>(edge, d[0]);
        read_lane<A, kLane>(edge + quarter + s.slab, d[kColumns + 1]);
#pragma unroll
        for (int c = 0; c < kColumns; c++)
#pragma unroll
          for (int e = 0; e < kLane; e++) d[c + 1][e] = dz[c][e];
        if constexpr (kSilu) {
#pragma unroll
          for (int c = 0; c < kColumns; c++)
#pragma unroll
            for (int k = 0; k < 3; k++)
#pragma unroll
              for (int e = 0; e < kLane; e++) {
                dx_above[c][e] += d[c + 2 - k][e] * w[0][k][e];
                dx_here[c][e] += d[c + 2 - k][e] * w[1][k][e];
                dx_below[c][e] += d[c + 2 - k][e] * w[2][k][e];
              }
        }
        if (n >= 4 && n < p.rows + 4) {
#pragma unroll
          for (int c = 0; c < kColumns; c++)
#pragma unroll
            for (int e = 0; e < kLane; e++) {
              const A above = widen(x_above[c].v[e]), here = widen(x_here[c].v[e]),
                      below = widen(x_below[c].v[e]);
#pragma unroll
              for (int k = 0; k < 3; k++) {
                sum[k][e] += d[c + 2 - k][e] * above;
                sum[3 + k][e] += d[c + 2 - k][e] * here;
                sum[6 + k][e] += d[c + 2 - k][e] * below;
              }
              if constexpr (kSilu) sum[9][e] += dz[c][e];
            }
        }
      } else if constexpr (kSilu) {
        fill(dx_below, zero);
      }
      if constexpr (kSilu) {
        // row q - 3 is between images if row q is the second of one
        if (n >= 5 && row != (s.h > 1 ? 2 : 0)) {
#pragma unroll
          for (int c = 0; c < kColumns; c++)
            if (c < own) write_lane<T, kLane>(to + c * s.channels, dx_above[c]);
          to += s.line();
        }
      }

      if (row < s.h && n < fetched) {
        const T* from = x_ring + n % kSlots * row_elements + at;
        A v[kColumns + 2][kLane];
#pragma unroll
        for (int c = 0; c < kColumns + 2; c++) {
          const auto in = load_pack<T, kLane>(from + c % kColumns * quarter + c / kColumns * s.slab);
          if (c >= 1 && c <= kColumns) x_above[c - 1] = in;
#pragma unroll
          for (int e = 0; e < kLane; e++) v[c][e] = widen(in.v[e]);
        }
        if constexpr (kSilu) {
          add_row(z_above, v, w[2]);
          add_row(z_here, v, w[1]);
          fill(z_below, start_sum);
          add_row(z_below, v, w[0]);
        }
      } else {
        if constexpr (kSilu) fill(z_below, start_sum);
#pragma unroll
        for (int c = 0; c < kColumns; c++) x_above[c] = Pack<T, kLane>{};
      }
      made = row > 0 && n >= 2 && n <= p.rows + 3;
      if (made) {
        const T* from = dy_ring + (n + kSlots - 1) % kSlots * row_elements + at;
#pragma unroll
        for (int c = 0; c < kColumns; c++) {
          read_lane<T, kLane>(from + (c + 1) % kColumns * quarter + (c + 1) / kColumns * s.slab, dz[c]);
          if constexpr (kSilu)
#pragma unroll
            for (int e = 0; e < kLane; e++) dz[c][e] = silu_gradient<T>(z_above[c][e], dz[c][e]);
        }
        // the first half of the buffer: last columns, one group on; the second half: first columns
        A* edge = edges + n % 2 * edge_elements(s) + at;
        write_lane<A, kLane>(edge + s.slab, dz[kColumns - 1]);
        write_lane<A, kLane>(edge + quarter, dz[0]);
      }
    }
    row = row < s.h ? row + 1 : 0;
  };
  // the rows take turns, so that none is moved
#pragma unroll 1
  for (int n = n0; n < steps; n += 3) {
    step(n, z_rows[0], z_rows[1], z_rows[2], dx_rows[0], dx_rows[1], dx_rows[2], x_rows[0], x_rows[1],
         x_rows[2]);
    step(n + 1, z_rows[1], z_rows[2], z_rows[0], dx_rows[1], dx_rows[2], dx_rows[0], x_rows[1], x_rows[2],
         x_rows[0]);
    step(n + 2, z_rows[2], z_rows[0], z_rows[1], dx_rows[2], dx_rows[0], dx_rows[1], x_rows[2], x_rows[0],
         x_rows[1]);
  }
  wait_copies<0>();
  __syncthreads();

  A* room = reinterpret_cast<A*>(dynamic_shared());  // [groups][kSums][slab]
  if (p.active)
#pragma unroll
    for (int k = 0; k < kSums; k++)
#pragma unroll
      for (int e = 0; e < kLane; e++)
        room[(p.group * kSums + k) * s.slab + p.channel + e] = own > 0 ? sum[k][e] : A{0};
  __syncthreads();
  for (int k = threadIdx.x; k < kSums * s.slab; k += blockDim.x) {
    const int c = p.channel0 + k % s.slab;
    if (c >= s.channels) continue;
    A total = A{0};
    for (int group = 0; group < s.groups; group++) total += room[group * kSums * s.slab + k];
    partial[(int64_t{p.part} * kSums + k / s.slab) * s.channels + c] = total;
  }
}

}  // namespace qm::cuda
