#include "cuda/device/pack.cuh"
#include "cuda/gemm_weight.h"

namespace qm::cuda {

namespace {

constexpr int kEdge = 32;

/// One thread per 16 bytes of the copy, `chunks` of them in a row. `wide`: rows of the weight are as long, and
/// can be read so.
__global__ void pack_weight_kernel(const float* weight, bf16* copy, int64_t rows, int64_t in, int64_t chunks,
                                   bool wide) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= rows * chunks) return;
  float values[8];
  if (wide) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const auto pack = load_pack(weight + at * 8 + half * 4);
#pragma unroll
      for (int e = 0; e < 4; e++) values[half * 4 + e] = pack.v[e];
    }
  } else {
    const int64_t row = at / chunks, i = at % chunks * 8;
#pragma unroll
    for (int e = 0; e < 8; e++) values[e] = i + e < in ? weight[row * in + i + e] : 0.0f;
  }
  Pack<bf16, 8> out;
#pragma unroll
  for (int e = 0; e < 8; e++) out.v[e] = narrow<bf16>(values[e]);
  store_pack(copy + at * 8, out);
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
    QM_LAUNCH(call, pack_weight_kernel, grid_of(groups * out * (pitch / 8)), kThreads, 0, weight, copy,
              groups * out, in, pitch / 8, in == pitch && aligned_to<16>(weight));
}

}  // namespace qm::cuda
