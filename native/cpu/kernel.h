// What every kernel source includes. Each file of this folder that defines kernels is compiled once per
// instruction set, with QM_ISA naming the namespace: baseline, avx2 or avx512.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/call.h"
#include "cpu/allocator.h"
#include "cpu/simd.h"
#include "cpu/thread_pool.h"

namespace qm::cpu::QM_ISA {

#define QM_OP(name, n_in, n_out, attrs) void name(const Call& call);
#include "ops.def"
#undef QM_OP

/// Calls body with a value of the C++ type of a floating dtype.
template <class Body>
void float_dispatch(const Call& call, DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f32:
      return body(float{});
    case DType::f64:
      return body(double{});
    default:
      call.unsupported(dtype);
  }
}

/// Calls body with a value of the C++ type of any dtype that has arithmetic.
template <class Body>
void number_dispatch(const Call& call, DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f32:
      return body(float{});
    case DType::f64:
      return body(double{});
    case DType::i32:
      return body(int32_t{});
    case DType::i64:
      return body(int64_t{});
    case DType::u8:
    case DType::boolean:
      return body(uint8_t{});
    default:
      call.unsupported(dtype);
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

/// Elements that one task should handle so that its work outweighs the cost of handing it out.
constexpr int64_t kGrain = 16384;

}  // namespace qm::cpu::QM_ISA
