// SiLU of a depthwise 3x3 convolution (stride 1, padding 1) as one op: backward computes the convolution again
// instead of keeping it.
#include "cpu/conv.h"

namespace qm::cpu::QM_ISA {

namespace {

ConvShape shape_of(const Call& call, const TensorView& x, const TensorView& weight, const TensorView& bias) {
  call.require(x.present && x.shape.rank == 4 && weight.present && weight.shape.rank == 4 &&
                   weight.shape[0] == x.shape[3] && weight.shape[1] == 1 && weight.shape[2] == 3 &&
                   weight.shape[3] == 3 && weight.dtype == x.dtype,
               "x [batch, height, width, channels] and weight [channels, 1, 3, 3] of one dtype");
  call.require(!bias.present || (bias.dtype == x.dtype && bias.numel() == x.shape[3]), "bias [channels]");
  return ConvShape{x.shape[0], x.shape[1], x.shape[2], x.shape[3], x.shape[1], x.shape[2], x.shape[3],
                   3,          3,          {1, 1},     {1, 1},     {1, 1},     x.shape[3]};
}

}  // namespace

/// x, weight [c, 1, 3, 3], bias? [c]: y = silu(conv(x) + bias).
void depthwise_silu_fwd(const Call& call) {
  const TensorView &x = call.in[0], &weight = call.in[1], &bias = call.in[2], &y = call.out[0];
  const ConvShape s = shape_of(call, x, weight, bias);
  call.require(y.shape == x.shape && y.dtype == x.dtype, "an output like the input");
  float_dispatch(call, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    depthwise_silu<T>(s, x.as<const T>(), weight.as<const T>(), bias.present ? bias.as<const T>() : nullptr,
                      y.as<T>());
  });
}

/// dy, x, weight, bias?: dx, dweight, dbias (also without a bias).
void depthwise_silu_bwd(const Call& call) {
  const TensorView &dy = call.in[0], &x = call.in[1], &weight = call.in[2], &bias = call.in[3];
  const ConvShape s = shape_of(call, x, weight, bias);
  const TensorView &dx = call.out[0], &dweight = call.out[1], &dbias = call.out[2];
  call.require(dy.shape == x.shape && dx.shape == x.shape && dweight.shape == weight.shape &&
                   dbias.numel() == s.cin && dy.dtype == x.dtype && dx.dtype == x.dtype &&
                   dweight.dtype == x.dtype && dbias.dtype == x.dtype,
               "gradients of their tensors' shape and dtype");
  float_dispatch(call, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T *w = weight.as<const T>(), *px = x.as<const T>();
    const Scratch<T> dz(static_cast<size_t>(x.numel()));
    depthwise_silu_gradient<T>(s, px, w, bias.present ? bias.as<const T>() : nullptr, dy.as<const T>(),
                               dz.get());
    depthwise_bwd_x<T>(s, dz.get(), w, dx.as<T>());
    depthwise_bwd_parameters<T>(s, dz.get(), px, dweight.as<T>(), dbias.as<T>());
  });
}

}  // namespace qm::cpu::QM_ISA
