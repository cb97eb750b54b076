// How a bfloat16 product is cut: tile width, pieces of k, and how many blocks walk down the rows. Which tile
// and how many pieces follows from the shape and the kind of device alone, because they decide how sums are
// rounded.
#pragma once
#include <cstdint>

namespace qm::cuda {

struct TileKind {
  int rows, width;
  bool warpgroup;
  int in_use;  // stages that products may be reading
  int blocks;  // that share a multiprocessor, as far as registers allow
  bool bulk;   // a tile of gemm_bf16_bulk.cuh
};

struct DeviceKind {
  int64_t shared_block;  // bytes of shared memory that a block, and all blocks of a multiprocessor, may have
  int64_t shared_multiprocessor;
  bool warpgroup;
};

struct Cut {
  int64_t m, n, k, batches;
  bool b_k_rows;
  bool may_split;
  bool convert_a, convert_b;  // an operand takes its gelu on the way
  int out_bytes;              // of an element
  bool gelu_grad;             // the product is multiplied by gelu'
  bool bulk;                  // the copy engine can read both operands
};

struct Plan {
  int tile = -1;  // index of the kinds offered
  bool resident = false;
  int stages = 0;
  int64_t k_piece = 0;
  int64_t pieces = 1;
  int64_t shared = 0;
  int per_multiprocessor = 1;
  int blocks = 1;         // of a cluster: tiles that share copies
  bool shares_b = false;  // a pair of tiles lies in a column
  double time = 0;
};

/// The best of the kinds by estimated time.
Plan make_plan(const Cut& cut, const TileKind* kinds, int count, const DeviceKind& device);

/// Estimated time, as that of plans, of a pass over memory that moves so many bytes.
double pass_time(int64_t bytes);

/// Blocks that share the row tiles of a panel, so that about `slots` blocks have equally much to do.
int64_t walkers_of(int64_t row_tiles, int64_t panels, int64_t slots);

}  // namespace qm::cuda
