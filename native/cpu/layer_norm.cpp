// Layer normalisation over the last axis of [rows, C]: y = (x - mean) * rstd * weight + bias. Sums of a row
// as in cpu/rows.h.
#include "cpu/rows.h"

namespace qm::cpu::QM_ISA {

#include "formulas/math.h"

namespace {

constexpr int64_t kMaxChunks = 64;  // of rows, for the sums over rows
constexpr int64_t kShort = 64;      // elements of a row
constexpr int64_t kFlush = 64;      // rows summed in the tensor's own type before they are added in double

/// weight and bias as arrays of C, ones and zeros where they are absent: multiplying by one changes nothing.
template <class T>
class Affine {
 public:
  Affine(const TensorView* weight, const TensorView* bias, int64_t n) : absent_(static_cast<size_t>(2 * n)) {
    std::fill(absent_.get(), absent_.get() + n, T{1});
    std::fill(absent_.get() + n, absent_.get() + 2 * n, T{0});
    this->weight = weight->present ? weight->as<const T>() : absent_.get();
    this->bias = bias && bias->present ? bias->as<const T>() : absent_.get() + n;
  }
  const T* weight;
  const T* bias;

 private:
  Scratch<T> absent_;
};

/// Up to kLanes rows of at most kShort elements: the lanes of all are summed together, so that no row waits for its own
/// sums. In longer rows there is enough else to do.
template <class T>
void forward_short(const T* x, int64_t rows, int64_t n, T eps, const Affine<T>& affine, T* y, T* mean,
                   T* rstd) {
  T lanes[kLanes<T> * kLanes<T>] = {};
  for (int64_t r = 0; r < rows; r++)
    store(lanes + r * kLanes<T>,
          row_lanes<T>(0, n, [=](int64_t i, int64_t count) { return load_n(x + r * n + i, count); }));
  const Vec<T> size = splat(static_cast<T>(n));
  store_n(mean, lane_sums<T>(lanes) / size, rows);
  for (int64_t r = 0; r < rows; r++) {
    const Vec<T> centre = splat(mean[r]);
    store(lanes + r * kLanes<T>, row_lanes<T>(0, n, [=](int64_t i, int64_t count) {
            const Vec<T> d = load_n(x + r * n + i, count) - centre;
            return first_or<T>(d * d, count, 0);
          }));
  }
  store_n(rstd, splat(T{1}) / sqrt_of(lane_sums<T>(lanes) / size + splat(eps)), rows);
  const T *weight = affine.weight, *bias = affine.bias;
  for (int64_t r = 0; r < rows; r++) {
    const Vec<T> centre = splat(mean[r]), scale = splat(rstd[r]);
    for (int64_t i = 0; i < n; i += kLanes<T>) {
      const Vec<T> normal = (load_n(x + r * n + i, n - i) - centre) * scale;
      store_n(y + r * n + i, mul_add(normal, load_n(weight + i, n - i), load_n(bias + i, n - i)), n - i);
    }
  }
}

template <class T>
void forward(const TensorView* in, TensorView* out, int64_t rows, int64_t n, double eps) {
  const T* x = in[0].as<const T>();
  const Affine<T> affine(&in[1], &in[2], n);
  const T *weight = affine.weight, *bias = affine.bias;
  T *y = out[0].as<T>(), *means = out[1].as<T>(), *rstds = out[2].as<T>();
  const double inverse = n > 0 ? 1.0 / static_cast<double>(n) : 0.0;
  if (n > 0 && n <= kShort)
    return parallel_for(rows, rows_per_task(n), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row += kLanes<T>)
        forward_short(x + row * n, std::min<int64_t>(kLanes<T>, end - row), n, static_cast<T>(eps), affine,
                      y + row * n, means + row, rstds + row);
    });
  parallel_for(rows, rows_per_task(n), [=](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const T* xr = x + row * n;
      const T mean = static_cast<T>(
          inverse * row_sum<T>(n, [=](int64_t i, int64_t count) { return load_n(xr + i, count); }));
      const Vec<T> centre = splat(mean);
      const double variance = inverse * row_sum<T>(n, [=](int64_t i, int64_t count) {
                                const Vec<T> d = load_n(xr + i, count) - centre;
                                return first_or<T>(d * d, count, 0);
                              });
      const T rstd = static_cast<T>(1.0 / std::sqrt(variance + eps));
      means[row] = mean;
      rstds[row] = rstd;
      const Vec<T> scale = splat(rstd);
      for (int64_t i = 0; i < n; i += kLanes<T>) {
        const Vec<T> normal = (load_n(xr + i, n - i) - centre) * scale;
        store_n(y + row * n + i, mul_add(normal, load_n(weight + i, n - i), load_n(bias + i, n - i)), n - i);
      }
    }
  });
}

/// Up to kLanes rows: dx (to which `waiting` is added unless it is null), and dy * normal and dy added to
/// dweight and dbias, which have room for whole vectors. Lanes are summed as in forward_short, those of rows
/// beyond kRowBlock in double.
template <class T>
void backward_rows(const T* dy, const T* x, const T* weight, const T* mean, const T* rstd, const T* waiting,
                   int64_t rows, int64_t n, T* dx, T* dweight, T* dbias) {
  double sum_g[kLanes<T>] = {}, sum_gx[kLanes<T>] = {};
  for (int64_t begin = 0; begin < n; begin += kRowBlock) {
    const int64_t end = std::min(n, begin + kRowBlock);
    T g_lanes[kLanes<T> * kLanes<T>] = {}, gx_lanes[kLanes<T> * kLanes<T>] = {};
    for (int64_t r = 0; r < rows; r++) {
      const Vec<T> centre = splat(mean[r]), scale = splat(rstd[r]);
      Vec<T> g_sum = {}, gx_sum = {};
      for (int64_t i = begin; i < end; i += kLanes<T>) {
        const int64_t count = end - i;
        const Vec<T> d = load_n(dy + r * n + i, count);
        const Vec<T> normal = (load_n(x + r * n + i, count) - centre) * scale;
        const Vec<T> dn = d * normal;
        const Vec<T> w = load_n(weight + i, count);
        g_sum = mul_add(d, w, g_sum);
        gx_sum = mul_add(dn, w, gx_sum);
        store(dweight + i, load(dweight + i) + dn);
        store(dbias + i, load(dbias + i) + d);
      }
      store(g_lanes + r * kLanes<T>, g_sum);
      store(gx_lanes + r * kLanes<T>, gx_sum);
    }
    const Vec<T> g_sums = lane_sums<T>(g_lanes), gx_sums = lane_sums<T>(gx_lanes);
    for (int r = 0; r < kLanes<T>; r++) {
      sum_g[r] += static_cast<double>(g_sums[r]);
      sum_gx[r] += static_cast<double>(gx_sums[r]);
    }
  }
  const double inverse = 1.0 / static_cast<double>(n);
  for (int64_t r = 0; r < rows; r++) {
    const Vec<T> centre = splat(mean[r]), scale = splat(rstd[r]);
    const Vec<T> mean_g = splat(static_cast<T>(sum_g[r] * inverse));
    const Vec<T> mean_gx = splat(static_cast<T>(sum_gx[r] * inverse));
    for (int64_t i = 0; i < n; i += kLanes<T>) {
      const int64_t count = n - i;
      const Vec<T> normal = (load_n(x + r * n + i, count) - centre) * scale;
      const Vec<T> g = load_n(dy + r * n + i, count) * load_n(weight + i, count);
      const Vec<T> before = waiting ? load_n(waiting + r * n + i, count) : Vec<T>{};
      store_n(dx + r * n + i, before + (g - mean_g - normal * mean_gx) * scale, count);
    }
  }
}

template <class T>
void backward(const TensorView* in, TensorView* out, int64_t rows, int64_t n) {
  const T *dy = in[0].as<const T>(), *x = in[1].as<const T>();
  const Affine<T> affine(&in[2], nullptr, n);
  const T *weight = affine.weight, *mean = in[3].as<const T>(), *rstd = in[4].as<const T>();
  const T* waiting = in[5].present ? in[5].as<const T>() : nullptr;
  T* dx = out[0].as<T>();
  const int64_t chunk = std::max((rows + kMaxChunks - 1) / kMaxChunks, rows_per_task(n));
  const int64_t chunks = (rows + chunk - 1) / chunk;
  const int64_t room = (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
  Scratch<T> near(static_cast<size_t>(chunks * 2 * room));
  Scratch<double> far(static_cast<size_t>(chunks * 2 * n));
  parallel_tasks(chunks, [&](int64_t c) {
    T* sums = near.get() + c * 2 * room;  // dweight, then dbias
    double* totals = far.get() + c * 2 * n;
    std::fill(totals, totals + 2 * n, 0.0);
    const int64_t end = std::min(rows, (c + 1) * chunk);
    for (int64_t begin = c * chunk; begin < end; begin += kFlush) {
      std::fill(sums, sums + 2 * room, T{0});
      const int64_t stop = std::min(end, begin + kFlush);
      for (int64_t row = begin; row < stop; row += kLanes<T>)
        backward_rows(dy + row * n, x + row * n, weight, mean + row, rstd + row,
                      waiting ? waiting + row * n : nullptr, std::min<int64_t>(kLanes<T>, stop - row), n,
                      dx + row * n, sums, sums + room);
      for (int64_t i = 0; i < n; i++) {
        totals[i] += static_cast<double>(sums[i]);
        totals[n + i] += static_cast<double>(sums[room + i]);
      }
    }
  });
  for (int which = 0; which < 2; which++) {
    T* sum = out[1 + which].as<T>();
    parallel_for(n, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, chunks)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; i++) {
                     double total = 0;
                     for (int64_t c = 0; c < chunks; c++) total += far[c * 2 * n + which * n + i];
                     sum[i] = static_cast<T>(total);
                   }
                 });
  }
}

/// Whether `t` is absent or [n] of x's dtype.
bool optional_row(const TensorView& t, const TensorView& x, int64_t n) {
  return !t.present || (t.dtype == x.dtype && t.shape.rank == 1 && t.shape[0] == n);
}

/// The number of rows; a guard shared by both directions.
int64_t rows_of(const Call& call, const TensorView& x) {
  call.require(x.shape.rank >= 1, "an input of at least one dimension");
  return x.shape.count(0, x.shape.rank - 1);
}

}  // namespace

/// x [..., C], weight [C], bias [C] (both optional) to y, mean [rows], rstd [rows]. Variance in a second
/// pass, divided by C.
void layer_norm_fwd(const Call& call) {
  const TensorView& x = call.in[0];
  const int64_t rows = rows_of(call, x), n = x.shape.last(0);
  call.require(optional_row(call.in[1], x, n) && optional_row(call.in[2], x, n),
               "weight and bias of shape [C]");
  call.require(call.out[0].shape == x.shape && call.out[1].numel() == rows && call.out[2].numel() == rows,
               "outputs [..., C], [rows] and [rows]");
  for (int k = 0; k < 3; k++) call.require(call.out[k].dtype == x.dtype, "one dtype");
  const double eps = call.attrs.f(0);
  float_dispatch(call, x.dtype, [&](auto zero) { forward<decltype(zero)>(call.in, call.out, rows, n, eps); });
}

/// dy, x [..., C], weight [C] (optional), mean, rstd [rows], waiting [..., C] (optional) to dx, dweight [C],
/// dbias [C]. With g = dy * weight and normal = (x - mean) * rstd: dx = rstd (g - mean(g) - normal mean(g
/// normal)) + waiting, what else has come to x. dweight and dbias
/// are summed over at most kMaxChunks chunks of rows, kFlush rows at a time in the tensor's type, beyond that
/// in double, chunks in order.
void layer_norm_bwd(const Call& call) {
  const TensorView& x = call.in[1];
  const int64_t rows = rows_of(call, x), n = x.shape.last(0);
  for (int k : {0, 5})
    call.require(
        (k == 5 && !call.in[k].present) || (call.in[k].shape == x.shape && call.in[k].dtype == x.dtype),
        "dy, and what is waiting, like x");
  call.require(optional_row(call.in[2], x, n), "weight of shape [C]");
  for (int k = 3; k < 5; k++)
    call.require(call.in[k].numel() == rows && call.in[k].dtype == x.dtype, "mean and rstd of shape [rows]");
  call.require(call.out[0].shape == x.shape && call.out[1].numel() == n && call.out[2].numel() == n,
               "outputs [..., C], [C] and [C]");
  for (int k = 0; k < 3; k++) call.require(call.out[k].dtype == x.dtype, "one dtype");
  float_dispatch(call, x.dtype, [&](auto zero) { backward<decltype(zero)>(call.in, call.out, rows, n); });
}

}  // namespace qm::cpu::QM_ISA
