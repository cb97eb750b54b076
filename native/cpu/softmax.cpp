// softmax and log-softmax over the last axis of [rows, n], in the tensor's type; sums as in cpu/rows.h. A row
// of -inf alone, or with +inf or NaN in it, is NaN throughout.
#include "cpu/rows.h"

namespace qm::cpu::QM_ISA {

#include "formulas/math.h"

namespace {

/// Rows in parallel: body gets the element at which its row starts.
struct Rows {
  int64_t rows, n;

  template <class Body>
  void each(Body body) const {
    parallel_for(rows, rows_per_task(n), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) body(row * n);
    });
  }
};

/// All tensors of the call have one shape and dtype.
Rows rows_of(const Call& call) {
  const TensorView& y = call.out[0];
  call.require(y.shape.rank >= 1, "a tensor of at least one dimension");
  for (int k = 0; k < call.n_in; k++)
    call.require(call.in[k].shape == y.shape && call.in[k].dtype == y.dtype,
                 "tensors of one shape and dtype");
  return {y.shape.count(0, y.shape.rank - 1), y.shape.last(0)};
}

}  // namespace

/// x [..., n] to y = exp(x - max) / sum.
void softmax_fwd(const Call& call) {
  const Rows rows = rows_of(call);
  float_dispatch(call, call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = call.in[0].as<const T>();
    T* y = call.out[0].as<T>();
    const int64_t n = rows.n;
    rows.each([=](int64_t at) {
      const Vec<T> most = splat(row_max(x + at, n));
      const double sum = row_sum<T>(n, [=](int64_t i, int64_t count) {
        const Vec<T> e = exp_of(load_n(x + at + i, count) - most);
        store_n(y + at + i, e, count);
        return first_or<T>(e, count, 0);
      });
      const Vec<T> scale = splat(static_cast<T>(1.0 / sum));
      for (int64_t i = 0; i < n; i += kLanes<T>)
        store_n(y + at + i, load_n(y + at + i, n - i) * scale, n - i);
    });
  });
}

/// y, dy to dx = y (dy - sum(y dy)).
void softmax_bwd(const Call& call) {
  const Rows rows = rows_of(call);
  float_dispatch(call, call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const T *y = call.in[0].as<const T>(), *dy = call.in[1].as<const T>();
    T* dx = call.out[0].as<T>();
    const int64_t n = rows.n;
    rows.each([=](int64_t at) {
      const Vec<T> dot = splat(static_cast<T>(row_sum<T>(n, [=](int64_t i, int64_t count) {
        return load_n(y + at + i, count) * load_n(dy + at + i, count);
      })));
      for (int64_t i = 0; i < n; i += kLanes<T>)
        store_n(dx + at + i, load_n(y + at + i, n - i) * (load_n(dy + at + i, n - i) - dot), n - i);
    });
  });
}

/// x [..., n] to y = x - max - log(sum(exp(x - max))).
void log_softmax_fwd(const Call& call) {
  const Rows rows = rows_of(call);
  float_dispatch(call, call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = call.in[0].as<const T>();
    T* y = call.out[0].as<T>();
    const int64_t n = rows.n;
    rows.each([=](int64_t at) {
      const Vec<T> most = splat(row_max(x + at, n));
      const double sum = row_sum<T>(n, [=](int64_t i, int64_t count) {
        return first_or<T>(exp_of(load_n(x + at + i, count) - most), count, 0);
      });
      const Vec<T> log_sum = splat(static_cast<T>(std::log(sum)));
      for (int64_t i = 0; i < n; i += kLanes<T>)
        store_n(y + at + i, load_n(x + at + i, n - i) - most - log_sum, n - i);
    });
  });
}

/// y, dy to dx = dy - exp(y) sum(dy).
void log_softmax_bwd(const Call& call) {
  const Rows rows = rows_of(call);
  float_dispatch(call, call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const T *y = call.in[0].as<const T>(), *dy = call.in[1].as<const T>();
    T* dx = call.out[0].as<T>();
    const int64_t n = rows.n;
    rows.each([=](int64_t at) {
      const Vec<T> sum = splat(static_cast<T>(
          row_sum<T>(n, [=](int64_t i, int64_t count) { return load_n(dy + at + i, count); })));
      for (int64_t i = 0; i < n; i += kLanes<T>)
        store_n(dx + at + i, load_n(dy + at + i, n - i) - exp_of(load_n(y + at + i, n - i)) * sum, n - i);
    });
  });
}

}  // namespace qm::cpu::QM_ISA
