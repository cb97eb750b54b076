#include "cuda/gemm_weight.h"

namespace qm::cuda {

namespace {

constexpr int kEdge = 32;

/// One thread per element of the copy.
__global__ void pack_weight_kernel(const float* weight, bf16* copy, int64_t rows, int64_t in, int64_t pitch) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= rows * pitch) return;
  const int64_t row = at / pitch, i = at % pitch;
  copy[at] = narrow<bf16>(i < in ? weight[row * in + i] : 0.0f);
}

/// A block turns a square of 32 x 32 over in shared memory; threads are 32 x 8.
__global__ void turn_weight_kernel(const float* weight, bf16* copy, int64_t out, int64_t in, int64_t pitch) {
  __shared__ float square[kEdge][kEdge + 1];
  const int64_t across = (in + kEdge - 1) / kEdge, down = (pitch + kEdge - 1) / kEdge;
  const int64_t group = blockIdx.x / (across * down), o = blockIdx.x / across % down * kEdge,
                i = blockIdx.x % across * kEdge;
  const int x = threadIdx.x;
  for (int y = threadIdx.y; y < kEdge; y += blockDim.y)
    square[y][x] = o + y < out && i + x < in ? weight[(group * out + o + y) * in + i + x] : 0.0f;
  __syncthreads();
  for (int y = threadIdx.y; y < kEdge; y += blockDim.y)
    if (i + y < in && o + x < pitch) copy[(group * in + i + y) * pitch + o + x] = narrow<bf16>(square[x][y]);
}

}  // namespace

void pack_weight(const Call& call, const float* weight, bf16* copy, int64_t groups, int64_t out, int64_t in,
                 bool k_out, int64_t pitch) {
  if (k_out)
    QM_LAUNCH(call, turn_weight_kernel, grid_of(groups * ceil_div(in, kEdge) * ceil_div(pitch, kEdge), 1),
              dim3(kEdge, 8), 0, weight, copy, out, in, pitch);
  else
    QM_LAUNCH(call, pack_weight_kernel, grid_of(groups * out * pitch), kThreads, 0, weight, copy,
              groups * out, in, pitch);
}

}  // namespace qm::cuda
