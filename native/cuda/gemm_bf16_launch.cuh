// Launching the bfloat16 kernels: for the sources that compile a form.
#pragma once
#include "cuda/gemm_bf16_bulk.cuh"
#include "cuda/gemm_bf16_forms.cuh"
#include "cuda/gemm_map.h"

namespace qm::cuda {

template <class Out>
void apply_plan(const Plan& plan, int width, Bf16Product<Out>& p) {
  p.n_tiles = static_cast<int>(ceil_div(p.n, width));
  p.stages = plan.stages;
  p.k_piece = plan.k_piece;
  p.pieces = static_cast<int>(plan.pieces);
}

template <int width, bool warpgroup, class F>
void launch_tile(const Call& call, const Plan& plan, Bf16Product<typename F::Out> p, Tile<width, warpgroup>,
                 F) {
  using T = Tile<width, warpgroup>;
  apply_plan(plan, width, p);
  const int64_t panels = p.n_tiles * plan.pieces * p.batches.count;
  const int64_t walkers =
      walkers_of(ceil_div(p.m, kTileRows), panels, int64_t{plan.per_multiprocessor} * multiprocessors());
  p.resident = plan.resident;
  p.walkers = static_cast<int>(walkers);
  QM_LAUNCH(call, (gemm_bf16_kernel<T, F>), grid_of(panels * walkers, 1), kThreads,
            static_cast<size_t>(plan.shared), p);
}

/// The map of an operand for tiles of `outer`, each copied by `parts` blocks.
template <int kOuter, bool kKRows>
CUtensorMap map_operand(const bf16* data, int64_t pitch, int64_t outers, int64_t k, int parts) {
  constexpr int kRows = kBoxRows<kOuter, kKRows>;
  return kKRows ? map_matrix(data, pitch, k, outers, kRows / parts)
                : map_matrix(data, pitch, outers, k, kRows / parts);
}

template <int rows, int width, class F>
void launch_tile(const Call& call, const Plan& plan, const Bf16Product<typename F::Out>& product,
                 BulkTile<rows, width>, F) {
  using T = BulkTile<rows, width>;
  BulkProduct<typename F::Out> p{product, 0, plan.blocks, plan.shares_b};
  apply_plan(plan, width, p);
  const int64_t tall = p.shares_b ? p.blocks : 1, across = p.shares_b ? 1 : p.blocks;
  const int64_t units = ceil_div(ceil_div(p.m, rows), tall) * ceil_div(p.n_tiles, across) * plan.pieces;
  p.units = static_cast<int>(units);
  const int64_t clusters =
      std::min<int64_t>(units, int64_t{plan.per_multiprocessor} * multiprocessors() / p.blocks);
  const CUtensorMap a = map_operand<rows, F::kAKRows>(p.a, p.pitch_a, p.m, p.k, p.shares_b ? 1 : p.blocks);
  const CUtensorMap b = map_operand<width, F::kBKRows>(p.b, p.pitch_b, p.n, p.k, p.shares_b ? p.blocks : 1);
  launch_clusters(call, "gemm_bulk_kernel", gemm_bulk_kernel<T, F>, clusters * p.blocks, p.blocks,
                  kBulkThreads<T>, static_cast<size_t>(plan.shared), a, b, p);
}

template <class F, class... Tiles>
void launch_planned(const Call& call, const Plan& plan, const Bf16Product<typename F::Out>& p,
                    TileList<Tiles...>) {
  int tile = 0;
  ((tile++ == plan.tile ? launch_tile(call, plan, p, Tiles{}, F{}) : void()), ...);
}

template <class F>
void launch_form(const Call& call, const Plan& plan, const Bf16Product<typename F::Out>& p) {
  launch_planned<F>(call, plan, p, typename TilesOf<F>::type{});
}

}  // namespace qm::cuda
