#include "cuda/device/pack.cuh"
#include "cuda/gemm_gelu.cuh"
#include "cuda/gemm_gelu_copy.h"

namespace qm::cuda {

namespace {

constexpr int kChunk = 8;

/// One thread per 16 bytes of the copy, `chunks` of them in a row. `wide`: they can be read as such.
__global__ void gelu_copy_kernel(const bf16* from, int64_t pitch, bf16* to, int64_t rows, int64_t columns,
                                 int64_t chunks, bool wide) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= rows * chunks) return;
  const int64_t row = at / chunks, column = at % chunks * kChunk;
  from += row * pitch + column;
  Pack<bf16, kChunk> values;
  if (wide) {
    values = load_pack(from);
  } else {
#pragma unroll
    for (int e = 0; e < kChunk; e++) values.v[e] = column + e < columns ? from[e] : narrow<bf16>(0.0f);
  }
#pragma unroll
  for (int e = 0; e < kChunk; e++) values.v[e] = narrow<bf16>(gelu_near(widen(values.v[e])));
  store_pack(to + at * kChunk, values);
}

}  // namespace

void gelu_copy(const Call& call, const bf16* from, int64_t pitch, bf16* to, int64_t rows, int64_t columns) {
  const int64_t chunks = ceil_div(columns, kChunk);
  const bool wide = columns % kChunk == 0 && pitch % kChunk == 0 && aligned_to<16>(from);
  QM_LAUNCH(call, gelu_copy_kernel, grid_of(rows * chunks), kThreads, 0, from, pitch, to, rows, columns,
            chunks, wide);
}

}  // namespace qm::cuda
