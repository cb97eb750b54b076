// Straight-through gradient of the quadrant choice. A pixel p of quadrant q that moved from its coarse to its
// fine place in the sequence would change the loss, to first order, by
//   sum_c a[p, c] (g[order[fine p], c] - g[order[coarse p], c]);
// the result [batch, quadrants] sums this over the pixels of each quadrant. With (a, g) = (x, dL/dx_seq) it
// is the gradient of arranging, with (dL/dy, y_seq) of restoring.
//
//   a, g [batch, tokens, channels]; order int32 [batch, tokens], sequence position -> token;
//   fine, coarse int32 [tokens], token -> sequence position; quadrant int32 [tokens]
#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

void quad_gradient(const Call& call) {
  const TensorView &a = call.in[0], &g = call.in[1], &order = call.in[2];
  const Shape& shape = a.shape;
  call.require(shape.rank == 3 && g.shape == shape && order.shape.rank == 2 && order.shape[0] == shape[0] &&
                   order.shape[1] == shape[1] && call.out[0].shape.rank == 2 &&
                   call.out[0].shape[0] == shape[0],
               "a and g [batch, tokens, channels], order [batch, tokens]");
  call.require(g.dtype == a.dtype && call.out[0].dtype == a.dtype, "one float dtype");
  const int64_t batch = shape[0], tokens = shape[1], channels = shape[2], quadrants = call.out[0].shape[1];
  for (int k = 2; k < 6; k++) {
    call.require(call.in[k].dtype == DType::i32 && call.in[k].shape.last(0) == tokens,
                 "int32 tables over tokens");
    const int64_t limit = k == 5 ? quadrants : tokens;
    const int32_t* table = call.in[k].as<int32_t>();
    for (int64_t i = 0; i < call.in[k].numel(); i++)
      call.require(table[i] >= 0 && table[i] < limit, "table entries in range");
  }
  const int32_t* fine = call.in[3].as<int32_t>();
  const int32_t* coarse = call.in[4].as<int32_t>();
  const int32_t* quadrant = call.in[5].as<int32_t>();
  float_dispatch(call, a.dtype, [&](auto zero) {
    using T = decltype(zero);
    parallel_tasks(batch, [&](int64_t b) {
      const T* ab = a.as<T>() + b * tokens * channels;
      const T* gb = g.as<T>() + b * tokens * channels;
      const int32_t* tokens_at = order.as<int32_t>() + b * tokens;
      T* out = call.out[0].as<T>() + b * quadrants;
      for (int64_t q = 0; q < quadrants; q++) {
        double total = 0;
        for (int64_t p = 0; p < tokens; p++) {
          if (quadrant[p] != q) continue;
          const T* x = ab + p * channels;
          const T* at_fine = gb + static_cast<int64_t>(tokens_at[fine[p]]) * channels;
          const T* at_coarse = gb + static_cast<int64_t>(tokens_at[coarse[p]]) * channels;
          Vec<T> sum = {};
          for (int64_t c = 0; c < channels; c += kLanes<T>) {
            const int64_t n = channels - c;
            sum = mul_add(load_n(x + c, n), load_n(at_fine + c, n) - load_n(at_coarse + c, n), sum);
          }
          total += static_cast<double>(lane_sum<T>(sum));
        }
        out[q] = static_cast<T>(total);
      }
    });
  });
}

}  // namespace qm::cpu::QM_ISA
