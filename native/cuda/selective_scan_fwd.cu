// Selective scan, channels last: h_j = exp(dt_j A) h_{j-1} + dt_j B_j u_j, y_j = <C_j, h_j> + D u_j, with j
// walking over tokens in the order given for each batch entry and group. Shapes and rules:
// native/cpu/selective_scan.cpp.
#include "cuda/device/scan_segments.cuh"
#include "cuda/device/scan_stage.cuh"
#include "cuda/selective_scan.cuh"

namespace qm::cuda {
namespace {

/// Blocks that should fit a multiprocessor.
template <class T, int kV, int kN, int kW>
constexpr int kForwardBlocks = sizeof(T) == 8 ? (kN > 1 ? 8 / kW : 2)
                               : kN > 1       ? 16 / kW
                               : kV == 2      ? 3
                                              : 4;

/// A block owns a run of channels of one batch entry and group (see selective_scan.cuh) and walks its
/// stages. In a stage, a thread holds kTokens positions of kV channels, and takes the states kN at a time:
///   1. decays of its tokens, and where they lead from a state of 0: told to the other warps
///   2. after a barrier: the state that enters its piece, from the stage's carry through the pieces before
///   3. the states of its tokens again from there, and their part of y
/// Sums in Acc<T>: y over states in order, then D u, then what groups before added (rounded to T in
/// between). `starts`: scan_segments.cuh, or null. Every element of `states` and y is written by one thread
/// of a block.
template <class T, int kV, int kN, int kW>
__global__ void __launch_bounds__(kW* kWarp, kForwardBlocks<T, kV, kN, kW>)
    selective_scan_fwd_kernel(ScanArguments<T> g, const Acc<T>* starts, T* y, Acc<T>* states) {
  using A = Acc<T>;
  using M = ScanMath<T>;
  extern __shared__ __align__(16) unsigned char shared[];
  const ScanPlace place(g);
  ScanStages<T, kV, kN, kW, false> stage(g, shared);
  const int warp = stage.warp, padded = stage.layout.padded;

  for (int group = place.group; group < place.group + g.block_groups; group++) {
    const bool add = g.from > 0 || (g.merge && group > 0);
    stage.enter_group(place, group, starts, {}, {y, g.y_row()}, {});

    constexpr int kStage = kW * kTokens;
    int turn = 0, position = stage.position(0);
    stage.keep_token(0, stage.read_token(position));
    __syncwarp();
    if (stage.kAhead) stage.fetch(0, position);
    int coming = stage.read_token(position + kStage);
    const int stages = static_cast<int>(ceil_div(place.end - place.begin, kStage));
    for (int s = 0; s < stages; s++, position += kStage) {
      const int slot = s & 1, tokens = stage.tokens(position);
      // several states: pieces without tokens are computed from zeros, which saves registers
      const bool active = kN > 1 || __any_sync(0xffffffffu, tokens > 0);
      if (!stage.kAhead) stage.fetch(slot, position);
      stage.settle(slot, coming);
      coming = stage.read_token(position + 2 * kStage);
      if (stage.kAhead) stage.fetch(slot ^ 1, position + kStage);

      A dt[kTokens][kV], sum[kV] = {}, yt[kTokens][kV] = {};
      A drive[kTokens][kV];  // dt u; times B where there is one state
      if constexpr (kN > 1) {
        scan_steps<T, kV>(stage, slot, tokens, dt);
        if (add) stage.fetch_old(slot, position);
#pragma unroll
        for (int k = 0; k < kTokens; k++) {
          drive[k][0] = dt[k][0] * stage.get(0, slot, k).v[0];
          sum[0] += dt[k][0];
        }
      }

#pragma unroll 1
      for (int n0 = 0; n0 < padded; n0 += kN, turn++) {
        Pack<A, kV> rate[kN];
#pragma unroll
        for (int n = 0; n < kN; n++) rate[n] = stage.rate(n0 + n);
        A decay[kTokens][kN][kV], h[kN][kV] = {};
        if (active) {
          // one state: here, so that dt takes no registers elsewhere
          if constexpr (kN == 1) {
            scan_steps<T, kV>(stage, slot, tokens, dt);
            if (add) stage.fetch_old(slot, position);
          }
#pragma unroll
          for (int k = 0; k < kTokens; k++) {
            const Pack<A, kN> b = stage.coefficient(0, k, n0);
            if constexpr (kN == 1) {
              const Pack<A, kV> u = stage.get(0, slot, k);
#pragma unroll
              for (int v = 0; v < kV; v++) {
                drive[k][v] = dt[k][v] * u.v[v] * b.v[0];
                sum[v] += dt[k][v];
              }
            }
#pragma unroll
            for (int n = 0; n < kN; n++)
#pragma unroll
              for (int v = 0; v < kV; v++) {
                decay[k][n][v] = M::decay(dt[k][v] * rate[n].v[v]);
                h[n][v] = mul_add(decay[k][n][v], h[n][v], kN == 1 ? drive[k][v] : drive[k][v] * b.v[n]);
              }
          }
        }
#pragma unroll
        for (int n = 0; n < kN; n++) {
          Pack<A, kV> over, end;
#pragma unroll
          for (int v = 0; v < kV; v++) {
            over.v[v] = M::decay(rate[n].v[v] * sum[v]);
            end.v[v] = h[n][v];
          }
          store_pack<A, kV>(stage.ends(turn, 0, warp, n), over);
          store_pack<A, kV>(stage.ends(turn, 1, warp, n), end);
        }
        __syncthreads();

#pragma unroll
        for (int n = 0; n < kN; n++) {
          const Pack<A, kV> start = load_pack<A, kV>(stage.carry(s, n0 + n));
#pragma unroll
          for (int v = 0; v < kV; v++) h[n][v] = start.v[v];
        }
        // a constant bound: no more rounds than can be are unrolled
#pragma unroll
        for (int w = 0; w < kW - 1; w++) {
          if (w >= warp) break;
#pragma unroll
          for (int n = 0; n < kN; n++) {
            const Pack<A, kV> over = load_pack<A, kV>(stage.ends(turn, 0, w, n));
            const Pack<A, kV> end = load_pack<A, kV>(stage.ends(turn, 1, w, n));
#pragma unroll
            for (int v = 0; v < kV; v++) h[n][v] = mul_add(over.v[v], h[n][v], end.v[v]);
          }
        }
        if (warp == 0 && stage.here()) {
          A* const at = states + stage.saved(s, n0);
          if (kN > 1 && g.states % kN == 0) {
            Pack<A, kN> all;
#pragma unroll
            for (int n = 0; n < kN; n++) all.v[n] = h[n][0];
            store_pack<A, kN>(at, all);
          } else {
#pragma unroll
            for (int n = 0; n < kN; n++)
#pragma unroll
              for (int v = 0; v < kV; v++)
                if (kN == 1 || n0 + n < g.count) at[v * g.states + n] = h[n][v];
          }
        }
        if (active) {
#pragma unroll
          for (int k = 0; k < kTokens; k++) {
            const Pack<A, kN> b = stage.coefficient(0, k, n0), c = stage.coefficient(1, k, n0);
#pragma unroll
            for (int n = 0; n < kN; n++)
#pragma unroll
              for (int v = 0; v < kV; v++) {
                h[n][v] = mul_add(decay[k][n][v], h[n][v], kN == 1 ? drive[k][v] : drive[k][v] * b.v[n]);
                yt[k][v] = mul_add(c.v[n], h[n][v], yt[k][v]);
              }
          }
        }
        if (warp == kW - 1) {
#pragma unroll
          for (int n = 0; n < kN; n++) {
            Pack<A, kV> last;
#pragma unroll
            for (int v = 0; v < kV; v++) last.v[v] = h[n][v];
            store_pack<A, kV>(stage.carry(s + 1, n0 + n), last);
          }
        }
      }

      const Pack<A, kV> skip = stage.parameter(1);
#pragma unroll
      for (int k = 0; k < kTokens; k++) {
        const Pack<A, kV> u = stage.get(0, slot, k);
#pragma unroll
        for (int v = 0; v < kV; v++) yt[k][v] = mul_add(skip.v[v], u.v[v], yt[k][v]);
      }
      if (add) {
        stage.settle_old();
#pragma unroll
        for (int k = 0; k < kTokens; k++) {
          const Pack<A, kV> old = stage.get_old(slot, k);
#pragma unroll
          for (int v = 0; v < kV; v++) yt[k][v] += old.v[v];
        }
      }
      const int row = stage.group().result_row[0], written = stage.here() ? tokens : 0;
#pragma unroll
      for (int k = 0; k < kTokens; k++) {
        Pack<T, kV> result;
#pragma unroll
        for (int v = 0; v < kV; v++) result.v[v] = narrow<T>(yt[k][v]);
        store_if(k < written, stage.at_token(stage.result(0), slot, k, row), result);
      }
    }
  }
}

/// Checks lines of an order: a token named twice would be written twice, one left out not at all. A block
/// owns a line, and a bit for each token, in shared memory or in `room`.
__global__ void selective_scan_order_kernel(const int32_t* order, int length, uint32_t* room, Fault* fault,
                                            int op) {
  extern __shared__ __align__(16) unsigned char shared[];
  const int words = (length + 31) / 32;
  uint32_t* const seen =
      room ? room + static_cast<int64_t>(blockIdx.x) * words : reinterpret_cast<uint32_t*>(shared);
  const int32_t* const line = order + static_cast<int64_t>(blockIdx.x) * length;
  for (int i = threadIdx.x; i < words; i += blockDim.x) seen[i] = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < length; i += blockDim.x) {
    const int token = line[i];
    bool bad = token < 0 || token >= length;
    if (!bad) {
      const uint32_t bit = 1u << (token % 32);
      bad = atomicOr(seen + token / 32, bit) & bit;
    }
    if (bad) report(fault, FaultKind::order, op, token, length);
  }
}

void check_order(const Call& call, const ScanOrder& order, int length) {
  if (!order.data || order.lines == 0) return;
  constexpr int64_t in_shared = 48 << 10;
  const int64_t words = ceil_div(length, 32), bytes = words * 4;
  const int threads =
      length >= 1024 ? 1024 : static_cast<int>(std::max<int64_t>(1, ceil_div(length, kWarp)) * kWarp);
  if (bytes <= in_shared) {
    QM_LAUNCH(call, selective_scan_order_kernel, grid_of(order.lines, 1), threads, bytes, order.data, length,
              nullptr, fault(), call.row);
  } else {
    Scratch<uint32_t> room(order.lines * words);
    QM_LAUNCH(call, selective_scan_order_kernel, grid_of(order.lines, 1), threads, 0, order.data, length,
              room.get(), fault(), call.row);
  }
}

template <class T>
void forward(const Call& call) {
  ScanArguments<T> g = scan_arguments<T>(call, 0, call.in[7]);
  TensorView &out = call.out[0], &kept = call.out[1];
  call.require(out.dtype == call.in[0].dtype && out.shape == Shape{3, {g.batch, g.length, g.y_row()}},
               "y of its shape and dtype");
  call.require(
      kept.dtype == acc_dtype(out.dtype) && kept.shape == Shape{4, {g.batch, g.chunks, g.channels, g.states}},
      "states of their shape and dtype");
  T* y = out.as<T>();
  Acc<T>* states = kept.as<Acc<T>>();
  check_order(call, g.order, g.length);

  const bool aligned = aligned_to<16>(g.u) && aligned_to<16>(g.delta) && aligned_to<16>(y);
  scan_cut(g, g.merge && g.groups > 1, sizeof(T) <= 4, aligned);
  if (g.blocks() == 0) return;
  const bool cut = g.segments > 1;
  Scratch<Acc<T>> starts(cut ? g.batch * g.segments * g.channels * g.states : 1);
  if (cut) scan_starts<T, false>(call, g, g.u, g.u_row(), starts.get());
  constexpr int kSeveral = sizeof(T) == 8 ? 2 : 4;
  scan_launches(g, [&](const ScanArguments<T>& part) {
    scan_variant<T, sizeof(T) <= 4, kSeveral, kSeveral>(part, [&](auto v, auto n, auto w) {
      constexpr int kV = decltype(v)::value, kN = decltype(n)::value, kW = decltype(w)::value;
      const ScanLayout<T, kV, kN, kW, false> layout(part.count, part.adds);
      QM_LAUNCH(call, (selective_scan_fwd_kernel<T, kV, kN, kW>), grid_of(part.blocks(), 1), kW * kWarp,
                layout.bytes, part, cut ? starts.get() : nullptr, y, states);
    });
  });
}

}  // namespace

/// in: u, delta, A, B, C, D?, bias?, order?; out: y, states.
void selective_scan_fwd(const Call& call) {
  float_dispatch(call, call.in[0].dtype, [&](auto zero) { forward<decltype(zero)>(call); });
}

}  // namespace qm::cuda
