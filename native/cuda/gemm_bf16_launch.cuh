// Launching the bfloat16 kernel: for the sources that compile a form.
#pragma once
#include "cuda/gemm_bf16_forms.cuh"

namespace qm::cuda {

template <class T, class F>
void launch_tile(const Call& call, const Plan& plan, Bf16Product<typename F::Out> p) {
  const int64_t n_tiles = ceil_div(p.n, T::kWidth), panels = n_tiles * plan.pieces * p.batches.count;
  const int64_t walkers =
      walkers_of(ceil_div(p.m, kTileRows), panels, int64_t{plan.per_multiprocessor} * multiprocessors());
  p.resident = plan.resident;
  p.stages = plan.stages;
  p.k_piece = plan.k_piece;
  p.pieces = static_cast<int>(plan.pieces);
  p.n_tiles = static_cast<int>(n_tiles);
  p.walkers = static_cast<int>(walkers);
  QM_LAUNCH(call, (gemm_bf16_kernel<T, F>), grid_of(panels * walkers, 1), kThreads,
            static_cast<size_t>(plan.shared), p);
}

template <class F, class... Tiles>
void launch_planned(const Call& call, const Plan& plan, const Bf16Product<typename F::Out>& p,
                    TileList<Tiles...>) {
  int tile = 0;
  ((tile++ == plan.tile ? launch_tile<Tiles, F>(call, plan, p) : void()), ...);
}

template <class F>
void launch_form(const Call& call, const Plan& plan, const Bf16Product<typename F::Out>& p) {
  launch_planned<F>(call, plan, p, typename TilesOf<F>::type{});
}

}  // namespace qm::cuda
