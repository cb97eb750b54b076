// The forms of bfloat16 products, and the tiles that each is compiled for.
#pragma once
#include "cuda/gemm_bf16.cuh"
#include "cuda/gemm_plan.h"

namespace qm::cuda {

/// By rows of both operands along k: activations and a packed weight.
template <Fuse fuse>
using RowForm = Form<false, false, fuse, bf16>;
/// By rows of A along k and of B along its outer index: gradients of activations and a packed weight.
template <Fuse fuse>
using TurnedForm = Form<false, true, fuse, bf16>;
/// Sums over rows: weight gradients.
template <Fuse fuse>
using SumForm = Form<true, true, fuse, float>;
/// The other one, for matmul.
using OtherForm = Form<true, false, Fuse::none, bf16>;

template <class T>
constexpr bool kIsBulk = false;
template <int rows, int width>
constexpr bool kIsBulk<BulkTile<rows, width>> = true;

template <class... Tiles>
struct TileList {};

template <class F>
struct TilesOf {
  using type = TileList<Tile<128, false>>;
};
template <>
struct TilesOf<RowForm<Fuse::none>> {
  using type = TileList<Tile<16, false>, Tile<48, false>, Tile<96, false>, Tile<128, false>, Tile<96, true>,
                        Tile<128, true>, Tile<192, true>, Tile<256, true>, BulkTile<128, 128>,
                        BulkTile<128, 192>, BulkTile<128, 256>, BulkTile<192, 192>>;
};
template <>
struct TilesOf<TurnedForm<Fuse::none>> {
  using type = TileList<Tile<16, false>, Tile<48, false>, Tile<96, false>, Tile<128, false>, Tile<96, true>,
                        Tile<128, true>, Tile<192, true>, Tile<256, true>, BulkTile<128, 128>,
                        BulkTile<128, 192>, BulkTile<128, 256>, BulkTile<192, 192>>;
};
template <>
struct TilesOf<RowForm<Fuse::gelu_a>> {
  using type = TileList<Tile<48, false>, Tile<96, false>, Tile<128, false>, Tile<96, true>, Tile<128, true>,
                        Tile<192, true>, Tile<256, true>>;
};
template <>
struct TilesOf<TurnedForm<Fuse::gelu_grad>> {
  using type = TileList<Tile<48, false>, Tile<96, false>, Tile<128, false>, Tile<96, true>, Tile<128, true>,
                        Tile<192, true>, Tile<256, true>, BulkTile<128, 128>, BulkTile<128, 192>,
                        BulkTile<128, 256>, BulkTile<192, 192>>;
};
template <>
struct TilesOf<SumForm<Fuse::none>> {
  using type = TileList<Tile<16, false>, Tile<48, false>, Tile<96, false>, Tile<128, false>, Tile<96, true>,
                        Tile<128, true>, Tile<192, true>, Tile<256, true>, BulkTile<128, 128>,
                        BulkTile<128, 192>, BulkTile<128, 256>, BulkTile<192, 192>>;
};
template <>
struct TilesOf<SumForm<Fuse::gelu_b>> {
  using type = TileList<Tile<16, false>, Tile<48, false>, Tile<96, false>, Tile<128, false>, Tile<96, true>,
                        Tile<128, true>, Tile<256, true>>;
};

template <class... Tiles>
Plan plan_tiles(const Cut& cut, const DeviceKind& device, TileList<Tiles...>) {
  const TileKind kinds[] = {
      {Tiles::kRows, Tiles::kWidth, Tiles::kWarpgroup, Tiles::kInUse, Tiles::kBlocks, kIsBulk<Tiles>}...};
  return make_plan(cut, kinds, sizeof...(Tiles), device);
}
template <class F>
Plan plan_form(const Cut& cut, const DeviceKind& device) {
  return plan_tiles(cut, device, typename TilesOf<F>::type{});
}

/// Launches the kernel of a form by its plan. Each form is compiled in a source of its own: it takes long.
template <class F>
void launch_form(const Call& call, const Plan& plan, const Bf16Product<typename F::Out>& p);

}  // namespace qm::cuda
