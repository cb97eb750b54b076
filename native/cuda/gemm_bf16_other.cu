#include "cuda/gemm_bf16_launch.cuh"

namespace qm::cuda {

template void launch_form<MixedForm<false>>(const Call&, const Plan&, const Bf16Product<bf16>&);
template void launch_form<MixedForm<true>>(const Call&, const Plan&, const Bf16Product<bf16>&);

}  // namespace qm::cuda
