// Images [batch, height, width, channels] of another size: output rows are weighted sums of input rows,
// output columns of input columns. The weights come as two sparse tables, which makes this one kernel
// pooling, interpolation and their gradients. Rows first, then columns of what they gave; sums in double, for
// bfloat16 images in float32.
#include "cuda/device/fault.cuh"
#include "cuda/device/pack.cuh"
#include "cuda/device/quotient.cuh"

namespace qm::cuda {

namespace {

/// Compressed sparse rows: output position i takes the entries offsets[i] to offsets[i + 1] of index and
/// weight.
struct Taps {
  const int32_t* offsets;
  const int32_t* index;
  const double* weight;
  int64_t entries, out_size, in_size;
};

Taps taps_of(const Call& call, int first, int64_t out_size, int64_t in_size) {
  const TensorView &offsets = call.in[first], &index = call.in[first + 1], &weight = call.in[first + 2];
  call.require(offsets.present && offsets.dtype == DType::i32 && offsets.shape.rank == 1 &&
                   offsets.shape[0] == out_size + 1,
               "int32 offsets, one more than output positions");
  call.require(index.present && index.dtype == DType::i32 && index.shape.rank == 1, "int32 indices");
  call.require(weight.present && weight.dtype == DType::f64 && weight.shape == index.shape,
               "a float64 weight per index");
  return {offsets.as<const int32_t>(),
          index.as<const int32_t>(),
          weight.as<const double>(),
          index.shape[0],
          out_size,
          in_size};
}

/// One block's work: reports offsets that do not rise from 0 to the number of entries, and indices outside the
/// input.
__device__ void check_table(const Taps& taps, Fault* fault, int row) {
  for (int64_t k = threadIdx.x; k <= taps.out_size; k += blockDim.x) {
    const int64_t here = taps.offsets[k], low = k == 0 ? 0 : taps.offsets[k - 1];
    if (here < low || here > taps.entries || (k == 0 && here != 0) ||
        (k == taps.out_size && here != taps.entries))
      report(fault, FaultKind::table, row, here, taps.entries);
  }
  for (int64_t k = threadIdx.x; k < taps.entries; k += blockDim.x)
    if (taps.index[k] < 0 || taps.index[k] >= taps.in_size)
      report(fault, FaultKind::table, row, taps.index[k], taps.in_size);
}

__device__ __forceinline__ int64_t clamped(int64_t k, int64_t high) {
  return k < 0 ? 0 : k > high ? high : k;
}

template <class S, class T>
__device__ __forceinline__ S to_sum(T x) {
  return static_cast<S>(widen(x));
}
template <class T, class S>
__device__ __forceinline__ T from_sum(S x) {
  return narrow<T>(static_cast<Acc<T>>(x));
}

/// y [outer, out_size, inner] from x [outer, in_size, inner]. A thread owns kVec neighbours of `inner` at one
/// output position; with kLanes > 1 that many threads share the taps, each every kLanes-th in order, and are
/// added in order. The first block checks the table; bad entries are clamped.
template <class From, class To, class S, int kVec, int kLanes>
__global__ void __launch_bounds__(kThreads)
    resample_axis_kernel(const From* x, To* y, const Taps taps, int64_t inner, int64_t n, Fault* fault,
                         int row) {
  constexpr int kWide = kThreads / kLanes;
  if (blockIdx.x == 0) check_table(taps, fault, row);
  const int wide = threadIdx.x % kWide, lane = threadIdx.x / kWide;
  const int64_t k = blockIdx.x * int64_t{kWide} + wide, parts = inner / kVec;
  S sum[kVec] = {};
  if (k < n) {
    const int64_t line = quotient(k, parts), outer = quotient(line, taps.out_size);
    const int64_t i = line - outer * taps.out_size;
    const From* from = x + outer * taps.in_size * inner + (k - line * parts) * kVec;
    const int64_t begin = clamped(taps.offsets[i], taps.entries);
    const int64_t end = taps.in_size > 0 ? clamped(taps.offsets[i + 1], taps.entries) : begin;
#pragma unroll 4
    for (int64_t tap = begin + lane; tap < end; tap += kLanes) {
      const S weight = static_cast<S>(taps.weight[tap]);
      const auto v = load_pack<From, kVec>(from + clamped(taps.index[tap], taps.in_size - 1) * inner);
#pragma unroll
      for (int e = 0; e < kVec; e++) sum[e] += weight * to_sum<S>(v.v[e]);
    }
  }
  if constexpr (kLanes > 1) {
    __shared__ S room[kLanes][kWide][kVec];
#pragma unroll
    for (int e = 0; e < kVec; e++) room[lane][wide][e] = sum[e];
    __syncthreads();
    if (lane != 0) return;
    for (int l = 1; l < kLanes; l++)
#pragma unroll
      for (int e = 0; e < kVec; e++) sum[e] += room[l][wide][e];
  }
  if (k >= n) return;
  Pack<To, kVec> out;
#pragma unroll
  for (int e = 0; e < kVec; e++) out.v[e] = from_sum<To>(sum[e]);
  store_pack<To, kVec>(y + k * kVec, out);
}

template <class From, class To, class S, int kVec>
void resample_axis(const Call& call, const From* x, To* y, const Taps& taps, int64_t outer, int64_t inner) {
  constexpr int64_t kFew = 256 * 1024;  // threads that fill the device
  constexpr int kLanes = 8;
  const int64_t n = outer * taps.out_size * inner / kVec;
  if (n < kFew && taps.entries >= kLanes * taps.out_size)
    QM_LAUNCH(call, (resample_axis_kernel<From, To, S, kVec, kLanes>), grid_of(n, kThreads / kLanes),
              kThreads, 0, x, y, taps, inner, n, fault(), call.row);
  else
    QM_LAUNCH(call, (resample_axis_kernel<From, To, S, kVec, 1>), grid_of(n), kThreads, 0, x, y, taps, inner,
              n, fault(), call.row);
}

}  // namespace

/// y[b, i, j, :] = sum over r, c of row_weight(i, r) column_weight(j, c) x[b, r, c, :], first the rows, then
/// the columns, each in the order of its table.
void resample2d_fwd(const Call& call) {
  const TensorView &x = call.in[0], &y = call.out[0];
  call.require(x.present && x.shape.rank == 4 && y.shape.rank == 4 && x.dtype == y.dtype &&
                   x.shape[0] == y.shape[0] && x.shape[3] == y.shape[3],
               "input and output of one dtype, [batch, height, width, channels]");
  const int64_t batch = x.shape[0], width = x.shape[2], channels = x.shape[3];
  const Taps rows = taps_of(call, 1, y.shape[1], x.shape[1]);
  const Taps columns = taps_of(call, 4, y.shape[2], width);
  if (y.numel() == 0) return;
  float_dispatch(call, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    using S = std::conditional_t<std::is_same_v<T, bf16>, float, double>;
    constexpr int kVec = kPack<T>;
    Scratch<S> between(batch * y.shape[1] * width * channels);
    const auto both = [&](auto vec) {
      constexpr int kWidth = decltype(vec)::value;
      resample_axis<T, S, S, kWidth>(call, x.as<const T>(), between.get(), rows, batch, width * channels);
      resample_axis<S, T, S, kWidth>(call, between.get(), y.as<T>(), columns, batch * y.shape[1], channels);
    };
    if (channels % kVec == 0)
      both(std::integral_constant<int, kVec>{});
    else
      both(std::integral_constant<int, 1>{});
  });
}

}  // namespace qm::cuda
