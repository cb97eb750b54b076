// Sums and maxima over a warp, over a block and over the rows of a matrix, in a fixed tree: the same bits
// every time.
#pragma once
#include "cuda/device/pack.cuh"

namespace qm::cuda {

struct Sum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
/// A NaN on the left does not win: in `most = Max{}(v, most)` it is passed over, to reach results through the
/// exponentials.
struct Max {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

/// The value of the lane whose number differs in the bits of `offset`, of any plain type.
template <class T>
__device__ __forceinline__ T shuffle_xor(T x, int offset) {
  constexpr int kWords = (sizeof(T) + 3) / 4;
  uint32_t words[kWords] = {};
  memcpy(words, &x, sizeof(T));
#pragma unroll
  for (int k = 0; k < kWords; k++) words[k] = __shfl_xor_sync(0xffffffffu, words[k], offset);
  memcpy(&x, words, sizeof(T));
  return x;
}

/// Over `kWidth` neighbouring lanes (a power of two); every lane gets the result.
template <int kWidth = kWarp, class T, class Op>
__device__ __forceinline__ T warp_reduce(T x, Op op) {
#pragma unroll
  for (int offset = kWidth / 2; offset > 0; offset /= 2) x = op(x, shuffle_xor(x, offset));
  return x;
}

/// Over a block of at most 1024 threads, a multiple of 32; every thread gets the result. `room` holds 32
/// values. Waits before and after, so that `room` may be reused at once.
template <class T, class Op>
__device__ __forceinline__ T block_reduce(T x, Op op, T* room, T neutral) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  x = warp_reduce(x, op);
  __syncthreads();
  if (lane == 0) room[warp] = x;
  __syncthreads();
  x = warp_reduce(lane < warps ? room[lane] : neutral, op);
  return x;
}

/// f(0) + ... + f(N - 1), N a power of two.
template <int N, class Fn>
__device__ __forceinline__ auto tree_sum(Fn f) {
  decltype(f(0)) sums[N];
#pragma unroll
  for (int k = 0; k < N; k++) sums[k] = f(k);
#pragma unroll
  for (int half = N / 2; half > 0; half /= 2)
#pragma unroll
    for (int k = 0; k < half; k++) sums[k] += sums[k + half];
  return sums[0];
}

/// How kWidth threads (neighbouring lanes, or a whole block if more than a warp) walk a row of n elements
/// together: P at a time, thread by thread, then the next P. kSteps > 0 bounds the steps, so that loops unroll
/// and a row may stay in registers; 0: any number. All lanes of a warp call what they call together, those
/// without a row with n = 0.
template <int kWidth_, int kSteps_, int P_>
struct RowWalk {
  static constexpr int kWidth = kWidth_, kSteps = kSteps_, P = P_;
  static constexpr int kKept = kSteps > 0 ? kSteps : 1;  // steps that are kept at a time
  int64_t n;

  /// The thread's place in its group, and the row of the group when each has one.
  static __device__ __forceinline__ int rank() { return threadIdx.x % kWidth; }
  static __device__ __forceinline__ int64_t row() {
    return blockIdx.x * int64_t{blockDim.x / kWidth} + threadIdx.x / kWidth;
  }

  /// Calls body(k, i) for the elements [i, i + P) of this thread; k < kKept names the step.
  template <class Body>
  __device__ __forceinline__ void each(Body body) const {
    if constexpr (kSteps > 0) {
      const int size = static_cast<int>(n);
#pragma unroll
      for (int k = 0; k < kSteps; k++) {
        const int i = (k * kWidth + rank()) * P;
        if (i < size) body(k, int64_t{i});
      }
    } else {
      for (int64_t i = rank() * P; i < n; i += kWidth * P) body(0, i);
    }
  }

  /// Over one value per thread; every thread gets the result.
  template <class T, class Op>
  __device__ __forceinline__ T reduce(T x, Op op, T neutral) const {
    if constexpr (kWidth <= kWarp) {
      return warp_reduce<kWidth>(x, op);
    } else {
      __shared__ T room[kWarp];
      return block_reduce(x, op, room, neutral);
    }
  }

  /// Sum over the row of value(k, i), which is that of P elements; in A, of unbounded rows in double.
  template <class A, class Value>
  __device__ __forceinline__ A sum(Value value) const {
    using Total = std::conditional_t<kSteps == 0, double, A>;
    Total total = 0;
    each([&](int k, int64_t i) { total += static_cast<Total>(value(k, i)); });
    return static_cast<A>(reduce(total, Sum{}, Total{0}));
  }
};

/// A row to be read more than once: kept in registers if the walk is bounded, else read again.
template <class T, class Walk>
struct Row {
  const T* data;
  Pack<T, Walk::P> kept[Walk::kKept];

  __device__ __forceinline__ Row(const T* row, const Walk& walk) : data(row) {
    if constexpr (Walk::kSteps > 0)
      walk.each([&](int k, int64_t i) { kept[k] = load_pack<T, Walk::P>(row + i); });
  }
  __device__ __forceinline__ Pack<T, Walk::P> at(int k, int64_t i) const {
    if constexpr (Walk::kSteps > 0)
      return kept[k];
    else
      return load_pack<T, Walk::P>(data + i);
  }
};

/// The largest element; NaN elements do not count.
template <class T, class Walk>
__device__ __forceinline__ Acc<T> row_max(const Row<T, Walk>& row, const Walk& walk) {
  constexpr Acc<T> lowest = -std::numeric_limits<Acc<T>>::infinity();
  Acc<T> most = lowest;
  walk.each([&](int k, int64_t i) {
    const Pack<T, Walk::P> x = row.at(k, i);
#pragma unroll
    for (int l = 0; l < Walk::P; l++) most = Max{}(widen(x.v[l]), most);
  });
  return walk.reduce(most, Max{}, lowest);
}

/// Calls body(walk) for rows of so many packs. kFine: with a walk for every width that models have, for
/// kernels that are bound by the memory. Walks of more than kMostSteps steps are left out.
template <int P, bool kFine, int kMostSteps, class Body>
void pack_dispatch(int64_t packs, Body&& body) {
  if (packs <= 2) return body(RowWalk<1, 2, P>{});
  if constexpr (kFine) {
    if (packs <= 4) return body(RowWalk<4, 1, P>{});
    if (packs <= 8) return body(RowWalk<4, 2, P>{});
    if (packs <= 12) return body(RowWalk<4, 3, P>{});
  }
  if (packs <= 24) return body(RowWalk<8, 3, P>{});
  if constexpr (kFine)
    if (packs <= 48) return body(RowWalk<16, 3, P>{});
  if (packs <= 96) return body(RowWalk<32, 3, P>{});
  if (packs <= 192) return body(RowWalk<32, 6, P>{});
  if constexpr (kMostSteps >= 12)
    if (packs <= 384) return body(RowWalk<32, 12, P>{});
  return body(RowWalk<kThreads, 0, P>{});
}

/// Calls body(walk) with the walk for rows of n elements of T. `aligned`: whether every row pointer of the call
/// is as aligned as its packs, at a first row.
template <class T, bool kFine, int kMostSteps, class Body>
void row_dispatch(int64_t n, bool aligned, Body&& body) {
  if (aligned && n % kPack<T> == 0) return pack_dispatch<kPack<T>, kFine, kMostSteps>(n / kPack<T>, body);
  if constexpr (kFine && kPack < T >> 4)
    if (aligned && n % 4 == 0) return pack_dispatch<4, kFine, kMostSteps>(n / 4, body);
  if (n <= 8) return body(RowWalk<1, 8, 1>{});
  if (n <= 256) return body(RowWalk<32, 8, 1>{});
  return body(RowWalk<kThreads, 0, 1>{});
}

/// Whether all tensors of the call may be read in packs of up to 32 bytes.
inline bool aligned(const Call& call) {
  bool all = true;
  for (int k = 0; k < call.n_in; k++) all = all && aligned_to<32>(call.in[k].data);
  for (int k = 0; k < call.n_out; k++) all = all && aligned_to<32>(call.out[k].data);
  return all;
}

/// Threads of a block for one row per group: fewer where the blocks would not fill the device.
template <class Walk>
int row_threads(int64_t rows) {
  constexpr int64_t kBlocks = 256;
  int threads = kThreads;
  if constexpr (Walk::kWidth <= kWarp)
    while (threads > kWarp && ceil_div(rows, threads / Walk::kWidth) < kBlocks) threads /= 2;
  return threads;
}

}  // namespace qm::cuda
