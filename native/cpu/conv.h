// The geometry of a 2-D convolution over NHWC tensors, shared by the general kernels (cpu/conv2d.cpp) and
// those for one channel per group (cpu/depthwise.cpp).
#pragma once
#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

/// x [batch, h, w, cin], weight [cout, cin / groups, kh, kw], y [batch, oh, ow, cout]. Pairs are (rows,
/// columns).
struct ConvShape {
  int64_t batch, h, w, cin, oh, ow, cout, kh, kw;
  int64_t stride[2], padding[2], dilation[2];
  int64_t groups;

  int64_t group_in() const { return cin / groups; }
  int64_t group_out() const { return cout / groups; }
  int64_t taps() const { return kh * kw; }
  int64_t out_pixels() const { return batch * oh * ow; }
  bool depthwise() const { return groups == cin && groups == cout; }
};

/// Where the taps of one axis read: position p and tap k give the source index p * step + offset[k].
struct TapAxis {
  int64_t taps;
  const int64_t* offset;
  int64_t step;
  int64_t extent;  // of the source

  /// The positions of [begin, end) at which tap k reads inside the source; none: begin = end, within the range.
  QM_INLINE void clip(const TapAxis& axis, int64_t k, int64_t* begin, int64_t* end) {
    const int64_t offset = axis.offset[k], step = axis.step;
    const int64_t low = offset >= 0 ? 0 : (step - 1 - offset) / step;
    const int64_t high = offset < axis.extent ? (axis.extent - offset + step - 1) / step : 0;
    *begin = std::min(*end, std::max(*begin, low));
    *end = std::max(*begin, std::min(*end, high));
  }
};

/// The taps of `kernel` that reach the positions phase, phase + stride, ... of x when y is the source: the
/// gather form of the gradient. Writes their numbers and offsets, in ascending order of offset, and returns
/// how many there are.
QM_INLINE int64_t phase_taps(int64_t phase, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation,
                             int64_t* tap, int64_t* offset) {
  int64_t n = 0;
  for (int64_t k = kernel - 1; k >= 0; k--) {
    const int64_t reach = phase + padding - k * dilation;  // = stride * (source index - position)
    if (reach % stride != 0) continue;
    tap[n] = k;
    offset[n++] = reach / stride;
  }
  return n;
}

/// The same three products for groups == cin == cout: cpu/depthwise.cpp. bias may be null.
template <class T>
void depthwise_fwd(const ConvShape& s, const T* x, const T* weight, const T* bias, T* y);
template <class T>
void depthwise_bwd_x(const ConvShape& s, const T* dy, const T* weight, T* dx);
template <class T>
void depthwise_bwd_w(const ConvShape& s, const T* dy, const T* x, T* dweight);
/// The gradient of a bias as well, unless it is null.
template <class T>
void depthwise_bwd_parameters(const ConvShape& s, const T* dy, const T* x, T* dweight, T* dbias);

/// silu(z) of z = depthwise_fwd(x), and dz = silu'(z) dy.
template <class T>
void depthwise_silu(const ConvShape& s, const T* x, const T* weight, const T* bias, T* y);
template <class T>
void depthwise_silu_gradient(const ConvShape& s, const T* x, const T* weight, const T* bias, const T* dy,
                             T* dz);

}  // namespace qm::cpu::QM_ISA
