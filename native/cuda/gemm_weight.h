// A float32 weight as operand B of a product, whatever the data is. For other data it is read where it lies. For
// bfloat16 data a copy in bfloat16 is made at its first use and kept until the weight is written or freed: a
// training step rounds it once for all of its products.
#pragma once
#include "cuda/gemm.h"

namespace qm::cuda {

/// The copy of a weight of `rows` x `in` elements, in rows of packed_pitch(in), padded with zeros.
const bf16* packed_weight(const Call& call, const float* weight, int64_t rows, int64_t in);
inline int64_t packed_pitch(int64_t in) { return ceil_div(in, 8) * 8; }

/// Operand B of a product over the inputs of weight [groups, out, in], or with k_out over its outputs.
template <class T>
struct Weight {
  Operand<T> operand;
  int64_t group_stride;
};
template <class T>
Weight<T> weight_operand(const Call& call, const Acc<T>* weight, int64_t groups, int64_t out, int64_t in,
                         bool k_out) {
  if constexpr (std::is_same_v<T, bf16>) {
    const int64_t pitch = packed_pitch(in);
    return {{packed_weight(call, weight, groups * out, in), pitch, k_out}, out * pitch};
  } else {
    return {{weight, in, k_out}, out * in};
  }
}

}  // namespace qm::cuda
