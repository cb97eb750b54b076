// Elementwise kernels: one line per formula of formulas/elementwise.h. A thread owns 16 bytes of the widest
// tensor; bfloat16 is computed in float32 and rounded once.
#include "cuda/device/formulas.cuh"
#include "cuda/device/map.cuh"
#include "cuda/gemm_gelu.cuh"

namespace qm::cuda {

namespace {

template <class F>
struct Forward {
  template <class V>
  __device__ V operator()(V x) const {
    return F::forward(x);
  }
};
/// GELU of bfloat16 data: its error lies far below the rounding that follows, its cost below that of the bytes.
struct NearGelu {
  __device__ float operator()(float x) const { return gelu_near(x); }
};
struct NearGeluGradient {
  __device__ float operator()(float x, float dy) const { return dy * gelu_grad_near(x); }
};
template <class F>
struct Backward {
  template <class V>
  __device__ V operator()(V v, V dy) const {
    return F::backward(v, dy);
  }
};

void require_same(const Call& call) {
  for (int k = 0; k < call.n_in; k++)
    call.require(call.in[k].shape == call.out[0].shape && call.in[k].dtype == call.out[0].dtype,
                 "inputs of the output's shape and dtype");
}

template <class Fn>
void unary(const Call& call, Fn fn) {
  require_same(call);
  float_dispatch(call, call.in[0].dtype, [&](auto zero) { map1<decltype(zero)>(call, fn); });
}
template <class Fn>
void binary(const Call& call, Fn fn) {
  require_same(call);
  float_dispatch(call, call.in[0].dtype, [&](auto zero) { map2<decltype(zero)>(call, fn); });
}

/// abs and neg also of integers (two's complement: the lowest value stays itself).
template <bool kAbs>
struct Negated {
  template <class T>
  __device__ T operator()(T x) const {
    const T negated = static_cast<T>(uint64_t{0} - static_cast<uint64_t>(x));
    if constexpr (kAbs && std::is_signed_v<T>)
      return x < T{0} ? negated : x;
    else
      return kAbs ? x : negated;
  }
};
template <class F, bool kAbs>
void signed_number(const Call& call) {
  const DType dtype = call.in[0].dtype;
  if (dtype == DType::f32 || dtype == DType::f64 || dtype == DType::bf16) return unary(call, Forward<F>{});
  require_same(call);
  if (dtype == DType::i32) return map1<int32_t>(call, Negated<kAbs>{});
  if (dtype == DType::i64) return map1<int64_t>(call, Negated<kAbs>{});
  if (dtype == DType::u8 || dtype == DType::boolean) return map1<uint8_t>(call, Negated<kAbs>{});
  call.unsupported(dtype);
}

struct Clamp {
  double low, high;
  template <class V>
  __device__ V operator()(V x) const {
    const V raised = x < static_cast<V>(low) ? static_cast<V>(low) : x;
    return raised > static_cast<V>(high) ? static_cast<V>(high) : raised;
  }
};
struct ClampGradient {
  double low, high;
  template <class V>
  __device__ V operator()(V x, V dy) const {
    return x >= static_cast<V>(low) && x <= static_cast<V>(high) ? dy : V{0};
  }
};

}  // namespace

#define QM_ELEMENTWISE(name, Formula)                                    \
  void name##_fwd(const Call& call) { unary(call, Forward<Formula>{}); } \
  void name##_bwd(const Call& call) { binary(call, Backward<Formula>{}); }

QM_ELEMENTWISE(exp, Exp)
QM_ELEMENTWISE(log, Log)
QM_ELEMENTWISE(sqrt, Sqrt)
QM_ELEMENTWISE(rsqrt, Rsqrt)
QM_ELEMENTWISE(erf, Erf)
QM_ELEMENTWISE(tanh, Tanh)
QM_ELEMENTWISE(sigmoid, Sigmoid)
QM_ELEMENTWISE(silu, Silu)
QM_ELEMENTWISE(relu, Relu)
QM_ELEMENTWISE(softplus, Softplus)

#undef QM_ELEMENTWISE

void gelu_fwd(const Call& call) {
  if (call.in[0].dtype != DType::bf16) return unary(call, Forward<Gelu>{});
  require_same(call);
  map1<bf16>(call, NearGelu{});
}
void gelu_bwd(const Call& call) {
  if (call.in[0].dtype != DType::bf16) return binary(call, Backward<Gelu>{});
  require_same(call);
  map2<bf16>(call, NearGeluGradient{});
}

void abs_fwd(const Call& call) { signed_number<Abs, true>(call); }
void abs_bwd(const Call& call) { binary(call, Backward<Abs>{}); }
void neg_fwd(const Call& call) { signed_number<Neg, false>(call); }

/// min(max(x, low), high); NaN stays NaN.
void clamp_fwd(const Call& call) { unary(call, Clamp{call.attrs.f(0), call.attrs.f(1)}); }
/// dy where low <= x <= high, else 0.
void clamp_bwd(const Call& call) { binary(call, ClampGradient{call.attrs.f(0), call.attrs.f(1)}); }

}  // namespace qm::cuda
