// Sums and maxima over one row, for the kernels that normalise rows. A sum runs in lanes over blocks of at
// most kRowBlock elements, whose sums are added in double: the error stays near one rounding, and the tree
// depends on the length only.
#pragma once
#include <limits>

#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

constexpr int64_t kRowBlock = 4096;

/// The first n lanes of v; the rest are `other`.
template <class T>
QM_INLINE Vec<T> first_or(Vec<T> v, int64_t n, T other) {
  if (n >= kLanes<T>) return v;
  Vec<T> lane;
  for (int l = 0; l < kLanes<T>; l++) lane[l] = static_cast<T>(l);
  return lane < splat(static_cast<T>(n)) ? v : splat(other);
}

/// Sum over i in [begin, end) of value(i, count), which gives the lanes from i, zero from `count` on; lanes are yet
/// to be summed.
template <class T, class Value>
QM_INLINE Vec<T> row_lanes(int64_t begin, int64_t end, Value value) {
  constexpr int64_t step = kLanes<T>;
  Vec<T> even = {}, odd = {};
  int64_t i = begin;
  for (; i + 2 * step <= end; i += 2 * step) {
    even += value(i, step);
    odd += value(i + step, step);
  }
  for (; i < end; i += step) even += value(i, end - i);
  return even + odd;
}
template <class T, class Value>
QM_INLINE double row_sum(int64_t n, Value value) {
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kRowBlock)
    total += static_cast<double>(lane_sum<T>(row_lanes<T>(begin, std::min(n, begin + kRowBlock), value)));
  return total;
}

/// The largest element; NaN elements do not count, they reach the result through the exponentials.
template <class T>
QM_INLINE T row_max(const T* x, int64_t n) {
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  Vec<T> most = splat(lowest);
  for (int64_t i = 0; i < n; i += kLanes<T>) {
    const Vec<T> v = first_or<T>(load_n(x + i, n - i), n - i, lowest);
    most = v > most ? v : most;
  }
  T result = lowest;
  for (int l = 0; l < kLanes<T>; l++) result = most[l] > result ? most[l] : result;
  return result;
}

/// Rows of n elements that one task should handle.
QM_INLINE int64_t rows_per_task(int64_t n) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, n)); }

}  // namespace qm::cpu::QM_ISA
