// Layer normalisation over the last axis of [rows, C]: y = (x - mean) * rstd * weight + bias. Statistics,
// parameters and sums are Acc<T>; the variance comes from a second pass over the row, which stays in
// registers. See RowWalk for what a thread owns of a row.
#include "cuda/device/reduce.cuh"
#include "cuda/device/rounded.cuh"
#include "cuda/device/wide_pack.cuh"

namespace qm::cuda {

namespace {

constexpr int kBackThreads = 128;
constexpr int kFinishThreads = 512;
constexpr int kFinishColumns = 8;
constexpr int64_t kPieceRows = 256;  // of dweight and dbias of long rows

/// P elements of a parameter of C, or as many times the value that stands for an absent one.
template <int P, class A>
__device__ __forceinline__ Pack<A, P> parameter(const A* p, int64_t i, A absent) {
  if (p) return load_pack<A, P>(p + i);
  Pack<A, P> v;
#pragma unroll
  for (int l = 0; l < P; l++) v.v[l] = absent;
  return v;
}

/// A group of threads per row.
template <class T, class Walk>
__global__ void __launch_bounds__(kThreads)
    layer_norm_fwd_kernel(const T* __restrict__ x, const Acc<T>* __restrict__ weight,
                          const Acc<T>* __restrict__ bias, T* __restrict__ y, Acc<T>* __restrict__ means,
                          Acc<T>* __restrict__ rstds, int64_t rows, int64_t n, Acc<T> inverse, Acc<T> eps) {
  using A = Acc<T>;
  constexpr int P = Walk::P;
  const int64_t row = Walk::row();
  const Walk walk{row < rows ? n : 0};
  const Row<T, Walk> in(x + row * n, walk);
  const A mean = inverse * walk.template sum<A>([&](int k, int64_t i) {
    const Pack<T, P> v = in.at(k, i);
    return tree_sum<P>([&](int l) { return widen(v.v[l]); });
  });
  const A variance = inverse * walk.template sum<A>([&](int k, int64_t i) {
    const Pack<T, P> v = in.at(k, i);
    return tree_sum<P>([&](int l) {
      const A d = widen(v.v[l]) - mean;
      return d * d;
    });
  });
  const A rstd = A{1} / std::sqrt(variance + eps);
  if (walk.rank() == 0 && row < rows) {
    means[row] = mean;
    rstds[row] = rstd;
  }
  walk.each([&](int k, int64_t i) {
    const Pack<T, P> v = in.at(k, i);
    const Pack<A, P> w = parameter<P>(weight, i, A{1}), b = parameter<P>(bias, i, A{0});
    Pack<T, P> r;
#pragma unroll
    for (int l = 0; l < P; l++) r.v[l] = narrow<T>((widen(v.v[l]) - mean) * rstd * w.v[l] + b.v[l]);
    store_pack(y + row * n + i, r);
  });
}

/// What layer_norm_bwd_kernel holds in registers.
template <class T, class Walk>
struct Backward {
  /// dweight, dbias, weight, centred x and g of each element of a thread, and the next row's dy and x
  static constexpr int kWords =
      Walk::kSteps * Walk::P * static_cast<int>(5 * sizeof(Acc<T>) + 2 * sizeof(T)) / 4;
  /// whether all of that has room; else weights are read and values computed where they are needed
  static constexpr bool kRoomy = kWords <= 144;
  /// whether there is room for the next row at least
  static constexpr bool kAhead =
      Walk::kSteps * Walk::P * static_cast<int>(2 * sizeof(Acc<T>) + 4 * sizeof(T)) / 4 <= 192;
  /// blocks for which a multiprocessor's registers have room
  static constexpr int kBlocks = kWords <= 72 ? 5 : kWords <= 84 ? 4 : kRoomy ? 3 : 2;

  /// A group's part of a row: zeros beyond its end, and of no row.
  struct Row {
    Kept<T, Walk::P> dy[Walk::kKept], x[Walk::kKept];
    Acc<T> mean, rstd;
  };
};

/// Of a bounded walk. A block owns `steps` * groups neighbouring rows, one per group and step; if there is
/// room, the next row is on its way while one is worked on. A thread sums dweight and dbias of its columns over
/// its rows in registers; then the groups of a warp are added as a tree and the warps of the block in order, to
/// partial [block][dweight, dbias][n]. What stands beyond a row's end is zero, and is computed with.
template <class T, class Walk>
__global__ void __launch_bounds__(kBackThreads, (Backward<T, Walk>::kBlocks))
    layer_norm_bwd_kernel(const T* __restrict__ dy, const T* __restrict__ x,
                          const Acc<T>* __restrict__ weight, const Acc<T>* __restrict__ mean,
                          const Acc<T>* __restrict__ rstd, const T* __restrict__ waiting, T* __restrict__ dx,
                          Acc<T>* __restrict__ partial, int64_t rows, int64_t n, Acc<T> inverse, int steps) {
  using A = Acc<T>;
  using Held = Backward<T, Walk>;
  constexpr int P = Walk::P, kWidth = Walk::kWidth, kKept = Walk::kKept, kGroups = kBackThreads / kWidth;
  constexpr bool kRoomy = Held::kRoomy, kAhead = Held::kAhead;
  const Walk whole{n};
  Pack<A, P> dweight[kKept] = {}, dbias[kKept] = {}, weights[kKept] = {};
  if (kRoomy) whole.each([&](int k, int64_t i) { weights[k] = parameter<P>(weight, i, A{1}); });
  const auto fetch = [&](int64_t row) {
    typename Held::Row r = {};
    const bool live = row < rows;
    Walk{live ? n : 0}.each([&](int k, int64_t i) {
      r.dy[k] = load_kept<T, P>(dy + row * n + i);
      r.x[k] = load_kept<T, P>(x + row * n + i);
    });
    r.mean = live ? mean[row] : A{0};
    r.rstd = live ? rstd[row] : A{0};
    return r;
  };

  int64_t row = blockIdx.x * int64_t{kGroups} * steps + threadIdx.x / kWidth;
  typename Held::Row now = fetch(row);
  for (int step = 0; step < steps; step++, row += kGroups) {
    const bool more = step + 1 < steps;
    typename Held::Row next = now;
    if (kAhead && more) next = fetch(row + kGroups);
    /// visit(k, i, d, centred, scaled d, scaled g) of every pack, where scaled is times rstd
    const auto each_pack = [&](auto visit) {
#pragma unroll
      for (int k = 0; k < kKept; k++) {
        const int i = (k * kWidth + Walk::rank()) * P;
        if (!kRoomy && i >= n) continue;
        const Pack<A, P> d = widen_kept<T, P>(now.dy[k]), v = widen_kept<T, P>(now.x[k]);
        const Pack<A, P> w = kRoomy ? weights[k] : parameter<P>(weight, i, A{1});
        Pack<A, P> centred, scaled, g;
#pragma unroll
        for (int l = 0; l < P; l++) {
          centred.v[l] = v.v[l] - now.mean;
          scaled.v[l] = d.v[l] * now.rstd;
          g.v[l] = times(scaled.v[l], w.v[l]);  // rounded by itself: of one channel g - mean(g) is 0
        }
        visit(k, i, d, centred, scaled, g);
      }
    };
    Kept<T, P> also[kKept] = {};  // on its way while the row is summed
    if (waiting)
      Walk{row < rows ? n : 0}.each(
          [&](int k, int64_t i) { also[k] = load_kept<T, P>(waiting + row * n + i); });
    A sum_g = 0, sum_gx = 0;
    each_pack([&](int k, int, const auto& d, const auto& centred, const auto& scaled, const auto& g) {
      A pack_g = 0, pack_gx = 0;
#pragma unroll
      for (int l = 0; l < P; l++) {
        pack_g += g.v[l];
        pack_gx += g.v[l] * centred.v[l];
        dweight[k].v[l] += scaled.v[l] * centred.v[l];
        dbias[k].v[l] += d.v[l];
      }
      sum_g += pack_g;
      sum_gx += pack_gx;
    });
    const A mean_g = whole.reduce(sum_g, Sum{}, A{0}) * inverse;
    const A slope = whole.reduce(sum_gx, Sum{}, A{0}) * inverse * now.rstd * now.rstd;
    each_pack([&](int k, int i, const auto&, const auto& centred, const auto&, const auto& g) {
      const Pack<A, P> before = widen_kept<T, P>(also[k]);
      Pack<A, P> r;
#pragma unroll
      for (int l = 0; l < P; l++) r.v[l] = before.v[l] + ((g.v[l] - mean_g) - centred.v[l] * slope);
      if (row < rows && i < n) store_narrow<T, P>(dx + row * n + i, r);
    });
    if (kAhead)
      now = next;
    else if (more)
      now = fetch(row + kGroups);
  }

  __shared__ Pack<A, P> room[2][Walk::kKept * kWidth];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
  for (int k = 0; k < Walk::kKept; k++)
#pragma unroll
    for (int l = 0; l < P; l++)
#pragma unroll
      for (int offset = kWidth; offset < kWarp; offset *= 2) {
        dweight[k].v[l] += shuffle_xor(dweight[k].v[l], offset);
        dbias[k].v[l] += shuffle_xor(dbias[k].v[l], offset);
      }
  for (int turn = 0; turn < kBackThreads / kWarp; turn++) {
    if (warp == turn && lane < kWidth) {
#pragma unroll
      for (int k = 0; k < Walk::kKept; k++) {
        Pack<A, P>&a = room[0][k * kWidth + lane], &b = room[1][k * kWidth + lane];
        Pack<A, P> sum_a = dweight[k], sum_b = dbias[k];
        if (turn > 0) {
          const Pack<A, P> before_a = a, before_b = b;
#pragma unroll
          for (int l = 0; l < P; l++) {
            sum_a.v[l] += before_a.v[l];
            sum_b.v[l] += before_b.v[l];
          }
        }
        a = sum_a;
        b = sum_b;
      }
    }
    __syncthreads();
  }
  const int size = static_cast<int>(n);
  for (int c = threadIdx.x; c < 2 * size; c += kBackThreads) {
    const int which = c >= size, i = c - which * size;
    partial[int64_t{blockIdx.x} * 2 * n + c] = room[which][i / P].v[i % P];
  }
}

/// dx of rows of any length: a group of threads per row.
template <class T, class Walk>
__global__ void __launch_bounds__(kThreads)
    layer_norm_bwd_x_kernel(const T* __restrict__ dy, const T* __restrict__ x,
                            const Acc<T>* __restrict__ weight, const Acc<T>* __restrict__ means,
                            const Acc<T>* __restrict__ rstds, const T* __restrict__ waiting,
                            T* __restrict__ dx, int64_t rows, int64_t n, Acc<T> inverse) {
  using A = Acc<T>;
  constexpr int P = Walk::P;
  const int64_t row = Walk::row();
  const bool live = row < rows;
  const Walk walk{live ? n : 0};
  const Row<T, Walk> dys(dy + row * n, walk), xs(x + row * n, walk);
  const A mean = live ? means[row] : A{0}, rstd = live ? rstds[row] : A{0};
  /// value(g, normal) of the P elements from i
  const auto each_of = [&](int k, int64_t i, auto value) {
    const Pack<T, P> d = dys.at(k, i), v = xs.at(k, i);
    const Pack<A, P> w = parameter<P>(weight, i, A{1});
#pragma unroll
    for (int l = 0; l < P; l++) value(l, times(widen(d.v[l]), w.v[l]), (widen(v.v[l]) - mean) * rstd);
  };
  const A mean_g = inverse * walk.template sum<A>([&](int k, int64_t i) {
    A sum = 0;
    each_of(k, i, [&](int, A g, A) { sum += g; });
    return sum;
  });
  const A mean_gx = inverse * walk.template sum<A>([&](int k, int64_t i) {
    A sum = 0;
    each_of(k, i, [&](int, A g, A normal) { sum += g * normal; });
    return sum;
  });
  walk.each([&](int k, int64_t i) {
    Pack<T, P> r = {};
    if (waiting) r = load_pack<T, P>(waiting + row * n + i);
    each_of(k, i, [&](int l, A g, A normal) {
      r.v[l] = narrow<T>(widen(r.v[l]) + (g - mean_g - normal * mean_gx) * rstd);
    });
    store_pack(dx + row * n + i, r);
  });
}

/// dweight and dbias of rows of any length. A block owns 32 columns of kPieceRows rows, a thread one column of
/// every eighth of them; the eight are added in order, to partial [piece][dweight, dbias][n].
template <class T>
__global__ void __launch_bounds__(kThreads)
    layer_norm_bwd_w_kernel(const T* __restrict__ dy, const T* __restrict__ x,
                            const Acc<T>* __restrict__ mean, const Acc<T>* __restrict__ rstd,
                            Acc<T>* __restrict__ partial, int64_t rows, int64_t n, int64_t tiles) {
  using A = Acc<T>;
  constexpr int kRows = kThreads / kWarp;
  const int64_t piece = blockIdx.x / tiles, tile = blockIdx.x % tiles;
  const int lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp;
  const int64_t c = tile * kWarp + lane, end = std::min(rows, (piece + 1) * kPieceRows);
  A dweight = 0, dbias = 0;
  if (c < n)
    for (int64_t row = piece * kPieceRows + first; row < end; row += kRows) {
      const A d = widen(dy[row * n + c]);
      dweight += d * ((widen(x[row * n + c]) - mean[row]) * rstd[row]);
      dbias += d;
    }
  __shared__ A room[2][kRows][kWarp];
  room[0][first][lane] = dweight;
  room[1][first][lane] = dbias;
  __syncthreads();
  if (first < 2 && c < n) {
    A total = 0;
    for (int k = 0; k < kRows; k++) total += room[first][k][lane];
    partial[(piece * 2 + first) * n + c] = total;
  }
}

/// The sums over the pieces, in double. A block owns kFinishColumns of the 2 n columns, a thread one column of
/// every 64th piece; those are added as a tree.
template <class A>
__global__ void __launch_bounds__(kFinishThreads)
    layer_norm_sums_kernel(const A* __restrict__ partial, A* __restrict__ dweight, A* __restrict__ dbias,
                           int64_t pieces, int64_t n) {
  constexpr int kLanes = kFinishThreads / kFinishColumns;
  const int64_t c = blockIdx.x * int64_t{kFinishColumns} + threadIdx.x % kFinishColumns;
  double total = 0;
  if (c < 2 * n) {
#pragma unroll 8
    for (int64_t piece = threadIdx.x / kFinishColumns; piece < pieces; piece += kLanes)
      total += static_cast<double>(partial[piece * 2 * n + c]);
  }
  __shared__ double room[kFinishThreads];
  room[threadIdx.x] = total;
  for (int half = kFinishThreads / 2; half >= kFinishColumns; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) room[threadIdx.x] += room[threadIdx.x + half];
  }
  if (threadIdx.x < kFinishColumns && c < 2 * n)
    (c < n ? dweight[c] : dbias[c - n]) = static_cast<A>(room[threadIdx.x]);
}

/// Whether `t` is absent or [n] of the parameters' dtype.
bool optional_row(const TensorView& t, DType dtype, int64_t n) {
  return !t.present || (t.dtype == dtype && t.shape.rank == 1 && t.shape[0] == n);
}
template <class A>
const A* data_or_null(const TensorView& t) {
  return t.present ? t.as<const A>() : nullptr;
}

/// The number of rows; a guard shared by both directions.
int64_t rows_of(const Call& call, const TensorView& x) {
  call.require(x.shape.rank >= 1, "an input of at least one dimension");
  return x.shape.count(0, x.shape.rank - 1);
}

template <class A>
A inverse_of(int64_t n) {
  return static_cast<A>(n > 0 ? 1.0 / static_cast<double>(n) : 0.0);
}

/// Steps of the rows' groups in a block of layer_norm_bwd_kernel, when `resident` blocks fit on a
/// multiprocessor: for one wave on the 132 of an H100, few enough for sums in registers to stay exact.
int backward_steps(int64_t rows, int64_t groups, int resident) {
  return static_cast<int>(std::clamp<int64_t>(ceil_div(rows, groups * 132 * resident), 2, 64));
}

template <class T>
void forward(const Call& call, int64_t rows, int64_t n) {
  using A = Acc<T>;
  row_dispatch<T, true, 12>(n, aligned(call), [&](auto kind) {
    using Walk = decltype(kind);
    const int threads = row_threads<Walk>(rows);
    QM_LAUNCH(call, (layer_norm_fwd_kernel<T, Walk>), grid_of(rows, threads / Walk::kWidth), threads, 0,
              call.in[0].as<const T>(), data_or_null<A>(call.in[1]), data_or_null<A>(call.in[2]),
              call.out[0].as<T>(), call.out[1].as<A>(), call.out[2].as<A>(), rows, n, inverse_of<A>(n),
              call.attrs.f(0));
  });
}

template <class T>
void backward(const Call& call, int64_t rows, int64_t n) {
  using A = Acc<T>;
  const T *dy = call.in[0].as<const T>(), *x = call.in[1].as<const T>();
  const A *weight = data_or_null<A>(call.in[2]), *mean = call.in[3].as<const A>(),
          *rstd = call.in[4].as<const A>();
  const T* waiting = data_or_null<T>(call.in[5]);
  T* dx = call.out[0].as<T>();
  const auto finish = [&](const A* partial, int64_t pieces) {
    QM_LAUNCH(call, (layer_norm_sums_kernel<A>), grid_of(2 * n, kFinishColumns), kFinishThreads, 0, partial,
              call.out[1].as<A>(), call.out[2].as<A>(), pieces, n);
  };
  // twelve steps of eight elements would need more registers than there are
  row_dispatch<T, true, sizeof(T) == 2 ? 6 : 12>(n, aligned(call), [&](auto kind) {
    using Walk = decltype(kind);
    if constexpr (Walk::kSteps > 0) {
      constexpr int64_t groups = kBackThreads / Walk::kWidth;
      const int steps = backward_steps(rows, groups, Backward<T, Walk>::kBlocks);
      const int64_t blocks = ceil_div(rows, groups * steps);
      Scratch<A> partial(blocks * 2 * n);
      QM_LAUNCH(call, (layer_norm_bwd_kernel<T, Walk>), grid_of(blocks, 1), kBackThreads, 0, dy, x, weight,
                mean, rstd, waiting, dx, partial.get(), rows, n, inverse_of<A>(n), steps);
      finish(partial.get(), blocks);
    } else {
      QM_LAUNCH(call, (layer_norm_bwd_x_kernel<T, Walk>), grid_of(rows, 1), kThreads, 0, dy, x, weight, mean,
                rstd, waiting, dx, rows, n, inverse_of<A>(n));
      const int64_t pieces = ceil_div(rows, kPieceRows), tiles = ceil_div(n, kWarp);
      Scratch<A> partial(pieces * 2 * n);
      QM_LAUNCH(call, (layer_norm_bwd_w_kernel<T>), grid_of(pieces * tiles, 1), kThreads, 0, dy, x, mean,
                rstd, partial.get(), rows, n, tiles);
      finish(partial.get(), pieces);
    }
  });
}

}  // namespace

/// x [..., C], weight [C], bias [C] (both optional) to y, mean [rows], rstd [rows]. Variance in a second
/// pass, divided by C.
void layer_norm_fwd(const Call& call) {
  const TensorView& x = call.in[0];
  const DType acc = acc_dtype(x.dtype);
  const int64_t rows = rows_of(call, x), n = x.shape.last(0);
  call.require(optional_row(call.in[1], acc, n) && optional_row(call.in[2], acc, n),
               "weight and bias of shape [C]");
  call.require(call.out[0].shape == x.shape && call.out[1].numel() == rows && call.out[2].numel() == rows,
               "outputs [..., C], [rows] and [rows]");
  call.require(call.out[0].dtype == x.dtype && call.out[1].dtype == acc && call.out[2].dtype == acc,
               "an output like x, and statistics of the parameters' dtype");
  float_dispatch(call, x.dtype, [&](auto zero) { forward<decltype(zero)>(call, rows, n); });
}

/// dy, x [..., C], weight [C] (optional), mean, rstd [rows], waiting [..., C] (optional) to dx, dweight [C],
/// dbias [C]. With g = dy * weight and normal = (x - mean) * rstd: dx = rstd (g - mean(g) - normal mean(g
/// normal)) + waiting, what else has come to x. dweight and dbias
/// are summed over pieces of rows in Acc<T>, beyond that in double.
void layer_norm_bwd(const Call& call) {
  const TensorView& x = call.in[1];
  const DType acc = acc_dtype(x.dtype);
  const int64_t rows = rows_of(call, x), n = x.shape.last(0);
  for (int k : {0, 5})
    call.require(
        (k == 5 && !call.in[k].present) || (call.in[k].shape == x.shape && call.in[k].dtype == x.dtype),
        "dy, and what is waiting, like x");
  call.require(optional_row(call.in[2], acc, n), "weight of shape [C]");
  for (int k = 3; k < 5; k++)
    call.require(call.in[k].numel() == rows && call.in[k].dtype == acc, "mean and rstd of shape [rows]");
  call.require(call.out[0].shape == x.shape && call.out[1].numel() == n && call.out[2].numel() == n,
               "outputs [..., C], [C] and [C]");
  call.require(call.out[0].dtype == x.dtype && call.out[1].dtype == acc && call.out[2].dtype == acc,
               "an output like x, and sums of the parameters' dtype");
  float_dispatch(call, x.dtype, [&](auto zero) { backward<decltype(zero)>(call, rows, n); });
}

}  // namespace qm::cuda
