// The register block of a matrix product: R rows of A times one panel of B, summed over k in ascending order.
// With 32 vector registers it is 8 x 3 vectors: 24 sums, three of B, one of A, and widths of 48 columns, which
// the models' channels are multiples of. With 16 registers it is 6 x 2. Included by cpu/gemm.cpp alone.
#pragma once
#include "cpu/gemm.h"

namespace qm::cpu::QM_ISA {

namespace {

// The heights that exist, from tall to low: a block of rows is cut into the tallest that fit.
#if defined(__AVX512F__)
constexpr int kHeights[] = {8, 4, 2, 1};
constexpr int kVectors = 3;
#elif defined(__AVX2__)
constexpr int kHeights[] = {6, 4, 2, 1};
constexpr int kVectors = 2;
#elif defined(__ARM_NEON)
constexpr int kHeights[] = {8, 4, 2, 1};
constexpr int kVectors = 2;
#else
constexpr int kHeights[] = {4, 2, 1};
constexpr int kVectors = 2;
#endif

template <class T>
constexpr int64_t kPanel = kVectors * kLanes<T>;  // columns of a panel

/// Where the product goes.
template <class T>
struct Target {
  T* c;
  int64_t ldc;
  const T* bias;  // [columns] or null
  bool accumulate;
  bool stream;  // past the caches; whole aligned vectors only, and not with accumulate
};

/// What will be read soon: one cache line of it is asked for with every k.
struct Ahead {
  const char* at;
  int64_t step;  // bytes; 0: always the same line, a mapped one, or every k would search the page tables
};

/// An array stays in registers only if all loops over it are unrolled.
#if defined(__clang__)
#define QM_UNROLL _Pragma("unroll")
#else
#define QM_UNROLL _Pragma("GCC unroll 8")
#endif

/// Writes sums + bias, or adds the sums to C. `width` columns of the panel exist.
template <class T, int R, int V>
QM_INLINE void write_block(const Vec<T> (&sums)[R][V], const Target<T>& to, int64_t width) {
  QM_UNROLL for (int v = 0; v < V; v++) {
    const int64_t at = v * kLanes<T>, count = width - at;
    T* c = to.c + at;
    if (to.accumulate) {
      QM_UNROLL for (int r = 0; r < R; r++)
          store_n(c + r * to.ldc, load_n(c + r * to.ldc, count) + sums[r][v], count);
      continue;
    }
    const Vec<T> bias = to.bias ? load_n(to.bias + at, count) : Vec<T>{};
    if (to.stream) {
      QM_UNROLL for (int r = 0; r < R; r++) store_stream(c + r * to.ldc, sums[r][v] + bias);
    } else {
      QM_UNROLL for (int r = 0; r < R; r++) store_n(c + r * to.ldc, sums[r][v] + bias, count);
    }
  }
}

/// Hides where a value comes from, so that the compiler keeps the distance between rows of A instead of a pointer
/// per row: it has no registers for those.
QM_INLINE void opaque(int64_t& value) { asm("" : "+r"(value)); }

/// A lies in rows (element (r, p) at a[r * step + p]) or in columns (a[r + p * step]).
template <class T, int R, int V, bool kInRows>
void micro_kernel(int64_t depth, const T* a, int64_t step, const T* panel, const Target<T>& to, int64_t width,
                  Ahead ahead) {
  Vec<T> sums[R][V];
  QM_UNROLL for (int r = 0; r < R; r++) QM_UNROLL for (int v = 0; v < V; v++) sums[r][v] = Vec<T>{};
  const auto add_row = [&](const T* b, auto a_of) {
    __builtin_prefetch(ahead.at);
    ahead.at += ahead.step;
    Vec<T> bv[V];
    QM_UNROLL for (int v = 0; v < V; v++) bv[v] = load(b + v * kLanes<T>);
    QM_UNROLL for (int r = 0; r < R; r++) {
      const Vec<T> ar = splat(a_of(r));
      QM_UNROLL for (int v = 0; v < V; v++) sums[r][v] = mul_add(ar, bv[v], sums[r][v]);
    }
  };
  if constexpr (kInRows) {
    const T* high = R > 5 ? a + 5 * step : a;
    for (int64_t p = 0; p < depth; p++, panel += kPanel<T>) {
      opaque(step);
      add_row(panel, [&](int r) { return r < 5 ? a[r * step + p] : high[(r - 5) * step + p]; });
    }
  } else {
    for (int64_t p = 0; p < depth; p++, panel += kPanel<T>, a += step)
      add_row(panel, [&](int r) { return a[r]; });
  }
  write_block<T, R, V>(sums, to, width);
}

}  // namespace

#undef QM_UNROLL

}  // namespace qm::cpu::QM_ISA
