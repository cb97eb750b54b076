// Float32 and float64 products: the choice of tile and of pieces.
#include "cuda/gemm_pieces.h"
#include "cuda/gemm_simt.cuh"

namespace qm::cuda {

namespace {

constexpr int64_t kWantedBlocks = 264;  // two for each multiprocessor of an H200
constexpr int64_t kLeastPiece = 512;    // of k

template <class T>
SimtOperand<T> simt_operand(const Operand<T>& s, int64_t outers, const Batches& batches,
                            const int64_t* strides) {
  bool wide = aligned_to<16>(s.data) && s.pitch % kPack<T> == 0;
  for (int axis = 0; axis < batches.rank; axis++) wide = wide && strides[axis] % kPack<T> == 0;
  return {s.data, s.pitch, outers, s.k_rows, wide};
}

template <class T, class S>
void launch_simt(const Call& call, Fuse fuse, SimtProduct<T> p, bool may_split) {
  p.row_tiles = ceil_div(p.m, S::kRows);
  p.column_tiles = ceil_div(p.n, S::kColumns);
  const int64_t tiles = p.row_tiles * p.column_tiles * p.batches.count;
  const int64_t wanted = may_split ? std::min(kWantedBlocks / tiles, p.k / kLeastPiece) : 1;
  p.k_piece = std::max<int64_t>(wanted > 1 ? ceil_div(ceil_div(p.k, wanted), 16) * 16 : p.k, 1);
  p.pieces = std::max<int64_t>(ceil_div(p.k, p.k_piece), 1);
  const auto run = [&](const SimtProduct<T>& q) {
    const dim3 grid = grid_of(tiles * q.pieces, 1);
    switch (fuse) {
      case Fuse::none:
        return QM_LAUNCH(call, (gemm_simt_kernel<T, S, Fuse::none>), grid, S::kBlock, 0, q);
      case Fuse::gelu_a:
        return QM_LAUNCH(call, (gemm_simt_kernel<T, S, Fuse::gelu_a>), grid, S::kBlock, 0, q);
      case Fuse::gelu_b:
        return QM_LAUNCH(call, (gemm_simt_kernel<T, S, Fuse::gelu_b>), grid, S::kBlock, 0, q);
      case Fuse::gelu_grad:
        return QM_LAUNCH(call, (gemm_simt_kernel<T, S, Fuse::gelu_grad>), grid, S::kBlock, 0, q);
    }
  };
  if (p.pieces == 1) return run(p);
  SimtProduct<T> q = p;
  q.piece_stride = p.batches.count * p.m * p.n;
  Scratch<T> partial(p.pieces * q.piece_stride);
  q.c = partial.get();
  q.ldc = p.n;
  q.batches.c = p.m * p.n;
  q.wide_c = p.n % kPack<T> == 0;
  run(q);
  add_pieces(call, partial.get(), p.pieces, p.batches.count, p.m, p.n, p.c, p.ldc, p.batches.c, false);
}

template <class T>
void gemm_simt(const Call& call, const Product<T, T>& s) {
  if (s.m == 0 || s.n == 0 || s.batches.count == 0) return;
  SimtProduct<T> p{};
  p.m = s.m;
  p.n = s.n;
  p.k = s.k;
  p.a = simt_operand(s.a, s.m, s.batches, s.batches.a);
  p.b = simt_operand(s.b, s.n, s.batches, s.batches.b);
  p.c = s.c;
  p.ldc = s.ldc;
  p.wide_c =
      s.n % kPack<T> == 0 && s.ldc % kPack<T> == 0 && s.batches.c % kPack<T> == 0 && aligned_to<16>(s.c);
  p.h = s.h;
  p.bias = s.bias;
  p.batches = s.batches;
  const bool may_split = !s.bias && s.fuse != Fuse::gelu_grad;
  // The tile that wastes the fewest columns; where few rows or tiles are all there is, small ones.
  const auto columns = [&](int64_t width) { return ceil_div(s.n, width) * width; };
  const int64_t tiles = ceil_div(s.m, 128) * ceil_div(s.n, 96) * s.batches.count;
  if (s.n <= 32 && s.m > 64)
    launch_simt<T, SimtTile<128, 32, 8, 4>>(call, s.fuse, p, may_split);
  else if (s.m <= 64 || (tiles < kWantedBlocks / 2 && s.k < 2 * kLeastPiece))
    launch_simt<T, SimtTile<64, 64, 4, 4>>(call, s.fuse, p, may_split);
  else if (columns(96) < columns(128))
    launch_simt<T, SimtTile<128, 96, 8, 8>>(call, s.fuse, p, may_split);
  else
    launch_simt<T, SimtTile<128, 128, 8, 8>>(call, s.fuse, p, may_split);
}

}  // namespace

void gemm(const Call& call, const Product<float, float>& p) {
  if (tf32_allowed()) return gemm_tf32(call, p);
  gemm_simt(call, p);
}
void gemm(const Call& call, const Product<double, double>& p) { gemm_simt(call, p); }

}  // namespace qm::cuda
