// What every CUDA kernel source includes. A file holds one family of ops: kernels, and the launchers that the
// table names. Tensors are float32, float64 or bfloat16 (storage only: arithmetic on it is float32);
// parameters of bfloat16 data are float32.
#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "core/call.h"
#include "cuda/runtime.h"

// Formulas are compiled for one lane, on either side.
#define QM_INLINE static __host__ __device__ __forceinline__
#define QM_TABLE __device__ constexpr

namespace qm::cuda {

#define QM_OP(name, n_in, n_out, attrs) void name(const Call& call);
#include "ops.def"
#undef QM_OP

using bf16 = __nv_bfloat16;

/// What a type computes in, and the dtype of parameters, statistics and states beside it.
template <class T>
struct AccOf {
  using type = T;
};
template <>
struct AccOf<bf16> {
  using type = float;
};
template <class T>
using Acc = typename AccOf<T>::type;

inline DType acc_dtype(DType dtype) { return dtype == DType::bf16 ? DType::f32 : dtype; }

template <class T>
QM_INLINE Acc<T> widen(T x) {
  if constexpr (std::is_same_v<T, bf16>)
    return __bfloat162float(x);
  else
    return x;
}
/// To nearest, ties to even.
template <class T>
QM_INLINE T narrow(Acc<T> x) {
  if constexpr (std::is_same_v<T, bf16>)
    return __float2bfloat16_rn(x);
  else
    return x;
}

/// Calls body with a value of the C++ type of a dtype that has arithmetic and gradients.
template <class Body>
void float_dispatch(const Call& call, DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f32:
      return body(float{});
    case DType::f64:
      return body(double{});
    case DType::bf16:
      return body(bf16{});
    default:
      call.unsupported(dtype);
  }
}

/// As float_dispatch, and integers: for ops that count and compare.
template <class Body>
void number_dispatch(const Call& call, DType dtype, Body&& body) {
  switch (dtype) {
    case DType::i32:
      return body(int32_t{});
    case DType::i64:
      return body(int64_t{});
    case DType::u8:
    case DType::boolean:
      return body(uint8_t{});
    default:
      return float_dispatch(call, dtype, body);
  }
}

/// Calls body with an unsigned integer as wide as the dtype: for kernels that only move elements.
template <class Body>
void width_dispatch(DType dtype, Body&& body) {
  switch (dtype_size(dtype)) {
    case 1:
      return body(uint8_t{});
    case 2:
      return body(uint16_t{});
    case 4:
      return body(uint32_t{});
    default:
      return body(uint64_t{});
  }
}

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr int64_t kMaxGrid = 1 << 30;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Launches a kernel on the stream of all work. A refused launch names kernel, sizes and reason; with
/// QUADMAMBA_CUDA_SYNC=1 the call waits, so that a fault inside the kernel is blamed on it and not on a later
/// call.
template <class... Params, class... Args>
void launch(const Call& call, const char* kernel_name, void (*kernel)(Params...), dim3 grid, dim3 block,
            size_t shared, Args... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  prepare_shared(reinterpret_cast<const void*>(kernel), shared);
  kernel<<<grid, block, shared, stream()>>>(static_cast<Params>(args)...);
  check_launch(call.op, kernel_name, grid, block, shared);
}
#define QM_LAUNCH(call, kernel, grid, block, shared, ...) \
  ::qm::cuda::launch(call, #kernel, kernel, grid, block, shared, ##__VA_ARGS__)

/// Blocks for n items of which each block takes `per_block`.
inline dim3 grid_of(int64_t n, int64_t per_block = kThreads) {
  const int64_t blocks = ceil_div(n, per_block);
  if (blocks > kMaxGrid) throw Error(ErrorKind::shape, "too many elements for one launch");
  return dim3(static_cast<unsigned>(blocks));
}

}  // namespace qm::cuda
