// Convolution with one channel per group, over NHWC tensors: vectors of channels, weights as [tap, channel].
// A kernel three wide with stride 1 and padding 1 slides along the row, so that every source element is
// loaded once per kernel row; the others read every tap of every pixel.
#include "cpu/conv.h"

namespace qm::cpu::QM_ISA {

#include "formulas/elementwise.h"

namespace {

constexpr int64_t kMaxChunks = 64;           // of rows of pixels, whose weight gradients are added in order
constexpr int64_t kPartialBytes = 32 << 20;  // of all chunks' weight gradients together
constexpr int64_t kSumRows = 4;              // rows that a weight gradient sums in registers

/// Rows of target pixels, gathered through taps from rows of source pixels.
template <class T>
struct Gather {
  const T* source;  // [images, y.extent, x.extent, channels]
  TapAxis y, x;     // offsets ascend
  const T* weight;  // [y.taps, x.taps, channels]
  const T* bias;    // [channels]
  int64_t channels;
  int64_t grid_h, grid_w;
};

/// Whether one step along the row moves all three taps by one pixel, over the same width.
bool slides(const TapAxis& x, int64_t grid_w) {
  return x.taps == 3 && x.step == 1 && x.offset[0] == -1 && x.offset[1] == 0 && x.offset[2] == 1 &&
         x.extent == grid_w;
}

/// What becomes of a sum: `apply(v, at, count)`, its first `count` lanes going to `at`.
template <class T>
struct Plain {
  Vec<T> apply(Vec<T> v, const T*, int64_t) const { return v; }
};
template <class T>
struct WithSilu {
  Vec<T> apply(Vec<T> v, const T*, int64_t) const { return Silu::forward(v); }
};
/// silu'(v) dy, dy lying as the target does.
template <class T>
struct SiluGradient {
  const T *target, *dy;
  Vec<T> apply(Vec<T> v, const T* at, int64_t count) const {
    return Silu::backward(v, load_n(dy + (at - target), count));
  }
};

/// One vector of channels of a row, R kernel rows tall. Each source column is added to the three outputs that
/// it reaches; an output sums columns left to right, rows top to bottom within each.
template <int R, class T, class End>
QM_INLINE void slide(const Gather<T>& g, const End& ending, const T* source, int64_t row_step,
                     const T* weight, int64_t c, int64_t count, T* target, int64_t target_step) {
  const int64_t channels = g.channels;
  Vec<T> w[R][3];
  for (int r = 0; r < R; r++)
    for (int k = 0; k < 3; k++) w[r][k] = load_n(weight + (r * 3 + k) * channels + c, count);
  const Vec<T> bias = load_n(g.bias + c, count);
  Vec<T> here = bias, next = bias;  // outputs of this column and of the next one
  for (int64_t j = 0; j < g.grid_w; j++) {
    Vec<T> done = here;  // the output of the column before
    here = next;
    next = bias;
    for (int r = 0; r < R; r++) {
      const Vec<T> x = load_n(source + r * row_step + j * channels + c, count);
      done = mul_add(x, w[r][2], done);
      here = mul_add(x, w[r][1], here);
      next = mul_add(x, w[r][0], next);
    }
    if (j == 0) continue;
    T* at = target + (j - 1) * target_step + c;
    store_n(at, ending.apply(done, at, count), count);
  }
  T* at = target + (g.grid_w - 1) * target_step + c;
  store_n(at, ending.apply(here, at, count), count);
}

template <int R, class T, class End>
void slide_row(const Gather<T>& g, const End& ending, const T* source, int64_t row_step, const T* weight,
               T* target, int64_t target_step) {
  int64_t c = 0;
  for (; c + kLanes<T> <= g.channels; c += kLanes<T>)
    slide<R>(g, ending, source, row_step, weight, c, kLanes<T>, target, target_step);
  if (c < g.channels) slide<R>(g, ending, source, row_step, weight, c, g.channels - c, target, target_step);
}

/// One row of the target, from kernel rows [first, last).
template <class T, class End>
void gather_row(const Gather<T>& g, const End& ending, const T* image, int64_t i, int64_t first, int64_t last,
                T* target, int64_t target_step) {
  const int64_t channels = g.channels, pitch = g.x.extent * channels;
  for (int64_t j = 0; j < g.grid_w; j++) {
    const int64_t at = j * g.x.step;
    int64_t left = 0, right = g.x.taps;
    while (left < right && at + g.x.offset[left] < 0) left++;
    while (right > left && at + g.x.offset[right - 1] >= g.x.extent) right--;
    for (int64_t c = 0; c < channels; c += kLanes<T>) {
      const int64_t count = channels - c;
      Vec<T> sum = load_n(g.bias + c, count);
      for (int64_t ky = first; ky < last; ky++) {
        const T* row = image + (i * g.y.step + g.y.offset[ky]) * pitch + c;
        for (int64_t kx = left; kx < right; kx++)
          sum = mul_add(load_n(row + (at + g.x.offset[kx]) * channels, count),
                        load_n(g.weight + (ky * g.x.taps + kx) * channels + c, count), sum);
      }
      T* to = target + j * target_step + c;
      store_n(to, ending.apply(sum, to, count), count);
    }
  }
}

/// Row `row` of [images, grid_h].
template <class T, class End>
void gather_one(const Gather<T>& g, const End& ending, int64_t row, T* target, int64_t target_step) {
  const int64_t i = row % g.grid_h, pitch = g.x.extent * g.channels;
  const T* image = g.source + row / g.grid_h * g.y.extent * pitch;
  int64_t first = 0, last = g.y.taps;
  while (first < last && i * g.y.step + g.y.offset[first] < 0) first++;
  while (last > first && i * g.y.step + g.y.offset[last - 1] >= g.y.extent) last--;
  const int64_t rows = last - first;
  if (!slides(g.x, g.grid_w) || rows < 1 || rows > 3)
    return gather_row(g, ending, image, i, first, last, target, target_step);
  const T* source = image + (i * g.y.step + g.y.offset[first]) * pitch;
  const int64_t row_step = rows > 1 ? (g.y.offset[first + 1] - g.y.offset[first]) * pitch : 0;
  const T* weight = g.weight + first * 3 * g.channels;
  if (rows == 3) return slide_row<3>(g, ending, source, row_step, weight, target, target_step);
  if (rows == 2) return slide_row<2>(g, ending, source, row_step, weight, target, target_step);
  slide_row<1>(g, ending, source, row_step, weight, target, target_step);
}

int64_t rows_per_task(int64_t width, int64_t channels) {
  return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, width * channels));
}

/// Weights [channels, kernel taps] as [chosen taps, channels].
template <class T>
void order_weights(const ConvShape& s, const T* weight, const int64_t* tap_y, int64_t ny,
                   const int64_t* tap_x, int64_t nx, T* ordered) {
  for (int64_t k = 0; k < ny * nx; k++) {
    const int64_t tap = tap_y[k / nx] * s.kw + tap_x[k % nx];
    for (int64_t c = 0; c < s.cin; c++) ordered[k * s.cin + c] = weight[c * s.taps() + tap];
  }
}

/// Numbers and offsets of the taps that y's pixels have in x.
struct ForwardTables {
  explicit ForwardTables(const ConvShape& s) : memory(static_cast<size_t>(2 * (s.kh + s.kw))) {
    tap_y = memory.get();
    tap_x = tap_y + s.kh;
    int64_t *offset_y = tap_x + s.kw, *offset_x = offset_y + s.kh;
    for (int64_t k = 0; k < s.kh; k++) {
      tap_y[k] = k;
      offset_y[k] = k * s.dilation[0] - s.padding[0];
    }
    for (int64_t k = 0; k < s.kw; k++) {
      tap_x[k] = k;
      offset_x[k] = k * s.dilation[1] - s.padding[1];
    }
    y = {s.kh, offset_y, s.stride[0], s.h};
    x = {s.kw, offset_x, s.stride[1], s.w};
  }
  Scratch<int64_t> memory;
  int64_t *tap_y, *tap_x;
  TapAxis y, x;
};

/// `rows` rows of the source under every kernel row, or zeros where that lies outside.
template <class T>
struct WeightSum {
  const T *dy, *x, *zeros;  // zeros: one source row
  TapAxis y, x_axis;
  int64_t channels, grid_h, grid_w;

  const T* source_row(int64_t row, int64_t ky) const {
    const int64_t i = row % grid_h * y.step + y.offset[ky];
    if (i < 0 || i >= y.extent) return zeros;
    return x + (row / grid_h * y.extent + i) * x_axis.extent * channels;
  }
};

/// Adds the gradient of a sliding 3 x 3 kernel over rows [begin, end) to sum [9, room], for one vector of
/// channels, and the sum of dy to sum[9]. The ten sums stay in registers.
template <class T>
QM_INLINE void sum_slide(const WeightSum<T>& s, int64_t begin, int64_t end, int64_t c, int64_t count, T* sum,
                         int64_t room) {
  const int64_t channels = s.channels, width = s.grid_w;
  Vec<T> acc[3][3] = {}, total = {};
  for (int64_t row = begin; row < end; row++) {
    const T* d = s.dy + row * width * channels + c;
    const T* x[3];
    for (int r = 0; r < 3; r++) x[r] = s.source_row(row, r) + c;
    Vec<T> before = {}, here = load_n(d, count);
    const auto column = [&](int64_t j, Vec<T> after) __attribute__((always_inline)) {
      for (int r = 0; r < 3; r++) {
        const Vec<T> v = load_n(x[r] + j * channels, count);
        acc[r][0] = mul_add(v, after, acc[r][0]);
        acc[r][1] = mul_add(v, here, acc[r][1]);
        acc[r][2] = mul_add(v, before, acc[r][2]);
      }
      total += here;
      before = here;
      here = after;
    };
    for (int64_t j = 0; j < width - 1; j++) column(j, load_n(d + (j + 1) * channels, count));
    column(width - 1, Vec<T>{});
  }
  for (int k = 0; k < 9; k++) store(sum + k * room + c, load(sum + k * room + c) + acc[k / 3][k % 3]);
  store(sum + 9 * room + c, load(sum + 9 * room + c) + total);
}

/// The same for any kernel: tap by tap, then dy.
template <class T>
void sum_taps(const WeightSum<T>& s, int64_t begin, int64_t end, int64_t c, int64_t count, T* sum,
              int64_t room) {
  for (int64_t row = begin; row < end; row++) {
    const T* d = s.dy + row * s.grid_w * s.channels + c;
    for (int64_t ky = 0; ky < s.y.taps; ky++) {
      const T* x = s.source_row(row, ky) + c;
      for (int64_t kx = 0; kx < s.x_axis.taps; kx++) {
        int64_t first = 0, last = s.grid_w;
        TapAxis::clip(s.x_axis, kx, &first, &last);
        Vec<T> acc = {};
        for (int64_t j = first; j < last; j++)
          acc = mul_add(load_n(x + (j * s.x_axis.step + s.x_axis.offset[kx]) * s.channels, count),
                        load_n(d + j * s.channels, count), acc);
        T* to = sum + (ky * s.x_axis.taps + kx) * room + c;
        store(to, load(to) + acc);
      }
    }
    Vec<T> total = {};
    for (int64_t j = 0; j < s.grid_w; j++) total += load_n(d + j * s.channels, count);
    T* to = sum + s.y.taps * s.x_axis.taps * room + c;
    store(to, load(to) + total);
  }
}

template <class T>
void sum_rows(const WeightSum<T>& s, int64_t begin, int64_t end, T* sum, int64_t room) {
  const bool fast = s.y.taps == 3 && slides(s.x_axis, s.grid_w);
  for (int64_t from = begin; from < end; from += kSumRows) {
    const int64_t to = std::min(end, from + kSumRows);
    int64_t c = 0;
    for (; fast && c + kLanes<T> <= s.channels; c += kLanes<T>)
      sum_slide(s, from, to, c, kLanes<T>, sum, room);
    if (fast && c < s.channels) sum_slide(s, from, to, c, s.channels - c, sum, room);
    for (; !fast && c < s.channels; c += kLanes<T>) sum_taps(s, from, to, c, s.channels - c, sum, room);
  }
}

/// Rows of y in parallel.
template <class T, class End>
void forward(const ConvShape& s, const T* x, const T* weight, const T* bias, const End& ending, T* y) {
  const int64_t channels = s.cin;
  const ForwardTables tables(s);
  Scratch<T> ordered(static_cast<size_t>((s.taps() + 1) * channels));
  order_weights(s, weight, tables.tap_y, s.kh, tables.tap_x, s.kw, ordered.get());
  T* zero_bias = ordered.get() + s.taps() * channels;
  std::fill(zero_bias, zero_bias + channels, T{0});
  const Gather<T> g{x, tables.y, tables.x, ordered.get(), bias ? bias : zero_bias, channels, s.oh, s.ow};
  parallel_for(s.batch * s.oh, rows_per_task(s.ow, channels), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      gather_one(g, ending, row, y + row * s.ow * channels, channels);
  });
}

}  // namespace

template <class T>
void depthwise_fwd(const ConvShape& s, const T* x, const T* weight, const T* bias, T* y) {
  forward(s, x, weight, bias, Plain<T>{}, y);
}

template <class T>
void depthwise_silu(const ConvShape& s, const T* x, const T* weight, const T* bias, T* y) {
  forward(s, x, weight, bias, WithSilu<T>{}, y);
}

template <class T>
void depthwise_silu_gradient(const ConvShape& s, const T* x, const T* weight, const T* bias, const T* dy,
                             T* dz) {
  forward(s, x, weight, bias, SiluGradient<T>{dz, dy}, dz);
}

/// Rows of dx in parallel, one phase of the stride after another: see phase_taps.
template <class T>
void depthwise_bwd_x(const ConvShape& s, const T* dy, const T* weight, T* dx) {
  const int64_t channels = s.cin;
  Scratch<int64_t> tables(static_cast<size_t>(2 * (s.kh + s.kw)));
  int64_t *tap_y = tables.get(), *offset_y = tap_y + s.kh, *tap_x = offset_y + s.kh, *offset_x = tap_x + s.kw;
  Scratch<T> ordered(static_cast<size_t>((s.taps() + 1) * channels));
  T* zero_bias = ordered.get() + s.taps() * channels;
  std::fill(zero_bias, zero_bias + channels, T{0});
  for (int64_t py = 0; py < std::min(s.stride[0], s.h); py++)
    for (int64_t px = 0; px < std::min(s.stride[1], s.w); px++) {
      const int64_t ny = phase_taps(py, s.kh, s.stride[0], s.padding[0], s.dilation[0], tap_y, offset_y);
      const int64_t nx = phase_taps(px, s.kw, s.stride[1], s.padding[1], s.dilation[1], tap_x, offset_x);
      order_weights(s, weight, tap_y, ny, tap_x, nx, ordered.get());
      const int64_t grid_h = (s.h - py + s.stride[0] - 1) / s.stride[0];
      const int64_t grid_w = (s.w - px + s.stride[1] - 1) / s.stride[1];
      const Gather<T> g{
          dy,    {ny, offset_y, 1, s.oh}, {nx, offset_x, 1, s.ow}, ordered.get(), zero_bias, channels, grid_h,
          grid_w};
      parallel_for(s.batch * grid_h, rows_per_task(grid_w, channels), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; row++) {
          const int64_t i = row / grid_h * s.h + row % grid_h * s.stride[0] + py;
          gather_one(g, Plain<T>{}, row, dx + (i * s.w + px) * channels, s.stride[1] * channels);
        }
      });
    }
}

/// Chunks of rows of y in parallel: kSumRows rows in registers, the rows of a chunk in the tensor's type, the
/// chunks in order in double.
template <class T>
void depthwise_bwd_parameters(const ConvShape& s, const T* dy, const T* x, T* dweight, T* dbias) {
  const int64_t channels = s.cin, taps = s.taps(), rows = s.batch * s.oh;
  const int64_t room = (channels + kLanes<T> - 1) / kLanes<T> * kLanes<T>, size = (taps + 1) * room;
  const int64_t by_memory = std::max<int64_t>(1, kPartialBytes / (size * static_cast<int64_t>(sizeof(T))));
  const int64_t most = std::min(kMaxChunks, by_memory);
  const int64_t chunk = std::max((rows + most - 1) / most, rows_per_task(s.ow, channels));
  const int64_t chunks = (rows + chunk - 1) / chunk;
  const ForwardTables tables(s);
  Scratch<T> zeros(static_cast<size_t>(s.w * channels));
  std::fill(zeros.get(), zeros.get() + s.w * channels, T{0});
  Scratch<T> partial(static_cast<size_t>(chunks * size));
  const WeightSum<T> sum{dy, x, zeros.get(), tables.y, tables.x, channels, s.oh, s.ow};
  parallel_tasks(chunks, [&](int64_t k) {
    T* own = partial.get() + k * size;
    std::fill(own, own + size, T{0});
    sum_rows(sum, k * chunk, std::min(rows, (k + 1) * chunk), own, room);
  });
  parallel_for(channels, kLanes<T>, [&](int64_t begin, int64_t end) {
    for (int64_t tap = 0; tap < (dbias ? taps + 1 : taps); tap++) {
      double total[kLanes<T>] = {};
      for (int64_t k = 0; k < chunks; k++)
        for (int l = 0; l < kLanes<T>; l++)
          total[l] += static_cast<double>(partial[k * size + tap * room + begin + l]);
      for (int64_t c = begin; c < end; c++)
        (tap < taps ? dweight[c * taps + tap] : dbias[c]) = static_cast<T>(total[c - begin]);
    }
  });
}

template <class T>
void depthwise_bwd_w(const ConvShape& s, const T* dy, const T* x, T* dweight) {
  depthwise_bwd_parameters<T>(s, dy, x, dweight, nullptr);
}

#define QM_INSTANTIATE(T)                                                                                 \
  template void depthwise_fwd<T>(const ConvShape&, const T*, const T*, const T*, T*);                     \
  template void depthwise_silu<T>(const ConvShape&, const T*, const T*, const T*, T*);                    \
  template void depthwise_silu_gradient<T>(const ConvShape&, const T*, const T*, const T*, const T*, T*); \
  template void depthwise_bwd_x<T>(const ConvShape&, const T*, const T*, T*);                             \
  template void depthwise_bwd_w<T>(const ConvShape&, const T*, const T*, T*);                             \
  template void depthwise_bwd_parameters<T>(const ConvShape&, const T*, const T*, T*, T*);
QM_INSTANTIATE(float)
QM_INSTANTIATE(double)
#undef QM_INSTANTIATE

}  // namespace qm::cpu::QM_ISA
