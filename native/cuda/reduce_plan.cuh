// Which kernel of reduce_walks.cuh runs, by the sizes:
//   short n            a thread per output (or P neighbouring ones)
//   inner = 1          eight threads, a warp or a block per row
//   else               a block per tile of columns, threads side by side over the columns
// Few outputs are cut into pieces along n, whose states are merged by a second kernel.
#pragma once
#include "cuda/reduce_walks.cuh"

namespace qm::cuda {

constexpr int64_t kShortRow = 8, kShortColumn = 32;  // n up to which one thread does all of it
constexpr int64_t kRowBlocks = 2048;                 // aimed at by pieces: several times what a device holds
constexpr int64_t kRowPiece = 16384;                 // elements of a row that are worth a block
constexpr int kColumnPiece = 2;                      // times as many as a block adds at a time are worth one

struct ReduceDims {
  int64_t outer, n, inner;
};

inline ReduceDims reduce_dims(const Call& call) {
  const ReduceDims d{call.attrs.i(0), call.attrs.i(1), call.attrs.i(2)};
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
inline int lanes_for(int64_t packs, int most) {
  int lanes = 1;
  while (lanes < most && lanes < packs) lanes *= 2;
  return lanes;
}

/// As lanes_for a warp; fewer, down to `least`, if then fewer of the last tile stand beyond the columns.
inline int even_lanes(int64_t packs, int least) {
  int best = lanes_for(packs, kWarp);
  for (int lanes = best / 2; lanes >= least; lanes /= 2)
    if (ceil_div(packs, lanes) * lanes < ceil_div(packs, best) * best) best = lanes;
  return best;
}

/// How n is cut: the size of a piece, a multiple of `unit`, and their number.
struct Pieces {
  int64_t piece, pieces;
};
inline Pieces cut_axis(int64_t n, int64_t tasks, int64_t blocks, int64_t worth, int64_t unit) {
  const int64_t wanted = std::min(std::max<int64_t>(1, blocks / tasks), ceil_div(n, worth));
  const int64_t piece = ceil_div(ceil_div(n, wanted), unit) * unit;
  return {piece, ceil_div(n, piece)};
}

template <class Op>
class ReducePlan {
 public:
  ReducePlan(const Call& call, ReduceDims d, Op op)
      : call_(call), d_(d), op_(op), x_(call.in[0].as<const T>()) {}

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
    QM_LAUNCH(call_, (reduce_short_kernel<Op, P>), grid_of(outputs, kThreads * P), kThreads, 0, x_, op_,
              outputs, d_.n, d_.inner);
  }

  template <int P>
  void run_rows() const {
    if (d_.n <= 128) return run_whole_rows<8, P>();
    if (d_.n <= 4096) return run_whole_rows<kWarp, P>();
    const Pieces c = cut_axis(d_.n, d_.outer, kRowBlocks, kRowPiece, 4096);
    const Scratch<State> partial(c.pieces > 1 ? d_.outer * c.pieces : 0);
    QM_LAUNCH(call_, (reduce_rows_kernel<Op, kThreads, P>), grid_of(d_.outer * c.pieces, 1), kThreads, 0, x_,
              op_, c.pieces > 1 ? partial.get() : nullptr, d_.outer, d_.n, c.pieces, c.piece);
    if (c.pieces > 1) merge(partial.get(), c.pieces);
  }

  template <int kWidth, int P>
  void run_whole_rows() const {
    QM_LAUNCH(call_, (reduce_rows_kernel<Op, kWidth, P>), grid_of(d_.outer, kThreads / kWidth), kThreads, 0,
              x_, op_, nullptr, d_.outer, d_.n, 1, d_.n);
  }

  template <int P>
  void run_columns() const {
    constexpr int kLine = 128 / static_cast<int>(P * sizeof(T));  // threads to a line of the cache
    const int lanes = even_lanes(d_.inner / P, kLine);
    const int64_t tiles = ceil_div(d_.inner / P, lanes), unit = kThreads / lanes * kReduceRows;
    const Pieces c = cut_axis(d_.n, d_.outer * tiles, kColumnBlocks, unit * kColumnPiece, unit);
    const Scratch<State> partial(c.pieces > 1 ? d_.outer * c.pieces * d_.inner : 0);
    QM_LAUNCH(call_, (reduce_columns_kernel<Op, P>), grid_of(d_.outer * c.pieces * tiles, 1), kThreads, 0, x_,
              op_, c.pieces > 1 ? partial.get() : nullptr, d_.n, d_.inner, lanes, tiles, c.pieces, c.piece);
    if (c.pieces > 1) merge(partial.get(), c.pieces);
  }

  void merge(const State* partial, int64_t pieces) const {
    const int lanes = lanes_for(d_.inner, 8);
    const int64_t tiles = ceil_div(d_.inner, lanes);
    QM_LAUNCH(call_, (reduce_merge_kernel<Op>), grid_of(d_.outer * tiles, 1), kMergeThreads, 0, partial, op_,
              d_.inner, lanes, tiles, pieces);
  }

  const Call& call_;
  const ReduceDims d_;
  const Op op_;
  const T* const x_;
};

template <class Op>
void reduce(const Call& call, ReduceDims d, Op op) {
  ReducePlan<Op>(call, d, op).run();
}

}  // namespace qm::cuda
