// Convolution with one channel per group, and the same with bias and silu: by sliding kernels for 3 x 3, stride
// 1, padding 1, else plainly.
#include "cuda/depthwise_plain.cuh"
#include "cuda/depthwise_slide_bwd.cuh"

namespace qm::cuda {

namespace {

bool slides(const ConvShape& s, const TensorView& x) { return s.square(3, 1, 1) && slide_fits(x); }

template <class T, bool kSilu>
struct FinishForward {
  __device__ T operator()(Acc<T> z, int64_t) const { return narrow<T>(kSilu ? silu_of<T>(z) : z); }
};
template <class T>
struct FinishGradient {
  const T* dy;
  __device__ Acc<T> operator()(Acc<T> z, int64_t k) const { return silu_gradient<T>(z, widen(dy[k])); }
};

/// y = conv(x) + bias, through silu if kSilu.
template <class T, bool kSilu>
void forward(const Call& call, const ConvShape& s, const TensorView& x, const TensorView& weight,
             const TensorView& bias, const TensorView& y) {
  using A = Acc<T>;
  const A* b = bias.present ? bias.as<const A>() : nullptr;
  if (slides(s, x)) {
    const SlideShape cut = slide_shape(x, kSlideLane<T>, false, kForwardWave, 2);
    QM_LAUNCH(call, (slide_fwd_kernel<T, kSilu>), grid_of(cut.blocks(), 1), cut.threads(kSlideLane<T>),
              slide_fwd_shared<T>(cut), cut, x.as<const T>(), weight.as<const A>(), false, b, y.as<T>());
  } else {
    QM_LAUNCH(call, (plain_fwd_kernel<T, T, FinishForward<T, kSilu>>), grid_of(y.numel()), kThreads, 0, s,
              x.as<const T>(), weight.as<const A>(), b, y.as<T>(), y.numel(), FinishForward<T, kSilu>{});
  }
}

/// Where sum k of [taps (and the bias), channels] belongs.
template <class A>
struct PlaceSums {
  A *dweight, *dbias;
  int64_t channels, taps;
  __device__ void operator()(int64_t k, double sum) const {
    const int64_t row = quotient(k, channels), c = k - row * channels;
    (row < taps ? dweight[c * taps + row] : dbias[c]) = static_cast<A>(sum);
  }
};

/// dweight and, unless null, dbias from dy of type From, tap by tap.
template <class From, class T>
void plain_bwd_w(const Call& call, const ConvShape& s, const From* dy, const T* x, Acc<T>* dweight,
                 Acc<T>* dbias) {
  constexpr int64_t kMinPixels = 512, kMaxPixels = 65536;
  const int64_t sums = s.taps() + (dbias != nullptr), pixels = s.out_pixels();
  const int64_t blocks = ceil_div(s.cin, kPlainChannels) * sums;
  const int64_t wanted = std::min(ceil_div(8 * kSplitBlocks, blocks), ceil_div(pixels, kMinPixels));
  const int64_t splits = std::max(wanted, ceil_div(pixels, kMaxPixels));
  const int64_t split_pixels = ceil_div(pixels, std::max<int64_t>(1, splits));
  Scratch<Acc<T>> partial(splits * sums * s.cin);
  QM_LAUNCH(call, (plain_bwd_w_kernel<From, T>), grid_of(blocks * splits, 1),
            dim3(kPlainChannels, kPlainLanes), 0, s, dy, x, partial.get(), sums, split_pixels, pixels);
  sum_partials(call, partial.get(), splits, sums * s.cin, PlaceSums<Acc<T>>{dweight, dbias, s.cin, s.taps()});
}

/// The sliding gradients: see slide_bwd_kernel.
template <class T, bool kSilu>
void slide_bwd(const Call& call, const T* dy, const TensorView& x, const Acc<T>* weight, const Acc<T>* bias,
               T* dx, Acc<T>* dweight, Acc<T>* dbias) {
  const SlideShape cut = slide_shape(x, kSlideLane<T>, true, kBackwardWave, 5);
  const int64_t parts = int64_t{cut.runs} * cut.strips, size = (kSilu ? 10 : 9) * cut.channels;
  Scratch<Acc<T>> partial(parts * size);
  QM_LAUNCH(call, (slide_bwd_kernel<T, kSilu>), grid_of(cut.blocks(), 1), cut.threads(kSlideLane<T>),
            slide_bwd_shared<T>(cut), cut, dy, x.as<const T>(), weight, bias, dx, partial.get());
  sum_partials(call, partial.get(), parts, size, PlaceSums<Acc<T>>{dweight, dbias, cut.channels, 9});
}

/// The shape of the op with silu; `bias` may be absent.
ConvShape silu_shape(const Call& call, const TensorView& x, const TensorView& weight,
                     const TensorView& bias) {
  call.require(x.present && x.shape.rank == 4, "an input [batch, height, width, channels]");
  const int64_t channels = x.shape[3];
  call.require(
      weight.present && weight.dtype == acc_dtype(x.dtype) && weight.shape == Shape{4, {channels, 1, 3, 3}},
      "weights [channels, 1, 3, 3], float32 where the input is bfloat16");
  call.require(!bias.present || (bias.dtype == weight.dtype && bias.shape == Shape{1, {channels}}),
               "a bias [channels] like the weights");
  return {x.shape[0], x.shape[1], x.shape[2], channels, x.shape[1], x.shape[2], channels,
          3,          3,          {1, 1},     {1, 1},   {1, 1},     channels};
}

}  // namespace

void depthwise_fwd(const Call& call, const ConvShape& s, const TensorView& x, const TensorView& weight,
                   const TensorView& bias, const TensorView& y) {
  float_dispatch(call, x.dtype,
                 [&](auto zero) { forward<decltype(zero), false>(call, s, x, weight, bias, y); });
}

void depthwise_bwd_x(const Call& call, const ConvShape& s, const TensorView& dy, const TensorView& weight,
                     const TensorView& dx) {
  float_dispatch(call, dx.dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Acc<T>;
    if (slides(s, dy)) {
      const SlideShape cut = slide_shape(dy, kSlideLane<T>, false, kForwardWave, 2);
      QM_LAUNCH(call, (slide_fwd_kernel<T, false>), grid_of(cut.blocks(), 1), cut.threads(kSlideLane<T>),
                slide_fwd_shared<T>(cut), cut, dy.as<const T>(), weight.as<const A>(), true,
                static_cast<const A*>(nullptr), dx.as<T>());
    } else {
      QM_LAUNCH(call, (plain_bwd_x_kernel<T, T>), grid_of(dx.numel()), kThreads, 0, s, dy.as<const T>(),
                weight.as<const A>(), dx.as<T>(), dx.numel());
    }
  });
}

void depthwise_bwd_w(const Call& call, const ConvShape& s, const TensorView& dy, const TensorView& x,
                     const TensorView& dweight) {
  float_dispatch(call, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Acc<T>;
    if (slides(s, x))
      slide_bwd<T, false>(call, dy.as<const T>(), x, nullptr, nullptr, nullptr, dweight.as<A>(), nullptr);
    else
      plain_bwd_w<T, T>(call, s, dy.as<const T>(), x.as<const T>(), dweight.as<A>(), nullptr);
  });
}

/// y = silu(conv(x) + bias): 3 x 3, stride 1, padding 1, one channel per group. x [b, h, w, c], weight
/// [c, 1, 3, 3], bias [c] (optional).
void depthwise_silu_fwd(const Call& call) {
  const TensorView &x = call.in[0], &weight = call.in[1], &bias = call.in[2], &y = call.out[0];
  const ConvShape s = silu_shape(call, x, weight, bias);
  call.require(y.dtype == x.dtype && y.shape == x.shape, "an output like the input");
  float_dispatch(call, x.dtype,
                 [&](auto zero) { forward<decltype(zero), true>(call, s, x, weight, bias, y); });
}

/// dy, x, weight, bias (optional) to dx, dweight and dbias [c], which is made even without a bias.
void depthwise_silu_bwd(const Call& call) {
  const TensorView &dy = call.in[0], &x = call.in[1], &weight = call.in[2], &bias = call.in[3];
  const TensorView &dx = call.out[0], &dweight = call.out[1], &dbias = call.out[2];
  const ConvShape s = silu_shape(call, x, weight, bias);
  call.require(
      dy.present && dy.dtype == x.dtype && dy.shape == x.shape && dx.dtype == x.dtype && dx.shape == x.shape,
      "gradients like the input");
  call.require(dweight.dtype == weight.dtype && dweight.shape == weight.shape &&
                   dbias.dtype == weight.dtype && dbias.shape == Shape{1, {s.cin}},
               "gradients like the weights, and of shape [channels]");
  float_dispatch(call, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Acc<T>;
    const T* g = dy.as<const T>();
    const A *w = weight.as<const A>(), *b = bias.present ? bias.as<const A>() : nullptr;
    if (slide_fits(x))
      return slide_bwd<T, true>(call, g, x, w, b, dx.as<T>(), dweight.as<A>(), dbias.as<A>());
    Scratch<A> dz(x.numel());
    QM_LAUNCH(call, (plain_fwd_kernel<T, A, FinishGradient<T>>), grid_of(x.numel()), kThreads, 0, s,
              x.as<const T>(), w, b, dz.get(), x.numel(), FinishGradient<T>{g});
    QM_LAUNCH(call, (plain_bwd_x_kernel<A, T>), grid_of(x.numel()), kThreads, 0, s, dz.get(), w, dx.as<T>(),
              x.numel());
    plain_bwd_w<A, T>(call, s, dz.get(), x.as<const T>(), dweight.as<A>(), dbias.as<A>());
  });
}

}  // namespace qm::cuda
