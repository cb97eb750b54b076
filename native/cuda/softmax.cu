// softmax and log-softmax over the last axis of [rows, n]; arithmetic and sums in Acc<T>. A row of -inf alone,
// or with +inf or NaN in it, is NaN throughout. A group of threads owns a row (see RowWalk).
#include "cuda/device/formulas.cuh"
#include "cuda/device/reduce.cuh"

namespace qm::cuda {

namespace {

/// y = exp(x - max) / sum.
template <class T, class Walk>
__global__ void __launch_bounds__(kThreads)
    softmax_fwd_kernel(const T* __restrict__ x, T* __restrict__ y, int64_t rows, int64_t n) {
  using A = Acc<T>;
  constexpr int P = Walk::P;
  const int64_t row = Walk::row();
  const Walk walk{row < rows ? n : 0};
  const Row<T, Walk> in(x + row * n, walk);
  const A most = row_max(in, walk);
  Pack<A, P> e[Walk::kKept];
  const auto exponentials = [&](int k, int64_t i) {
    const Pack<T, P> v = in.at(k, i);
#pragma unroll
    for (int l = 0; l < P; l++) e[k].v[l] = exp_of(widen(v.v[l]) - most);
  };
  const A scale = A{1} / walk.template sum<A>([&](int k, int64_t i) {
    exponentials(k, i);
    return tree_sum<P>([&](int l) { return e[k].v[l]; });
  });
  walk.each([&](int k, int64_t i) {
    if constexpr (Walk::kSteps == 0) exponentials(k, i);  // not kept
    Pack<T, P> r;
#pragma unroll
    for (int l = 0; l < P; l++) r.v[l] = narrow<T>(e[k].v[l] * scale);
    store_pack(y + row * n + i, r);
  });
}

/// dx = y (dy - sum(y dy)).
template <class T, class Walk>
__global__ void __launch_bounds__(kThreads)
    softmax_bwd_kernel(const T* __restrict__ y, const T* __restrict__ dy, T* __restrict__ dx, int64_t rows,
                       int64_t n) {
  using A = Acc<T>;
  constexpr int P = Walk::P;
  const int64_t row = Walk::row();
  const Walk walk{row < rows ? n : 0};
  const Row<T, Walk> ys(y + row * n, walk), dys(dy + row * n, walk);
  const A dot = walk.template sum<A>([&](int k, int64_t i) {
    const Pack<T, P> v = ys.at(k, i), d = dys.at(k, i);
    return tree_sum<P>([&](int l) { return widen(v.v[l]) * widen(d.v[l]); });
  });
  walk.each([&](int k, int64_t i) {
    const Pack<T, P> v = ys.at(k, i), d = dys.at(k, i);
    Pack<T, P> r;
#pragma unroll
    for (int l = 0; l < P; l++) r.v[l] = narrow<T>(widen(v.v[l]) * (widen(d.v[l]) - dot));
    store_pack(dx + row * n + i, r);
  });
}

/// y = x - max - log(sum(exp(x - max))).
template <class T, class Walk>
__global__ void __launch_bounds__(kThreads)
    log_softmax_fwd_kernel(const T* __restrict__ x, T* __restrict__ y, int64_t rows, int64_t n) {
  using A = Acc<T>;
  constexpr int P = Walk::P;
  const int64_t row = Walk::row();
  const Walk walk{row < rows ? n : 0};
  const Row<T, Walk> in(x + row * n, walk);
  const A most = row_max(in, walk);
  const A log_sum = log_of(walk.template sum<A>([&](int k, int64_t i) {
    const Pack<T, P> v = in.at(k, i);
    return tree_sum<P>([&](int l) { return exp_of(widen(v.v[l]) - most); });
  }));
  walk.each([&](int k, int64_t i) {
    const Pack<T, P> v = in.at(k, i);
    Pack<T, P> r;
#pragma unroll
    for (int l = 0; l < P; l++) r.v[l] = narrow<T>(widen(v.v[l]) - most - log_sum);
    store_pack(y + row * n + i, r);
  });
}

/// dx = dy - exp(y) sum(dy).
template <class T, class Walk>
__global__ void __launch_bounds__(kThreads)
    log_softmax_bwd_kernel(const T* __restrict__ y, const T* __restrict__ dy, T* __restrict__ dx,
                           int64_t rows, int64_t n) {
  using A = Acc<T>;
  constexpr int P = Walk::P;
  const int64_t row = Walk::row();
  const Walk walk{row < rows ? n : 0};
  const Row<T, Walk> ys(y + row * n, walk), dys(dy + row * n, walk);
  const A sum = walk.template sum<A>([&](int k, int64_t i) {
    const Pack<T, P> d = dys.at(k, i);
    return tree_sum<P>([&](int l) { return widen(d.v[l]); });
  });
  walk.each([&](int k, int64_t i) {
    const Pack<T, P> v = ys.at(k, i), d = dys.at(k, i);
    Pack<T, P> r;
#pragma unroll
    for (int l = 0; l < P; l++) r.v[l] = narrow<T>(widen(d.v[l]) - exp_of(widen(v.v[l])) * sum);
    store_pack(dx + row * n + i, r);
  });
}

/// All tensors of the call have one shape and dtype. Calls body(zero, walk, rows, n, grid, threads) for it.
template <class Body>
void over_rows(const Call& call, Body body) {
  const TensorView& y = call.out[0];
  call.require(y.shape.rank >= 1, "a tensor of at least one dimension");
  for (int k = 0; k < call.n_in; k++)
    call.require(call.in[k].shape == y.shape && call.in[k].dtype == y.dtype,
                 "tensors of one shape and dtype");
  const int64_t rows = y.shape.count(0, y.shape.rank - 1), n = y.shape.last(0);
  float_dispatch(call, y.dtype, [&](auto zero) {
    row_dispatch<decltype(zero), false, 12>(n, aligned(call), [&](auto walk) {
      using Walk = decltype(walk);
      const int threads = row_threads<Walk>(rows);
      body(zero, walk, rows, n, grid_of(rows, threads / Walk::kWidth), threads);
    });
  });
}

}  // namespace

void softmax_fwd(const Call& call) {
  over_rows(call, [&](auto zero, auto walk, int64_t rows, int64_t n, dim3 grid, int threads) {
    using T = decltype(zero);
    QM_LAUNCH(call, (softmax_fwd_kernel<T, decltype(walk)>), grid, threads, 0, call.in[0].as<const T>(),
              call.out[0].as<T>(), rows, n);
  });
}

void softmax_bwd(const Call& call) {
  over_rows(call, [&](auto zero, auto walk, int64_t rows, int64_t n, dim3 grid, int threads) {
    using T = decltype(zero);
    QM_LAUNCH(call, (softmax_bwd_kernel<T, decltype(walk)>), grid, threads, 0, call.in[0].as<const T>(),
              call.in[1].as<const T>(), call.out[0].as<T>(), rows, n);
  });
}

void log_softmax_fwd(const Call& call) {
  over_rows(call, [&](auto zero, auto walk, int64_t rows, int64_t n, dim3 grid, int threads) {
    using T = decltype(zero);
    QM_LAUNCH(call, (log_softmax_fwd_kernel<T, decltype(walk)>), grid, threads, 0, call.in[0].as<const T>(),
              call.out[0].as<T>(), rows, n);
  });
}

void log_softmax_bwd(const Call& call) {
  over_rows(call, [&](auto zero, auto walk, int64_t rows, int64_t n, dim3 grid, int threads) {
    using T = decltype(zero);
    QM_LAUNCH(call, (log_softmax_bwd_kernel<T, decltype(walk)>), grid, threads, 0, call.in[0].as<const T>(),
              call.in[1].as<const T>(), call.out[0].as<T>(), rows, n);
  });
}

}  // namespace qm::cuda
