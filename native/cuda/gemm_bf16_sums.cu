#include "cuda/gemm_bf16_launch.cuh"

namespace qm::cuda {

template void launch_form<SumForm<Fuse::none>>(const Call&, const Plan&, const Bf16Product<float>&);
template void launch_form<SumForm<Fuse::gelu_b>>(const Call&, const Plan&, const Bf16Product<float>&);

}  // namespace qm::cuda
