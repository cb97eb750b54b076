// Transposition of squares of lanes, in registers: log2(lanes) rounds of shuffles of two vectors.
#pragma once
#include <type_traits>

#include "cpu/simd.h"

namespace qm::cpu::QM_ISA {

/// Exchanges the lanes of a whose number has the bit kBit with those of b whose number has not.
template <int kBit, class T>
QM_INLINE void exchange_lanes(Vec<T>& a, Vec<T>& b) {
  const Vec<T> from_a = a, from_b = b;
#if defined(__clang__)  // makes shuffles of this
  for (int l = 0; l < kLanes<T>; l++) {
    a[l] = l & kBit ? from_b[l - kBit] : from_a[l];
    b[l] = l & kBit ? from_b[l] : from_a[l + kBit];
  }
#else
  Vec<std::conditional_t<sizeof(T) == 4, int32_t, int64_t> > low, high;  // numbers of lanes of a, then of b
  for (int l = 0; l < kLanes<T>; l++) {
    low[l] = l & kBit ? kLanes<T> + l - kBit : l;
    high[l] = l & kBit ? kLanes<T> + l : l + kBit;
  }
  a = __builtin_shuffle(from_a, from_b, low);
  b = __builtin_shuffle(from_a, from_b, high);
#endif
}

template <class T, int kBit = kLanes<T> / 2>
QM_INLINE void transpose_lanes(Vec<T> (&rows)[kLanes<T>]) {
  if constexpr (kBit > 0) {
    for (int r = 0; r < kLanes<T>; r++)
      if (!(r & kBit)) exchange_lanes<kBit, T>(rows[r], rows[r + kBit]);
    transpose_lanes<T, kBit / 2>(rows);
  }
}

}  // namespace qm::cpu::QM_ISA
