// Elementwise kernels: one line per formula of formulas/elementwise.h. Accumulates nothing; every lane, also
// of the tail, takes the vector path, so an element's bits do not depend on its position.
#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

#include "formulas/elementwise.h"

namespace {

template <class T, class Fn>
void map1(const T* x, T* y, int64_t n, Fn fn) {
  parallel_for(n, kGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kLanes<T>) store_n(y + i, fn(load_n(x + i, end - i)), end - i);
  });
}

template <class T, class Fn>
void map2(const T* a, const T* b, T* y, int64_t n, Fn fn) {
  parallel_for(n, kGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kLanes<T>)
      store_n(y + i, fn(load_n(a + i, end - i), load_n(b + i, end - i)), end - i);
  });
}

void require_same(const Call& call) {
  for (int k = 0; k < call.n_in; k++)
    call.require(call.in[k].shape == call.out[0].shape && call.in[k].dtype == call.out[0].dtype,
                 "inputs of the output's shape and dtype");
}

template <class F>
void forward(const Call& call) {
  require_same(call);
  float_dispatch(call, call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    map1(call.in[0].as<T>(), call.out[0].as<T>(), call.in[0].numel(), [](Vec<T> x) { return F::forward(x); });
  });
}

template <class F>
void backward(const Call& call) {
  require_same(call);
  float_dispatch(call, call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    map2(call.in[0].as<T>(), call.in[1].as<T>(), call.out[0].as<T>(), call.in[0].numel(),
         [](Vec<T> v, Vec<T> dy) { return F::backward(v, dy); });
  });
}

/// abs and neg also of integers (two's complement: the lowest value stays itself).
template <class F, bool kAbs>
void forward_number(const Call& call) {
  if (call.in[0].dtype == DType::f32 || call.in[0].dtype == DType::f64) return forward<F>(call);
  require_same(call);
  number_dispatch(call, call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = call.in[0].as<T>();
    T* y = call.out[0].as<T>();
    parallel_for(call.in[0].numel(), kGrain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        const T negated = static_cast<T>(uint64_t{0} - static_cast<uint64_t>(x[i]));
        y[i] = kAbs && !(x[i] < T{0}) ? x[i] : negated;
      }
    });
  });
}

}  // namespace

void exp_fwd(const Call& call) { forward<Exp>(call); }
void exp_bwd(const Call& call) { backward<Exp>(call); }
void log_fwd(const Call& call) { forward<Log>(call); }
void log_bwd(const Call& call) { backward<Log>(call); }
void sqrt_fwd(const Call& call) { forward<Sqrt>(call); }
void sqrt_bwd(const Call& call) { backward<Sqrt>(call); }
void rsqrt_fwd(const Call& call) { forward<Rsqrt>(call); }
void rsqrt_bwd(const Call& call) { backward<Rsqrt>(call); }
void abs_fwd(const Call& call) { forward_number<Abs, true>(call); }
void abs_bwd(const Call& call) { backward<Abs>(call); }
void neg_fwd(const Call& call) { forward_number<Neg, false>(call); }
void erf_fwd(const Call& call) { forward<Erf>(call); }
void erf_bwd(const Call& call) { backward<Erf>(call); }
void tanh_fwd(const Call& call) { forward<Tanh>(call); }
void tanh_bwd(const Call& call) { backward<Tanh>(call); }
void sigmoid_fwd(const Call& call) { forward<Sigmoid>(call); }
void sigmoid_bwd(const Call& call) { backward<Sigmoid>(call); }
void silu_fwd(const Call& call) { forward<Silu>(call); }
void silu_bwd(const Call& call) { backward<Silu>(call); }
void gelu_fwd(const Call& call) { forward<Gelu>(call); }
void gelu_bwd(const Call& call) { backward<Gelu>(call); }
void relu_fwd(const Call& call) { forward<Relu>(call); }
void relu_bwd(const Call& call) { backward<Relu>(call); }
void softplus_fwd(const Call& call) { forward<Softplus>(call); }
void softplus_bwd(const Call& call) { backward<Softplus>(call); }

/// min(max(x, low), high); NaN stays NaN.
void clamp_fwd(const Call& call) {
  require_same(call);
  float_dispatch(call, call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const T low = static_cast<T>(call.attrs.f(0)), high = static_cast<T>(call.attrs.f(1));
    map1(call.in[0].as<T>(), call.out[0].as<T>(), call.in[0].numel(), [=](Vec<T> x) {
      const Vec<T> raised = x < splat(low) ? splat(low) : x;
      return raised > splat(high) ? splat(high) : raised;
    });
  });
}

/// dy where low <= x <= high, else 0.
void clamp_bwd(const Call& call) {
  require_same(call);
  float_dispatch(call, call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const T low = static_cast<T>(call.attrs.f(0)), high = static_cast<T>(call.attrs.f(1));
    map2(call.in[0].as<T>(), call.in[1].as<T>(), call.out[0].as<T>(), call.in[0].numel(),
         [=](Vec<T> x, Vec<T> dy) {
           const auto inside = (x >= splat(low)) & (x <= splat(high));
           return inside ? dy : Vec<T>{};
         });
  });
}

}  // namespace qm::cpu::QM_ISA
