// What reductions compute. An operation has a State, empty() and merge(); add(state, v, first, step), which
// takes in elements that stand at first, first + step, ... along n, in ascending order per thread; and
// store(at, states), which writes results from `at` on. kPacks: whether there are kernels that load whole packs.
#pragma once
#include "cuda/device/formulas.cuh"
#include "cuda/device/reduce.cuh"
#include "cuda/device/wide_pack.cuh"

namespace qm::cuda {

template <class T>
__device__ __forceinline__ Acc<T> value_of(T x) {
  if constexpr (std::is_integral_v<T>)
    return x;
  else
    return widen(x);
}

/// Writes N neighbouring results of type Y.
template <class Y, int N, class Value>
__device__ __forceinline__ void put(void* y, int64_t at, Value value) {
  Pack<Y, N> r;
#pragma unroll
  for (int k = 0; k < N; k++) r.v[k] = narrow<Y>(static_cast<Acc<Y>>(value(k)));
  store_pack(static_cast<Y*>(y) + at, r);
}

/// Floating: the elements that are at hand are added as a tree in Acc<T>, beyond that in double. Integers wrap.
template <class T>
struct SumOf {
  using In = T;
  using State = std::conditional_t<std::is_integral_v<T>, uint64_t, double>;
  static constexpr bool kPacks = !std::is_integral_v<T>;
  void* y;
  bool wide;  // bfloat16 to float32

  __device__ State empty() const { return 0; }
  __device__ State merge(State a, State b) const { return a + b; }
  template <int N>
  __device__ void add(State& s, const T (&v)[N], int64_t, int64_t) const {
    if constexpr (std::is_integral_v<T>) {
#pragma unroll
      for (int k = 0; k < N; k++) s += static_cast<uint64_t>(v[k]);
    } else {
      s += static_cast<double>(tree_sum<N>([&](int k) { return widen(v[k]); }));
    }
  }
  /// As add, of P neighbouring columns.
  template <int N, int P>
  __device__ void add_packs(State (&s)[P], const Kept<T, P> (&v)[N], int64_t, int64_t) const {
    Pack<Acc<T>, P> sums[N];
#pragma unroll
    for (int k = 0; k < N; k++) sums[k] = widen_kept<T, P>(v[k]);
#pragma unroll
    for (int c = 0; c < P; c++) s[c] += static_cast<double>(tree_sum<N>([&](int k) { return sums[k].v[c]; }));
  }
  template <int N>
  __device__ void store(int64_t at, const State (&s)[N]) const {
    const auto value = [&](int k) { return s[k]; };
    if constexpr (std::is_integral_v<T>)
      put<int64_t, N>(y, at, value);
    else if (std::is_same_v<T, bf16> && wide)
      put<float, N>(y, at, value);
    else
      put<T, N>(y, at, value);
  }
};

/// The largest or smallest element, or where it is: NaN wins, then the lowest index.
template <class T>
struct Extreme {
  using In = T;
  struct State {
    Acc<T> value;
    int64_t index;
  };
  static constexpr bool kPacks = false;
  void* y;
  bool largest, index;

  /// Loses to every element, if only by its index.
  __device__ State empty() const {
    using Limits = std::numeric_limits<Acc<T>>;
    constexpr int64_t nowhere = std::numeric_limits<int64_t>::max();
    if constexpr (Limits::has_infinity)
      return {largest ? -Limits::infinity() : Limits::infinity(), nowhere};
    else
      return {largest ? Limits::lowest() : Limits::max(), nowhere};
  }
  __device__ bool beats(State a, State b) const {
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    if (a_nan != b_nan) return a_nan;
    if (a_nan || a.value == b.value) return a.index < b.index;
    return (a.value > b.value) == largest;
  }
  __device__ State merge(State a, State b) const { return beats(b, a) ? b : a; }
  template <int N>
  __device__ void add(State& s, const T (&v)[N], int64_t first, int64_t step) const {
#pragma unroll
    for (int k = 0; k < N; k++) s = merge(s, {value_of(v[k]), first + k * step});
  }
  template <int N>
  __device__ void store(int64_t at, const State (&s)[N]) const {
    if (index)
      put<int64_t, N>(y, at, [&](int k) { return s[k].index; });
    else
      put<T, N>(y, at, [&](int k) { return s[k].value; });
  }
};

/// log sum e^x as (most, sum of e^(x - most)), the sum in double. NaN wins, then infinities, which need no sum;
/// -inf for no elements.
template <class T>
struct LogSumExp {
  using In = T;
  using A = Acc<T>;
  struct State {
    A most;
    double sum;
  };
  static constexpr bool kPacks = false;
  void* y;

  static __device__ bool finite(A x) { return abs_of(x) < std::numeric_limits<A>::infinity(); }
  static __device__ double shrunk(State s, A most) {
    return s.most == most ? s.sum : s.sum * exp_of(static_cast<double>(s.most) - static_cast<double>(most));
  }
  __device__ State empty() const { return {-std::numeric_limits<A>::infinity(), 0.0}; }
  __device__ State merge(State a, State b) const {
    const A most = b.most > a.most || b.most != b.most ? b.most : a.most;
    if (!finite(most)) return {most, 0.0};
    return {most, shrunk(a, most) + shrunk(b, most)};
  }
  template <int N>
  __device__ void add(State& s, const T (&v)[N], int64_t, int64_t) const {
    A most = s.most;
#pragma unroll
    for (int k = 0; k < N; k++) {
      const A x = widen(v[k]);
      most = x > most || x != x ? x : most;
    }
    if (finite(most))
      s.sum = shrunk(s, most) +
              static_cast<double>(tree_sum<N>([&](int k) { return exp_of(widen(v[k]) - most); }));
    s.most = most;
  }
  template <int N>
  __device__ void store(int64_t at, const State (&s)[N]) const {
    put<T, N>(y, at, [&](int k) {
      return finite(s[k].most) ? static_cast<A>(static_cast<double>(s[k].most) + std::log(s[k].sum))
                               : s[k].most;
    });
  }
};

}  // namespace qm::cuda
