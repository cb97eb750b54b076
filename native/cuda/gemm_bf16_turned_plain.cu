#include "cuda/gemm_bf16_launch.cuh"

namespace qm::cuda {

template void launch_form<TurnedForm<Fuse::none>>(const Call&, const Plan&, const Bf16Product<bf16>&);

}  // namespace qm::cuda
