// Depthwise convolution of any kernel, stride, padding, dilation and type: one element a thread, neighbouring
// threads neighbouring channels.
#pragma once
#include "cuda/conv.cuh"

namespace qm::cuda {

/// y[..., c] = finish(bias[c] + sum over taps of x weight, index of the element), in Acc<T>, taps in row-major
/// order.
template <class T, class Out, class Finish>
__global__ void __launch_bounds__(kThreads)
    plain_fwd_kernel(const __grid_constant__ ConvShape s, const T* x, const Acc<T>* weight,
                     const Acc<T>* bias, Out* y, int64_t n, Finish finish) {
  const int64_t k = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (k >= n) return;
  const int64_t pixel = quotient(k, s.cin), c = k - pixel * s.cin;
  const int64_t row = quotient(pixel, s.ow), j = pixel - row * s.ow, image = quotient(row, s.oh);
  const int64_t y0 = (row - image * s.oh) * s.stride[0] - s.padding[0], x0 = j * s.stride[1] - s.padding[1];
  Acc<T> sum = bias ? bias[c] : Acc<T>{0};
  for (int64_t ky = 0; ky < s.kh; ky++) {
    const int64_t yy = y0 + ky * s.dilation[0];
    if (yy < 0 || yy >= s.h) continue;
    for (int64_t kx = 0; kx < s.kw; kx++) {
      const int64_t xx = x0 + kx * s.dilation[1];
      if (xx >= 0 && xx < s.w)
        sum += widen(x[((image * s.h + yy) * s.w + xx) * s.cin + c]) * weight[(c * s.kh + ky) * s.kw + kx];
    }
  }
  y[k] = finish(sum, k);
}

/// dx gathers, from dy of type From.
template <class From, class T>
__global__ void __launch_bounds__(kThreads)
    plain_bwd_x_kernel(const __grid_constant__ ConvShape s, const From* dy, const Acc<T>* weight, T* dx,
                       int64_t n) {
  const int64_t k = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (k >= n) return;
  const int64_t pixel = quotient(k, s.cin), c = k - pixel * s.cin;
  const int64_t row = quotient(pixel, s.w), image = quotient(row, s.h);
  const int64_t y0 = row - image * s.h + s.padding[0], x0 = pixel - row * s.w + s.padding[1];
  Acc<T> sum{0};
  for (int64_t ky = 0; ky < s.kh; ky++) {
    const int64_t reach_y = y0 - ky * s.dilation[0];
    if (reach_y < 0) break;
    const int64_t i = quotient(reach_y, s.stride[0]);
    if (i >= s.oh || i * s.stride[0] != reach_y) continue;
    for (int64_t kx = 0; kx < s.kw; kx++) {
      const int64_t reach_x = x0 - kx * s.dilation[1];
      if (reach_x < 0) break;
      const int64_t j = quotient(reach_x, s.stride[1]);
      if (j < s.ow && j * s.stride[1] == reach_x)
        sum += widen(dy[((image * s.oh + i) * s.ow + j) * s.cin + c]) * weight[(c * s.kh + ky) * s.kw + kx];
    }
  }
  dx[k] = narrow<T>(sum);
}

constexpr int kPlainChannels = 32, kPlainLanes = 8;

/// partial [splits, sums, channels]: of every tap, and (sum number kh kw) of dy alone. A block takes one sum,
/// kPlainChannels channels and one split of the pixels of y, of which a thread takes every kPlainLanes-th; the
/// threads of a channel are added in order. Blocks: channels, sums, splits, from the innermost.
template <class From, class T>
__global__ void __launch_bounds__(kPlainChannels* kPlainLanes)
    plain_bwd_w_kernel(const __grid_constant__ ConvShape s, const From* dy, const T* x, Acc<T>* partial,
                       int64_t sums, int64_t split_pixels, int64_t pixels) {
  __shared__ Acc<T> room[kPlainLanes][kPlainChannels];
  const int64_t channel_blocks = ceil_div(s.cin, kPlainChannels);
  const int64_t at = blockIdx.x / channel_blocks, k = at % sums, split = at / sums;
  const int64_t c = blockIdx.x % channel_blocks * kPlainChannels + threadIdx.x;
  const int64_t first = split * split_pixels;
  const int64_t last = first + split_pixels < pixels ? first + split_pixels : pixels;
  const bool alone = k == s.kh * s.kw;
  const int64_t ahead_y = k / s.kw * s.dilation[0] - s.padding[0],
                ahead_x = k % s.kw * s.dilation[1] - s.padding[1];
  Acc<T> sum{0};
  if (c < s.cin)
    for (int64_t p = first + threadIdx.y; p < last; p += kPlainLanes) {
      const int64_t row = quotient(p, s.ow), image = quotient(row, s.oh);
      const int64_t yy = (row - image * s.oh) * s.stride[0] + ahead_y,
                    xx = (p - row * s.ow) * s.stride[1] + ahead_x;
      const Acc<T> d = widen(dy[p * s.cin + c]);
      if (alone)
        sum += d;
      else if (yy >= 0 && yy < s.h && xx >= 0 && xx < s.w)
        sum += d * widen(x[((image * s.h + yy) * s.w + xx) * s.cin + c]);
    }
  room[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= s.cin) return;
  for (int lane = 1; lane < kPlainLanes; lane++) sum += room[lane][threadIdx.x];
  partial[(split * sums + k) * s.cin + c] = sum;
}

}  // namespace qm::cuda
