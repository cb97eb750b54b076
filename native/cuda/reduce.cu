// Reductions over the middle axis of [outer, n, inner]. What is computed is an operation (SumOf, Extreme,
// LogSumExp) on states; how the elements are walked depends on the sizes:
//   short n            a thread per output (or P neighbouring ones)
//   inner = 1          eight threads, a warp or a block per row
//   else               a block per tile of columns, threads side by side over the columns
// Few outputs are cut into pieces along n, whose states are merged by a second kernel. Everything is in an
// order that depends on the sizes only.
#include "cuda/device/formulas.cuh"
#include "cuda/device/reduce.cuh"
#include "cuda/device/wide_pack.cuh"

namespace qm::cuda {

namespace {

constexpr int64_t kShortRow = 8, kShortColumn = 32;  // n up to which one thread does all of it
constexpr int64_t kBlocks = 2048;                    // aimed at by pieces: several times what a device holds
constexpr int64_t kColumnBlocks = 528;               // of columns: one wave, 4 on each of an H100's 132
constexpr int64_t kRowPiece = 16384;                 // elements of a row that are worth a block
constexpr int kColumnRows = 8;                       // that a thread adds at a time
constexpr int kColumnPiece = 2;                      // times as many are worth a block
constexpr int kMergeThreads = 512;

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

// An operation has a State, empty() and merge(); add(state, v, first, step), which takes in elements that
// stand at first, first + step, ... along n, in ascending order per thread; and store(at, states), which
// writes results from `at` on. kPacks: whether there are kernels that load whole packs.

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

/// A thread owns P neighbouring outputs, and walks all of n for them.
template <class Op, int P>
__global__ void __launch_bounds__(kThreads)
    short_kernel(const typename Op::In* __restrict__ x, Op op, int64_t outputs, int64_t n, int64_t inner) {
  using T = typename Op::In;
  constexpr int kUnroll = 4;
  const int64_t k = (blockIdx.x * int64_t{kThreads} + threadIdx.x) * P;
  if (k >= outputs) return;
  const T* from = x + k / inner * n * inner + k % inner;
  typename Op::State s[P];
#pragma unroll
  for (int c = 0; c < P; c++) s[c] = op.empty();
  int64_t r = 0;
  for (; r + kUnroll <= n; r += kUnroll) {
    Pack<T, P> v[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; u++) v[u] = load_pack<T, P>(from + (r + u) * inner);
#pragma unroll
    for (int c = 0; c < P; c++) {
      const T column[kUnroll] = {v[0].v[c], v[1].v[c], v[2].v[c], v[3].v[c]};
      op.add(s[c], column, r, 1);
    }
  }
  for (; r < n; r++) {
    const Pack<T, P> v = load_pack<T, P>(from + r * inner);
#pragma unroll
    for (int c = 0; c < P; c++) {
      const T one[1] = {v.v[c]};
      op.add(s[c], one, r, 1);
    }
  }
  op.store(k, s);
}

/// kWidth threads (lanes of a warp, or a block) own a piece of a row and walk it P elements each at a time; their states
/// merge as a tree. partial, if there are several pieces: [row][piece].
template <class Op, int kWidth, int P>
__global__ void __launch_bounds__(kThreads)
    rows_kernel(const typename Op::In* __restrict__ x, Op op, typename Op::State* __restrict__ partial,
                int64_t rows, int64_t n, int64_t pieces, int64_t piece) {
  using T = typename Op::In;
  constexpr int kUnroll = 4, kStride = kWidth * P;
  const int64_t task = blockIdx.x * int64_t{kThreads / kWidth} + threadIdx.x / kWidth;
  const bool live = task < rows * pieces;
  const int64_t begin = task % pieces * piece, end = live ? std::min(n, begin + piece) : begin;
  const T* from = x + task / pieces * n;
  typename Op::State s[1] = {op.empty()};
  int64_t i = begin + threadIdx.x % kWidth * P;
  for (; i + (kUnroll - 1) * kStride + P <= end; i += kUnroll * kStride) {
    Pack<T, P> v[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; u++) v[u] = load_pack<T, P>(from + i + u * kStride);
#pragma unroll
    for (int u = 0; u < kUnroll; u++) op.add(s[0], v[u].v, i + u * kStride, 1);
  }
  for (; i + P <= end; i += kStride) {
    const Pack<T, P> v = load_pack<T, P>(from + i);
    op.add(s[0], v.v, i, 1);
  }
  for (; i < end; i++) {  // of the one thread whose pack the end cuts
    const T one[1] = {from[i]};
    op.add(s[0], one, i, 1);
  }
  const RowWalk<kWidth, 0, P> group{n};
  s[0] = group.reduce(
      s[0], [&](auto a, auto b) { return op.merge(a, b); }, op.empty());
  if (!live || group.rank() != 0) return;
  if (partial)
    partial[task] = s[0];
  else
    op.store(task, s);
}

/// The states of a block whose threads stand side by side over `lanes` columns of P: over the rows of threads
/// as a tree. The first row of threads gets the result.
template <int P, int kBlock, class Op, class State>
__device__ __forceinline__ void merge_columns(const Op& op, State (&s)[P], int lanes) {
  __shared__ State room[P][kBlock];
  const int t = threadIdx.x;
#pragma unroll
  for (int c = 0; c < P; c++) room[c][t] = s[c];
  for (int half = kBlock / 2; half >= lanes; half /= 2) {
    __syncthreads();
    if (t < half)
#pragma unroll
      for (int c = 0; c < P; c++) {
        s[c] = op.merge(s[c], room[c][t + half]);
        room[c][t] = s[c];
      }
  }
}

/// Adds N rows `stride` elements apart, which stand at first, first + step, ... along n, to the states of P
/// neighbouring columns.
template <int N, class Op, int P>
__device__ __forceinline__ void add_rows(const Op& op, typename Op::State (&s)[P],
                                         const typename Op::In* from, int64_t stride, int64_t first,
                                         int64_t step) {
  using T = typename Op::In;
  if constexpr (Op::kPacks) {
    Kept<T, P> v[N];
#pragma unroll
    for (int u = 0; u < N; u++) v[u] = load_kept<T, P>(from + u * stride);
    op.add_packs(s, v, first, step);
  } else {
    static_assert(P == 1, "packs of an operation that has none");
    T v[N];
#pragma unroll
    for (int u = 0; u < N; u++) v[u] = from[u * stride];
    op.add(s[0], v, first, step);
  }
}

/// A block owns `lanes` packs of columns and a piece of n; a thread one pack of columns and every so many rows
/// of the piece, kColumnRows of which it adds at a time. Blocks that read the same rows are neighbours. partial, if
/// there are several pieces: [outer][piece][inner].
template <class Op, int P>
__global__ void __launch_bounds__(kThreads, kColumnBlocks / 132)
    columns_kernel(const typename Op::In* __restrict__ x, Op op, typename Op::State* __restrict__ partial,
                   int64_t n, int64_t inner, int lanes, int64_t tiles, int64_t pieces, int64_t piece) {
  using T = typename Op::In;
  const int64_t tile = blockIdx.x % tiles, task = blockIdx.x / tiles;  // task = outer * pieces + piece
  const int64_t begin = task % pieces * piece, end = std::min(n, begin + piece);
  const int first = threadIdx.x / lanes, step = kThreads / lanes;
  const int64_t column = (tile * lanes + threadIdx.x % lanes) * P;
  const T* from = x + task / pieces * n * inner + column;
  typename Op::State s[P];
#pragma unroll
  for (int c = 0; c < P; c++) s[c] = op.empty();
  if (column < inner) {
    int64_t r = begin + first;
    for (; r + (kColumnRows - 1) * step < end; r += kColumnRows * step)
      add_rows<kColumnRows>(op, s, from + r * inner, step * inner, r, step);
    for (; r < end; r += step) add_rows<1>(op, s, from + r * inner, step * inner, r, step);
  }
  merge_columns<P, kThreads>(op, s, lanes);
  if (first != 0 || column >= inner) return;
  if (partial) {
#pragma unroll
    for (int c = 0; c < P; c++) partial[task * inner + column + c] = s[c];
  } else {
    op.store(task * inner + column, s);
  }
}

/// The states [outer][piece][inner] of pieces to results. A block owns `lanes` outputs, a thread one of them
/// and every so many pieces.
template <class Op>
__global__ void __launch_bounds__(kMergeThreads)
    merge_kernel(const typename Op::State* __restrict__ partial, Op op, int64_t inner, int lanes,
                 int64_t tiles, int64_t pieces) {
  const int64_t tile = blockIdx.x % tiles, outer = blockIdx.x / tiles;
  const int64_t column = tile * lanes + threadIdx.x % lanes;
  const int first = threadIdx.x / lanes, step = kMergeThreads / lanes;
  typename Op::State s[1] = {op.empty()};
  if (column < inner) {
#pragma unroll 8
    for (int64_t piece = first; piece < pieces; piece += step)
      s[0] = op.merge(s[0], partial[(outer * pieces + piece) * inner + column]);
  }
  merge_columns<1, kMergeThreads>(op, s, lanes);
  if (first == 0 && column < inner) op.store(outer * inner + column, s);
}

struct Dims {
  int64_t outer, n, inner;
};

Dims dims_of(const Call& call) {
  const Dims d{call.attrs.i(0), call.attrs.i(1), call.attrs.i(2)};
  call.require(d.outer >= 0 && d.n >= 0 && d.inner >= 0, "sizes of at least 0");
  const int64_t in = call.in[0].numel(), out = call.out[0].numel();
  const bool empty = d.outer == 0 || d.n == 0 || d.inner == 0;
  call.require(empty ? in == 0
                     : d.outer <= in && d.n <= in && d.inner <= in && d.outer * d.n <= in &&
                           d.outer * d.n * d.inner == in,
               "outer * n * inner = elements of the input");
  call.require(d.outer == 0 || d.inner == 0 ? out == 0 : out / d.outer == d.inner && out % d.outer == 0,
               "outer * inner = elements of the output");
  return d;
}

/// Threads side by side for so many packs of columns: a power of two up to a warp.
int lanes_for(int64_t packs, int most) {
  int lanes = 1;
  while (lanes < most && lanes < packs) lanes *= 2;
  return lanes;
}

/// As lanes_for a warp; fewer, down to `least`, if then fewer of the last tile stand beyond the columns.
int even_lanes(int64_t packs, int least) {
  int best = lanes_for(packs, kWarp);
  for (int lanes = best / 2; lanes >= least; lanes /= 2)
    if (ceil_div(packs, lanes) * lanes < ceil_div(packs, best) * best) best = lanes;
  return best;
}

/// How n is cut: the size of a piece, a multiple of `unit`, and their number.
struct Cut {
  int64_t piece, pieces;
};
Cut cut(int64_t n, int64_t tasks, int64_t blocks, int64_t worth, int64_t unit) {
  const int64_t wanted = std::min(std::max<int64_t>(1, blocks / tasks), ceil_div(n, worth));
  const int64_t piece = ceil_div(ceil_div(n, wanted), unit) * unit;
  return {piece, ceil_div(n, piece)};
}

template <class Op>
class Plan {
 public:
  Plan(const Call& call, Dims d, Op op) : call_(call), d_(d), op_(op), x_(call.in[0].as<const T>()) {}

  void run() const {
    constexpr int kMost = Op::kPacks ? kPack<T> : 1;
    if (d_.outer == 0 || d_.inner == 0) return;
    if (d_.inner == 1) {
      if (d_.n <= kShortRow) return run_short<1>();
      // a single row starts aligned, whatever its length
      if (aligned(call_) && (d_.outer == 1 || d_.n % kMost == 0)) return run_rows<kMost>();
      return run_rows<1>();
    }
    if (aligned(call_) && d_.inner % kMost == 0)
      return d_.n <= kShortColumn ? run_short<kMost>() : run_columns<kMost>();
    return d_.n <= kShortColumn ? run_short<1>() : run_columns<1>();
  }

 private:
  using T = typename Op::In;
  using State = typename Op::State;

  template <int P>
  void run_short() const {
    const int64_t outputs = d_.outer * d_.inner;
    QM_LAUNCH(call_, (short_kernel<Op, P>), grid_of(outputs, kThreads * P), kThreads, 0, x_, op_, outputs,
              d_.n, d_.inner);
  }

  template <int P>
  void run_rows() const {
    if (d_.n <= 128) return run_whole_rows<8, P>();
    if (d_.n <= 4096) return run_whole_rows<kWarp, P>();
    const Cut c = cut(d_.n, d_.outer, kBlocks, kRowPiece, 4096);
    const Scratch<State> partial(c.pieces > 1 ? d_.outer * c.pieces : 0);
    QM_LAUNCH(call_, (rows_kernel<Op, kThreads, P>), grid_of(d_.outer * c.pieces, 1), kThreads, 0, x_, op_,
              c.pieces > 1 ? partial.get() : nullptr, d_.outer, d_.n, c.pieces, c.piece);
    if (c.pieces > 1) merge(partial.get(), c.pieces);
  }

  template <int kWidth, int P>
  void run_whole_rows() const {
    QM_LAUNCH(call_, (rows_kernel<Op, kWidth, P>), grid_of(d_.outer, kThreads / kWidth), kThreads, 0, x_, op_,
              nullptr, d_.outer, d_.n, 1, d_.n);
  }

  template <int P>
  void run_columns() const {
    constexpr int kLine = 128 / static_cast<int>(P * sizeof(T));  // threads to a line of the cache
    const int lanes = even_lanes(d_.inner / P, kLine);
    const int64_t tiles = ceil_div(d_.inner / P, lanes), unit = kThreads / lanes * kColumnRows;
    const Cut c = cut(d_.n, d_.outer * tiles, kColumnBlocks, unit * kColumnPiece, unit);
    const Scratch<State> partial(c.pieces > 1 ? d_.outer * c.pieces * d_.inner : 0);
    QM_LAUNCH(call_, (columns_kernel<Op, P>), grid_of(d_.outer * c.pieces * tiles, 1), kThreads, 0, x_, op_,
              c.pieces > 1 ? partial.get() : nullptr, d_.n, d_.inner, lanes, tiles, c.pieces, c.piece);
    if (c.pieces > 1) merge(partial.get(), c.pieces);
  }

  void merge(const State* partial, int64_t pieces) const {
    const int lanes = lanes_for(d_.inner, 8);
    const int64_t tiles = ceil_div(d_.inner, lanes);
    QM_LAUNCH(call_, (merge_kernel<Op>), grid_of(d_.outer * tiles, 1), kMergeThreads, 0, partial, op_,
              d_.inner, lanes, tiles, pieces);
  }

  const Call& call_;
  const Dims d_;
  const Op op_;
  const T* const x_;
};

template <class Op>
void reduce(const Call& call, Dims d, Op op) {
  Plan<Op>(call, d, op).run();
}

void extreme(const Call& call, bool largest, bool index) {
  const Dims d = dims_of(call);
  call.require(d.n > 0 || call.out[0].numel() == 0, "at least one element to reduce");
  if (index)
    call.require(call.out[0].dtype == DType::i64, "an int64 output");
  else
    call.require(call.out[0].dtype == call.in[0].dtype, "an output of the input's dtype");
  number_dispatch(call, call.in[0].dtype, [&](auto zero) {
    reduce(call, d, Extreme<decltype(zero)>{call.out[0].data, largest, index});
  });
}

}  // namespace

/// float: same dtype, of bfloat16 also float32. Integers and bool: int64.
void sum_fwd(const Call& call) {
  const Dims d = dims_of(call);
  const DType type = call.in[0].dtype, out = call.out[0].dtype;
  const bool floating = type == DType::f32 || type == DType::f64 || type == DType::bf16;
  if (floating)
    call.require(out == type || out == acc_dtype(type), "an output of the input's dtype");
  else
    call.require(out == DType::i64, "an int64 output");
  number_dispatch(call, type, [&](auto zero) {
    reduce(call, d, SumOf<decltype(zero)>{call.out[0].data, out != type});
  });
}

void max_fwd(const Call& call) { extreme(call, true, false); }
void min_fwd(const Call& call) { extreme(call, false, false); }

/// Index of the largest element; ties go to the lowest index, NaN counts as largest.
void argmax_fwd(const Call& call) { extreme(call, true, true); }

/// log sum e^x, shifted by the maximum; -inf for an empty or all -inf row.
void logsumexp_fwd(const Call& call) {
  const Dims d = dims_of(call);
  call.require(call.out[0].dtype == call.in[0].dtype, "an output of the input's dtype");
  float_dispatch(call, call.in[0].dtype,
                 [&](auto zero) { reduce(call, d, LogSumExp<decltype(zero)>{call.out[0].data}); });
}

}  // namespace qm::cuda
