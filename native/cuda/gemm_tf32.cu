// Float32 products on tensor cores: the choice of tile and of pieces. Used only where TF32 has been allowed.
#include "cuda/gemm_pieces.h"
#include "cuda/gemm_tf32.cuh"

namespace qm::cuda {

namespace {

constexpr int64_t kWantedBlocks = 264;  // two for each multiprocessor of an H200
constexpr int64_t kLeastPiece = 512;    // of k

Tf32Operand tf32_operand(const Operand<float>& s, int64_t outers, const Batches& batches,
                         const int64_t* strides) {
  bool wide = aligned_to<16>(s.data) && s.pitch % 4 == 0;
  for (int axis = 0; axis < batches.rank; axis++) wide = wide && strides[axis] % 4 == 0;
  return {s.data, s.pitch, outers, wide};
}

/// The kernel that reads both operands as they lie.
template <class S, bool kGrad>
void launch_form(const Call& call, bool k_rows_a, bool k_rows_b, dim3 grid, const Tf32Product& p) {
  const auto run = [&](auto a, auto b) {
    constexpr bool kA = decltype(a)::value, kB = decltype(b)::value;
    QM_LAUNCH(call, (gemm_tf32_kernel<S, kA, kB, kGrad>), grid, kThreads, (kTf32Shared<S, kA, kB>), p);
  };
  if (k_rows_a && k_rows_b)
    run(std::true_type{}, std::true_type{});
  else if (k_rows_a)
    run(std::true_type{}, std::false_type{});
  else if (k_rows_b)
    run(std::false_type{}, std::true_type{});
  else
    run(std::false_type{}, std::false_type{});
}

template <class S>
void launch_tf32(const Call& call, const Product<float, float>& s, Tf32Product p) {
  const int64_t row_tiles = ceil_div(p.m, S::kRows), column_tiles = ceil_div(p.n, S::kColumns);
  const int64_t tiles = row_tiles * column_tiles * p.batches.count;
  const bool may_split = !s.bias && s.fuse != Fuse::gelu_grad;
  const int64_t wanted = may_split ? std::min(kWantedBlocks / tiles, p.k / kLeastPiece) : 1;
  p.k_piece =
      std::max<int64_t>(wanted > 1 ? ceil_div(ceil_div(p.k, wanted), kTf32Depth) * kTf32Depth : p.k, 1);
  const int64_t pieces = std::max<int64_t>(ceil_div(p.k, p.k_piece), 1);
  const dim3 grid = grid_of(tiles * pieces, 1);  // throws where the numbers below would not fit
  p.row_tiles = static_cast<unsigned>(row_tiles);
  p.column_tiles = static_cast<unsigned>(column_tiles);
  p.pieces = static_cast<unsigned>(pieces);
  if (p.h) return launch_form<S, true>(call, s.a.k_rows, s.b.k_rows, grid, p);
  if (pieces == 1) return launch_form<S, false>(call, s.a.k_rows, s.b.k_rows, grid, p);
  p.piece_stride = p.batches.count * p.m * p.n;
  Scratch<float> partial(pieces * p.piece_stride);
  p.c = partial.get();
  p.ldc = p.n;
  p.batches.c = p.m * p.n;
  p.wide_c = p.n % 2 == 0;
  launch_form<S, false>(call, s.a.k_rows, s.b.k_rows, grid, p);
  add_pieces(call, partial.get(), pieces, p.batches.count, p.m, p.n, s.c, s.ldc, s.batches.c, false);
}

}  // namespace

void gemm_tf32(const Call& call, const Product<float, float>& s) {
  if (s.m == 0 || s.n == 0 || s.batches.count == 0) return;
  Tf32Product p{};
  p.m = s.m;
  p.n = s.n;
  p.k = s.k;
  p.a = tf32_operand(s.a, s.m, s.batches, s.batches.a);
  p.b = tf32_operand(s.b, s.n, s.batches, s.batches.b);
  p.c = s.c;
  p.ldc = s.ldc;
  p.gelu_a = s.fuse == Fuse::gelu_a;
  p.gelu_b = s.fuse == Fuse::gelu_b;
  p.h = s.fuse == Fuse::gelu_grad ? s.h : nullptr;
  p.wide_c = s.n % 2 == 0 && s.ldc % 2 == 0 && s.batches.c % 2 == 0 && aligned_to<8>(s.c) &&
             (!p.h || aligned_to<8>(p.h));
  p.bias = s.bias;
  p.batches = s.batches;
  // The tile that wastes the fewest columns, the widest of those; where few rows or tiles are all there is, a
  // small one.
  const auto columns = [&](int64_t width) { return ceil_div(s.n, width) * width; };
  const int64_t tiles = ceil_div(s.m, 128) * ceil_div(s.n, 96) * s.batches.count;
  if (s.m <= 64 || (tiles < kWantedBlocks / 2 && s.k < 2 * kLeastPiece))
    launch_tf32<Tf32Shape<64, 64>>(call, s, p);
  else if (columns(64) < std::min(columns(96), columns(128)))
    launch_tf32<Tf32Shape<128, 64>>(call, s, p);
  else if (columns(96) < columns(128))
    launch_tf32<Tf32Shape<128, 96>>(call, s, p);
  else
    launch_tf32<Tf32Shape<128, 128>>(call, s, p);
}

}  // namespace qm::cuda
