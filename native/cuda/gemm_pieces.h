// The sum over pieces of k: the last step of a product whose k was cut.
#pragma once
#include "cuda/kernel.cuh"

namespace qm::cuda {

/// c[batch * batch_stride + i * ldc + j] = sum over pieces of partial[piece][batch][i][j], or with
/// `transposed` of partial[piece][batch][j][i]; m and n are those of C.
template <class Partial, class Out>
void add_pieces(const Call& call, const Partial* partial, int64_t pieces, int64_t batches, int64_t m,
                int64_t n, Out* c, int64_t ldc, int64_t batch_stride, bool transposed);

}  // namespace qm::cuda
