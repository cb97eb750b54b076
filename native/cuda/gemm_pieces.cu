#include "cuda/device/pack.cuh"
#include "cuda/gemm_pieces.h"

namespace qm::cuda {

namespace {

constexpr int kShares = 8;
constexpr int64_t kManyElements = 1 << 17;  // enough for a thread to have four

/// A block adds 32 elements, eight threads each: thread y takes pieces y, y + 8, ..., and the eight sums are
/// added in order. In double: what the pieces lost is all that is lost.
template <class Partial, class Out>
__global__ void __launch_bounds__(kWarp* kShares)
    add_pieces_kernel(const Partial* partial, int64_t pieces, int64_t count, int64_t m, int64_t n, Out* c,
                      int64_t ldc, int64_t batch_stride, bool transposed) {
  __shared__ double sums[kShares][kWarp];
  const int64_t at = int64_t{blockIdx.x} * kWarp + threadIdx.x;
  double sum = 0;
  if (at < count) {
#pragma unroll 4
    for (int64_t piece = threadIdx.y; piece < pieces; piece += kShares)
      sum += static_cast<double>(partial[piece * count + at]);
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || at >= count) return;
#pragma unroll
  for (int share = 1; share < kShares; share++) sum += sums[share][threadIdx.x];
  const int64_t across = transposed ? m : n, batch = at / (m * n);
  const int64_t row = at % (m * n) / across, column = at % across;
  const int64_t i = transposed ? column : row, j = transposed ? row : column;
  c[batch * batch_stride + i * ldc + j] = narrow<Out>(static_cast<Acc<Out>>(sum));
}

/// The same where elements are many: a thread adds four neighbours in a row of C, its pieces in order.
template <class Partial, class Out>
__global__ void add_long_pieces_kernel(const Partial* partial, int64_t pieces, int64_t count, int64_t m,
                                       int64_t n, Out* c, int64_t ldc, int64_t batch_stride,
                                       bool transposed) {
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * 4;
  if (at >= count) return;
  double sums[4] = {};
#pragma unroll 4
  for (int64_t piece = 0; piece < pieces; piece++) {
    const auto pack = load_pack<Partial, 4>(partial + piece * count + at);
#pragma unroll
    for (int e = 0; e < 4; e++) sums[e] += static_cast<double>(pack.v[e]);
  }
  const int64_t across = transposed ? m : n, row = at / across, column = at % across;
  const int64_t batch = row / (transposed ? n : m), row_in = row % (transposed ? n : m);
  Out* to = c + batch * batch_stride + (transposed ? column * ldc + row_in : row_in * ldc + column);
#pragma unroll
  for (int e = 0; e < 4; e++) to[transposed ? e * ldc : e] = narrow<Out>(static_cast<Acc<Out>>(sums[e]));
}

}  // namespace

template <class Partial, class Out>
void add_pieces(const Call& call, const Partial* partial, int64_t pieces, int64_t batches, int64_t m,
                int64_t n, Out* c, int64_t ldc, int64_t batch_stride, bool transposed) {
  const int64_t count = batches * m * n;
  if (count >= kManyElements && (transposed ? m : n) % 4 == 0) {
    QM_LAUNCH(call, (add_long_pieces_kernel<Partial, Out>), grid_of(count / 4), kThreads, 0, partial, pieces,
              count, m, n, c, ldc, batch_stride, transposed);
    return;
  }
  QM_LAUNCH(call, (add_pieces_kernel<Partial, Out>), grid_of(count, kWarp), dim3(kWarp, kShares), 0, partial,
            pieces, count, m, n, c, ldc, batch_stride, transposed);
}

template void add_pieces(const Call&, const float*, int64_t, int64_t, int64_t, int64_t, float*, int64_t,
                         int64_t, bool);
template void add_pieces(const Call&, const float*, int64_t, int64_t, int64_t, int64_t, bf16*, int64_t,
                         int64_t, bool);
template void add_pieces(const Call&, const double*, int64_t, int64_t, int64_t, int64_t, double*, int64_t,
                         int64_t, bool);

}  // namespace qm::cuda
