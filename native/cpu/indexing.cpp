// Picking and adding entries by index. Indices are checked as a whole before any element moves, so a bad one
// changes nothing.
#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

namespace {

/// Calls body with a value of the index type, after checking that every index lies in [0, size).
template <class Body>
void checked_indices(const Call& call, const TensorView& index, int64_t size, Body&& body) {
  const auto check = [&](auto zero) {
    using I = decltype(zero);
    const I* p = index.as<I>();
    const int64_t n = index.numel();
    bool bad = false;  // no early exit: the common case is a plain vector loop
    for (int64_t k = 0; k < n; k++) bad |= p[k] < 0 || p[k] >= size;
    for (int64_t k = 0; bad && k < n; k++)
      if (p[k] < 0 || p[k] >= size)
        throw Error(ErrorKind::index, std::string(call.op) + ": index out of range; expected 0 <= index < " +
                                          std::to_string(size) + ", got " + std::to_string(p[k]));
    body(zero);
  };
  if (index.dtype == DType::i32) return check(int32_t{});
  if (index.dtype == DType::i64) return check(int64_t{});
  call.unsupported(index.dtype);
}

/// Sums of bool have no meaning, so it is not treated as uint8 here.
template <class Body>
void addable_dispatch(const Call& call, DType dtype, Body&& body) {
  if (dtype == DType::boolean) call.unsupported(dtype);
  number_dispatch(call, dtype, body);
}

/// Integers wrap: added without sign, where overflow is defined.
template <class T>
QM_INLINE T wrapping_add(T a, T b) {
  if constexpr (std::is_floating_point_v<T>)
    return a + b;
  else
    return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

int axis_of(const Call& call, int rank) {
  const int64_t axis = call.attrs.i(0);
  call.require(axis >= 0 && axis < rank, "an axis of the tensor");
  return static_cast<int>(axis);
}

/// A walk over an index tensor that lies within a larger tensor of the same rank. A strip is a run of columns
/// (neighbours on the last axis, or a single one where that is `axis`) with all their positions along `axis`:
/// what one strip reads or writes of the larger tensor, no other strip does.
struct Strips {
  static constexpr int64_t kColumns = 256;

  const Shape &index, &whole;
  int axis;
  int64_t n, columns, pieces, count;  // positions along the axis; of a run; strips per run; strips
  int64_t index_step, whole_step;     // from one position along the axis to the next

  Strips(const Shape& index_shape, const Shape& whole_shape, int along)
      : index(index_shape), whole(whole_shape), axis(along), n(index[along]) {
    const bool last = axis == index.rank - 1;
    columns = last ? 1 : index.last(0);
    pieces = (columns + kColumns - 1) / kColumns;
    count = pieces;
    for (int k = 0; k < index.rank - 1; k++)
      if (k != axis) count *= index[k];
    index_step = index.count(axis + 1, index.rank);
    whole_step = whole.count(axis + 1, whole.rank);
  }

  /// Calls body(offset in the index, offset in the whole, columns) per strip, in parallel.
  template <class Body>
  void each(Body&& body) const {
    const int64_t work = std::max<int64_t>(1, n * std::min(columns, kColumns));
    parallel_for(count, std::max<int64_t>(1, kGrain / work), [&](int64_t begin, int64_t end) {
      for (int64_t strip = begin; strip < end; strip++) {
        const int64_t column = strip % pieces * kColumns;
        int64_t from = column, to = column, rest = strip / pieces;
        int64_t from_stride = 1, to_stride = 1;
        for (int k = index.rank - 1; k >= 0; k--) {
          if (k != axis && k != index.rank - 1) {
            from += rest % index[k] * from_stride;
            to += rest % index[k] * to_stride;
            rest /= index[k];
          }
          from_stride *= index[k];
          to_stride *= whole[k];
        }
        body(from, to, std::min(kColumns, columns - column));
      }
    });
  }
};

/// The index has the rank of the whole tensor, and no more entries off the axis.
void require_inside(const Call& call, const TensorView& index, const TensorView& whole, int axis) {
  call.require(index.present && whole.present && index.shape.rank == whole.shape.rank,
               "an index of the input's rank");
  for (int k = 0; k < index.shape.rank; k++)
    call.require(k == axis || index.shape[k] <= whole.shape[k], "an index within the input");
}

/// The dimensions of a tensor around one of its axes.
struct Around {
  int64_t outer, n, inner;
  Around(const Shape& shape, int axis)
      : outer(shape.count(0, axis)), n(shape[axis]), inner(shape.count(axis + 1, shape.rank)) {}
};

/// `picked` is `whole` with the axis as long as the index.
void require_selection(const Call& call, const TensorView& whole, const TensorView& picked, int axis) {
  const TensorView& index = call.in[1];
  call.require(call.in[0].present && index.present && index.shape.rank == 1, "an index of one axis");
  call.require(whole.dtype == picked.dtype, "an output of the input's dtype");
  Shape expected = whole.shape;
  expected.dims[axis] = index.shape[0];
  call.require(picked.shape == expected, "as many entries along the axis as the index has");
}

}  // namespace

/// y[i][j][k] = x[index[i][j][k]][j][k] for axis 0, and so on. Any dtype.
void gather_fwd(const Call& call) {
  const TensorView &x = call.in[0], &index = call.in[1], &y = call.out[0];
  const int axis = axis_of(call, x.shape.rank);
  require_inside(call, index, x, axis);
  call.require(y.shape == index.shape && y.dtype == x.dtype,
               "an output of the index's shape and the input's dtype");
  checked_indices(call, index, x.shape[axis], [&](auto index_zero) {
    using I = decltype(index_zero);
    const I* pi = index.as<I>();
    width_dispatch(x.dtype, [&](auto zero) {
      using T = decltype(zero);
      const T* px = x.as<T>();
      T* py = y.as<T>();
      const Strips strips(index.shape, x.shape, axis);
      strips.each([&](int64_t from, int64_t to, int64_t columns) {
        for (int64_t i = 0; i < strips.n; i++, from += strips.index_step)
          for (int64_t j = 0; j < columns; j++)
            py[from + j] = px[to + static_cast<int64_t>(pi[from + j]) * strips.whole_step + j];
      });
    });
  });
}

/// y = x, then y[index[i][j][k]][j][k] += source[i][j][k] for axis 0, and so on. Equal indices add up in
/// their order along the axis, in the dtype itself: that order is the same for any number of threads.
void scatter_add_fwd(const Call& call) {
  const TensorView &x = call.in[0], &index = call.in[1], &source = call.in[2], &y = call.out[0];
  const int axis = axis_of(call, x.shape.rank);
  require_inside(call, index, x, axis);
  call.require(source.present && source.shape == index.shape && source.dtype == x.dtype,
               "a source of the index's shape and the input's dtype");
  call.require(y.shape == x.shape && y.dtype == x.dtype, "an output like the input");
  checked_indices(call, index, x.shape[axis], [&](auto index_zero) {
    using I = decltype(index_zero);
    const I* pi = index.as<I>();
    addable_dispatch(call, x.dtype, [&](auto zero) {
      using T = decltype(zero);
      const T *px = x.as<T>(), *ps = source.as<T>();
      T* py = y.as<T>();
      parallel_for(x.numel(), kGrain, [=](int64_t begin, int64_t end) {
        std::memcpy(py + begin, px + begin, static_cast<size_t>(end - begin) * sizeof(T));
      });
      const Strips strips(index.shape, x.shape, axis);
      strips.each([&](int64_t from, int64_t to, int64_t columns) {
        for (int64_t i = 0; i < strips.n; i++, from += strips.index_step)
          for (int64_t j = 0; j < columns; j++) {
            T& sum = py[to + static_cast<int64_t>(pi[from + j]) * strips.whole_step + j];
            sum = wrapping_add(sum, ps[from + j]);
          }
      });
    });
  });
}

/// y[.., i, ..] = x[.., index[i], ..]. Any dtype; whole runs behind the axis move at once.
void index_select_fwd(const Call& call) {
  const TensorView &x = call.in[0], &index = call.in[1], &y = call.out[0];
  const int axis = axis_of(call, x.shape.rank);
  require_selection(call, x, y, axis);
  checked_indices(call, index, x.shape[axis], [&](auto index_zero) {
    using I = decltype(index_zero);
    const I* pi = index.as<I>();
    width_dispatch(x.dtype, [&](auto zero) {
      using T = decltype(zero);
      const T* px = x.as<T>();
      T* py = y.as<T>();
      const Around from(x.shape, axis), to(y.shape, axis);
      if (to.inner == 1)
        return parallel_for(y.numel(), kGrain, [=](int64_t begin, int64_t end) {
          for (int64_t k = begin; k < end; k++)
            py[k] = px[k / to.n * from.n + static_cast<int64_t>(pi[k % to.n])];
        });
      const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, to.inner));
      parallel_for(to.outer * to.n, grain, [=](int64_t begin, int64_t end) {
        for (int64_t k = begin; k < end; k++)
          std::memcpy(py + k * to.inner,
                      px + (k / to.n * from.n + static_cast<int64_t>(pi[k % to.n])) * to.inner,
                      static_cast<size_t>(to.inner) * sizeof(T));
      });
    });
  });
}

/// The transpose of index_select: zeros of the output's shape, then y[.., index[i], ..] += dy[.., i, ..] with
/// i ascending, in the dtype itself. A task owns a run of columns of one outer entry.
void index_add_fwd(const Call& call) {
  const TensorView &dy = call.in[0], &index = call.in[1], &y = call.out[0];
  const int axis = axis_of(call, y.shape.rank);
  require_selection(call, y, dy, axis);
  checked_indices(call, index, y.shape[axis], [&](auto index_zero) {
    using I = decltype(index_zero);
    const I* pi = index.as<I>();
    addable_dispatch(call, dy.dtype, [&](auto zero) {
      using T = decltype(zero);
      constexpr int64_t kColumns = 64;
      const T* pd = dy.as<T>();
      T* py = y.as<T>();
      const Around from(dy.shape, axis), to(y.shape, axis);
      const int64_t pieces = (to.inner + kColumns - 1) / kColumns;
      const int64_t work = std::max<int64_t>(1, (from.n + to.n) * std::min(to.inner, kColumns));
      parallel_for(to.outer * pieces, std::max<int64_t>(1, kGrain / work), [=](int64_t begin, int64_t end) {
        for (int64_t task = begin; task < end; task++) {
          const int64_t outer = task / pieces, column = task % pieces * kColumns;
          const int64_t columns = std::min(kColumns, to.inner - column);
          const T* source = pd + outer * from.n * to.inner + column;
          T* target = py + outer * to.n * to.inner + column;
          for (int64_t k = 0; k < to.n; k++)
            std::memset(target + k * to.inner, 0, static_cast<size_t>(columns) * sizeof(T));
          for (int64_t i = 0; i < from.n; i++) {
            const T* row = source + i * to.inner;
            T* sum = target + static_cast<int64_t>(pi[i]) * to.inner;
            for (int64_t j = 0; j < columns; j++) sum[j] = wrapping_add(sum[j], row[j]);
          }
        }
      });
    });
  });
}

}  // namespace qm::cpu::QM_ISA
