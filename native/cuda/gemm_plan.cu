#include <algorithm>

#include "cuda/gemm_bf16_bulk.cuh"
#include "cuda/gemm_plan.h"

namespace qm::cuda {

namespace {

// One H200, in nanoseconds, bytes and operations. The times only rank tiles; being the same everywhere, they
// leave the sums of one kind of device the same as well.
constexpr int64_t kMultiprocessors = 132;
constexpr double kDram = 4300, kL2 = 44;                   // per device, per multiprocessor
constexpr double kWarpRate = 3300, kWarpgroupRate = 5000;  // per multiprocessor
constexpr double kStoreRate = 60;                          // elements through an epilogue
constexpr double kLatency = 900;                           // of a copy; some are on their way
constexpr double kConvert = 0.06;                          // of an element
constexpr double kBubble = 100;  // of a step, where no other block covers its barrier
constexpr double kLaunch = 2500;
constexpr double kPassRate = 3800;  // of memory, by a kernel that does nothing else
constexpr double kOwnCopies = 1.4;  // what this leaves out of a kernel whose warps multiply and copy
constexpr int64_t kLeastSteps = 8;  // of a piece of k

int64_t round_up(int64_t x, int64_t step) { return ceil_div(x, step) * step; }

/// False if the tile has no room.
bool estimate(const Cut& cut, const TileKind& kind, const DeviceKind& device, Plan& plan) {
  const int64_t steps = std::max<int64_t>(ceil_div(std::min(plan.k_piece, cut.k), kDepth), 1);
  const int64_t row_tiles = ceil_div(cut.m, kTileRows), column_tiles = ceil_div(cut.n, kind.width);
  const int64_t tiles = row_tiles * column_tiles * cut.batches * plan.pieces;
  const int64_t bytes_a = kTileRows * kRowBytes;
  const int64_t bytes_b = cut.b_k_rows ? round_up(kind.width, 64) * kRowBytes : kind.width * kRowBytes;
  const auto shared = [&](bool resident, int stages) {
    return stages * (bytes_a + (resident ? 0 : bytes_b)) + (resident ? steps * bytes_b : 0) +
           kind.width * int64_t{sizeof(float)};
  };
  plan.stages = kind.in_use + kLeastAhead;
  // worth it when a block has several tiles for one load of B
  plan.resident = !cut.convert_b && plan.pieces == 1 && tiles >= 2 * kind.blocks * kMultiprocessors &&
                  shared(true, plan.stages) <= device.shared_block;
  plan.shared = shared(plan.resident, plan.stages);
  if (plan.shared > device.shared_block) return false;
  plan.per_multiprocessor =
      static_cast<int>(std::min<int64_t>(kind.blocks, device.shared_multiprocessor / (plan.shared + 1024)));
  // more copies under way, as long as that costs no block its place
  while (plan.stages < kind.in_use + kMostAhead) {
    const int64_t more = shared(plan.resident, plan.stages + 1);
    if (more > device.shared_block || device.shared_multiprocessor / (more + 1024) < plan.per_multiprocessor)
      break;
    plan.shared = more;
    plan.stages++;
  }

  const double m = static_cast<double>(cut.m), n = static_cast<double>(cut.n), k = static_cast<double>(cut.k);
  const double depth = std::min(static_cast<double>(plan.k_piece), k);
  const double rows = m / static_cast<double>(row_tiles), columns = n / static_cast<double>(column_tiles);
  const int64_t each = ceil_div(tiles, kMultiprocessors);
  const double together = static_cast<double>(std::min<int64_t>(each, plan.per_multiprocessor));
  const double multiply =
      2.0 * kTileRows * kind.width * depth / (kind.warpgroup ? kWarpgroupRate : kWarpRate);
  const double fill = 2.0 * (rows + (plan.resident ? 0 : columns)) * depth / kL2;
  const double latency = kLatency * static_cast<double>(steps) / (together * (plan.stages - kind.in_use));
  const double store = kTileRows * kind.width / kStoreRate;
  const double bubbles = kind.warpgroup ? 0 : kBubble * static_cast<double>(steps);
  const double convert =
      kConvert * depth * ((cut.convert_a ? kTileRows : 0) + (cut.convert_b ? kind.width : 0));
  const double alone = (together > 1 ? store / 2 : store + bubbles) + convert;
  const double busy = static_cast<double>(each) * (std::max({multiply, fill, latency}) + alone);
  const double batches = static_cast<double>(cut.batches), c = m * n * batches;
  double moved = ((m + n) * k * 2 * batches + c * cut.out_bytes) / kDram, after = 0;
  if (plan.pieces > 1) {
    const double partial = static_cast<double>(plan.pieces) * c * sizeof(float) / kDram;
    moved += partial;
    after = kLaunch + partial;
  }
  // what is hidden behind the other still costs a little
  plan.time = kOwnCopies * (std::max(busy, moved) + 0.2 * std::min(busy, moved) + after);
  return true;
}

// The same of gemm_bf16_bulk.cuh, whose blocks are alone on a multiprocessor.
constexpr double kBulkRate = 5840, kBulkWideRate = 6150;  // the latter for tiles of more than 128 columns
constexpr double kBulkL2 = 14800;                         // of the whole device
constexpr double kBulkThroughL2 = 0.28;                   // of the time that memory takes, L2 is busy with it
constexpr double kBulkTile = 130, kBulkStoreRate = 24;    // between the products of two tiles
constexpr double kPartial = 1600;                         // bytes of pieces, written and added
constexpr double kBulkOverlap = 0.36;  // what is hidden behind the other still costs so much

// With one column of tiles and so few steps, a tile is stored as long as it is multiplied: blocks that share a
// multiprocessor hide that better.
constexpr int64_t kFewSteps = 3;
// Up to here a tile of 192 rows loses what it gains, unless there is arithmetic in the stores for its third
// warpgroup.
constexpr int64_t kTallSteps = 6;

/// False if a pair of tiles would be half empty for sure.
bool estimate_bulk(const Cut& cut, const TileKind& kind, const DeviceKind& device, Plan& plan) {
  const int64_t row_tiles = ceil_div(cut.m, kind.rows), column_tiles = ceil_div(cut.n, kind.width);
  const int64_t tall = plan.shares_b ? plan.blocks : 1, across = plan.shares_b ? 1 : plan.blocks;
  if (row_tiles < tall || column_tiles < across) return false;
  const int64_t stage = (kind.rows + kind.width) * kRowBytes;
  const int64_t around = kind.rows / 32 * kind.width * int64_t{sizeof(float)};
  plan.stages =
      static_cast<int>(std::min((device.shared_block - around) / (stage + kBarrierBytes), kMostStages));
  plan.shared = plan.stages * (stage + kBarrierBytes) + around;

  const double m = static_cast<double>(cut.m), n = static_cast<double>(cut.n), k = static_cast<double>(cut.k);
  const double depth = std::min(static_cast<double>(plan.k_piece), k), c = m * n;
  const int64_t units = ceil_div(row_tiles, tall) * ceil_div(column_tiles, across) * plan.pieces;
  const int64_t each = ceil_div(units, kMultiprocessors / plan.blocks);
  const double multiply =
      2.0 * kind.rows * kind.width * depth / (kind.width > 128 ? kBulkWideRate : kBulkRate);
  const double busy_blocks = static_cast<double>(std::min(units * plan.blocks, kMultiprocessors));
  const double fill = 2.0 * depth * busy_blocks / kBulkL2 *
                      (static_cast<double>(kind.rows) / static_cast<double>(across) +
                       static_cast<double>(kind.width) / static_cast<double>(tall));
  const double store = kBulkTile + kind.rows * kind.width / kBulkStoreRate;
  const double moved = ((m + n) * k * 2 + c * cut.out_bytes) / kDram;
  const double rounds = static_cast<double>(each);
  const double busy = std::max(rounds * multiply, rounds * fill + kBulkThroughL2 * moved) + rounds * store;
  const double after =
      plan.pieces > 1 ? kLaunch + static_cast<double>(plan.pieces) * c * sizeof(float) / kPartial : 0;
  plan.time = std::max(busy, moved) + kBulkOverlap * std::min(busy, moved) + after;
  return true;
}

}  // namespace

Plan make_plan(const Cut& cut, const TileKind* kinds, int count, const DeviceKind& device) {
  Plan best;
  for (int tile = 0; tile < count; tile++) {
    const TileKind& kind = kinds[tile];
    if ((kind.warpgroup && !device.warpgroup) || (kind.bulk && !cut.bulk)) continue;
    if (kind.bulk && cut.n <= kind.width && cut.k <= kFewSteps * kDepth) continue;
    if (kind.rows > kTileRows && cut.k <= kTallSteps * kDepth && !cut.gelu_grad) continue;
    const int64_t tiles = ceil_div(cut.m, kind.rows) * ceil_div(cut.n, kind.width) * cut.batches;
    const int64_t steps = std::max<int64_t>(ceil_div(cut.k, kDepth), 1);
    for (int rounds = 0; rounds <= (cut.may_split ? 4 : 0); rounds++) {
      // 0: whole; otherwise as many pieces as fill the multiprocessors so often
      const int64_t wanted = rounds == 0 ? 1 : rounds * kMultiprocessors / tiles;
      if (rounds > 0 && (wanted < 2 || steps / wanted < kLeastSteps)) continue;
      Plan plan;
      plan.tile = tile;
      plan.k_piece = ceil_div(steps, wanted) * kDepth;
      plan.pieces = std::max<int64_t>(ceil_div(cut.k, plan.k_piece), 1);
      const auto consider = [&](bool fits) {
        if (fits && (best.tile < 0 || plan.time < best.time)) best = plan;
      };
      if (!kind.bulk) {
        consider(estimate(cut, kind, device, plan));
        continue;
      }
      for (const bool shares_b : {true, false})
        for (plan.blocks = 2, plan.shares_b = shares_b; plan.blocks > 0; plan.blocks--)
          consider(estimate_bulk(cut, kind, device, plan));
    }
  }
  return best;
}

double pass_time(int64_t bytes) { return kLaunch + static_cast<double>(bytes) / kPassRate; }

int64_t walkers_of(int64_t row_tiles, int64_t panels, int64_t slots) {
  int64_t best = 1, best_time = 0;
  for (int64_t rounds = 1; rounds <= 8; rounds++) {
    const int64_t most = std::min(row_tiles, std::max<int64_t>(rounds * slots / panels, 1));
    const int64_t each = ceil_div(row_tiles, most), walkers = ceil_div(row_tiles, each);
    const int64_t time = ceil_div(panels * walkers, slots) * each;
    if (rounds == 1 || time < best_time) {
      best = walkers;
      best_time = time;
    }
  }
  return best;
}

}  // namespace qm::cuda
