// The geometry of a 2-D convolution over NHWC tensors, and what its kernels share: conv2d.cu and, for one
// channel per group, depthwise.cu.
#pragma once
#include "cuda/device/quotient.cuh"

namespace qm::cuda {

/// x [batch, h, w, cin], weight [cout, cin / groups, kh, kw], y [batch, oh, ow, cout]. Pairs are (rows,
/// columns).
struct ConvShape {
  int64_t batch, h, w, cin, oh, ow, cout, kh, kw;
  int64_t stride[2], padding[2], dilation[2];
  int64_t groups;

  int64_t group_in() const { return cin / groups; }
  int64_t group_out() const { return cout / groups; }
  int64_t taps() const { return kh * kw; }
  int64_t in_pixels() const { return batch * h * w; }
  int64_t out_pixels() const { return batch * oh * ow; }
  bool depthwise() const { return groups == cin && groups == cout; }
  bool square(int64_t kernel, int64_t step, int64_t pad) const {
    return kh == kernel && kw == kernel && stride[0] == step && stride[1] == step && padding[0] == pad &&
           padding[1] == pad && dilation[0] == 1 && dilation[1] == 1;
  }
};

/// The three products for groups == cin == cout. bias may be absent.
void depthwise_fwd(const Call& call, const ConvShape& s, const TensorView& x, const TensorView& weight,
                   const TensorView& bias, const TensorView& y);
void depthwise_bwd_x(const Call& call, const ConvShape& s, const TensorView& dy, const TensorView& weight,
                     const TensorView& dx);
void depthwise_bwd_w(const Call& call, const ConvShape& s, const TensorView& dy, const TensorView& x,
                     const TensorView& dweight);

/// Blocks that keep every multiprocessor of an H200 busy once, whatever the device: a split of a sum may
/// depend on shapes only.
constexpr int64_t kSplitBlocks = 264;

/// Adds partial [splits, size] over splits, in double. A block takes kWide kEach elements, a thread kEach of
/// them and every kLanes-th split, in order; then the lanes are added in order. place(element, sum) stores it.
template <int kWide, int kLanes, int kEach, class S, class Place>
__global__ void __launch_bounds__(kWide* kLanes)
    sum_partials_kernel(const S* partial, int64_t splits, int64_t size, Place place) {
  __shared__ double room[kLanes][kEach][kWide];
  const int64_t first = blockIdx.x * int64_t{kWide * kEach} + threadIdx.x;
  double sum[kEach] = {};
#pragma unroll 4
  for (int64_t split = threadIdx.y; split < splits; split += kLanes)
#pragma unroll
    for (int e = 0; e < kEach; e++)
      if (first + e * kWide < size) sum[e] += static_cast<double>(partial[split * size + first + e * kWide]);
  if constexpr (kLanes > 1) {
#pragma unroll
    for (int e = 0; e < kEach; e++) room[threadIdx.y][e][threadIdx.x] = sum[e];
    __syncthreads();
    if (threadIdx.y != 0) return;
    for (int lane = 1; lane < kLanes; lane++)
#pragma unroll
      for (int e = 0; e < kEach; e++) sum[e] += room[lane][e][threadIdx.x];
  }
#pragma unroll
  for (int e = 0; e < kEach; e++)
    if (first + e * kWide < size) place(first + e * kWide, sum[e]);
}

template <int kWide, int kLanes, int kEach, class S, class Place>
void sum_partials_launch(const Call& call, const S* partial, int64_t splits, int64_t size, Place place) {
  QM_LAUNCH(call, (sum_partials_kernel<kWide, kLanes, kEach, S, Place>), grid_of(size, kWide * kEach),
            dim3(kWide, kLanes), 0, partial, splits, size, place);
}

/// A thread should have a few loads under way, and there should be many threads.
template <class S, class Place>
void sum_partials(const Call& call, const S* partial, int64_t splits, int64_t size, Place place) {
  if (splits <= 8) return sum_partials_launch<256, 1, 4>(call, partial, splits, size, place);
  if (splits <= 32) return sum_partials_launch<64, 4, 1>(call, partial, splits, size, place);
  sum_partials_launch<32, 16, 1>(call, partial, splits, size, place);
}

}  // namespace qm::cuda
