#include "cuda/reduce_plan.cuh"

namespace qm::cuda {

/// log sum e^x, shifted by the maximum; -inf for an empty or all -inf row.
void logsumexp_fwd(const Call& call) {
  const ReduceDims d = reduce_dims(call);
  call.require(call.out[0].dtype == call.in[0].dtype, "an output of the input's dtype");
  float_dispatch(call, call.in[0].dtype,
                 [&](auto zero) { reduce(call, d, LogSumExp<decltype(zero)>{call.out[0].data}); });
}

}  // namespace qm::cuda
