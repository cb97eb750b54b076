// Parameters as operands. For float32 and float64 data a weight is read where it lies. For bfloat16 data it
// is float32, and a copy in bfloat16 is made for the time of a call: rows of 16 byte pitch along k.
#pragma once
#include <optional>

#include "cuda/gemm.h"

namespace qm::cuda {

/// weight [groups, out, in] -> copy [groups, out, pitch], or with k_out [groups, in, pitch]; pads with zeros.
void pack_weight(const Call& call, const float* weight, bf16* copy, int64_t groups, int64_t out, int64_t in,
                 bool k_out, int64_t pitch);

/// Operand B of a product over the inputs of weight [groups, out, in], or with k_out over its outputs.
template <class T>
class Weight {
 public:
  Weight(const Call& call, const Acc<T>* weight, int64_t groups, int64_t out, int64_t in, bool k_out) {
    if constexpr (std::is_same_v<T, bf16>) {
      const int64_t outer = k_out ? in : out, pitch = ceil_div(k_out ? out : in, 8) * 8;
      copy_.emplace(groups * outer * pitch);
      pack_weight(call, weight, copy_->get(), groups, out, in, k_out, pitch);
      operand_ = {copy_->get(), pitch, false};
      group_stride_ = outer * pitch;
    } else {
      operand_ = {weight, in, k_out};
      group_stride_ = out * in;
    }
  }
  const Operand<T>& operand() const { return operand_; }
  int64_t group_stride() const { return group_stride_; }

 private:
  std::optional<Scratch<bf16>> copy_;
  Operand<T> operand_;
  int64_t group_stride_;
};

}  // namespace qm::cuda
