// 2-D convolution over NHWC tensors with PyTorch's weights [cout, cin / groups, kh, kw]: which kernel makes
// which product. Weights are brought into the order of the sum first, [tap, channel]; gradients of weights come
// as partial sums over splits of the pixels, added in order.
#include "cuda/conv2d_mma.cuh"
#include "cuda/conv2d_simt.cuh"
#include "cuda/conv2d_stem.cuh"

namespace qm::cuda {

namespace {

constexpr int64_t kMaxSplitPixels = 16384;            // terms that are added in one float32
constexpr int64_t kMinSplitPixels = 256;              // below that a split is mostly its own overhead
constexpr int64_t kPartialBytes = int64_t{64} << 20;  // of all splits' weight gradients together

/// Whether positions, pixels and weights can be counted in 32 bits, with room for a sum of two positions.
bool fits_int(const ConvShape& s) {
  constexpr int64_t limit = int64_t{1} << 30;
  const int64_t reach_y = s.padding[0] + s.dilation[0] * s.kh, reach_x = s.padding[1] + s.dilation[1] * s.kw;
  return s.in_pixels() < limit && s.out_pixels() < limit && s.cout * s.group_in() * s.taps() < limit &&
         s.oh * s.stride[0] + reach_y < limit && s.ow * s.stride[1] + reach_x < limit &&
         s.h + reach_y < limit && s.w + reach_x < limit;
}

bool mma_fits(const ConvShape& s) {
  constexpr int64_t limit = 1 << 15;  // of where taps lie: two of them share a word
  return s.groups == 1 && s.cin % kChunk == 0 && s.cout % kChunk == 0 && fits_int(s) &&
         s.dilation[0] * s.kh < limit && s.dilation[1] * s.kw < limit;
}

/// weight [groups co, ci, taps] into another order, each index with a stride of its own. A thread takes all
/// taps of one (output channel, input channel), neighbouring threads the faster index of the result.
template <class S, class To>
__global__ void __launch_bounds__(kThreads)
    order_weights_kernel(const S* weight, To* ordered, int64_t n, int64_t co, int64_t ci, int64_t taps,
                         bool output_fastest, int64_t group_stride, int64_t output_stride,
                         int64_t input_stride, int64_t tap_stride) {
  const int64_t k = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (k >= n) return;
  const int64_t group = quotient(k, co * ci), at = k - group * co * ci;
  const int64_t slow = quotient(at, output_fastest ? co : ci), fast = at - slow * (output_fastest ? co : ci);
  const int64_t o = output_fastest ? fast : slow, i = output_fastest ? slow : fast;
  const S* from = weight + ((group * co + o) * ci + i) * taps;
  To* to = ordered + group * group_stride + o * output_stride + i * input_stride;
  for (int64_t tap = 0; tap < taps; tap++) to[tap * tap_stride] = static_cast<To>(from[tap]);
}

template <class S, class To>
void order_weights(const Call& call, const ConvShape& s, const S* weight, To* ordered, bool output_fastest,
                   int64_t output_stride, int64_t input_stride, int64_t tap_stride) {
  const int64_t n = s.cout * s.group_in();
  QM_LAUNCH(call, (order_weights_kernel<S, To>), grid_of(n), kThreads, 0, weight, ordered, n, s.group_out(),
            s.group_in(), s.taps(), output_fastest, s.group_out() * s.group_in() * s.taps(), output_stride,
            input_stride, tap_stride);
}

/// The convolution itself, or (backward) its gradient by x; phases are left to the launch.
template <class T>
Product<T> product_of(const ConvShape& s, bool backward, const T* source, T* target, const Acc<T>* bias) {
  Product<T> g = {};
  g.source = source;
  g.target = target;
  g.bias = bias;
  g.batch = s.batch;
  g.height = backward ? s.h : s.oh;
  g.width = backward ? s.w : s.ow;
  g.source_channels = backward ? s.cout : s.cin;
  g.target_channels = backward ? s.cin : s.cout;
  g.groups = s.groups;
  g.depth = backward ? s.group_out() : s.group_in();
  g.columns = backward ? s.group_in() : s.group_out();
  g.taps = s.taps();
  g.kernel_width = s.kw;
  return g;
}

/// Calls body() for every set of phases that one launch takes.
template <class T, class Body>
void each_launch(const ConvShape& s, bool backward, Product<T>* g, Body&& body) {
  if (!backward) {
    g->phases = forward_phases(s);
    return body();
  }
  for (int64_t y = 0; y < std::min(s.stride[0], s.h); y += kMaxPhases)
    for (int64_t x = 0; x < std::min(s.stride[1], s.w); x += kMaxPhases) {
      g->phases = backward_phases(s, y, x);
      body();
    }
}

template <class T, int kVec, int kColumns>
void tile_launch(const Call& call, const Product<T>& g, const Acc<T>* weight) {
  const int64_t rows = g.phases.row_blocks(g.batch, 16 * kTileRows<T, kVec>);
  QM_LAUNCH(call, (conv_tile_kernel<T, kVec, kColumns>),
            grid_of(rows * g.groups * ceil_div(g.columns, 16 * kColumns), 1), kThreads, 0, g, weight);
}

template <class T>
void tile_product(const Call& call, const ConvShape& s, bool backward, Product<T> g, const Acc<T>* weight) {
  constexpr int kVec = std::is_same_v<T, bf16> ? 1 : kPack<T>;
  Scratch<Acc<T>> ordered(s.groups * g.taps * g.depth * g.columns);
  order_weights(call, s, weight, ordered.get(), !backward, backward ? g.columns : 1, backward ? 1 : g.columns,
                g.depth * g.columns);
  const bool vectors = g.depth % kVec == 0 && fits_int(s), narrow_tile = g.columns <= 48;
  each_launch(s, backward, &g, [&] {
    if (vectors)
      narrow_tile ? tile_launch<T, kVec, 3>(call, g, ordered.get())
                  : tile_launch<T, kVec, 6>(call, g, ordered.get());
    else
      narrow_tile ? tile_launch<T, 1, 3>(call, g, ordered.get())
                  : tile_launch<T, 1, 6>(call, g, ordered.get());
  });
}

template <int kBM, int kBN, int kWM, int kWN, int kBlocks>
void mma_launch(const Call& call, const Product<bf16>& g, const bf16* weight) {
  using Tile = MmaTile<kBM, kBN, kWM, kWN>;
  QM_LAUNCH(call, (conv_mma_kernel<kBM, kBN, kWM, kWN, kBlocks>),
            grid_of(g.phases.row_blocks(g.batch, kBM) * ceil_div(g.columns, kBN), 1), Tile::kBlock,
            Tile::kShared, g, weight);
}

void mma_product(const Call& call, const ConvShape& s, bool backward, Product<bf16> g, const float* weight) {
  Scratch<bf16> ordered(g.columns * g.taps * g.depth);
  const int64_t column_stride = g.taps * g.depth;
  order_weights(call, s, weight, ordered.get(), backward, backward ? 1 : column_stride,
                backward ? column_stride : 1, g.depth);
  const bf16* w = ordered.get();
  each_launch(s, backward, &g, [&] {
    // wide tiles read x less often, and need two waves of blocks to pay
    const bool wide =
        g.columns % 192 == 0 && g.phases.row_blocks(g.batch, 128) * (g.columns / 192) >= kSplitBlocks;
    if (wide) return mma_launch<128, 192, 64, 48, 1>(call, g, w);
    if (g.columns % 96 == 0) return mma_launch<128, 96, 64, 48, 3>(call, g, w);
    if (g.columns <= 32) return mma_launch<128, 32, 32, 32, 4>(call, g, w);
    if (g.columns <= 48) return mma_launch<128, 48, 32, 48, 4>(call, g, w);
    mma_launch<128, 64, 64, 32, 4>(call, g, w);
  });
}

template <class T>
void product(const Call& call, const ConvShape& s, bool backward, const TensorView& source,
             const TensorView& weight, const TensorView* bias, const TensorView& target) {
  if (target.numel() == 0) return;
  using A = Acc<T>;
  const Product<T> g = product_of<T>(s, backward, source.as<const T>(), target.as<T>(),
                                     bias && bias->present ? bias->as<const A>() : nullptr);
  if constexpr (std::is_same_v<T, bf16>)
    if (mma_fits(s)) return mma_product(call, s, backward, g, weight.as<const float>());
  tile_product(call, s, backward, g, weight.as<const A>());
}

/// Calls body with the output channels of the first convolution, in eights.
template <class Body>
void stem_dispatch(const ConvShape& s, Body&& body) {
  switch (s.cout) {
    case 24:
      return body(std::integral_constant<int, 3>{});
    case 32:
      return body(std::integral_constant<int, 4>{});
    case 48:
      return body(std::integral_constant<int, 6>{});
    default:
      return body(std::integral_constant<int, 8>{});
  }
}

Stem stem_of(const ConvShape& s) {
  return {s.batch, static_cast<int>(s.h), static_cast<int>(s.w), static_cast<int>(s.oh),
          static_cast<int>(s.ow)};
}

void stem_fwd(const Call& call, const ConvShape& s, const bf16* x, const float* weight, const float* bias,
              bf16* y) {
  const Stem stem = stem_of(s);
  const int shared = (2 * kStemRows + 1) * stem.row_elements() * 2;
  stem_dispatch(s, [&](auto tiles) {
    constexpr int kTiles = decltype(tiles)::value;
    QM_LAUNCH(call, stem_fwd_kernel<kTiles>, grid_of(s.batch * ceil_div(s.oh, kStemRows), 1), kThreads,
              shared, stem, x, weight, bias, y);
  });
}

/// Where element k of a partial gradient [cout, taps, group_in] or (input_outer) [groups, taps, group_in,
/// group_out] belongs in dweight [cout, group_in, taps].
template <class A>
struct PlaceWeight {
  A* dweight;
  int64_t ci, co, taps;
  bool input_outer;
  __device__ void operator()(int64_t k, double sum) const {
    int64_t o = 0;
    if (input_outer) {
      const int64_t rest = quotient(k, co), group = quotient(rest, taps * ci);
      o = group * co + k - rest * co;
      k = rest - group * taps * ci;
    } else {
      o = quotient(k, taps * ci);
      k -= o * taps * ci;
    }
    const int64_t tap = quotient(k, ci), i = k - tap * ci;
    dweight[(o * ci + i) * taps + tap] = static_cast<A>(sum);
  }
};

/// Pixels of a split, a multiple of `unit`, where one split makes `blocks` blocks and `slots` of them run at a
/// time.
int64_t split_pixels(const ConvShape& s, int64_t blocks, int64_t slots, int64_t unit, int64_t bytes) {
  const int64_t pixels = s.out_pixels();
  int64_t splits = std::max<int64_t>(1, slots / std::max<int64_t>(1, blocks));
  splits = std::min(splits, ceil_div(pixels, kMinSplitPixels));
  splits = std::max(splits, ceil_div(pixels, kMaxSplitPixels));
  splits = std::min(splits, std::max<int64_t>(1, kPartialBytes / bytes));
  return std::max(unit, ceil_div(ceil_div(pixels, std::max<int64_t>(1, splits)), unit) * unit);
}

template <class T, int kVec, int kColumns>
void weight_tile_launch(const Call& call, const ConvShape& s, WeightProduct<T> g, Acc<T>* dweight) {
  const int64_t rows = ceil_div(s.taps() * s.group_in(), 16 * kTileRows<T, kVec>);
  const int64_t blocks = rows * ceil_div(s.group_out(), 16 * kColumns) * s.groups;
  const int64_t size = s.cout * s.group_in() * s.taps();
  g.split_pixels =
      split_pixels(s, blocks, 2 * kSplitBlocks, kTileDepth, size * static_cast<int64_t>(sizeof(Acc<T>)));
  const int64_t splits = ceil_div(g.pixels, g.split_pixels);
  Scratch<Acc<T>> partial(splits * size);
  g.partial = partial.get();
  QM_LAUNCH(call, (conv_weight_tile_kernel<T, kVec, kColumns>), grid_of(blocks * splits, 1), kThreads, 0, g);
  sum_partials(call, partial.get(), splits, size,
               PlaceWeight<Acc<T>>{dweight, s.group_in(), s.group_out(), s.taps(), true});
}

template <class T>
void tile_bwd_w(const Call& call, const ConvShape& s, const T* dy, const T* x, Acc<T>* dweight) {
  constexpr int kVec = std::is_same_v<T, bf16> ? 1 : kPack<T>;
  const WeightProduct<T> g{dy,
                           x,
                           nullptr,
                           s.h,
                           s.w,
                           s.cin,
                           s.oh,
                           s.ow,
                           s.cout,
                           s.group_in(),
                           s.group_out(),
                           s.groups,
                           s.taps(),
                           s.kw,
                           {s.stride[0], s.stride[1]},
                           {s.padding[0], s.padding[1]},
                           {s.dilation[0], s.dilation[1]},
                           s.out_pixels(),
                           0};
  const bool vectors = s.group_in() % kVec == 0 && s.group_out() % kVec == 0 && fits_int(s);
  const bool narrow_tile = s.group_out() <= 48;
  if (vectors)
    narrow_tile ? weight_tile_launch<T, kVec, 3>(call, s, g, dweight)
                : weight_tile_launch<T, kVec, 6>(call, s, g, dweight);
  else
    narrow_tile ? weight_tile_launch<T, 1, 3>(call, s, g, dweight)
                : weight_tile_launch<T, 1, 6>(call, s, g, dweight);
}

template <int kWarpsM, int kWarpsN, int kWM, int kWN, int kBlocks>
void weight_mma_launch(const Call& call, const ConvShape& s, MmaWeightProduct g, float* dweight) {
  using Tile = MmaWeightTile<kWarpsM, kWarpsN, kWM, kWN>;
  const int64_t size = s.cout * s.taps() * s.cin;
  const int64_t blocks = ceil_div(s.cout, Tile::kBM) * ceil_div(s.taps() * s.cin, Tile::kBN);
  g.split_pixels = static_cast<int>(split_pixels(s, blocks, kSplitBlocks / 2 * kBlocks, kMmaDepth, size * 4));
  const int64_t splits = ceil_div(g.pixels, g.split_pixels);
  Scratch<float> partial(splits * size);
  g.partial = partial.get();
  QM_LAUNCH(call, (conv_weight_mma_kernel<kWarpsM, kWarpsN, kWM, kWN, kBlocks>), grid_of(blocks * splits, 1),
            Tile::kBlock, Tile::kShared, g);
  sum_partials(call, partial.get(), splits, size,
               PlaceWeight<float>{dweight, s.cin, s.cout, s.taps(), false});
}

void mma_bwd_w(const Call& call, const ConvShape& s, const bf16* dy, const bf16* x, float* dweight) {
  const auto narrowed = [](int64_t v) { return static_cast<int>(v); };
  const MmaWeightProduct g{dy,
                           x,
                           nullptr,
                           narrowed(s.h),
                           narrowed(s.w),
                           narrowed(s.cin),
                           narrowed(s.oh),
                           narrowed(s.ow),
                           narrowed(s.cout),
                           narrowed(s.taps()),
                           narrowed(s.kw),
                           {narrowed(s.stride[0]), narrowed(s.stride[1])},
                           {narrowed(s.padding[0]), narrowed(s.padding[1])},
                           {narrowed(s.dilation[0]), narrowed(s.dilation[1])},
                           narrowed(s.out_pixels()),
                           0};
  // wide tiles read dy and x less often, and pay where blocks of them fill the multiprocessors in one wave
  const int64_t blocks = ceil_div(s.cout, 192) * ceil_div(s.taps() * s.cin, 144), slots = kSplitBlocks / 2;
  if (s.cout % 192 == 0 && blocks <= slots && slots / blocks * blocks * 10 >= slots * 9)
    return weight_mma_launch<4, 3, 48, 48, 1>(call, s, g, dweight);
  if (s.cout % 48 == 0) return weight_mma_launch<2, 3, 48, 48, 2>(call, s, g, dweight);
  weight_mma_launch<2, 2, 32, 32, 4>(call, s, g, dweight);
}

void stem_bwd_w(const Call& call, const ConvShape& s, const bf16* dy, const bf16* x, float* dweight) {
  const Stem stem = stem_of(s);
  const int64_t stages = s.batch * ceil_div(s.oh, kStemStageRows), splits = std::min(stages, kSplitBlocks);
  const int64_t size = s.cout * kStemTerms;
  Scratch<float> partial(splits * size);
  stem_dispatch(s, [&](auto tiles) {
    constexpr int kTiles = decltype(tiles)::value;
    QM_LAUNCH(call, stem_bwd_w_kernel<kTiles>, grid_of(splits, 1), kThreads, stem_bwd_w_shared<kTiles>(stem),
              stem, dy, x, partial.get());
  });
  sum_partials(call, partial.get(), splits, size,
               PlaceWeight<float>{dweight, s.cin, s.cout, s.taps(), false});
}

/// Checks that the shapes and attributes belong together. All sizes stay below 2^31, so no index expression
/// can wrap.
ConvShape conv_shape(const Call& call, const TensorView& x, const TensorView& weight, const TensorView& y) {
  constexpr int64_t limit = int64_t{1} << 31;
  const IntList stride = call.attrs.v(0), padding = call.attrs.v(1), dilation = call.attrs.v(2);
  const int64_t groups = call.attrs.i(3);
  call.require(x.shape.rank == 4 && weight.shape.rank == 4 && y.shape.rank == 4,
               "tensors of four dimensions");
  call.require(weight.dtype == acc_dtype(x.dtype) && x.dtype == y.dtype,
               "one dtype, and float32 weights where it is bfloat16");
  call.require(stride.size() == 2 && padding.size() == 2 && dilation.size() == 2, "pairs of attributes");
  for (int k = 0; k < 2; k++)
    call.require(stride[k] >= 1 && stride[k] < limit && padding[k] >= 0 && padding[k] < limit &&
                     dilation[k] >= 1 && dilation[k] < limit,
                 "stride and dilation of at least 1, padding of at least 0");
  for (int k = 0; k < 4; k++)
    call.require(x.shape[k] < limit && y.shape[k] < limit && weight.shape[k] < limit,
                 "dimensions below 2^31");
  const ConvShape s{x.shape[0],
                    x.shape[1],
                    x.shape[2],
                    x.shape[3],
                    y.shape[1],
                    y.shape[2],
                    y.shape[3],
                    weight.shape[2],
                    weight.shape[3],
                    {stride[0], stride[1]},
                    {padding[0], padding[1]},
                    {dilation[0], dilation[1]},
                    groups};
  call.require(y.shape[0] == s.batch && weight.shape[0] == s.cout, "matching batch and output channels");
  call.require(groups >= 1 && s.cin >= 1 && s.cout >= 1 && s.cin % groups == 0 && s.cout % groups == 0 &&
                   weight.shape[1] == s.group_in(),
               "channels that the groups divide");
  const int64_t kernel[2] = {s.kh, s.kw}, in[2] = {s.h, s.w}, out[2] = {s.oh, s.ow};
  for (int k = 0; k < 2; k++) {
    call.require(kernel[k] >= 1, "a kernel of at least 1 x 1");
    const int64_t slack = in[k] + 2 * padding[k] - dilation[k] * (kernel[k] - 1) - 1;
    call.require(slack >= 0 && out[k] == slack / stride[k] + 1,
                 "an output of the size that the kernel gives");
  }
  return s;
}

}  // namespace

/// x [b, h, w, cin], weight [cout, cin / groups, kh, kw], bias [cout] (optional) to y [b, oh, ow, cout].
void conv2d_fwd(const Call& call) {
  const TensorView &x = call.in[0], &weight = call.in[1], &bias = call.in[2], &y = call.out[0];
  const ConvShape s = conv_shape(call, x, weight, y);
  call.require(!bias.present || (bias.dtype == weight.dtype && bias.numel() == s.cout),
               "bias of shape [cout]");
  if (s.depthwise()) return depthwise_fwd(call, s, x, weight, bias, y);
  float_dispatch(call, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, bf16>)
      if (stem_fits(s) && y.numel() > 0)
        return stem_fwd(call, s, x.as<const T>(), weight.as<const float>(),
                        bias.present ? bias.as<const float>() : nullptr, y.as<T>());
    product<T>(call, s, false, x, weight, &bias, y);
  });
}

/// dy, weight to dx.
void conv2d_bwd_x(const Call& call) {
  const TensorView &dy = call.in[0], &weight = call.in[1], &dx = call.out[0];
  const ConvShape s = conv_shape(call, dx, weight, dy);
  if (s.depthwise()) return depthwise_bwd_x(call, s, dy, weight, dx);
  float_dispatch(call, dx.dtype,
                 [&](auto zero) { product<decltype(zero)>(call, s, true, dy, weight, nullptr, dx); });
}

/// dy, x to dweight.
void conv2d_bwd_w(const Call& call) {
  const TensorView &dy = call.in[0], &x = call.in[1], &dweight = call.out[0];
  const ConvShape s = conv_shape(call, x, dweight, dy);
  if (s.depthwise()) return depthwise_bwd_w(call, s, dy, x, dweight);
  float_dispatch(call, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T *from_dy = dy.as<const T>(), *from_x = x.as<const T>();
    Acc<T>* to = dweight.as<Acc<T>>();
    if constexpr (std::is_same_v<T, bf16>) {
      if (stem_fits(s) && s.batch > 0) return stem_bwd_w(call, s, from_dy, from_x, to);
      if (mma_fits(s)) return mma_bwd_w(call, s, from_dy, from_x, to);
    }
    tile_bwd_w(call, s, from_dy, from_x, to);
  });
}

}  // namespace qm::cuda
