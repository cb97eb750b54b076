// New tensors from numbers, and conversions between element types.
#include <limits>
#include <string>
#include <type_traits>

#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

#include "formulas/convert.h"

namespace {

/// Calls body with an int64_t or int32_t, the two types of an index.
template <class Body>
void index_dispatch(const Call& call, DType dtype, Body&& body) {
  if (dtype == DType::i64) return body(int64_t{});
  if (dtype == DType::i32) return body(int32_t{});
  call.unsupported(dtype);
}

template <class To, class From>
void cast(const From* x, To* y, int64_t n) {
  parallel_for(n, kGrain, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) y[i] = Convert<To>::from(x[i]);
  });
}

}  // namespace

/// Every element is `value`, converted to the dtype.
void fill_fwd(const Call& call) {
  TensorView& y = call.out[0];
  const uint64_t bits = bits_of(y.dtype, call.attrs.f(0));
  width_dispatch(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    T* data = y.as<T>();
    const T value = static_cast<T>(bits);
    parallel_for(y.numel(), kGrain,
                 [=](int64_t begin, int64_t end) { std::fill(data + begin, data + end, value); });
  });
}

/// Element i is start + i * step, computed in double and converted.
void arange_fwd(const Call& call) {
  TensorView& y = call.out[0];
  const double start = call.attrs.f(0), step = call.attrs.f(1);
  dtype_dispatch(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    T* data = y.as<T>();
    parallel_for(y.numel(), kGrain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) data[i] = Convert<T>::from(start + static_cast<double>(i) * step);
    });
  });
}

/// Any dtype to any other. Float to integer goes toward zero, saturates, and makes NaN 0; integers to
/// narrower ones wrap; to bool is x != 0; to float and bfloat16 round once, to nearest even.
void cast_fwd(const Call& call) {
  const TensorView& x = call.in[0];
  TensorView& y = call.out[0];
  const int64_t n = y.numel();
  call.require(x.present && x.numel() == n, "an output as large as the input");
  dtype_dispatch(x.dtype, [&](auto from) {
    dtype_dispatch(y.dtype, [&](auto to) { cast(x.as<const decltype(from)>(), y.as<decltype(to)>(), n); });
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
  const int64_t rows = index.numel(), classes = y.shape.last(0);
  const uint64_t bits = bits_of(y.dtype, 1);
  index_dispatch(call, index.dtype, [&](auto index_zero) {
    using I = decltype(index_zero);
    const I* at = index.as<const I>();
    for (int64_t row = 0; row < rows; row++)
      if (at[row] < 0 || at[row] >= classes)
        throw Error(ErrorKind::index, "oneHot: index out of range; expected 0 <= index < " +
                                          std::to_string(classes) + ", got " + std::to_string(at[row]));
    width_dispatch(y.dtype, [&](auto zero) {
      using T = decltype(zero);
      T* data = y.as<T>();
      const T one = static_cast<T>(bits);
      parallel_for(rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, classes)),
                   [=](int64_t begin, int64_t end) {
                     std::fill(data + begin * classes, data + end * classes, T{0});
                     for (int64_t row = begin; row < end; row++) data[row * classes + at[row]] = one;
                   });
    });
  });
}

}  // namespace qm::cpu::QM_ISA
