// Matrix products. An operand is a pointer and two strides, so that every transpose is the same code; B is
// packed into column panels, A is read where it lies.
#pragma once
#include <cstdint>

#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

/// Element (i, j) at data[i * row + j * col]; one of the strides is 1.
template <class T>
struct Matrix {
  const T* data;
  int64_t row;
  int64_t col;
};

/// Writes a function of n elements of a row: what an operand is put through as it is packed.
template <class T>
using RowMap = void (*)(const T* from, int64_t n, T* to);

/// Elements that `pack_b` writes for a [k, n] operand.
template <class T>
int64_t packed_size(int64_t k, int64_t n);

/// Packs B [k, n], or map(B) where B lies in rows, for gemm_packed; on all threads.
template <class T>
void pack_b(int64_t k, int64_t n, Matrix<T> b, T* packed, RowMap<T> map = nullptr);

/// C [m, n] (row stride ldc) = A B, or += with accumulate; bias [n] may be null. On the calling thread.
template <class T>
void gemm_packed(int64_t m, int64_t n, int64_t k, Matrix<T> a, const T* packed, T* c, int64_t ldc,
                 const T* bias, bool accumulate);

/// The same from an unpacked B, on all threads. Cut into row blocks, or, where m and n are small and k is
/// long, into pieces of k whose sums are added in order: both by shape alone.
template <class T>
void gemm(int64_t m, int64_t n, int64_t k, Matrix<T> a, Matrix<T> b, T* c, int64_t ldc, const T* bias,
          RowMap<T> map_b = nullptr);

}  // namespace qm::cpu::QM_ISA
