// Binary ops, comparisons and `where` with NumPy broadcasting. Dimensions are merged where all operands
// agree; tensors of one shape take 16 bytes a thread, others one element a thread.
#include "cuda/device/map.cuh"

namespace qm::cuda {

namespace {

constexpr int kInputs = 3;

/// The merged dimensions of the output, innermost first, and each input's stride along them (0: repeated).
struct Plan {
  int rank = 0;
  int64_t dims[kMaxRank] = {};
  int64_t strides[kInputs][kMaxRank] = {};
  int64_t numel = 0;
};

Plan make_plan(const Call& call) {
  const Shape& out = call.out[0].shape;
  Plan plan;
  int64_t running[kInputs] = {1, 1, 1};
  for (int from_end = 0; from_end < out.rank; from_end++) {
    const int64_t dim = out.last(from_end);
    int64_t stride[kInputs] = {};
    for (int k = 0; k < call.n_in; k++) {
      const Shape& in = call.in[k].shape;
      call.require(in.rank <= out.rank, "inputs that broadcast to the output");
      const int64_t own = from_end < in.rank ? in.last(from_end) : 1;
      call.require(own == dim || own == 1, "inputs that broadcast to the output");
      stride[k] = own == 1 ? 0 : running[k];
      running[k] *= own;
    }
    if (dim == 1) continue;
    const int last = plan.rank - 1;
    bool merge = plan.rank > 0;
    for (int k = 0; k < call.n_in && merge; k++) merge = stride[k] == plan.strides[k][last] * plan.dims[last];
    if (merge) {
      plan.dims[last] *= dim;
      continue;
    }
    plan.dims[plan.rank] = dim;
    for (int k = 0; k < call.n_in; k++) plan.strides[k][plan.rank] = stride[k];
    plan.rank++;
  }
  plan.numel = out.numel();
  return plan;
}

/// Offsets of an output element in the inputs.
__device__ __forceinline__ void offsets_of(const Plan& plan, int n_in, int64_t i, int64_t* offset) {
  for (int k = 0; k < n_in; k++) offset[k] = 0;
#pragma unroll
  for (int axis = 0; axis < kMaxRank; axis++) {
    if (axis >= plan.rank) break;
    int64_t at = i;
    if (axis + 1 < plan.rank) {
      // 32-bit division is many times faster, and nearly always enough
      if (i <= 0xffffffffll && plan.dims[axis] <= 0xffffffffll) {
        const uint32_t q = static_cast<uint32_t>(i) / static_cast<uint32_t>(plan.dims[axis]);
        at = static_cast<uint32_t>(i) - q * static_cast<uint32_t>(plan.dims[axis]);
        i = q;
      } else {
        at = i % plan.dims[axis];
        i /= plan.dims[axis];
      }
    }
    for (int k = 0; k < n_in; k++) offset[k] += at * plan.strides[k][axis];
  }
}

template <class In, class Out, class Fn>
__global__ void __launch_bounds__(kThreads)
    binary_kernel(const In* a, const In* b, Out* y, const __grid_constant__ Plan plan, Fn fn) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= plan.numel) return;
  int64_t offset[2];
  offsets_of(plan, 2, i, offset);
  if constexpr (std::is_same_v<In, Out>)
    y[i] = narrow<Out>(fn(widen(a[offset[0]]), widen(b[offset[1]])));
  else
    y[i] = fn(widen(a[offset[0]]), widen(b[offset[1]]));
}

template <class In, class Out, class Fn>
void run(const Call& call, Fn fn) {
  if constexpr (std::is_same_v<In, Out>)
    if (call.in[0].shape == call.out[0].shape && call.in[1].shape == call.out[0].shape)
      return map2<In>(call, fn);
  const Plan plan = make_plan(call);
  QM_LAUNCH(call, (binary_kernel<In, Out, Fn>), grid_of(plan.numel), kThreads, 0, call.in[0].as<In>(),
            call.in[1].as<In>(), call.out[0].as<Out>(), plan, fn);
}

void require_pair(const Call& call, bool same_out) {
  call.require(call.in[0].dtype == call.in[1].dtype, "two inputs of one dtype");
  call.require(call.out[0].dtype == (same_out ? call.in[0].dtype : DType::boolean),
               "an output of the result dtype");
}

template <class Fn>
void arithmetic(const Call& call, Fn fn) {
  require_pair(call, true);
  number_dispatch(call, call.in[0].dtype, [&](auto zero) { run<decltype(zero), decltype(zero)>(call, fn); });
}
template <class Fn>
void float_arithmetic(const Call& call, Fn fn) {
  require_pair(call, true);
  float_dispatch(call, call.in[0].dtype, [&](auto zero) { run<decltype(zero), decltype(zero)>(call, fn); });
}
template <class Fn>
void comparison(const Call& call, Fn fn) {
  require_pair(call, false);
  number_dispatch(call, call.in[0].dtype, [&](auto zero) { run<decltype(zero), uint8_t>(call, fn); });
}

/// Integers wrap: computed without sign, where overflow is defined.
template <class T>
using Wrapping = std::conditional_t<std::is_floating_point_v<T>, T, uint64_t>;

#define QM_BINARY(Name, T, expression)           \
  struct Name {                                  \
    template <class T>                           \
    __device__ auto operator()(T a, T b) const { \
      return expression;                         \
    }                                            \
  };
QM_BINARY(Add, T, static_cast<T>(static_cast<Wrapping<T>>(a) + static_cast<Wrapping<T>>(b)))
QM_BINARY(Sub, T, static_cast<T>(static_cast<Wrapping<T>>(a) - static_cast<Wrapping<T>>(b)))
QM_BINARY(Mul, T, static_cast<T>(static_cast<Wrapping<T>>(a) * static_cast<Wrapping<T>>(b)))
QM_BINARY(Div, T, a / b)
QM_BINARY(Pow, T, static_cast<T>(pow(static_cast<double>(a), static_cast<double>(b))))
// NaN wins in maximum and minimum, whichever side it is on.
QM_BINARY(Maximum, T, a > b || a != a ? a : b)
QM_BINARY(Minimum, T, a < b || a != a ? a : b)
QM_BINARY(Eq, T, static_cast<uint8_t>(a == b))
QM_BINARY(Ne, T, static_cast<uint8_t>(a != b))
QM_BINARY(Lt, T, static_cast<uint8_t>(a < b))
QM_BINARY(Le, T, static_cast<uint8_t>(a <= b))
QM_BINARY(Gt, T, static_cast<uint8_t>(a > b))
QM_BINARY(Ge, T, static_cast<uint8_t>(a >= b))
#undef QM_BINARY

template <class T>
__global__ void __launch_bounds__(kThreads)
    where_kernel(const uint8_t* condition, const T* a, const T* b, T* y, const __grid_constant__ Plan plan) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= plan.numel) return;
  int64_t offset[3];
  offsets_of(plan, 3, i, offset);
  y[i] = condition[offset[0]] ? a[offset[1]] : b[offset[2]];
}

}  // namespace

void add_fwd(const Call& call) { arithmetic(call, Add{}); }
void sub_fwd(const Call& call) { arithmetic(call, Sub{}); }
void mul_fwd(const Call& call) { arithmetic(call, Mul{}); }
void div_fwd(const Call& call) { float_arithmetic(call, Div{}); }
void pow_fwd(const Call& call) { float_arithmetic(call, Pow{}); }
void maximum_fwd(const Call& call) { arithmetic(call, Maximum{}); }
void minimum_fwd(const Call& call) { arithmetic(call, Minimum{}); }
void eq_fwd(const Call& call) { comparison(call, Eq{}); }
void ne_fwd(const Call& call) { comparison(call, Ne{}); }
void lt_fwd(const Call& call) { comparison(call, Lt{}); }
void le_fwd(const Call& call) { comparison(call, Le{}); }
void gt_fwd(const Call& call) { comparison(call, Gt{}); }
void ge_fwd(const Call& call) { comparison(call, Ge{}); }

/// out = condition ? a : b. Moves elements only, so any dtype.
void where_fwd(const Call& call) {
  call.require(call.in[0].dtype == DType::boolean && call.in[1].dtype == call.in[2].dtype &&
                   call.out[0].dtype == call.in[1].dtype,
               "a bool condition and two inputs of the output's dtype");
  const Plan plan = make_plan(call);
  width_dispatch(call.in[1].dtype, [&](auto zero) {
    using T = decltype(zero);
    QM_LAUNCH(call, where_kernel<T>, grid_of(plan.numel), kThreads, 0, call.in[0].as<uint8_t>(),
              call.in[1].as<T>(), call.in[2].as<T>(), call.out[0].as<T>(), plan);
  });
}

}  // namespace qm::cuda
