// A convolution and its gradient by x as one kind of product: a target pixel sums weighted source pixels.
#pragma once
#include <numeric>

#include "cuda/conv.cuh"

namespace qm::cuda {

/// Where the taps of one axis read. Target position p of `count` (its index in the tensor: first + p * pitch)
/// reads through tap t source index p * step + offset + t * offset_step, weighted by kernel position
/// tap + t * tap_step.
struct TapAxis {
  int64_t taps, tap, tap_step, offset, offset_step, step, extent, count, first, pitch;
};

inline TapAxis forward_axis(const ConvShape& s, int k) {
  return {k ? s.kw : s.kh, 0, 1, -s.padding[k], s.dilation[k], s.stride[k], k ? s.w : s.h,
          k ? s.ow : s.oh, 0, 1};
}

/// The gradient by x, gathered: the positions phase, phase + stride, ... of x are reached by the same taps.
inline TapAxis backward_axis(const ConvShape& s, int k, int64_t phase) {
  const int64_t kernel = k ? s.kw : s.kh, size = k ? s.w : s.h, stride = s.stride[k],
                dilation = s.dilation[k];
  const int64_t common = std::gcd(stride, dilation), tap_step = stride / common;
  int64_t tap = 0;
  while (tap < kernel && tap < tap_step && (phase + s.padding[k] - tap * dilation) % stride != 0) tap++;
  const bool reached = tap < kernel && tap < tap_step;
  return {reached ? (kernel - 1 - tap) / tap_step + 1 : 0,
          tap,
          tap_step,
          reached ? (phase + s.padding[k] - tap * dilation) / stride : 0,
          -dilation / common,
          1,
          k ? s.ow : s.oh,
          (size - phase + stride - 1) / stride,
          phase,
          stride};
}

constexpr int kMaxPhases = 8;

/// The pixels of every pair of phases are a matrix of their own, and blocks of its rows follow one another,
/// pair after pair.
struct Phases {
  TapAxis y[kMaxPhases], x[kMaxPhases];
  int ny, nx;

  int64_t row_blocks(int64_t batch, int64_t rows) const {
    int64_t n = 0;
    for (int p = 0; p < ny * nx; p++) n += ceil_div(batch * y[p / nx].count * x[p % nx].count, rows);
    return n;
  }
};

inline Phases forward_phases(const ConvShape& s) {
  Phases p = {};
  p.y[0] = forward_axis(s, 0);
  p.x[0] = forward_axis(s, 1);
  p.ny = p.nx = 1;
  return p;
}

/// Phases from (y, x) on, as many as one launch takes; those of most taps first, as they take longest.
inline Phases backward_phases(const ConvShape& s, int64_t y, int64_t x) {
  Phases p = {};
  const auto more_taps = [](const TapAxis& a, const TapAxis& b) { return a.taps > b.taps; };
  for (; p.ny < kMaxPhases && y < std::min(s.stride[0], s.h); y++) p.y[p.ny++] = backward_axis(s, 0, y);
  for (; p.nx < kMaxPhases && x < std::min(s.stride[1], s.w); x++) p.x[p.nx++] = backward_axis(s, 1, x);
  std::stable_sort(p.y, p.y + p.ny, more_taps);
  std::stable_sort(p.x, p.x + p.nx, more_taps);
  return p;
}

/// target[pixel, column] = bias[column] + sum over taps and source channels of a group.
template <class T>
struct Product {
  const T* source;     // [batch, y.extent, x.extent, source_channels]
  T* target;           // [batch, height, width, target_channels]
  const Acc<T>* bias;  // [target_channels], or null
  int64_t batch, height, width, source_channels, target_channels;
  int64_t groups, depth, columns;  // source and target channels of a group
  int64_t taps, kernel_width;      // of the whole kernel
  Phases phases;
};

/// A thread's walk over (tap, source channel), channels innermost.
template <class Index>
struct TapCursor {
  Index channel = 0;
  int y = 0, x = 0;

  __device__ __forceinline__ void advance(int n, Index depth, int taps_x) {
    channel += n;
    while (channel >= depth) {
      channel -= depth;
      if (++x == taps_x) {
        x = 0;
        y++;
      }
    }
  }
};

/// The pair of phases to which a block of rows belongs; takes the blocks of the pairs before it off *block.
__device__ __forceinline__ int phase_of_block(const Phases& phases, int64_t batch, int rows, int64_t* block) {
  int p = 0;
  for (;; p++) {
    const int64_t blocks =
        ceil_div(batch * phases.y[p / phases.nx].count * phases.x[p % phases.nx].count, rows);
    if (*block < blocks || p + 1 == phases.ny * phases.nx) return p;
    *block -= blocks;
  }
}

/// Row m of a phase's matrix: image and position.
template <class Index>
struct PixelOf {
  Index image, i, j;
  __device__ __forceinline__ PixelOf(Index m, Index height, Index width) {
    const Index row = quotient(m, width);
    j = m - row * width;
    image = quotient(row, height);
    i = row - image * height;
  }
};

}  // namespace qm::cuda
