// Binary ops, comparisons and `where` with NumPy broadcasting. Dimensions are merged where all operands
// agree, which leaves an innermost run in which each operand either advances by one or stands still.
#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

namespace {

/// The merged iteration space of up to three inputs and one output.
struct Plan {
  static constexpr int kInputs = 3;
  int rank = 0;                             // outer dimensions, outermost first
  int64_t dims[kMaxRank] = {};              // of the outer dimensions
  int64_t strides[kInputs][kMaxRank] = {};  // of the outer dimensions, in elements
  int64_t inner = 1;                        // length of the innermost run
  int64_t step[kInputs] = {};               // 0 or 1 within the run
  int64_t rows = 1;
};

Plan make_plan(const Call& call) {
  const Shape& out = call.out[0].shape;
  int64_t dims[kMaxRank + 1] = {};
  int64_t strides[Plan::kInputs][kMaxRank + 1] = {};
  int rank = 0;
  // Walk from the innermost axis, merging an axis into the one before it when every input allows.
  int64_t running[Plan::kInputs] = {1, 1, 1};
  for (int from_end = 0; from_end < out.rank; from_end++) {
    const int64_t dim = out.last(from_end);
    int64_t stride[Plan::kInputs] = {};
    for (int k = 0; k < call.n_in; k++) {
      const Shape& in = call.in[k].shape;
      call.require(in.rank <= out.rank, "inputs that broadcast to the output");
      const int64_t own = from_end < in.rank ? in.last(from_end) : 1;
      call.require(own == dim || own == 1, "inputs that broadcast to the output");
      stride[k] = own == 1 ? 0 : running[k];
      running[k] *= own;
    }
    if (dim == 1) continue;
    bool merge = rank > 0;
    for (int k = 0; k < call.n_in && merge; k++) merge = stride[k] == strides[k][rank - 1] * dims[rank - 1];
    if (merge) {
      dims[rank - 1] *= dim;
      continue;
    }
    dims[rank] = dim;
    for (int k = 0; k < call.n_in; k++) strides[k][rank] = stride[k];
    rank++;
  }
  Plan plan;
  int first = 0;
  if (rank >
      0) {  // axis 0 (innermost) becomes the run; its strides are 0 or 1 because tensors are contiguous
    plan.inner = dims[0];
    for (int k = 0; k < call.n_in; k++) plan.step[k] = strides[k][0];
    bool unit = true;
    for (int k = 0; k < call.n_in; k++) unit = unit && plan.step[k] <= 1;
    if (unit) {
      first = 1;
    } else {  // innermost axes of size 1 were dropped: an input may stride over them
      plan.inner = 1;
      for (int k = 0; k < call.n_in; k++) plan.step[k] = 0;
    }
  }
  for (int axis = rank - 1; axis >= first; axis--) {
    plan.dims[plan.rank] = dims[axis];
    for (int k = 0; k < call.n_in; k++) plan.strides[k][plan.rank] = strides[k][axis];
    plan.rows *= dims[axis];
    plan.rank++;
  }
  if (out.numel() == 0) plan.rows = 0;
  return plan;
}

/// Calls body(row, offsets) for every row of the plan.
template <class Body>
void for_rows(const Plan& plan, int n_in, Body&& body) {
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, plan.inner));
  parallel_for(plan.rows, grain, [&](int64_t begin, int64_t end) {
    int64_t index[kMaxRank] = {};
    int64_t offset[Plan::kInputs] = {};
    int64_t rest = begin;
    for (int axis = plan.rank - 1; axis >= 0; axis--) {
      index[axis] = rest % plan.dims[axis];
      rest /= plan.dims[axis];
      for (int k = 0; k < n_in; k++) offset[k] += index[axis] * plan.strides[k][axis];
    }
    for (int64_t row = begin; row < end; row++) {
      body(row, offset);
      for (int axis = plan.rank - 1; axis >= 0; axis--) {
        for (int k = 0; k < n_in; k++) offset[k] += plan.strides[k][axis];
        if (++index[axis] < plan.dims[axis]) break;
        for (int k = 0; k < n_in; k++) offset[k] -= plan.strides[k][axis] * plan.dims[axis];
        index[axis] = 0;
      }
    }
  });
}

/// A long single row is cut, so that a plain same-shape op uses all threads.
template <class In, class Out, class Fn>
void run_binary(const Call& call, Fn fn) {
  const Plan plan = make_plan(call);
  const In* a = call.in[0].as<In>();
  const In* b = call.in[1].as<In>();
  Out* y = call.out[0].as<Out>();
  const int64_t sa = plan.step[0], sb = plan.step[1], inner = plan.inner;
  const auto run = [=](const In* pa, const In* pb, Out* py, int64_t n) {
    if (sa && sb)
      for (int64_t i = 0; i < n; i++) py[i] = fn(pa[i], pb[i]);
    else if (sa)
      for (int64_t i = 0; i < n; i++) py[i] = fn(pa[i], *pb);
    else if (sb)
      for (int64_t i = 0; i < n; i++) py[i] = fn(*pa, pb[i]);
    else
      for (int64_t i = 0; i < n; i++) py[i] = fn(*pa, *pb);
  };
  if (plan.rows == 1)
    return parallel_for(inner, kGrain, [=](int64_t begin, int64_t end) {
      run(a + begin * sa, b + begin * sb, y + begin, end - begin);
    });
  for_rows(plan, 2, [=](int64_t row, const int64_t* offset) {
    run(a + offset[0], b + offset[1], y + row * inner, inner);
  });
}

void require_pair(const Call& call, bool same_out) {
  call.require(call.in[0].dtype == call.in[1].dtype, "two inputs of one dtype");
  call.require(call.out[0].dtype == (same_out ? call.in[0].dtype : DType::boolean),
               "an output of the result dtype");
}

template <class Fn>
void arithmetic(const Call& call, Fn fn) {
  require_pair(call, true);
  number_dispatch(call, call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    run_binary<T, T>(call, [fn](T a, T b) { return static_cast<T>(fn(a, b)); });
  });
}

template <class Fn>
void float_arithmetic(const Call& call, Fn fn) {
  require_pair(call, true);
  float_dispatch(call, call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    run_binary<T, T>(call, fn);
  });
}

template <class Fn>
void comparison(const Call& call, Fn fn) {
  require_pair(call, false);
  number_dispatch(call, call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    run_binary<T, uint8_t>(call, [fn](T a, T b) { return static_cast<uint8_t>(fn(a, b)); });
  });
}

/// Integers wrap: computed without sign, where overflow is defined.
template <class T>
using Wrapping = std::conditional_t<std::is_floating_point_v<T>, T, uint64_t>;

}  // namespace

void add_fwd(const Call& call) {
  arithmetic(call, [](auto a, auto b) {
    using W = Wrapping<decltype(a)>;
    return static_cast<W>(a) + static_cast<W>(b);
  });
}
void sub_fwd(const Call& call) {
  arithmetic(call, [](auto a, auto b) {
    using W = Wrapping<decltype(a)>;
    return static_cast<W>(a) - static_cast<W>(b);
  });
}
void mul_fwd(const Call& call) {
  arithmetic(call, [](auto a, auto b) {
    using W = Wrapping<decltype(a)>;
    return static_cast<W>(a) * static_cast<W>(b);
  });
}
void div_fwd(const Call& call) {
  float_arithmetic(call, [](auto a, auto b) { return a / b; });
}
void pow_fwd(const Call& call) {
  // float32 by way of double: exact to the last bit but for ties, and rare in a model
  float_arithmetic(call, [](auto a, auto b) {
    return static_cast<decltype(a)>(std::pow(static_cast<double>(a), static_cast<double>(b)));
  });
}
// NaN wins in maximum and minimum, whichever side it is on.
void maximum_fwd(const Call& call) {
  arithmetic(call, [](auto a, auto b) { return a > b || a != a ? a : b; });
}
void minimum_fwd(const Call& call) {
  arithmetic(call, [](auto a, auto b) { return a < b || a != a ? a : b; });
}
void eq_fwd(const Call& call) {
  comparison(call, [](auto a, auto b) { return a == b; });
}
void ne_fwd(const Call& call) {
  comparison(call, [](auto a, auto b) { return a != b; });
}
void lt_fwd(const Call& call) {
  comparison(call, [](auto a, auto b) { return a < b; });
}
void le_fwd(const Call& call) {
  comparison(call, [](auto a, auto b) { return a <= b; });
}
void gt_fwd(const Call& call) {
  comparison(call, [](auto a, auto b) { return a > b; });
}
void ge_fwd(const Call& call) {
  comparison(call, [](auto a, auto b) { return a >= b; });
}

/// out = condition ? a : b. Moves elements only, so any dtype.
void where_fwd(const Call& call) {
  call.require(call.in[0].dtype == DType::boolean && call.in[1].dtype == call.in[2].dtype &&
                   call.out[0].dtype == call.in[1].dtype,
               "a bool condition and two inputs of the output's dtype");
  const Plan plan = make_plan(call);
  width_dispatch(call.in[1].dtype, [&](auto zero) {
    using T = decltype(zero);
    const uint8_t* condition = call.in[0].as<uint8_t>();
    const T* a = call.in[1].as<T>();
    const T* b = call.in[2].as<T>();
    T* y = call.out[0].as<T>();
    const int64_t sc = plan.step[0], sa = plan.step[1], sb = plan.step[2], inner = plan.inner;
    for_rows(plan, 3, [=](int64_t row, const int64_t* offset) {
      const uint8_t* pc = condition + offset[0];
      const T* pa = a + offset[1];
      const T* pb = b + offset[2];
      T* py = y + row * inner;
      for (int64_t i = 0; i < inner; i++) py[i] = pc[i * sc] ? pa[i * sa] : pb[i * sb];
    });
  });
}

}  // namespace qm::cpu::QM_ISA
