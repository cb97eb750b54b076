// gelu of a whole operand, in memory: where each element would pass the GELU of a product many times.
#pragma once
#include "cuda/kernel.cuh"

namespace qm::cuda {

/// [rows, columns] at `pitch` -> rows of ceil(columns / 8) * 8, filled up with zeros.
void gelu_copy(const Call& call, const bf16* from, int64_t pitch, bf16* to, int64_t rows, int64_t columns);

}  // namespace qm::cuda
