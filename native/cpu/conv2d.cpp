// 2-D convolution over NHWC tensors with PyTorch's weights [cout, cin / groups, kh, kw]: im2col in blocks of
// pixels, then gemm. A column is ordered (tap, channel), so that what one tap reads of a pixel is one run of
// memory.
#include <atomic>

#include "cpu/conv.h"
#include "cpu/gemm.h"

namespace qm::cpu::QM_ISA {

namespace {

constexpr int64_t kColumnBytes =
    256 << 10;                         // of one block of columns: it should stay in the second-level cache
constexpr int64_t kMaxPixels = 256;    // of one block
constexpr int64_t kMinPixels = 8;      // below that the product is all reading of weights
constexpr int64_t kMaxChunks = 16;     // of pixels, whose weight gradients are added in order
constexpr int64_t kChunkPixels = 512;  // at least, of one chunk
constexpr int64_t kPartialBytes = 32 << 20;  // of all chunks' weight gradients together
constexpr int64_t kSliceDepth = 256;         // rows of a weight gradient that one task makes, about

/// Calls body(worker, item) for every item, each worker one item after another: scratch space per worker, not
/// per item.
template <class Body>
void parallel_workers(int64_t workers, int64_t items, Body&& body) {
  std::atomic<int64_t> next{0};
  parallel_tasks(workers, [&](int64_t worker) {
    for (int64_t item; (item = next.fetch_add(1, std::memory_order_relaxed)) < items;) body(worker, item);
  });
}
int64_t workers_for(int64_t items) { return std::min<int64_t>(items, threads()); }

/// Pixels of a block of columns of `depth` elements.
template <class T>
int64_t block_pixels(int64_t depth) {
  const int64_t fit = kColumnBytes / static_cast<int64_t>(sizeof(T)) / std::max<int64_t>(1, depth);
  return std::min(kMaxPixels, std::max(kMinPixels, fit));
}

template <class T>
QM_INLINE void copy_run(T* target, const T* source, int64_t n) {
  constexpr int64_t wide = kLanes<T>, narrow = 16 / sizeof(T);
  // the last piece overlaps the one before it instead of going element by element
  if (n >= wide) {
    for (int64_t k = 0; k < n - wide; k += wide) store(target + k, load(source + k));
    store(target + n - wide, load(source + n - wide));
  } else if (n >= narrow) {
    for (int64_t k = 0; k < n - narrow; k += narrow) std::memcpy(target + k, source + k, 16);
    std::memcpy(target + n - narrow, source + n - narrow, 16);
  } else {
    for (int64_t k = 0; k < n; k++) target[k] = source[k];
  }
}

/// `count` runs of n elements.
template <class T>
void copy_runs(T* target, int64_t target_step, const T* source, int64_t source_step, int64_t n,
               int64_t count) {
  if (n == 1)
    for (int64_t k = 0; k < count; k++) target[k * target_step] = source[k * source_step];
  else
    for (int64_t k = 0; k < count; k++) copy_run(target + k * target_step, source + k * source_step, n);
}

/// im2col: the source, and the grid of pixels whose columns are wanted.
template <class T>
struct Columns {
  const T* source;  // [batch, y.extent, x.extent, channels], moved to the group's first channel
  int64_t channels;
  int64_t group;  // channels of the group
  TapAxis y, x;
  int64_t grid_h, grid_w;
};

/// Columns of pixels [begin, end) and taps [tap_begin, tap_end) into out [pixels, taps, group]. Neighbouring taps of a
/// row of the kernel read one run of memory, where they lie side by side and no channels stand between.
template <class T>
void gather_columns(const Columns<T>& c, int64_t begin, int64_t end, int64_t tap_begin, int64_t tap_end,
                    T* out) {
  const int64_t group = c.group, depth = (tap_end - tap_begin) * group, source_step = c.x.step * c.channels;
  const bool joined = group == c.channels && (c.x.taps < 2 || c.x.offset[1] - c.x.offset[0] == 1);
  for (int64_t pixel = begin; pixel < end;) {
    const int64_t row = pixel / c.grid_w, from = pixel % c.grid_w;
    const int64_t to = std::min(c.grid_w, from + end - pixel);
    const int64_t image = row / c.grid_h, i = row % c.grid_h;
    for (int64_t tap = tap_begin, run; tap < tap_end; tap += run) {
      const int64_t ky = tap / c.x.taps, kx = tap % c.x.taps;
      run = joined ? std::min(c.x.taps - kx, tap_end - tap) : 1;
      const int64_t source_row = i * c.y.step + c.y.offset[ky];
      const bool outside = source_row < 0 || source_row >= c.y.extent;
      const T* source = c.source + (image * c.y.extent + source_row) * c.x.extent * c.channels;
      T* target = out + (tap - tap_begin) * group;
      // the pixels for which every tap of the run reads inside
      int64_t first = from, last = to;
      TapAxis::clip(c.x, kx, &first, &last);
      TapAxis::clip(c.x, kx + run - 1, &first, &last);
      const auto edge = [&](int64_t j) {
        for (int64_t k = 0; k < run; k++) {
          const int64_t at = j * c.x.step + c.x.offset[kx + k];
          T* one = target + (j - from) * depth + k * group;
          if (outside || at < 0 || at >= c.x.extent)
            std::fill(one, one + group, T{0});
          else
            copy_run(one, source + at * c.channels, group);
        }
      };
      if (outside) first = last = to;
      for (int64_t j = from; j < first; j++) edge(j);
      if (first < last) {
        const T* inside = source + (first * c.x.step + c.x.offset[kx]) * c.channels;
        copy_runs(target + (first - from) * depth, depth, inside, source_step, run * group, last - first);
      }
      for (int64_t j = last; j < to; j++) edge(j);
    }
    out += (to - from) * depth;
    pixel += to - from;
  }
}

/// Offsets of the taps of y's pixels in x, rows then columns.
class ForwardTaps {
 public:
  explicit ForwardTaps(const ConvShape& s) : offsets_(static_cast<size_t>(s.kh + s.kw)) {
    for (int64_t k = 0; k < s.kh; k++) offsets_[k] = k * s.dilation[0] - s.padding[0];
    for (int64_t k = 0; k < s.kw; k++) offsets_[s.kh + k] = k * s.dilation[1] - s.padding[1];
    y = {s.kh, offsets_.get(), s.stride[0], s.h};
    x = {s.kw, offsets_.get() + s.kh, s.stride[1], s.w};
  }
  TapAxis y, x;

 private:
  Scratch<int64_t> offsets_;
};

template <class T>
void forward(const ConvShape& s, const T* x, const T* weight, const T* bias, T* y) {
  const int64_t taps = s.taps(), ci = s.group_in(), co = s.group_out(), depth = taps * ci;
  // weights [cout, cin, tap] to [cout, tap, cin], the order of a column
  Scratch<T> ordered(static_cast<size_t>(s.cout * depth));
  parallel_for(s.cout, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, depth)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t o = begin; o < end; o++)
                   for (int64_t tap = 0; tap < taps; tap++)
                     for (int64_t c = 0; c < ci; c++)
                       ordered[o * depth + tap * ci + c] = weight[o * depth + c * taps + tap];
               });
  const int64_t packed_group = packed_size<T>(depth, co);
  Scratch<T> packed(static_cast<size_t>(s.groups * packed_group));
  parallel_tasks(s.groups, [&](int64_t g) {
    pack_b(depth, co, Matrix<T>{ordered.get() + g * co * depth, 1, depth}, packed.get() + g * packed_group);
  });
  const ForwardTaps reach(s);
  const int64_t pixels = s.out_pixels(), block = block_pixels<T>(depth);
  const int64_t items = (pixels + block - 1) / block * s.groups, workers = workers_for(items);
  Scratch<T> columns(static_cast<size_t>(workers * block * depth));
  parallel_workers(workers, items, [&](int64_t worker, int64_t item) {
    const int64_t g = item % s.groups, begin = item / s.groups * block, end = std::min(pixels, begin + block);
    T* col = columns.get() + worker * block * depth;
    gather_columns(Columns<T>{x + g * ci, s.cin, ci, reach.y, reach.x, s.oh, s.ow}, begin, end, 0, taps, col);
    gemm_packed(end - begin, co, depth, Matrix<T>{col, depth, 1}, packed.get() + g * packed_group,
                y + begin * s.cout + g * co, s.cout, bias ? bias + g * co : nullptr, false);
  });
}

/// The pixels of dx whose rows and columns are congruent to (phase_y, phase_x) modulo the stride: the same
/// taps reach all of them, so none of the product is spent on zeros between the strides.
template <class T>
void backward_x_phase(const ConvShape& s, int64_t phase_y, int64_t phase_x, const T* dy, const T* weight,
                      T* dx) {
  const int64_t grid_h = (s.h - phase_y + s.stride[0] - 1) / s.stride[0];
  const int64_t grid_w = (s.w - phase_x + s.stride[1] - 1) / s.stride[1];
  Scratch<int64_t> tables(static_cast<size_t>(2 * (s.kh + s.kw)));
  int64_t *tap_y = tables.get(), *offset_y = tap_y + s.kh, *tap_x = offset_y + s.kh, *offset_x = tap_x + s.kw;
  const int64_t ny = phase_taps(phase_y, s.kh, s.stride[0], s.padding[0], s.dilation[0], tap_y, offset_y);
  const int64_t nx = phase_taps(phase_x, s.kw, s.stride[1], s.padding[1], s.dilation[1], tap_x, offset_x);
  const int64_t taps = ny * nx, ci = s.group_in(), co = s.group_out(), depth = taps * co;
  // weights of the phase as [groups, tap, cout, cin]
  Scratch<T> ordered(static_cast<size_t>(s.groups * depth * ci));
  parallel_for(s.groups * depth, std::max<int64_t>(1, kGrain / ci), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const int64_t o = row / depth * co + row % co, tap = row % depth / co;
      const T* from = weight + o * ci * s.taps() + tap_y[tap / nx] * s.kw + tap_x[tap % nx];
      for (int64_t c = 0; c < ci; c++) ordered[row * ci + c] = from[c * s.taps()];
    }
  });
  const int64_t packed_group = packed_size<T>(depth, ci);
  Scratch<T> packed(static_cast<size_t>(s.groups * packed_group));
  parallel_tasks(s.groups, [&](int64_t g) {
    pack_b(depth, ci, Matrix<T>{ordered.get() + g * depth * ci, ci, 1}, packed.get() + g * packed_group);
  });
  const int64_t pixels = s.batch * grid_h * grid_w, block = block_pixels<T>(depth);
  const int64_t items = (pixels + block - 1) / block * s.groups, workers = workers_for(items);
  const bool dense = s.stride[0] == 1 && s.stride[1] == 1;
  const int64_t room = block * (depth + (dense ? 0 : ci));
  Scratch<T> scratch(static_cast<size_t>(workers * room));
  parallel_workers(workers, items, [&](int64_t worker, int64_t item) {
    const int64_t g = item % s.groups, begin = item / s.groups * block, end = std::min(pixels, begin + block);
    T* col = scratch.get() + worker * room;
    const Columns<T> columns{dy + g * co, s.cout, co, {ny, offset_y, 1, s.oh}, {nx, offset_x, 1, s.ow},
                             grid_h,      grid_w};
    gather_columns(columns, begin, end, 0, taps, col);
    T* product = dense ? dx + begin * s.cin + g * ci : col + block * depth;
    const int64_t pitch = dense ? s.cin : ci;
    gemm_packed(end - begin, ci, depth, Matrix<T>{col, depth, 1}, packed.get() + g * packed_group, product,
                pitch, static_cast<const T*>(nullptr), false);
    if (dense) return;
    for (int64_t pixel = begin; pixel < end; pixel++, product += ci) {
      const int64_t row = pixel / grid_w, j = pixel % grid_w * s.stride[1] + phase_x;
      const int64_t i = row % grid_h * s.stride[0] + phase_y;
      copy_run(dx + ((row / grid_h * s.h + i) * s.w + j) * s.cin + g * ci, product, ci);
    }
  });
}

/// Every chunk of pixels sums its own gradient [groups, tap, cin, cout], one product per slice of taps and
/// block of pixels; the chunks are added in order.
template <class T>
void backward_w(const ConvShape& s, const T* dy, const T* x, T* dweight) {
  const int64_t taps = s.taps(), ci = s.group_in(), co = s.group_out(), depth = taps * ci;
  const int64_t size = s.groups * depth * co, pixels = s.out_pixels();
  const int64_t by_memory = kPartialBytes / (size * static_cast<int64_t>(sizeof(T)));
  const int64_t chunks = std::max<int64_t>(1, std::min({kMaxChunks, pixels / kChunkPixels, by_memory}));
  const int64_t chunk = (pixels + chunks - 1) / chunks;
  const int64_t slices =
      (taps + std::max<int64_t>(1, kSliceDepth / ci) - 1) / std::max<int64_t>(1, kSliceDepth / ci);
  const int64_t slice = (taps + slices - 1) / slices;
  const int64_t block = block_pixels<T>(slice * ci), packed_block = packed_size<T>(block, co);
  const int64_t items = chunks * s.groups * slices, workers = workers_for(items);
  const int64_t room = block * slice * ci + packed_block;
  const ForwardTaps reach(s);
  Scratch<T> partial(static_cast<size_t>(chunks * size));
  Scratch<T> scratch(static_cast<size_t>(workers * room));
  parallel_workers(workers, items, [&](int64_t worker, int64_t item) {
    const int64_t g = item / slices % s.groups, c = item / slices / s.groups;
    const int64_t tap_begin = item % slices * slice, tap_end = std::min(taps, tap_begin + slice);
    if (tap_begin >= tap_end) return;
    const int64_t rows = (tap_end - tap_begin) * ci;
    T* packed = scratch.get() + worker * room;
    T* col = packed + packed_block;
    T* sum = partial.get() + c * size + (g * depth + tap_begin * ci) * co;
    const Columns<T> columns{x + g * ci, s.cin, ci, reach.y, reach.x, s.oh, s.ow};
    const int64_t first = c * chunk, last = std::min(pixels, first + chunk);
    if (first >= last) std::fill(sum, sum + rows * co, T{0});
    for (int64_t begin = first; begin < last; begin += block) {
      const int64_t end = std::min(last, begin + block);
      gather_columns(columns, begin, end, tap_begin, tap_end, col);
      pack_b(end - begin, co, Matrix<T>{dy + begin * s.cout + g * co, s.cout, 1}, packed);
      gemm_packed(rows, co, end - begin, Matrix<T>{col, 1, rows}, packed, sum, co,
                  static_cast<const T*>(nullptr), begin > first);
    }
  });
  // [tap, cin, cout] to [cout, cin, tap], a few output channels at a time
  constexpr int64_t few = kLanes<T>;
  const int64_t strips = (co + few - 1) / few;
  parallel_for(s.groups * strips, std::max<int64_t>(1, kGrain / (depth * few)),
               [&](int64_t from, int64_t to) {
                 for (int64_t strip = from; strip < to; strip++) {
                   const int64_t g = strip / strips, o = strip % strips * few, width = std::min(few, co - o);
                   for (int64_t c = 0; c < ci; c++)
                     for (int64_t tap = 0; tap < taps; tap++) {
                       const T* at = partial.get() + (g * depth + tap * ci + c) * co + o;
                       Vec<T> sum = {};
                       for (int64_t k = 0; k < chunks; k++) sum += load_n(at + k * size, width);
                       for (int64_t l = 0; l < width; l++)
                         dweight[(g * co + o + l) * depth + c * taps + tap] = sum[l];
                     }
                 }
               });
}

/// Checks that the shapes and attributes belong together. All sizes stay below 2^31, so no index expression
/// can wrap.
ConvShape conv_shape(const Call& call, const TensorView& x, const TensorView& weight, const TensorView& y) {
  constexpr int64_t limit = int64_t{1} << 31;
  const IntList stride = call.attrs.v(0), padding = call.attrs.v(1), dilation = call.attrs.v(2);
  const int64_t groups = call.attrs.i(3);
  call.require(x.shape.rank == 4 && weight.shape.rank == 4 && y.shape.rank == 4,
               "tensors of four dimensions");
  call.require(x.dtype == weight.dtype && x.dtype == y.dtype, "one dtype");
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
  const TensorView &x = call.in[0], &weight = call.in[1], &bias = call.in[2];
  const ConvShape s = conv_shape(call, x, weight, call.out[0]);
  call.require(!bias.present || (bias.dtype == x.dtype && bias.numel() == s.cout), "bias of shape [cout]");
  float_dispatch(call, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    (s.depthwise() ? depthwise_fwd<T> : forward<T>)(s, x.as<const T>(), weight.as<const T>(),
                                                    bias.present ? bias.as<const T>() : nullptr,
                                                    call.out[0].as<T>());
  });
}

/// dy, weight to dx.
void conv2d_bwd_x(const Call& call) {
  const TensorView &dy = call.in[0], &weight = call.in[1], &dx = call.out[0];
  const ConvShape s = conv_shape(call, dx, weight, dy);
  float_dispatch(call, dx.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T *g = dy.as<const T>(), *w = weight.as<const T>();
    if (s.depthwise()) return depthwise_bwd_x(s, g, w, dx.as<T>());
    for (int64_t phase_y = 0; phase_y < std::min(s.stride[0], s.h); phase_y++)
      for (int64_t phase_x = 0; phase_x < std::min(s.stride[1], s.w); phase_x++)
        backward_x_phase(s, phase_y, phase_x, g, w, dx.as<T>());
  });
}

/// dy, x to dweight.
void conv2d_bwd_w(const Call& call) {
  const TensorView &dy = call.in[0], &x = call.in[1], &dweight = call.out[0];
  const ConvShape s = conv_shape(call, x, dweight, dy);
  float_dispatch(call, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    (s.depthwise() ? depthwise_bwd_w<T> : backward_w<T>)(s, dy.as<const T>(), x.as<const T>(),
                                                         dweight.as<T>());
  });
}

}  // namespace qm::cpu::QM_ISA
