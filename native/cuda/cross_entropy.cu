// Cross-entropy of logits [rows, classes] with labels [rows] or with probabilities [rows, classes]. Smoothing
// s turns a target t into t' = (1 - s) t + s / classes. Arithmetic, sums and losses are Acc<T>. A group of
// threads owns a row (see RowWalk). A label out of range is reported, and then counts as 0.
#include "cuda/device/fault.cuh"
#include "cuda/device/formulas.cuh"
#include "cuda/device/reduce.cuh"

namespace qm::cuda {

namespace {

template <class T>
struct Problem {
  int64_t rows, classes;
  const T* logits;
  const int64_t* labels;  // one of these two is null
  const T* probabilities;
  Acc<T> keep, share, smoothing;  // t' = keep t + share
  Fault* fault;
  int op;
};

template <class T>
__device__ __forceinline__ int64_t label_of(const Problem<T>& p, int64_t row, bool reporting) {
  const int64_t label = p.labels[row];
  if (label >= 0 && label < p.classes) return label;
  if (reporting) report(p.fault, FaultKind::label, p.op, label, p.classes);
  return 0;
}

/// loss = sum over classes of t' (logsumexp(x) - x).
template <class T, class Walk>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_fwd_kernel(const Problem<T> p, Acc<T>* __restrict__ loss) {
  using A = Acc<T>;
  constexpr int P = Walk::P;
  const int64_t row = Walk::row(), n = p.classes;
  const bool live = row < p.rows;
  const Walk walk{live ? n : 0};
  const T* x = p.logits + row * n;
  const Row<T, Walk> logits(x, walk);
  const A most = row_max(logits, walk);
  const A log_sum = log_of(walk.template sum<A>([&](int k, int64_t i) {
    const Pack<T, P> v = logits.at(k, i);
    return tree_sum<P>([&](int l) { return exp_of(widen(v.v[l]) - most); });
  }));
  // -log softmax
  const auto surprise = [&](T logit) { return log_sum - (widen(logit) - most); };
  A total = 0;
  if (!p.labels) {
    total = p.keep * walk.template sum<A>([&](int k, int64_t i) {
      const Pack<T, P> v = logits.at(k, i), t = load_pack<T, P>(p.probabilities + row * n + i);
      return tree_sum<P>([&](int l) {
        // a class that cannot occur costs nothing, whatever its logit
        const A target = widen(t.v[l]);
        return target == A{0} ? A{0} : target * surprise(v.v[l]);
      });
    });
  } else if (live && n > 0 && walk.rank() == 0) {
    total = p.keep * surprise(x[label_of(p, row, true)]);
  }
  if (p.share != A{0})
    total += p.share * walk.template sum<A>([&](int k, int64_t i) {
      const Pack<T, P> v = logits.at(k, i);
      return tree_sum<P>([&](int l) { return surprise(v.v[l]); });
    });
  if (live && walk.rank() == 0) loss[row] = total;
}

/// dlogits = dloss (softmax(x) sum(t') - t').
template <class T, class Walk>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_bwd_kernel(const Problem<T> p, const Acc<T>* __restrict__ dloss, T* __restrict__ dlogits) {
  using A = Acc<T>;
  constexpr int P = Walk::P;
  const int64_t row = Walk::row(), n = p.classes;
  const bool live = row < p.rows;
  const Walk walk{live ? n : 0};
  const Row<T, Walk> logits(p.logits + row * n, walk);
  const T* t = p.probabilities + row * n;
  const A most = row_max(logits, walk);
  Pack<A, P> e[Walk::kKept];
  const auto exponentials = [&](int k, int64_t i) {
    const Pack<T, P> v = logits.at(k, i);
#pragma unroll
    for (int l = 0; l < P; l++) e[k].v[l] = exp_of(widen(v.v[l]) - most);
  };
  const A sum = walk.template sum<A>([&](int k, int64_t i) {
    exponentials(k, i);
    return tree_sum<P>([&](int l) { return e[k].v[l]; });
  });
  A mass = 1;
  if (!p.labels)
    mass = p.smoothing + p.keep * walk.template sum<A>([&](int, int64_t i) {
      const Pack<T, P> target = load_pack<T, P>(t + i);
      return tree_sum<P>([&](int l) { return widen(target.v[l]); });
    });
  const A scale = mass / sum, upstream = live ? dloss[row] : A{0};
  const int64_t label = p.labels && live ? label_of(p, row, walk.rank() == 0) : -1;
  walk.each([&](int k, int64_t i) {
    if constexpr (Walk::kSteps == 0) exponentials(k, i);  // not kept
    Pack<T, P> target, r;
    if (!p.labels) target = load_pack<T, P>(t + i);
#pragma unroll
    for (int l = 0; l < P; l++) {
      const A kept = p.labels ? (i + l == label ? p.keep : A{0}) : p.keep * widen(target.v[l]);
      r.v[l] = narrow<T>(upstream * (e[k].v[l] * scale - (kept + p.share)));
    }
    store_pack(dlogits + row * n + i, r);
  });
}

/// Checks shapes and dtypes.
template <class T>
Problem<T> problem_of(const Call& call) {
  const TensorView &logits = call.in[0], &target = call.in[1];
  const int rank = logits.shape.rank;
  const int64_t classes = logits.shape.last(0);
  const double smoothing = call.attrs.f(0);
  call.require(smoothing >= 0 && smoothing <= 1, "a smoothing between 0 and 1");
  Problem<T> p{};
  p.rows = logits.shape.count(0, rank - 1);
  p.classes = classes;
  p.logits = logits.as<const T>();
  p.keep = static_cast<Acc<T>>(1.0 - smoothing);
  p.share = static_cast<Acc<T>>(classes > 0 ? smoothing / static_cast<double>(classes) : 0.0);
  p.smoothing = static_cast<Acc<T>>(smoothing);
  p.fault = fault();
  p.op = call.row;
  if (target.dtype == DType::i64) {
    call.require(target.numel() == p.rows, "one label per row");
    p.labels = target.as<const int64_t>();
  } else {
    call.require(target.dtype == logits.dtype && target.shape == logits.shape,
                 "a target of int64 labels, or of the logits' shape and dtype");
    p.probabilities = target.as<const T>();
  }
  return p;
}

/// Calls body(problem, walk, grid, threads).
template <class Body>
void over_rows(const Call& call, Body body) {
  float_dispatch(call, call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const Problem<T> p = problem_of<T>(call);
    row_dispatch<T, false, 12>(p.classes, aligned(call), [&](auto walk) {
      using Walk = decltype(walk);
      const int threads = row_threads<Walk>(p.rows);
      body(p, walk, grid_of(p.rows, threads / Walk::kWidth), threads);
    });
  });
}

}  // namespace

/// logits [..., classes], target to loss [...].
void cross_entropy_fwd(const Call& call) {
  const TensorView &logits = call.in[0], &loss = call.out[0];
  call.require(logits.shape.rank >= 1, "logits of at least one dimension");
  call.require(
      loss.dtype == acc_dtype(logits.dtype) && loss.numel() == logits.shape.count(0, logits.shape.rank - 1),
      "one loss per row, of the statistics' dtype");
  over_rows(call, [&](const auto& p, auto walk, dim3 grid, int threads) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(p.logits)>>;
    QM_LAUNCH(call, (cross_entropy_fwd_kernel<T, decltype(walk)>), grid, threads, 0, p, loss.as<Acc<T>>());
  });
}

/// logits, target, dloss [...] to dlogits.
void cross_entropy_bwd(const Call& call) {
  const TensorView &logits = call.in[0], &dloss = call.in[2], &dlogits = call.out[0];
  call.require(logits.shape.rank >= 1, "logits of at least one dimension");
  call.require(
      dloss.dtype == acc_dtype(logits.dtype) && dloss.numel() == logits.shape.count(0, logits.shape.rank - 1),
      "one gradient per row, of the statistics' dtype");
  call.require(dlogits.dtype == logits.dtype && dlogits.shape == logits.shape, "an output like the logits");
  over_rows(call, [&](const auto& p, auto walk, dim3 grid, int threads) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(p.logits)>>;
    QM_LAUNCH(call, (cross_entropy_bwd_kernel<T, decltype(walk)>), grid, threads, 0, p,
              dloss.as<const Acc<T>>(), dlogits.as<T>());
  });
}

}  // namespace qm::cuda
