// Scans with few channels are cut along the length, and the pieces computed side by side. What a segment
// starts with follows from a summary of the others: the sum of its step sizes, whose decay is the decay
// over the segment, and its end from a start of 0. Forward that is the state h; in the reverse direction it
// is the adjoint that enters a segment from its later neighbour, r_j = a_j (r_{j+1} + dy_j C_j).
#pragma once
#include "cuda/device/scan_math.cuh"
#include "cuda/selective_scan.cuh"

namespace qm::cuda {

/// x is u forward and dy in reverse, [batch, length, x_row].
///   ends [batch, segments, channels, states], steps [batch, segments, channels]
/// A thread owns a channel and kN states of a segment, and walks its positions in order; loads run a few
/// ahead.
template <class T, int kN, bool kReverse>
__global__ void __launch_bounds__(kThreads)
    selective_scan_summary_kernel(ScanArguments<T> g, const T* x, int x_row, Acc<T>* ends, Acc<T>* steps) {
  using A = Acc<T>;
  using M = ScanMath<T>;
  constexpr int kAhead = 8;
  const int state_blocks = (g.states + kN - 1) / kN;
  const int64_t threads = g.batch * g.segments * state_blocks * g.channels;
  int64_t index = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (index >= threads) return;
  const int channel = static_cast<int>(index % g.channels);
  index /= g.channels;
  const int n0 = static_cast<int>(index % state_blocks) * kN;
  index /= state_blocks;
  const int segment = static_cast<int>(index % g.segments);
  const int64_t batch = index / g.segments;
  const int group = channel / g.per_group;
  const int count = min(kN, g.states - n0);

  const T* delta = g.delta + batch * g.length * g.channels + channel;
  x += batch * g.length * x_row + (x_row == g.channels ? channel : channel % g.per_group);
  const int bc_row = g.groups * g.states;
  const T* bc = (kReverse ? g.c : g.b) + batch * g.length * bc_row + group * g.states + n0;
  const int32_t* line =
      g.order.data ? g.order.data + batch * g.order.batch_stride + group * g.order.group_stride : nullptr;
  const A bias = g.bias ? g.bias[channel] : A(0);
  A rate[kN], end[kN] = {};
#pragma unroll
  for (int n = 0; n < kN; n++)
    rate[n] = n < count ? g.a[static_cast<int64_t>(channel) * g.states + n0 + n] * M::scale : A(0);

  const int from = segment * g.segment_chunks * g.chunk;
  const int length = min(g.length - from, g.segment_chunks * g.chunk);
  A sum = 0;
  for (int i = 0; i < length; i += kAhead) {
    A dt[kAhead], value[kAhead], coefficient[kAhead][kN];
#pragma unroll
    for (int k = 0; k < kAhead; k++) {
      const bool present = i + k < length;
      const int position = present ? from + (kReverse ? length - 1 - i - k : i + k) : from;
      const int64_t t = line ? min(max(line[position], 0), g.length - 1) : position;
      dt[k] = widen(delta[t * g.channels]) + bias;
      if (g.softplus) dt[k] = M::softplus(dt[k]);
      if (!present) dt[k] = 0;
      value[k] = present ? widen(x[t * x_row]) : A(0);
#pragma unroll
      for (int n = 0; n < kN; n++) coefficient[k][n] = n < count ? widen(bc[t * bc_row + n]) : A(0);
    }
#pragma unroll
    for (int k = 0; k < kAhead; k++) {
      sum += dt[k];
#pragma unroll
      for (int n = 0; n < kN; n++) {
        const A decay = M::decay(dt[k] * rate[n]);
        if constexpr (kReverse)
          end[n] = decay * mul_add(value[k], coefficient[k][n], end[n]);
        else
          end[n] = mul_add(decay, end[n], dt[k] * value[k] * coefficient[k][n]);
      }
    }
  }
  const int64_t at = (batch * g.segments + segment) * g.channels + channel;
  for (int n = 0; n < count; n++) ends[at * g.states + n0 + n] = end[n];
  if (n0 == 0) steps[at] = sum;
}

/// Turns the ends of segments into what they start with, in place. A thread owns a state of a channel and
/// walks the segments in scan order, or from the last to the first.
template <class T, bool kReverse>
__global__ void __launch_bounds__(kThreads)
    selective_scan_starts_kernel(ScanArguments<T> g, Acc<T>* ends, const Acc<T>* steps) {
  using A = Acc<T>;
  const int64_t row = static_cast<int64_t>(g.channels) * g.states;
  const int64_t index = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x;
  if (index >= g.batch * row) return;
  const int64_t batch = index / row, i = index % row, channel = i / g.states;
  const A rate = g.a[i] * ScanMath<T>::scale;
  A start = 0;
#pragma unroll 4
  for (int k = 0; k < g.segments; k++) {
    const int64_t at = batch * g.segments + (kReverse ? g.segments - 1 - k : k);
    const A end = ends[at * row + i];
    const A decay = ScanMath<T>::decay(rate * steps[at * g.channels + channel]);
    ends[at * row + i] = start;
    start = mul_add(decay, start, end);
  }
}

/// Fills `starts` [batch, segments, channels, states] where the length is cut.
template <class T, bool kReverse>
void scan_starts(const Call& call, const ScanArguments<T>& g, const T* x, int x_row, Acc<T>* starts) {
  const int64_t channels = g.batch * g.segments * g.channels;
  Scratch<Acc<T>> steps(channels);
  if (g.states == 1) {
    QM_LAUNCH(call, (selective_scan_summary_kernel<T, 1, kReverse>), grid_of(channels), kThreads, 0, g, x,
              x_row, starts, steps.get());
  } else {
    constexpr int kN = sizeof(T) == 8 ? 2 : 4;
    QM_LAUNCH(call, (selective_scan_summary_kernel<T, kN, kReverse>),
              grid_of(channels * ceil_div(g.states, kN)), kThreads, 0, g, x, x_row, starts, steps.get());
  }
  QM_LAUNCH(call, (selective_scan_starts_kernel<T, kReverse>), grid_of(g.batch * g.channels * g.states),
            kThreads, 0, g, starts, steps.get());
}

}  // namespace qm::cuda
