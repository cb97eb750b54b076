// Moving elements between a contiguous tensor (the dense side) and addresses offset + sum i_k * stride_k of
// another (the strided side). One walk serves both directions: strided_read gathers (permute, expand, slice,
// flip), strided_write scatters (pad, the backward of slice).
#include <limits>
#include <type_traits>
#include <utility>

#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

#include "formulas/convert.h"

namespace {

/// Side of a square tile: one cache line.
template <class T>
constexpr int64_t kTileSide = 64 / sizeof(T);

/// The iteration space with dimensions of size 1 dropped and neighbours merged where the strided side allows.
struct Walk {
  int rank = 0;
  int64_t dims[kMaxRank] = {};
  int64_t strides[kMaxRank] = {};  // of the strided side
  int64_t dense[kMaxRank] = {};    // of the dense side
  int64_t numel = 1;
};

/// Checks that every address of `shape` under the strides lies in [0, limit), and merges dimensions. An empty
/// shape gives numel 0 and no addresses.
Walk make_walk(const Call& call, const Shape& shape, int64_t offset, IntList strides, int64_t limit) {
  call.require(strides.size() == shape.rank, "one stride per dimension");
  Walk walk;
  walk.numel = shape.numel();
  if (walk.numel == 0) return walk;
  // No step may be longer than the buffer, so the sums below stay far from overflow.
  int64_t low = offset, high = offset;
  for (int axis = 0; axis < shape.rank; axis++) {
    const int64_t dim = shape[axis], stride = strides[axis];
    if (dim == 1) continue;
    call.require(stride <= limit / (dim - 1) && stride >= -(limit / (dim - 1)),
                 "addresses inside the buffer");
    (stride < 0 ? low : high) += stride * (dim - 1);
    const int last = walk.rank - 1;
    if (last >= 0 && walk.strides[last] == stride * dim) {
      walk.dims[last] *= dim;
      walk.strides[last] = stride;
    } else {
      walk.dims[walk.rank] = dim;
      walk.strides[walk.rank] = stride;
      walk.rank++;
    }
  }
  call.require(low >= 0 && high < limit, "addresses inside the buffer");
  if (walk.rank == 0) {
    walk.rank = 1;
    walk.dims[0] = walk.strides[0] = 1;
  }
  int64_t run = 1;
  for (int axis = walk.rank - 1; axis >= 0; axis--) {
    walk.dense[axis] = run;
    run *= walk.dims[axis];
  }
  return walk;
}

/// Whether no two elements share an address: sorted by size, every stride steps over all that the smaller
/// ones reach.
bool distinct_addresses(const Walk& walk) {
  bool used[kMaxRank] = {};
  int64_t reach = 0;
  for (int step = 0; step < walk.rank; step++) {
    int next = -1;
    for (int axis = 0; axis < walk.rank; axis++)
      if (!used[axis] && (next < 0 || std::abs(walk.strides[axis]) < std::abs(walk.strides[next])))
        next = axis;
    if (std::abs(walk.strides[next]) <= reach) return false;
    reach += std::abs(walk.strides[next]) * (walk.dims[next] - 1);
    used[next] = true;
  }
  return true;
}

/// Steps through the dimensions of a walk other than one or two, last fastest.
class Odometer {
 public:
  Odometer(const Walk& walk, int skip_a, int skip_b, int64_t position) {
    for (int axis = 0; axis < walk.rank; axis++) {
      if (axis == skip_a || axis == skip_b) continue;
      dims_[rank_] = walk.dims[axis];
      strides_[rank_] = walk.strides[axis];
      dense_[rank_++] = walk.dense[axis];
    }
    for (int axis = rank_ - 1; axis >= 0; axis--) {
      index_[axis] = position % dims_[axis];
      position /= dims_[axis];
      strided += index_[axis] * strides_[axis];
      dense += index_[axis] * dense_[axis];
    }
  }
  void next() {
    for (int axis = rank_ - 1; axis >= 0; axis--) {
      strided += strides_[axis];
      dense += dense_[axis];
      if (++index_[axis] < dims_[axis]) return;
      strided -= strides_[axis] * dims_[axis];
      dense -= dense_[axis] * dims_[axis];
      index_[axis] = 0;
    }
  }
  int64_t strided = 0;
  int64_t dense = 0;

 private:
  int rank_ = 0;
  int64_t index_[kMaxRank] = {};
  int64_t dims_[kMaxRank] = {};
  int64_t strides_[kMaxRank] = {};
  int64_t dense_[kMaxRank] = {};
};

template <bool Read, class T>
QM_INLINE void move(T* strided, T* dense) {
  if constexpr (Read)
    *dense = *strided;
  else
    *strided = *dense;
}

/// The runs of the innermost dimension, each contiguous on the dense side. A run longer than a task's work is
/// cut.
template <bool Read, class T>
void move_runs(const Walk& walk, T* strided, T* dense) {
  const int last = walk.rank - 1;
  const int64_t length = walk.dims[last], stride = walk.strides[last];
  const int64_t piece = std::min(length, kGrain);
  const int64_t pieces = (length + piece - 1) / piece;
  const int64_t runs = walk.numel / length;
  parallel_for(runs * pieces, std::max<int64_t>(1, kGrain / piece), [&](int64_t begin, int64_t end) {
    Odometer at(walk, last, last, begin / pieces);
    int64_t part = begin % pieces;
    for (int64_t k = begin; k < end; k++) {
      const int64_t from = part * piece;
      const int64_t n = std::min(piece, length - from);
      T* d = dense + at.dense + from;
      T* s = strided + at.strided + from * stride;
      if (stride == 1)
        std::memcpy(Read ? d : s, Read ? s : d, static_cast<size_t>(n) * sizeof(T));
      else if (stride == -1)
        for (int64_t i = 0; i < n; i++) move<Read>(s - i, d + i);
      else if (Read && stride == 0)
        std::fill(d, d + n, *s);
      else
        for (int64_t i = 0; i < n; i++) move<Read>(s + i * stride, d + i);
      if (++part == pieces) {
        part = 0;
        at.next();
      }
    }
  });
}

/// Lanes of 16 bytes: square blocks of N x N elements are transposed in registers by log2 N rounds of
/// interleaving.
template <class T>
struct Block {
  static constexpr int N = 16 / sizeof(T);
  using V __attribute__((vector_size(16))) = T;

  template <bool High, size_t... L>
  QM_INLINE V interleave(V a, V b, std::index_sequence<L...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, (L / 2 + (High ? N / 2 : 0) + (L % 2) * N)...);
#else
    return __builtin_shuffle(a, b, V{static_cast<T>(L / 2 + (High ? N / 2 : 0) + (L % 2) * N)...});
#endif
  }
  QM_INLINE void transpose(const T* source, int64_t source_stride, T* target, int64_t target_stride) {
    V rows[N], next[N];
    for (int r = 0; r < N; r++) std::memcpy(&rows[r], source + r * source_stride, sizeof(V));
    for (int round = 1; round < N; round *= 2) {
      for (int r = 0; r < N / 2; r++) {
        next[2 * r] = interleave<false>(rows[r], rows[r + N / 2], std::make_index_sequence<N>{});
        next[2 * r + 1] = interleave<true>(rows[r], rows[r + N / 2], std::make_index_sequence<N>{});
      }
      for (int r = 0; r < N; r++) rows[r] = next[r];
    }
    for (int r = 0; r < N; r++) std::memcpy(target + r * target_stride, &rows[r], sizeof(V));
  }
};

/// target[j][i] = source[i][j] for `lines` source lines of `length` elements. The source goes through a
/// buffer line by line: lines that are a power of two apart would push one another out of the cache.
template <class T>
void transpose_tile(const T* source, int64_t source_stride, T* target, int64_t target_stride, int64_t lines,
                    int64_t length) {
  constexpr int64_t N = Block<T>::N;
  T tile[kTileSide<T> * kTileSide<T>];
  for (int64_t i = 0; i < lines; i++) {
    if (length == kTileSide<T>)
      std::memcpy(tile + i * length, source + i * source_stride, 64);
    else
      for (int64_t j = 0; j < length; j++) tile[i * length + j] = source[i * source_stride + j];
  }
  const int64_t block_lines = lines / N * N, block_length = length / N * N;
  for (int64_t j = 0; j < block_length; j += N)
    for (int64_t i = 0; i < block_lines; i += N)
      Block<T>::transpose(tile + i * length + j, length, target + j * target_stride + i, target_stride);
  for (int64_t j = 0; j < length; j++)
    for (int64_t i = j < block_length ? block_lines : 0; i < lines; i++)
      target[j * target_stride + i] = tile[i * length + j];
}

/// A transpose: dimension `unit` has stride 1 on the strided side, the innermost one has it on the dense
/// side.
template <bool Read, class T>
void move_tiles(const Walk& walk, int unit, T* strided, T* dense) {
  const int last = walk.rank - 1;
  const int64_t columns = walk.dims[last], column_stride = walk.strides[last];
  const int64_t rows = walk.dims[unit], row_dense = walk.dense[unit];
  constexpr int64_t tile_size = kTileSide<T> * kTileSide<T>;
  const int64_t width = std::min(columns, kTileSide<T>);
  const int64_t height = std::min(rows, columns < kTileSide<T> ? tile_size / width : kTileSide<T>);
  const int64_t tiles_x = (columns + width - 1) / width, tiles_y = (rows + height - 1) / height;
  const int64_t slabs = walk.numel / (columns * rows);
  parallel_for(slabs * tiles_y * tiles_x, std::max<int64_t>(1, kGrain / tile_size),
               [&](int64_t begin, int64_t end) {
                 Odometer at(walk, unit, last, begin / (tiles_y * tiles_x));
                 int64_t tile_y = begin / tiles_x % tiles_y, tile_x = begin % tiles_x;
                 for (int64_t k = begin; k < end; k++) {
                   const int64_t y = tile_y * height, x = tile_x * width;
                   const int64_t h = std::min(height, rows - y), w = std::min(width, columns - x);
                   T* s = strided + at.strided + y + x * column_stride;
                   T* d = dense + at.dense + y * row_dense + x;
                   if constexpr (Read)
                     transpose_tile(s, column_stride, d, row_dense, w, h);
                   else
                     transpose_tile(d, row_dense, s, column_stride, h, w);
                   if (++tile_x < tiles_x) continue;
                   tile_x = 0;
                   if (++tile_y < tiles_y) continue;
                   tile_y = 0;
                   at.next();
                 }
               });
}

template <bool Read, class T>
void move_all(const Walk& walk, T* strided, T* dense) {
  if (walk.numel == 0) return;
  const int last = walk.rank - 1;
  // With a short unit dimension the runs themselves are near one another in memory: no tiles needed.
  constexpr int64_t kShort = 8;
  if (walk.strides[last] != 1)
    for (int axis = 0; axis < last; axis++)
      if (walk.strides[axis] == 1 && walk.dims[axis] >= kShort)
        return move_tiles<Read>(walk, axis, strided, dense);
  move_runs<Read>(walk, strided, dense);
}

}  // namespace

/// out[i] = x_flat[offset + sum i_k * strides_k]. Strides may be 0 or negative.
void strided_read(const Call& call) {
  const TensorView& x = call.in[0];
  TensorView& out = call.out[0];
  call.require(x.present && x.dtype == out.dtype, "an input of the output's dtype");
  const int64_t offset = call.attrs.i(0);
  const Walk walk = make_walk(call, out.shape, offset, call.attrs.v(1), x.numel());
  width_dispatch(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    move_all<true>(walk, x.as<T>() + (walk.numel ? offset : 0), out.as<T>());
  });
}

/// out filled with `fill`, then out_flat[offset + sum i_k * strides_k] = x[i]. No two elements may share an
/// address.
void strided_write(const Call& call) {
  const TensorView& x = call.in[0];
  TensorView& out = call.out[0];
  call.require(x.present && x.dtype == out.dtype, "an input of the output's dtype");
  const int64_t offset = call.attrs.i(0), numel = out.numel();
  const Walk walk = make_walk(call, x.shape, offset, call.attrs.v(1), numel);
  call.require(walk.numel == 0 || distinct_addresses(walk),
               "strides that give every element its own address");
  const uint64_t fill = bits_of(x.dtype, call.attrs.f(2));
  width_dispatch(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    T* y = out.as<T>();
    if (walk.numel < numel)
      parallel_for(numel, kGrain,
                   [=](int64_t begin, int64_t end) { std::fill(y + begin, y + end, static_cast<T>(fill)); });
    move_all<false>(walk, y + (walk.numel ? offset : 0), x.as<T>());
  });
}

/// Inputs end to end along `axis`; all other dimensions are the same.
void concat_fwd(const Call& call) {
  const TensorView& out = call.out[0];
  const int64_t axis = call.attrs.i(0);
  call.require(axis >= 0 && axis < out.shape.rank, "an axis of the output");
  const int a = static_cast<int>(axis);
  int64_t total = 0;
  for (int k = 0; k < call.n_in; k++) {
    const TensorView& x = call.in[k];
    call.require(x.present && x.dtype == out.dtype && x.shape.rank == out.shape.rank,
                 "inputs of one dtype and rank");
    for (int d = 0; d < out.shape.rank; d++)
      call.require(d == a || x.shape[d] == out.shape[d], "inputs that differ along the axis only");
    total += x.shape[a];
  }
  call.require(total == out.shape[a], "an output as long as its inputs");
  const int64_t outer = out.shape.count(0, a);
  const int64_t unit = out.shape.count(a + 1, out.shape.rank) * static_cast<int64_t>(dtype_size(out.dtype));
  const int64_t pitch = total * unit;  // bytes, as all below
  unsigned char* target = out.as<unsigned char>();
  for (int k = 0; k < call.n_in; k++) {
    const unsigned char* source = call.in[k].as<const unsigned char>();
    const int64_t run = call.in[k].shape[a] * unit;
    parallel_for(outer * run, kGrain * 4, [=](int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end;) {
        const int64_t row = at / run, column = at % run;
        const int64_t n = std::min(run - column, end - at);
        std::memcpy(target + row * pitch + column, source + at, static_cast<size_t>(n));
        at += n;
      }
    });
    target += run;
  }
}

}  // namespace qm::cpu::QM_ISA
