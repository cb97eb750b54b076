// SiLU of a depthwise 3x3 convolution (stride 1, padding 1) as one op: backward computes the convolution again
// instead of keeping it.
#include "cpu/conv.h"

namespace qm::cpu::QM_ISA {

#include "formulas/elementwise.h"

namespace {

constexpr int64_t kMaxChunks = 64;  // of pixels, whose sums are added in order

ConvShape shape_of(const Call& call, const TensorView& x, const TensorView& weight, const TensorView& bias) {
  call.require(x.present && x.shape.rank == 4 && weight.present && weight.shape.rank == 4 &&
                   weight.shape[0] == x.shape[3] && weight.shape[1] == 1 && weight.shape[2] == 3 &&
                   weight.shape[3] == 3 && weight.dtype == x.dtype,
               "x [batch, height, width, channels] and weight [channels, 1, 3, 3] of one dtype");
  call.require(!bias.present || (bias.dtype == x.dtype && bias.numel() == x.shape[3]), "bias [channels]");
  return ConvShape{x.shape[0], x.shape[1], x.shape[2], x.shape[3], x.shape[1], x.shape[2], x.shape[3],
                   3,          3,          {1, 1},     {1, 1},     {1, 1},     x.shape[3]};
}

/// Sums over the pixels of [pixels, channels]: chunks in the tensor's type, added in double.
template <class T>
void sum_pixels(const T* x, int64_t pixels, int64_t channels, T* y) {
  const int64_t chunk = std::max((pixels + kMaxChunks - 1) / kMaxChunks, int64_t{256});
  const int64_t chunks = (pixels + chunk - 1) / chunk;
  const int64_t room = (channels + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
  const Scratch<T> partial(static_cast<size_t>(chunks * room));
  parallel_tasks(chunks, [&](int64_t k) {
    T* sum = partial.get() + k * room;
    std::fill(sum, sum + room, T{0});
    for (int64_t p = k * chunk; p < std::min(pixels, (k + 1) * chunk); p++)
      for (int64_t c = 0; c < channels; c += kLanes<T>)
        store(sum + c, load(sum + c) + load_n(x + p * channels + c, channels - c));
  });
  for (int64_t c = 0; c < channels; c++) {
    double total = 0;
    for (int64_t k = 0; k < chunks; k++) total += static_cast<double>(partial[k * room + c]);
    y[c] = static_cast<T>(total);
  }
}

}  // namespace

/// x, weight [c, 1, 3, 3], bias? [c]: y = silu(conv(x) + bias).
void depthwise_silu_fwd(const Call& call) {
  const TensorView &x = call.in[0], &weight = call.in[1], &bias = call.in[2], &y = call.out[0];
  const ConvShape s = shape_of(call, x, weight, bias);
  call.require(y.shape == x.shape && y.dtype == x.dtype, "an output like the input");
  float_dispatch(call, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    T* to = y.as<T>();
    depthwise_fwd<T>(s, x.as<const T>(), weight.as<const T>(), bias.present ? bias.as<const T>() : nullptr,
                     to);
    parallel_for(y.numel(), kGrain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += kLanes<T>)
        store_n(to + i, Silu::forward(load_n(to + i, end - i)), end - i);
    });
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
    const T *w = weight.as<const T>(), *px = x.as<const T>(), *g = dy.as<const T>();
    const Scratch<T> scratch(static_cast<size_t>(x.numel()));
    T* dz = scratch.get();
    depthwise_fwd<T>(s, px, w, bias.present ? bias.as<const T>() : nullptr, dz);
    parallel_for(x.numel(), kGrain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i += kLanes<T>)
        store_n(dz + i, Silu::backward(load_n(dz + i, end - i), load_n(g + i, end - i)), end - i);
    });
    depthwise_bwd_x<T>(s, dz, w, dx.as<T>());
    depthwise_bwd_w<T>(s, dz, px, dweight.as<T>());
    sum_pixels(dz, s.out_pixels(), s.cin, dbias.as<T>());
  });
}

}  // namespace qm::cpu::QM_ISA
