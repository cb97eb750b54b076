#include "cuda/reduce_plan.cuh"

namespace qm::cuda {

/// float: same dtype, of bfloat16 also float32. Integers and bool: int64.
void sum_fwd(const Call& call) {
  const ReduceDims d = reduce_dims(call);
  const DType type = call.in[0].dtype, out = call.out[0].dtype;
  const bool floating = type == DType::f32 || type == DType::f64 || type == DType::bf16;
  if (floating)
    call.require(out == type || out == acc_dtype(type), "an output of the input's dtype");
  else
    call.require(out == DType::i64, "an int64 output");
  number_dispatch(call, type, [&](auto zero) {
    reduce(call, d, SumOf<decltype(zero)>{call.out[0].data, out != type});
  });
}

}  // namespace qm::cuda
