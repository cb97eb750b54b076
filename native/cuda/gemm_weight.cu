#include <memory>
#include <unordered_map>

#include "cuda/context.h"
#include "cuda/device/pack.cuh"
#include "cuda/gemm_weight.h"

namespace qm::cuda {

namespace {

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

struct Packed {
  int64_t rows, in;
  std::unique_ptr<Scratch<bf16>> copy;
};
/// By the address of the weight.
std::unordered_map<const void*, Packed>& packed_weights() {
  static auto* instance = new std::unordered_map<const void*, Packed>;
  return *instance;
}

}  // namespace

const bf16* packed_weight(const Call& call, const float* weight, int64_t rows, int64_t in) {
  Packed& packed = packed_weights()[weight];
  if (packed.copy && packed.rows == rows && packed.in == in) return packed.copy->get();
  packed.copy.reset();
  const int64_t chunks = packed_pitch(in) / 8;
  auto copy = std::make_unique<Scratch<bf16>>(rows * packed_pitch(in));
  QM_LAUNCH(call, pack_weight_kernel, grid_of(rows * chunks), kThreads, 0, weight, copy->get(), rows, in,
            chunks, in % 8 == 0 && aligned_to<16>(weight));
  packed = {rows, in, std::move(copy)};
  return packed.copy->get();
}

void forget_weight(const void* data) { packed_weights().erase(data); }
void forget_weights() { packed_weights().clear(); }

}  // namespace qm::cuda
