// Picking and adding entries by index. A bad index is reported and reads or writes nothing: the error comes
// where the host next waits. Sums of equal indices run in the order of the index, one thread each, so that
// they are the same every time.
#include "cuda/device/fault.cuh"
#include "cuda/device/pack.cuh"

namespace qm::cuda {

namespace {

template <class Body>
void index_dispatch(const Call& call, DType dtype, Body&& body) {
  if (dtype == DType::i32) return body(int32_t{});
  if (dtype == DType::i64) return body(int64_t{});
  call.unsupported(dtype);
}

/// Sums of bool have no meaning, so it is not treated as uint8 here.
template <class Body>
void addable_dispatch(const Call& call, DType dtype, Body&& body) {
  if (dtype == DType::boolean) call.unsupported(dtype);
  number_dispatch(call, dtype, body);
}

/// Integers wrap: added without sign, where overflow is defined.
template <class T>
__device__ __forceinline__ T wrapping_add(T a, T b) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  else
    return narrow<T>(widen(a) + widen(b));
}

int axis_of(const Call& call, int rank) {
  const int64_t axis = call.attrs.i(0);
  call.require(axis >= 0 && axis < rank, "an axis of the tensor");
  return static_cast<int>(axis);
}

/// The dimensions of an index tensor that lies within a larger one of the same rank.
struct Inside {
  int rank, axis;
  int64_t index[kMaxRank], whole[kMaxRank];
  int64_t numel, n, limit;         // of the index; along the axis, in both
  int64_t index_step, whole_step;  // from one position along the axis to the next
};

Inside inside_of(const Call& call, const TensorView& index, const TensorView& whole, int axis) {
  call.require(index.present && whole.present && index.shape.rank == whole.shape.rank,
               "an index of the input's rank");
  Inside s = {};
  s.rank = index.shape.rank;
  s.axis = axis;
  for (int k = 0; k < s.rank; k++) {
    call.require(k == axis || index.shape[k] <= whole.shape[k], "an index within the input");
    s.index[k] = index.shape[k];
    s.whole[k] = whole.shape[k];
  }
  s.numel = index.numel();
  s.n = index.shape[axis];
  s.limit = whole.shape[axis];
  s.index_step = index.shape.count(axis + 1, s.rank);
  s.whole_step = whole.shape.count(axis + 1, s.rank);
  return s;
}

/// Where a column (an element of the index with its position along the axis left out) begins in both.
__device__ __forceinline__ void column_of(const Inside& s, int64_t column, int64_t* from, int64_t* to) {
  int64_t from_stride = 1, to_stride = 1;
  *from = *to = 0;
  for (int k = s.rank - 1; k >= 0; k--) {
    if (k != s.axis) {
      *from += column % s.index[k] * from_stride;
      *to += column % s.index[k] * to_stride;
      column /= s.index[k];
    }
    from_stride *= s.index[k];
    to_stride *= s.whole[k];
  }
}

/// One element a thread.
template <class I, class T>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(const T* x, const I* index, T* y, const __grid_constant__ Inside s, Fault* fault, int row) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= s.numel) return;
  const int64_t column = i / (s.index_step * s.n) * s.index_step + i % s.index_step;
  int64_t from, to;
  column_of(s, column, &from, &to);
  const int64_t at = static_cast<int64_t>(index[i]);
  if (at < 0 || at >= s.limit) {
    report(fault, FaultKind::index, row, at, s.limit);
    return;
  }
  y[i] = x[to + at * s.whole_step];
}

/// One column a thread: its entries in their order.
template <class I, class T>
__global__ void __launch_bounds__(kThreads)
    scatter_add_kernel(const I* index, const T* source, T* y, const __grid_constant__ Inside s,
                       int64_t columns, Fault* fault, int row) {
  const int64_t column = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (column >= columns) return;
  int64_t from, to;
  column_of(s, column, &from, &to);
  for (int64_t k = 0; k < s.n; k++, from += s.index_step) {
    const int64_t at = static_cast<int64_t>(index[from]);
    if (at < 0 || at >= s.limit) {
      report(fault, FaultKind::index, row, at, s.limit);
      continue;
    }
    T* sum = y + to + at * s.whole_step;
    *sum = wrapping_add(*sum, source[from]);
  }
}

/// y[outer][i][inner] = x[outer][index[i]][inner], in units of up to 16 bytes; one unit a thread.
template <class I, class Unit>
__global__ void __launch_bounds__(kThreads)
    index_select_kernel(const Unit* x, const I* index, Unit* y, int64_t numel, int64_t n, int64_t limit,
                        int64_t inner, Fault* fault, int row) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= numel) return;
  const int64_t line = i / inner, column = i % inner;
  const int64_t at = static_cast<int64_t>(index[line % n]);
  if (at < 0 || at >= limit) {
    report(fault, FaultKind::index, row, at, limit);
    return;
  }
  y[i] = x[(line / n * limit + at) * inner + column];
}

/// The positions of the index, sorted by what they name and then by their own order: starts [limit + 1] and
/// members [n]. One block; n and limit are the sizes of one axis.
template <class I>
__global__ void index_members_kernel(const I* index, int64_t n, int64_t limit, int64_t* starts,
                                     int64_t* members, Fault* fault, int row) {
  for (int64_t target = threadIdx.x; target < limit; target += blockDim.x) {
    int64_t count = 0;
    for (int64_t k = 0; k < n; k++) count += static_cast<int64_t>(index[k]) == target;
    starts[target + 1] = count;
  }
  for (int64_t k = threadIdx.x; k < n; k += blockDim.x)
    if (static_cast<int64_t>(index[k]) < 0 || static_cast<int64_t>(index[k]) >= limit)
      report(fault, FaultKind::index, row, static_cast<long long>(index[k]), limit);
  __syncthreads();
  if (threadIdx.x == 0) {
    starts[0] = 0;
    for (int64_t target = 0; target < limit; target++) starts[target + 1] += starts[target];
  }
  __syncthreads();
  for (int64_t target = threadIdx.x; target < limit; target += blockDim.x) {
    int64_t at = starts[target];
    for (int64_t k = 0; k < n; k++)
      if (static_cast<int64_t>(index[k]) == target) members[at++] = k;
  }
}

/// One element of the sum a thread, its members in order, in the dtype itself.
template <class T>
__global__ void __launch_bounds__(kThreads)
    index_add_kernel(const T* dy, const int64_t* starts, const int64_t* members, T* y, int64_t numel,
                     int64_t n, int64_t limit, int64_t inner) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= numel) return;
  const int64_t line = i / inner, column = i % inner, target = line % limit, outer = line / limit;
  T sum{};
  for (int64_t k = starts[target]; k < starts[target + 1]; k++)
    sum = wrapping_add(sum, dy[(outer * n + members[k]) * inner + column]);
  y[i] = sum;
}

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
  const Inside s = inside_of(call, index, x, axis);
  call.require(y.shape == index.shape && y.dtype == x.dtype,
               "an output of the index's shape and the input's dtype");
  index_dispatch(call, index.dtype, [&](auto index_zero) {
    using I = decltype(index_zero);
    width_dispatch(x.dtype, [&](auto zero) {
      using T = decltype(zero);
      QM_LAUNCH(call, (gather_kernel<I, T>), grid_of(s.numel), kThreads, 0, x.as<T>(), index.as<I>(),
                y.as<T>(), s, fault(), call.row);
    });
  });
}

/// y = x, then y[index[i][j][k]][j][k] += source[i][j][k] for axis 0, and so on. Equal indices add up in
/// their order along the axis, in the dtype itself.
void scatter_add_fwd(const Call& call) {
  const TensorView &x = call.in[0], &index = call.in[1], &source = call.in[2], &y = call.out[0];
  const int axis = axis_of(call, x.shape.rank);
  const Inside s = inside_of(call, index, x, axis);
  call.require(source.present && source.shape == index.shape && source.dtype == x.dtype,
               "a source of the index's shape and the input's dtype");
  call.require(y.shape == x.shape && y.dtype == x.dtype, "an output like the input");
  index_dispatch(call, index.dtype, [&](auto index_zero) {
    using I = decltype(index_zero);
    addable_dispatch(call, x.dtype, [&](auto zero) {
      using T = decltype(zero);
      if (x.numel() > 0)
        check(cudaMemcpyAsync(y.data, x.data, static_cast<size_t>(x.numel()) * sizeof(T),
                              cudaMemcpyDeviceToDevice, stream()),
              "copying a tensor");
      const int64_t columns = s.n > 0 ? s.numel / s.n : 0;
      QM_LAUNCH(call, (scatter_add_kernel<I, T>), grid_of(columns), kThreads, 0, index.as<I>(),
                source.as<T>(), y.as<T>(), s, columns, fault(), call.row);
    });
  });
}

/// y[.., i, ..] = x[.., index[i], ..]. Any dtype.
void index_select_fwd(const Call& call) {
  const TensorView &x = call.in[0], &index = call.in[1], &y = call.out[0];
  const int axis = axis_of(call, x.shape.rank);
  require_selection(call, x, y, axis);
  const int64_t inner = y.shape.count(axis + 1, y.shape.rank), n = y.shape[axis], limit = x.shape[axis];
  index_dispatch(call, index.dtype, [&](auto index_zero) {
    using I = decltype(index_zero);
    const auto run = [&](auto unit, int64_t each) {
      using Unit = decltype(unit);
      QM_LAUNCH(call, (index_select_kernel<I, Unit>), grid_of(y.numel() / each), kThreads, 0,
                static_cast<const Unit*>(x.data), index.as<I>(), static_cast<Unit*>(y.data), y.numel() / each,
                n, limit, inner / each, fault(), call.row);
    };
    const int64_t each = 16 / static_cast<int64_t>(dtype_size(x.dtype));
    if (inner % each == 0) return run(uint4{}, each);
    width_dispatch(x.dtype, [&](auto zero) { run(zero, 1); });
  });
}

/// The transpose of index_select: y[.., index[i], ..] is the sum of dy[.., i, ..], i ascending.
void index_add_fwd(const Call& call) {
  const TensorView &dy = call.in[0], &index = call.in[1], &y = call.out[0];
  const int axis = axis_of(call, y.shape.rank);
  require_selection(call, y, dy, axis);
  const int64_t inner = y.shape.count(axis + 1, y.shape.rank), n = dy.shape[axis], limit = y.shape[axis];
  const Scratch<int64_t> starts(limit + 1), members(std::max<int64_t>(1, n));
  index_dispatch(call, index.dtype, [&](auto index_zero) {
    using I = decltype(index_zero);
    QM_LAUNCH(call, index_members_kernel<I>, dim3(1), dim3(1024), 0, index.as<I>(), n, limit, starts.get(),
              members.get(), fault(), call.row);
  });
  addable_dispatch(call, dy.dtype, [&](auto zero) {
    using T = decltype(zero);
    QM_LAUNCH(call, index_add_kernel<T>, grid_of(y.numel()), kThreads, 0, dy.as<T>(), starts.get(),
              members.get(), y.as<T>(), y.numel(), n, limit, inner);
  });
}

}  // namespace qm::cuda
