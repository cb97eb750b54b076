// Reductions over the middle axis of [outer, n, inner]. Floating sums run in lanes over blocks of at most
// 4096 elements, whose sums are added in double: the error stays near one rounding, and the tree depends on
// the shape only.
#include <limits>

#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

#include "formulas/math.h"

namespace {

constexpr int64_t kBlock = 4096;

struct Dims {
  int64_t outer, n, inner;
};

Dims dims_of(const Call& call) {
  const Dims d{call.attrs.i(0), call.attrs.i(1), call.attrs.i(2)};
  call.require(d.outer >= 0 && d.n >= 0 && d.inner >= 0, "sizes of at least 0");
  const int64_t in = call.in[0].numel(), out = call.out[0].numel();
  const bool empty = d.outer == 0 || d.n == 0 || d.inner == 0;
  call.require(empty ? in == 0
                     : d.outer <= in && d.n <= in && d.inner <= in && d.outer * d.n <= in &&
                           d.outer * d.n * d.inner == in,
               "outer * n * inner = elements of the input");
  call.require(d.outer == 0 || d.inner == 0 ? out == 0 : out / d.outer == d.inner && out % d.outer == 0,
               "outer * inner = elements of the output");
  return d;
}

template <class T>
double sum_block(const T* x, int64_t n) {
  Vec<T> lanes[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes<T> <= n; i += 4 * kLanes<T>)
    for (int u = 0; u < 4; u++) lanes[u] += load(x + i + u * kLanes<T>);
  for (; i < n; i += kLanes<T>) lanes[0] += load_n(x + i, n - i);
  return static_cast<double>(lane_sum<T>((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])));
}

template <class T>
void sum_float(const T* x, T* y, Dims d) {
  if (d.inner == 1) {
    const int64_t blocks = (d.n + kBlock - 1) / kBlock;
    if (d.outer == 1 && blocks > 1) {  // one long sum: its blocks in parallel, then in order
      Scratch<double> partial(static_cast<size_t>(blocks));
      parallel_tasks(blocks, [&](int64_t b) {
        partial[b] = sum_block(x + b * kBlock, std::min(kBlock, d.n - b * kBlock));
      });
      double total = 0;
      for (int64_t b = 0; b < blocks; b++) total += partial[b];
      y[0] = static_cast<T>(total);
      return;
    }
    return parallel_for(d.outer, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, d.n)),
                        [=](int64_t begin, int64_t end) {
                          for (int64_t o = begin; o < end; o++) {
                            double total = 0;
                            for (int64_t b = 0; b < d.n; b += kBlock)
                              total += sum_block(x + o * d.n + b, std::min(kBlock, d.n - b));
                            y[o] = static_cast<T>(total);
                          }
                        });
  }
  // Columns: a vector of neighbouring columns per step. Rows are cut into a fixed number of pieces when there
  // are few tasks.
  constexpr int64_t kColumns = 4 * kLanes<T>;
  const int64_t groups = (d.inner + kColumns - 1) / kColumns;
  const int64_t pieces = d.outer * groups >= 16 ? 1 : std::min<int64_t>(16, (d.n + 1023) / 1024);
  const int64_t per_piece = pieces > 0 ? (d.n + pieces - 1) / pieces : 0;
  const auto column_sums = [=](int64_t o, int64_t group, int64_t from, int64_t to, double* sums) {
    const int64_t c0 = group * kColumns, width = std::min(kColumns, d.inner - c0);
    for (int64_t c = 0; c < width; c++) sums[c] = 0;
    for (int64_t block = from; block < to; block += 256) {
      const int64_t stop = std::min(to, block + 256);
      Vec<T> acc[4] = {};
      const T* p = x + (o * d.n + block) * d.inner + c0;
      const int64_t last = (width - 1) % kLanes<T> + 1;  // lanes of the last vector
      const auto add = [&](auto vectors) __attribute__((always_inline)) {
        for (int64_t r = block; r < stop; r++, p += d.inner)
          for (int v = 0; v < vectors; v++)
            acc[v] += v < vectors - 1 ? load(p + v * kLanes<T>) : load_n(p + v * kLanes<T>, last);
      };
      switch ((width + kLanes<T> - 1) / kLanes<T>) {
        case 1:
          add(std::integral_constant<int, 1>{});
          break;
        case 2:
          add(std::integral_constant<int, 2>{});
          break;
        case 3:
          add(std::integral_constant<int, 3>{});
          break;
        default:
          add(std::integral_constant<int, 4>{});
      }
      for (int64_t c = 0; c < width; c++) sums[c] += static_cast<double>(acc[c / kLanes<T>][c % kLanes<T>]);
    }
  };
  if (pieces <= 1)
    return parallel_tasks(d.outer * groups, [=](int64_t task) {
      const int64_t o = task / groups, group = task % groups;
      double sums[kColumns];
      column_sums(o, group, 0, d.n, sums);
      for (int64_t c = 0; c < std::min(kColumns, d.inner - group * kColumns); c++)
        y[o * d.inner + group * kColumns + c] = static_cast<T>(sums[c]);
    });
  Scratch<double> partial(static_cast<size_t>(d.outer * groups * pieces * kColumns));
  parallel_tasks(d.outer * groups * pieces, [&](int64_t task) {
    const int64_t piece = task % pieces, rest = task / pieces;
    column_sums(rest / groups, rest % groups, std::min(d.n, piece * per_piece),
                std::min(d.n, (piece + 1) * per_piece), &partial[task * kColumns]);
  });
  for (int64_t o = 0; o < d.outer; o++)
    for (int64_t c = 0; c < d.inner; c++) {
      const int64_t first = (o * groups + c / kColumns) * pieces;
      double total = 0;
      for (int64_t piece = 0; piece < pieces; piece++)
        total += partial[(first + piece) * kColumns + c % kColumns];
      y[o * d.inner + c] = static_cast<T>(total);
    }
}

/// One result per (outer, inner) from a strided walk over n.
template <class T, class Y, class Fn>
void walk(const T* x, Y* y, Dims d, Fn fn) {
  parallel_for(d.outer * d.inner, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, d.n)),
               [=](int64_t begin, int64_t end) {
                 for (int64_t k = begin; k < end; k++)
                   y[k] = fn(x + (k / d.inner) * d.n * d.inner + k % d.inner);
               });
}

/// NaN wins; of equal ones either.
template <bool kMax, class T>
QM_INLINE Vec<T> extreme_of(Vec<T> best, Vec<T> v) {
  return ((kMax ? v > best : v < best) | (v != v)) ? v : best;
}

/// Floats, a vector at a time: along a row, or over neighbouring columns.
template <bool kMax, class T>
void extreme_float(const T* x, T* y, Dims d) {
  if (d.inner > 1) {
    const int64_t vectors = (d.inner + kLanes<T> - 1) / kLanes<T>;
    return parallel_for(
        d.outer * vectors, std::max<int64_t>(1, kGrain / (d.n * kLanes<T>)), [=](int64_t begin, int64_t end) {
          for (int64_t task = begin; task < end; task++) {
            const int64_t o = task / vectors, c = task % vectors * kLanes<T>, count = d.inner - c;
            const T* p = x + o * d.n * d.inner + c;
            Vec<T> best = load_n(p, count);
            for (int64_t i = 1; i < d.n; i++)
              best = extreme_of<kMax, T>(best, load_n(p + i * d.inner, count));
            store_n(y + o * d.inner + c, best, count);
          }
        });
  }
  parallel_for(d.outer, std::max<int64_t>(1, kGrain / d.n), [=](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; o++) {
      const T* p = x + o * d.n;
      // short rows and tails: what is not there is a copy of the first element
      const Vec<T> first = splat(p[0]);
      Vec<T> best = first;
      int64_t i = 0;
      for (; i + kLanes<T> <= d.n; i += kLanes<T>) best = extreme_of<kMax, T>(best, load(p + i));
      if (i < d.n) {
        T tail[kLanes<T>];
        store(tail, first);
        std::copy(p + i, p + d.n, tail);
        best = extreme_of<kMax, T>(best, load(tail));
      }
      T result = best[0];
      for (int l = 1; l < kLanes<T>; l++)
        if ((kMax ? best[l] > result : best[l] < result) || best[l] != best[l]) result = best[l];
      y[o] = result;
    }
  });
}

template <bool kMax>
void extreme(const Call& call) {
  const Dims d = dims_of(call);
  call.require(d.n > 0 || call.out[0].numel() == 0, "at least one element to reduce");
  call.require(call.out[0].dtype == call.in[0].dtype, "an output of the input's dtype");
  number_dispatch(call, call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_floating_point_v<T>) {
      if (d.n > 0) extreme_float<kMax>(call.in[0].as<const T>(), call.out[0].as<T>(), d);
      return;
    }
    walk(call.in[0].as<T>(), call.out[0].as<T>(), d, [=](const T* p) {
      T best = *p;
      for (int64_t i = 1; i < d.n; i++) {
        const T v = p[i * d.inner];
        best = (kMax ? v > best : v < best) ? v : best;
      }
      return best;
    });
  });
}

}  // namespace

/// float: same dtype. Integers and bool: int64.
void sum_fwd(const Call& call) {
  const Dims d = dims_of(call);
  const DType type = call.in[0].dtype;
  if (type == DType::f32 || type == DType::f64) {
    call.require(call.out[0].dtype == type, "an output of the input's dtype");
    return float_dispatch(call, type, [&](auto zero) {
      using T = decltype(zero);
      sum_float(call.in[0].as<T>(), call.out[0].as<T>(), d);
    });
  }
  call.require(call.out[0].dtype == DType::i64, "an int64 output");
  number_dispatch(call, type, [&](auto zero) {
    using T = decltype(zero);
    walk(call.in[0].as<T>(), call.out[0].as<int64_t>(), d, [=](const T* p) {
      uint64_t total = 0;  // wraps
      for (int64_t i = 0; i < d.n; i++) total += static_cast<uint64_t>(p[i * d.inner]);
      return static_cast<int64_t>(total);
    });
  });
}

void max_fwd(const Call& call) { extreme<true>(call); }
void min_fwd(const Call& call) { extreme<false>(call); }

/// Index of the largest element; ties go to the lowest index, NaN counts as largest.
void argmax_fwd(const Call& call) {
  const Dims d = dims_of(call);
  call.require(d.n > 0 || call.out[0].numel() == 0, "at least one element to reduce");
  call.require(call.out[0].dtype == DType::i64, "an int64 output");
  number_dispatch(call, call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    walk(call.in[0].as<T>(), call.out[0].as<int64_t>(), d, [=](const T* p) {
      int64_t best = 0;
      for (int64_t i = 1; i < d.n; i++) {
        const T value = p[best * d.inner], v = p[i * d.inner];
        if (value != value) break;
        if (v > value || v != v) best = i;
      }
      return best;
    });
  });
}

/// log sum e^x, shifted by the maximum; -inf for an empty or all -inf row.
void logsumexp_fwd(const Call& call) {
  const Dims d = dims_of(call);
  call.require(call.out[0].dtype == call.in[0].dtype, "an output of the input's dtype");
  float_dispatch(call, call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    walk(call.in[0].as<T>(), call.out[0].as<T>(), d, [=](const T* p) {
      constexpr T inf = std::numeric_limits<T>::infinity();
      T largest = -inf;
      for (int64_t i = 0; i < d.n; i++) {
        const T v = p[i * d.inner];
        if (v != v) return v;
        largest = v > largest ? v : largest;
      }
      if (largest == -inf || largest == inf) return largest;
      double total = 0;
      for (int64_t i = 0; i < d.n; i += kLanes<T>) {
        const int64_t count = std::min<int64_t>(kLanes<T>, d.n - i);
        Vec<T> v = splat(-inf);
        for (int64_t l = 0; l < count; l++) v[l] = p[(i + l) * d.inner] - largest;
        const Vec<T> e = exp_of(v);
        for (int64_t l = 0; l < count; l++) total += static_cast<double>(e[l]);
      }
      return static_cast<T>(static_cast<double>(largest) + std::log(total));
    });
  });
}

}  // namespace qm::cpu::QM_ISA
