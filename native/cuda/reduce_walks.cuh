// How reductions over the middle axis of [outer, n, inner] walk their elements, whatever they compute
// (reduce_operations.cuh). Everything is in an order that depends on the sizes only.
#pragma once
#include "cuda/reduce_operations.cuh"

namespace qm::cuda {

constexpr int kReduceRows = 8;  // of columns, that a thread adds at a time
constexpr int kMergeThreads = 512;
constexpr int64_t kColumnBlocks = 528;  // of columns: one wave, 4 on each of an H100's 132

/// A thread owns P neighbouring outputs, and walks all of n for them.
template <class Op, int P>
__global__ void __launch_bounds__(kThreads) reduce_short_kernel(const typename Op::In* __restrict__ x, Op op,
                                                                int64_t outputs, int64_t n, int64_t inner) {
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
    reduce_rows_kernel(const typename Op::In* __restrict__ x, Op op, typename Op::State* __restrict__ partial,
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
/// of the piece, kReduceRows of which it adds at a time. Blocks that read the same rows are neighbours. partial, if
/// there are several pieces: [outer][piece][inner].
template <class Op, int P>
__global__ void __launch_bounds__(kThreads, kColumnBlocks / 132)
    reduce_columns_kernel(const typename Op::In* __restrict__ x, Op op,
                          typename Op::State* __restrict__ partial, int64_t n, int64_t inner, int lanes,
                          int64_t tiles, int64_t pieces, int64_t piece) {
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
    for (; r + (kReduceRows - 1) * step < end; r += kReduceRows * step)
      add_rows<kReduceRows>(op, s, from + r * inner, step * inner, r, step);
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
    reduce_merge_kernel(const typename Op::State* __restrict__ partial, Op op, int64_t inner, int lanes,
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

}  // namespace qm::cuda
