#include "cuda/reduce_plan.cuh"

namespace qm::cuda {

namespace {

void extreme(const Call& call, bool largest, bool index) {
  const ReduceDims d = reduce_dims(call);
  call.require(d.n > 0 || call.out[0].numel() == 0, "at least one element to reduce");
  if (index)
    call.require(call.out[0].dtype == DType::i64, "an int64 output");
  else
    call.require(call.out[0].dtype == call.in[0].dtype, "an output of the input's dtype");
  number_dispatch(call, call.in[0].dtype, [&](auto zero) {
    reduce(call, d, Extreme<decltype(zero)>{call.out[0].data, largest, index});
  });
}

}  // namespace

void max_fwd(const Call& call) { extreme(call, true, false); }
void min_fwd(const Call& call) { extreme(call, false, false); }

/// Index of the largest element; ties go to the lowest index, NaN counts as largest.
void argmax_fwd(const Call& call) { extreme(call, true, true); }

}  // namespace qm::cuda
