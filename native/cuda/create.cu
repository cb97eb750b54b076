// New tensors from numbers, and conversions between element types.
#include "cuda/device/fault.cuh"
#include "cuda/kernel.cuh"

namespace qm::cuda {

#include "formulas/convert.h"

namespace {

/// Writes `value` into n elements.
template <class T>
__global__ void __launch_bounds__(kThreads) fill_kernel(T* y, int64_t n, T value) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i < n) y[i] = value;
}

template <class T>
__global__ void __launch_bounds__(kThreads) arange_kernel(T* y, int64_t n, double start, double step) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i < n) y[i] = Convert<T>::from(__dadd_rn(start, __dmul_rn(static_cast<double>(i), step)));
}

/// Four elements a thread.
template <class From, class To>
__global__ void __launch_bounds__(kThreads) cast_kernel(const From* x, To* y, int64_t n) {
  struct alignas(4 * sizeof(From)) Source {
    From v[4];
  };
  struct alignas(4 * sizeof(To)) Target {
    To v[4];
  };
  const int64_t i = (blockIdx.x * int64_t{kThreads} + threadIdx.x) * 4;
  if (i + 4 <= n) {
    const Source a = *reinterpret_cast<const Source*>(x + i);
    Target r;
#pragma unroll
    for (int k = 0; k < 4; k++) r.v[k] = Convert<To>::from(a.v[k]);
    *reinterpret_cast<Target*>(y + i) = r;
  } else {
    for (int64_t k = i; k < n; k++) y[k] = Convert<To>::from(x[k]);
  }
}

/// One element of the output a thread.
template <class I, class T>
__global__ void __launch_bounds__(kThreads)
    one_hot_kernel(const I* index, T* y, int64_t n, int64_t classes, T one, Fault* fault, int row) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= n) return;
  const int64_t at = static_cast<int64_t>(index[i / classes]), column = i % classes;
  if (column == 0 && (at < 0 || at >= classes)) report(fault, FaultKind::index, row, at, classes);
  y[i] = column == at ? one : T{0};
}

}  // namespace

/// Every element is `value`, converted to the dtype.
void fill_fwd(const Call& call) {
  TensorView& y = call.out[0];
  const uint64_t bits = bits_of(y.dtype, call.attrs.f(0));
  width_dispatch(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    QM_LAUNCH(call, fill_kernel<T>, grid_of(y.numel()), kThreads, 0, y.as<T>(), y.numel(),
              static_cast<T>(bits));
  });
}

/// Element i is start + i * step, computed in double and converted.
void arange_fwd(const Call& call) {
  TensorView& y = call.out[0];
  dtype_dispatch(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    QM_LAUNCH(call, arange_kernel<T>, grid_of(y.numel()), kThreads, 0, y.as<T>(), y.numel(), call.attrs.f(0),
              call.attrs.f(1));
  });
}

/// Any dtype to any other, by formulas/convert.h.
void cast_fwd(const Call& call) {
  const TensorView& x = call.in[0];
  TensorView& y = call.out[0];
  const int64_t n = y.numel();
  call.require(x.present && x.numel() == n, "an output as large as the input");
  dtype_dispatch(x.dtype, [&](auto from) {
    dtype_dispatch(y.dtype, [&](auto to) {
      using From = decltype(from);
      using To = decltype(to);
      QM_LAUNCH(call, (cast_kernel<From, To>), grid_of(n, kThreads * 4), kThreads, 0, x.as<From>(),
                y.as<To>(), n);
    });
  });
}

/// Indices [...] to [..., classes]: 1 at the index, 0 elsewhere.
void one_hot_fwd(const Call& call) {
  const TensorView& index = call.in[0];
  TensorView& y = call.out[0];
  call.require(index.present && y.shape.rank == index.shape.rank + 1,
               "an output with one dimension more than the indices");
  for (int axis = 0; axis < index.shape.rank; axis++)
    call.require(y.shape[axis] == index.shape[axis], "an output of shape [...indices, classes]");
  const int64_t classes = y.shape.last(0);
  const uint64_t bits = bits_of(y.dtype, 1);
  const auto run = [&](auto index_zero) {
    using I = decltype(index_zero);
    width_dispatch(y.dtype, [&](auto zero) {
      using T = decltype(zero);
      QM_LAUNCH(call, (one_hot_kernel<I, T>), grid_of(y.numel()), kThreads, 0, index.as<I>(), y.as<T>(),
                y.numel(), classes, static_cast<T>(bits), fault(), call.row);
    });
  };
  if (index.dtype == DType::i64) return run(int64_t{});
  if (index.dtype == DType::i32) return run(int32_t{});
  call.unsupported(index.dtype);
}

}  // namespace qm::cuda
