// Straight-through gradient of the quadrant choice. A pixel p of quadrant q that moved from its coarse to its
// fine place in the sequence would change the loss, to first order, by
//   sum_c a[p, c] (g[order[fine p], c] - g[order[coarse p], c]);
// the result [batch, quadrants] sums this over the pixels of each quadrant. With (a, g) = (x, dL/dx_seq) it
// is the gradient of arranging, with (dL/dy, y_seq) of restoring.
//
//   a, g [batch, tokens, channels]; order int32 [batch, tokens], sequence position -> token;
//   fine, coarse int32 [tokens], token -> sequence position; quadrant int32 [tokens]
//
// First the sum of every pixel, a warp each; then those of a quadrant, a block each, in double: what is left of
// them is small.
#include "cuda/device/fault.cuh"
#include "cuda/device/pack.cuh"
#include "cuda/device/reduce.cuh"

namespace qm::cuda {

namespace {

struct Places {
  const int32_t *order, *fine, *coarse, *quadrant;
};

/// An entry of a table, clamped into [0, limit); one outside is reported.
__device__ __forceinline__ int64_t checked(int32_t entry, int64_t limit, Fault* fault, int row) {
  if (entry >= 0 && entry < limit) return entry;
  report(fault, FaultKind::index, row, entry, limit);
  return 0;
}

template <class T, int P>
__global__ void __launch_bounds__(kThreads)
    pixel_sums_kernel(const T* __restrict__ a, const T* __restrict__ g, const Places places, double* sums,
                      int64_t pixels, int64_t tokens, int64_t channels, Fault* fault, int row) {
  const int64_t pixel = (blockIdx.x * int64_t{kThreads} + threadIdx.x) / kWarp;
  if (pixel >= pixels) return;
  const int lane = threadIdx.x % kWarp;
  const int64_t p = pixel % tokens, first = pixel - p;  // first pixel of the sample
  const auto token_of = [&](const int32_t* table) {
    const int64_t place = checked(table[p], tokens, fault, row);
    return first + checked(places.order[first + place], tokens, fault, row);
  };
  const T* x = a + pixel * channels;
  const T* at_fine = g + token_of(places.fine) * channels;
  const T* at_coarse = g + token_of(places.coarse) * channels;
  double sum = 0;
  for (int64_t c = lane * P; c < channels; c += kWarp * P) {
    const Pack<T, P> xs = load_pack<T, P>(x + c), fs = load_pack<T, P>(at_fine + c),
                     cs = load_pack<T, P>(at_coarse + c);
    Acc<T> part = 0;
#pragma unroll
    for (int l = 0; l < P; l++) part += widen(xs.v[l]) * (widen(fs.v[l]) - widen(cs.v[l]));
    sum += static_cast<double>(part);
  }
  sum = warp_reduce(sum, Sum{});
  if (lane == 0) sums[pixel] = sum;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    quadrant_sums_kernel(const double* __restrict__ sums, const int32_t* __restrict__ quadrant, T* out,
                         int64_t tokens, int64_t quadrants) {
  const int64_t b = blockIdx.x / quadrants, q = blockIdx.x % quadrants;
  double total = 0;
  for (int64_t p = threadIdx.x; p < tokens; p += kThreads)
    if (quadrant[p] == q) total += sums[b * tokens + p];
  __shared__ double room[kWarp];
  total = block_reduce(total, Sum{}, room, 0.0);
  if (threadIdx.x == 0) out[blockIdx.x] = static_cast<T>(total);
}

}  // namespace

void quad_gradient(const Call& call) {
  const TensorView &a = call.in[0], &g = call.in[1], &order = call.in[2], &out = call.out[0];
  const Shape& shape = a.shape;
  call.require(shape.rank == 3 && g.shape == shape && order.shape.rank == 2 && order.shape[0] == shape[0] &&
                   order.shape[1] == shape[1] && out.shape.rank == 2 && out.shape[0] == shape[0],
               "a and g [batch, tokens, channels], order [batch, tokens]");
  call.require(g.dtype == a.dtype && out.dtype == acc_dtype(a.dtype), "one float dtype");
  const int64_t tokens = shape[1], channels = shape[2], pixels = shape[0] * tokens;
  for (int k = 2; k < 6; k++)
    call.require(call.in[k].dtype == DType::i32 && call.in[k].shape.last(0) == tokens,
                 "int32 tables over tokens");
  const Places places{order.as<int32_t>(), call.in[3].as<int32_t>(), call.in[4].as<int32_t>(),
                      call.in[5].as<int32_t>()};
  const Scratch<double> sums(std::max<int64_t>(1, pixels));
  float_dispatch(call, a.dtype, [&](auto zero) {
    using T = decltype(zero);
    const auto run = [&](auto width) {
      QM_LAUNCH(call, (pixel_sums_kernel<T, decltype(width)::value>), grid_of(pixels, kThreads / kWarp),
                kThreads, 0, a.as<T>(), g.as<T>(), places, sums.get(), pixels, tokens, channels, fault(),
                call.row);
    };
    if (channels % kPack<T> == 0)
      run(std::integral_constant<int, kPack<T>>{});
    else
      run(std::integral_constant<int, 1>{});
    QM_LAUNCH(call, quadrant_sums_kernel<Acc<T>>, grid_of(out.numel(), 1), kThreads, 0, sums.get(),
              places.quadrant, out.as<Acc<T>>(), tokens, out.shape[1]);
  });
}

}  // namespace qm::cuda
