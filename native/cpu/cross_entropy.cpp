// Cross-entropy of logits [rows, classes] with labels [rows] or with probabilities [rows, classes]. Smoothing
// s turns a target t into t' = (1 - s) t + s / classes. Sums as in cpu/rows.h.
#include <string>

#include "cpu/rows.h"

namespace qm::cpu::QM_ISA {

#include "formulas/math.h"

namespace {

template <class T>
struct Problem {
  int64_t rows, classes;
  const T* logits;
  const int64_t* labels;  // one of these two is null
  const T* probabilities;
  double smoothing;
};

template <class T>
void forward(const Problem<T>& p, T* loss) {
  const int64_t n = p.classes;
  const double keep = 1.0 - p.smoothing, share = n > 0 ? p.smoothing / static_cast<double>(n) : 0.0;
  parallel_for(p.rows, rows_per_task(n), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const T* x = p.logits + row * n;
      const T most = row_max(x, n);
      const Vec<T> shift = splat(most);
      const double log_sum = std::log(row_sum<T>(n, [=](int64_t i, int64_t count) {
        return first_or<T>(exp_of(load_n(x + i, count) - shift), count, 0);
      }));
      const Vec<T> log_sums = splat(static_cast<T>(log_sum));
      // -log softmax of the lanes from i
      const auto surprise = [=](int64_t i, int64_t count) __attribute__((always_inline)) {
        return log_sums - (load_n(x + i, count) - shift);
      };
      double total = 0;
      if (p.labels) {
        total = keep * (log_sum - static_cast<double>(x[p.labels[row]] - most));
      } else {
        const T* t = p.probabilities + row * n;
        total = keep * row_sum<T>(n, [=](int64_t i, int64_t count) {
                  const Vec<T> target = load_n(t + i, count);  // zero beyond the row
                  // a class that cannot occur costs nothing, whatever its logit
                  return target == 0 ? Vec<T>{} : target * surprise(i, count);
                });
      }
      if (share != 0)
        total += share * row_sum<T>(n, [=](int64_t i, int64_t count) {
                   return first_or<T>(surprise(i, count), count, 0);
                 });
      loss[row] = static_cast<T>(total);
    }
  });
}

template <class T>
void backward(const Problem<T>& p, const T* dloss, T* dlogits) {
  const int64_t n = p.classes;
  const double keep = 1.0 - p.smoothing, share = n > 0 ? p.smoothing / static_cast<double>(n) : 0.0;
  parallel_for(p.rows, rows_per_task(n), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const T* x = p.logits + row * n;
      T* dx = dlogits + row * n;
      const Vec<T> shift = splat(row_max(x, n));
      const double sum = row_sum<T>(n, [=](int64_t i, int64_t count) {
        const Vec<T> e = exp_of(load_n(x + i, count) - shift);
        store_n(dx + i, e, count);
        return first_or<T>(e, count, 0);
      });
      const T* t = p.labels ? nullptr : p.probabilities + row * n;
      const double mass =
          t ? keep * row_sum<T>(n, [=](int64_t i, int64_t count) { return load_n(t + i, count); }) +
                  p.smoothing
            : 1.0;
      const Vec<T> scale = splat(static_cast<T>(mass / sum)), upstream = splat(dloss[row]);
      const Vec<T> keeps = splat(static_cast<T>(keep)), shares = splat(static_cast<T>(share));
      const T own = p.labels ? dx[p.labels[row]] : T{0};
      for (int64_t i = 0; i < n; i += kLanes<T>) {
        const Vec<T> target = t ? keeps * load_n(t + i, n - i) + shares : shares;
        store_n(dx + i, upstream * (load_n(dx + i, n - i) * scale - target), n - i);
      }
      if (p.labels)  // as above, its target being the larger one
        dx[p.labels[row]] = upstream[0] * (own * scale[0] - (keeps[0] + shares[0]));
    }
  });
}

/// Checks shapes, dtypes and labels. `y` is the logits-shaped or row-shaped output.
template <class T>
Problem<T> problem_of(const Call& call) {
  const TensorView &logits = call.in[0], &target = call.in[1];
  const int rank = logits.shape.rank;
  const double smoothing = call.attrs.f(0);
  call.require(smoothing >= 0 && smoothing <= 1, "a smoothing between 0 and 1");
  Problem<T> p{logits.shape.count(0, rank - 1),
               logits.shape.last(0),
               logits.as<const T>(),
               nullptr,
               nullptr,
               smoothing};
  if (target.dtype != DType::i64) {
    call.require(target.dtype == logits.dtype && target.shape == logits.shape,
                 "a target of int64 labels, or of the logits' shape and dtype");
    p.probabilities = target.as<const T>();
    return p;
  }
  call.require(target.numel() == p.rows, "one label per row");
  p.labels = target.as<const int64_t>();
  for (int64_t row = 0; row < p.rows; row++)
    if (p.labels[row] < 0 || p.labels[row] >= p.classes)
      throw Error(ErrorKind::index, "crossEntropy: label out of range; expected 0 <= label < " +
                                        std::to_string(p.classes) + ", got " + std::to_string(p.labels[row]));
  return p;
}

}  // namespace

/// logits [..., classes], target to loss [...] = sum over classes of t' (logsumexp(x) - x).
void cross_entropy_fwd(const Call& call) {
  const TensorView &logits = call.in[0], &loss = call.out[0];
  call.require(logits.shape.rank >= 1, "logits of at least one dimension");
  call.require(loss.dtype == logits.dtype && loss.numel() == logits.shape.count(0, logits.shape.rank - 1),
               "one loss per row, of the logits' dtype");
  float_dispatch(call, logits.dtype, [&](auto zero) {
    using T = decltype(zero);
    forward(problem_of<T>(call), loss.as<T>());
  });
}

/// logits, target, dloss [...] to dlogits = dloss (softmax(x) sum(t') - t').
void cross_entropy_bwd(const Call& call) {
  const TensorView &logits = call.in[0], &dloss = call.in[2], &dlogits = call.out[0];
  call.require(logits.shape.rank >= 1, "logits of at least one dimension");
  call.require(dloss.dtype == logits.dtype && dloss.numel() == logits.shape.count(0, logits.shape.rank - 1),
               "one gradient per row, of the logits' dtype");
  call.require(dlogits.dtype == logits.dtype && dlogits.shape == logits.shape, "an output like the logits");
  float_dispatch(call, logits.dtype, [&](auto zero) {
    using T = decltype(zero);
    backward(problem_of<T>(call), dloss.as<const T>(), dlogits.as<T>());
  });
}

}  // namespace qm::cpu::QM_ISA
