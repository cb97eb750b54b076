// Host side of what Hopper's kernels need beyond a plain launch: maps of matrices for the copy engine, and
// blocks in clusters.
#pragma once
#include <cuda.h>

#include "cuda/kernel.cuh"

namespace qm::cuda {

/// A matrix [rows, columns] of rows `pitch` elements apart, to be copied in boxes of `box_rows` rows and 64
/// columns, swizzled as in gemm_tile.cuh. Its data and its rows start at 16 bytes.
CUtensorMap map_matrix(const bf16* data, int64_t pitch, int64_t rows, int64_t columns, int box_rows);

/// As `launch`, with the blocks in clusters of `cluster` neighbours.
template <class... Params, class... Args>
void launch_clusters(const Call& call, const char* kernel_name, void (*kernel)(Params...), int64_t blocks,
                     int cluster, int threads, size_t shared, const Args&... args) {
  prepare_shared(reinterpret_cast<const void*>(kernel), shared);
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = static_cast<unsigned>(cluster);
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid_of(blocks, 1);
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared;
  config.stream = stream();
  config.attrs = &attribute;
  config.numAttrs = 1;
  cudaLaunchKernelEx(&config, kernel, args...);
  check_launch(call.op, kernel_name, config.gridDim, config.blockDim, shared);
}

}  // namespace qm::cuda
