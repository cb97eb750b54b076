// Gradients of the selective scan. With r_j what the steps after j say about h_j, dh_j = dy_j C_j + r_j and
// r_{j-1} = a_j dh_j, where a_j = exp(dt_j A):
//   du = D dy + dt <dh, B>      ddt = u <dh, B> + <dh a h_{j-1}, A>      ddelta = ddt softplus'
//   dB = sum over channels of dh dt u      dC = sum over channels of dy h      dA = sum over time of dh a
//   h_{j-1} dt
// Shapes and rules: native/cpu/selective_scan.cpp.
#include "cuda/device/scan_segments.cuh"
#include "cuda/device/scan_stage.cuh"
#include "cuda/selective_scan.cuh"

namespace qm::cuda {
namespace {

/// Blocks that should fit a multiprocessor. More of them hide more latency, but two channels of a lane need
/// the registers.
template <class T, int kV, int kN, int kW>
constexpr int kBackwardBlocks = sizeof(T) == 8 ? 8 / kW
                                : kN > 1       ? 16 / kW
                                : kV == 2      ? 2
                                               : 3;

template <class T>
struct ScanGradients {
  T *du, *ddelta;
  T *db, *dc;          // where one run has all channels of a group
  Acc<T>* bc_partial;  // or else [runs][B, C][batch, length, groups, states]
  Acc<T>* rows;        // [batch, segments][dA of channels and states, dD of channels, dbias of channels]
};

/// Sums kCount values of each lane over the lanes that differ in the bits from kBit on, log2(kCount) of
/// them, in a fixed tree. A lane is left with the sum of value scatter_index().
template <int kBit, int kCount, class A>
__device__ __forceinline__ A scatter_sum(A (&values)[kCount], int lane) {
#pragma unroll
  for (int half = kCount / 2, bit = kBit; half > 0; half /= 2, bit++) {
    const bool upper = lane >> bit & 1;
#pragma unroll
    for (int i = 0; i < half; i++) {
      const A keep = upper ? values[i + half] : values[i], give = upper ? values[i] : values[i + half];
      values[i] = keep + __shfl_xor_sync(0xffffffffu, give, 1 << bit);
    }
  }
  return values[0];
}
template <int kBit, int kCount>
__device__ __forceinline__ int scatter_index(int lane) {
  int index = 0;
#pragma unroll
  for (int half = kCount / 2, bit = kBit; half > 0; half /= 2, bit++) index += (lane >> bit & 1) * half;
  return index;
}

/// A block owns a run of channels of one batch entry and group (see selective_scan.cuh) and walks its
/// stages from the last to the first. In a stage, a thread holds kTokens positions of kV channels, and
/// takes the states kN at a time:
///   1. decays of its tokens, and where they lead from 0: h forward, r in reverse; told to the other warps
///   2. after a barrier: the h that enters its piece, from the saved state through the pieces before, and
///      the r, from the stage's carry through the pieces after
///   3. from its last token to the first, the gradients
/// Sums in Acc<T>. du and ddt: over states in order; du: then over groups, rounded to T in between. dB and
/// dC: over a lane's channels, then a tree over lanes; runs are left to scan_sum_kernel. dA, dD, dbias:
/// over the positions of a thread, from the last to the first, then over warps in order; batch entries and
/// segments are left to scan_sum_kernel. `starts`: scan_segments.cuh, or null.
template <class T, int kV, int kN, int kW>
__global__ void __launch_bounds__(kW* kWarp, kBackwardBlocks<T, kV, kN, kW>)
    selective_scan_bwd_kernel(ScanArguments<T> g, const Acc<T>* starts, const T* dy, const Acc<T>* states,
                              ScanGradients<T> to) {
  using A = Acc<T>;
  using M = ScanMath<T>;
  constexpr int kThreadsHere = kW * kWarp;
  // bits of a lane that pick B or C and a state, and the next ones, that pick a token
  constexpr int kBits = kN == 4 ? 3 : kN;
  constexpr int kTokenBits = kN == 4 || kV == 2 ? 2 : 3, kTogether = 1 << kTokenBits;
  extern __shared__ __align__(16) unsigned char shared[];
  const ScanPlace place(g);
  ScanStages<T, kV, kN, kW, true> stage(g, shared);
  constexpr bool kOldAhead = decltype(stage)::kAhead;
  const int lane = stage.lane, warp = stage.warp, padded = stage.layout.padded;

  for (int group = place.group; group < place.group + g.block_groups; group++) {
    const bool add = g.from > 0 || (g.shared_u && group > 0);
    stage.enter_group(place, group, starts, {dy, g.y_row()}, {to.du, g.u_row()}, {to.ddelta, g.channels});
    A da[kV] = {}, dd[kV] = {}, dbias[kV] = {};
    if constexpr (kN > 1)
      for (int n = 0; n < padded; n++) stage.at(stage.layout.sums)[n * kThreadsHere + threadIdx.x] = 0;

    constexpr int kStage = kW * kTokens;
    int turn = 0, s = static_cast<int>(ceil_div(place.end - place.begin, kStage)) - 1,
        position = stage.position(s);
    stage.keep_token(0, stage.read_token(position));
    __syncwarp();
    if (stage.kAhead) stage.fetch(0, position);
    int coming = stage.read_token(position - kStage);
    for (int i = 0; s >= 0; i++, s--, position -= kStage) {
      const int slot = i & 1, tokens = stage.tokens(position);
      // several states: pieces without tokens are computed from zeros, which saves registers
      const bool active = kN > 1 || __any_sync(0xffffffffu, tokens > 0);
      if (!stage.kAhead) stage.fetch(slot, position);
      stage.settle(slot, coming);
      coming = stage.read_token(position - 2 * kStage);
      if (kOldAhead && add) stage.fetch_old(slot, position);
      if (stage.kAhead) stage.fetch(slot ^ 1, position - kStage);

      A dt[kTokens][kV], sum[kV] = {};
      if constexpr (kN > 1) {
        scan_steps<T, kV>(stage, slot, tokens, dt);
#pragma unroll
        for (int k = 0; k < kTokens; k++) sum[0] += dt[k][0];
      }
      // <dh, B> and <dh a h, A>
      A through_b[kTokens][kV] = {}, through_a[kTokens][kV] = {};

#pragma unroll 1
      for (int n0 = 0; n0 < padded; n0 += kN, turn++) {
        Pack<A, kV> rate[kN];
        A h[kN][kV], first[kN][kV], r[kN][kV] = {};
#pragma unroll
        for (int n = 0; n < kN; n++) {
          rate[n] = stage.rate(n0 + n);
#pragma unroll
          for (int v = 0; v < kV; v++) {
            h[n][v] = 0;
            first[n][v] = stage.here() && (kN == 1 || n0 + n < g.count)
                              ? __ldg(states + stage.saved(s, n0 + n) + v * g.states)
                              : A(0);
          }
        }
        A decay[kTokens][kN][kV], before[kTokens][kN][kV];
        if (active) {
          // one state: here, so that dt takes no registers elsewhere
          if constexpr (kN == 1) {
            scan_steps<T, kV>(stage, slot, tokens, dt);
#pragma unroll
            for (int k = 0; k < kTokens; k++)
#pragma unroll
              for (int v = 0; v < kV; v++) sum[v] += dt[k][v];
          }
#pragma unroll
          for (int k = 0; k < kTokens; k++) {
            const Pack<A, kN> b = stage.coefficient(0, k, n0);
            const Pack<A, kV> u = stage.get(0, slot, k);
#pragma unroll
            for (int v = 0; v < kV; v++) {
              const A dtu = dt[k][v] * u.v[v];
#pragma unroll
              for (int n = 0; n < kN; n++) {
                decay[k][n][v] = M::decay(dt[k][v] * rate[n].v[v]);
                before[k][n][v] = h[n][v];
                h[n][v] = mul_add(decay[k][n][v], h[n][v], dtu * b.v[n]);
              }
            }
          }
#pragma unroll
          for (int k = kTokens - 1; k >= 0; k--) {
            const Pack<A, kN> c = stage.coefficient(1, k, n0);
            const Pack<A, kV> dyt = stage.get(2, slot, k);
#pragma unroll
            for (int v = 0; v < kV; v++) {
              const A dyv = dyt.v[v];
#pragma unroll
              for (int n = 0; n < kN; n++) r[n][v] = decay[k][n][v] * mul_add(dyv, c.v[n], r[n][v]);
            }
          }
        }
#pragma unroll
        for (int n = 0; n < kN; n++) {
          Pack<A, kV> over, end, r_end;
#pragma unroll
          for (int v = 0; v < kV; v++) {
            over.v[v] = active ? M::decay(rate[n].v[v] * sum[v]) : A(1);
            end.v[v] = h[n][v];
            r_end.v[v] = r[n][v];
          }
          store_pack<A, kV>(stage.ends(turn, 0, warp, n), over);
          store_pack<A, kV>(stage.ends(turn, 1, warp, n), end);
          store_pack<A, kV>(stage.ends(turn, 2, warp, n), r_end);
        }
        __syncthreads();

#pragma unroll
        for (int n = 0; n < kN; n++) {
          const Pack<A, kV> last = load_pack<A, kV>(stage.carry(i, n0 + n));
#pragma unroll
          for (int v = 0; v < kV; v++) {
            r[n][v] = last.v[v];
          }
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
            for (int v = 0; v < kV; v++) first[n][v] = mul_add(over.v[v], first[n][v], end.v[v]);
          }
        }
#pragma unroll
        for (int w = kW - 1; w > 0; w--) {
          if (w <= warp) break;
#pragma unroll
          for (int n = 0; n < kN; n++) {
            const Pack<A, kV> over = load_pack<A, kV>(stage.ends(turn, 0, w, n));
            const Pack<A, kV> end = load_pack<A, kV>(stage.ends(turn, 2, w, n));
#pragma unroll
            for (int v = 0; v < kV; v++) r[n][v] = mul_add(over.v[v], r[n][v], end.v[v]);
          }
        }

        if (active) {
          // what the entering state has become, added to what the tokens made from 0
#pragma unroll
          for (int k = 0; k < kTokens; k++)
#pragma unroll
            for (int n = 0; n < kN; n++)
#pragma unroll
              for (int v = 0; v < kV; v++) {
                before[k][n][v] += first[n][v];
                first[n][v] *= decay[k][n][v];
              }
#pragma unroll
          for (int n = 0; n < kN; n++)
#pragma unroll
            for (int v = 0; v < kV; v++) h[n][v] += first[n][v];
          forget_loads();
          A da_n[kN] = {}, part[kTogether];
          Pack<A, kV> natural[kN];  // A
#pragma unroll
          for (int n = 0; n < kN; n++)
#pragma unroll
            for (int v = 0; v < kV; v++) natural[n].v[v] = rate[n].v[v] * M::unscale;
              // from here on h is the state after token k
#pragma unroll
          for (int k = kTokens - 1; k >= 0; k--) {
            const Pack<A, kN> b = stage.coefficient(0, k, n0), c = stage.coefficient(1, k, n0);
            const Pack<A, kV> u = stage.get(0, slot, k), dyt = stage.get(2, slot, k);
            A values[2 * kN] = {};
#pragma unroll
            for (int v = 0; v < kV; v++) {
              const A dyv = dyt.v[v], dtu = dt[k][v] * u.v[v];
#pragma unroll
              for (int n = 0; n < kN; n++) {
                const A dh = mul_add(dyv, c.v[n], r[n][v]);
                values[n] = mul_add(dh, dtu, values[n]);
                values[kN + n] = mul_add(dyv, h[n][v], values[kN + n]);
                through_b[k][v] = mul_add(dh, b.v[n], through_b[k][v]);
                r[n][v] = dh * decay[k][n][v];
                h[n][v] = before[k][n][v];
                const A through = r[n][v] * h[n][v];
                through_a[k][v] = mul_add(through, natural[n].v[v], through_a[k][v]);
                if constexpr (kN == 1)
                  da[v] = mul_add(through, dt[k][v], da[v]);
                else
                  da_n[n] = mul_add(through, dt[k][v], da_n[n]);
              }
            }
            part[k % kTogether] = scatter_sum<0>(values, lane);
            if (k % kTogether == 0) {
              A total = scatter_sum<kBits>(part, lane);
#pragma unroll
              for (int bit = kBits + kTokenBits; bit < 5; bit++)
                total += __shfl_xor_sync(0xffffffffu, total, 1 << bit);
              const int value = scatter_index<0, 2 * kN>(lane), which = value / kN, n = value % kN;
              const int of = k + scatter_index<kBits, kTogether>(lane);
              const int64_t t = stage.token(slot, of);
              if (of < tokens && n0 + n < g.count && lane >> (kBits + kTokenBits) == 0) {
                const int64_t bc_row = g.groups * g.states;
                const int64_t at = stage.group().b - g.b + t * bc_row + n0 + n;
                if (to.bc_partial)
                  to.bc_partial[(place.run * 2 + which) * g.batch * g.length * bc_row + at] = total;
                else
                  (which ? to.dc : to.db)[at] = narrow<T>(total);
              }
            }
          }
          if constexpr (kN > 1) {
#pragma unroll
            for (int n = 0; n < kN; n++)
              stage.at(stage.layout.sums)[(n0 + n) * kThreadsHere + threadIdx.x] += da_n[n];
          }
        }
        if (warp == 0) {
#pragma unroll
          for (int n = 0; n < kN; n++) {
            Pack<A, kV> last;
#pragma unroll
            for (int v = 0; v < kV; v++) last.v[v] = r[n][v];
            store_pack<A, kV>(stage.carry(i + 1, n0 + n), last);
          }
        }
      }
      // loops of their own for what depends on the call, so that each runs without a branch
      if (!active) continue;
      Pack<A, kV> du[kTokens];
      A(&ddt)[kTokens][kV] = through_a;
      const Pack<A, kV> skip = stage.parameter(1);
#pragma unroll
      for (int k = 0; k < kTokens; k++) {
        const Pack<A, kV> u = stage.get(0, slot, k), dyt = stage.get(2, slot, k);
#pragma unroll
        for (int v = 0; v < kV; v++) {
          du[k].v[v] = mul_add(dt[k][v], through_b[k][v], skip.v[v] * dyt.v[v]);
          ddt[k][v] = mul_add(u.v[v], through_b[k][v], ddt[k][v]);
          dd[v] = mul_add(dyt.v[v], u.v[v], dd[v]);
        }
      }
      if (g.softplus) {
        const Pack<A, kV> bias = stage.parameter(0);
#pragma unroll
        for (int k = 0; k < kTokens; k++) {
          const Pack<A, kV> raw = stage.get(1, slot, k);
#pragma unroll
          for (int v = 0; v < kV; v++) ddt[k][v] *= M::slope(raw.v[v] + bias.v[v], dt[k][v]);
        }
      }
#pragma unroll
      for (int k = 0; k < kTokens; k++)
#pragma unroll
        for (int v = 0; v < kV; v++) dbias[v] += ddt[k][v];
      int of[kTokens];
      stage.tokens_of(slot, of);
      T *const du_first = stage.result(0), *const ddelta_first = stage.result(1);
      const int du_row = stage.group().result_row[0], ddelta_row = stage.group().result_row[1];
      const int written = stage.here() ? tokens : 0;
      if (add) {
        if (kOldAhead) stage.settle_old();
#pragma unroll
        for (int k = 0; k < kTokens; k++) {
          if constexpr (kOldAhead) {
            const Pack<A, kV> old = stage.get_old(slot, k);
#pragma unroll
            for (int v = 0; v < kV; v++) du[k].v[v] += old.v[v];
          } else if (k < written) {
            du[k].v[0] += widen(*address_plus(du_first, of[k], du_row));
          }
          if (kN > 1 && g.from > 0 && k < written)
            ddt[k][0] += widen(*address_plus(ddelta_first, of[k], ddelta_row));
        }
      }
#pragma unroll
      for (int k = 0; k < kTokens; k++) {
        Pack<T, kV> du_out, ddelta_out;
#pragma unroll
        for (int v = 0; v < kV; v++) {
          du_out.v[v] = narrow<T>(du[k].v[v]);
          ddelta_out.v[v] = narrow<T>(ddt[k][v]);
        }
        store_if(k < written, address_plus(du_first, of[k], du_row), du_out);
        store_if(k < written, address_plus(ddelta_first, of[k], ddelta_row), ddelta_out);
      }
    }

    // the sums over time: dbias, dD and with one state dA, [3][kW][kRun] in place of the ends
    constexpr int kRun = kWarp * kV, kSums = kN == 1 ? 3 : 2;
    A* const room = stage.at(stage.layout.ends);
    __syncthreads();
#pragma unroll
    for (int v = 0; v < kV; v++) {
      const int at = warp * kRun + lane * kV + v;
      room[at] = dbias[v];
      room[kW * kRun + at] = dd[v];
      if constexpr (kN == 1) room[2 * kW * kRun + at] = da[v];
    }
    __syncthreads();
    const int64_t channels = g.channels, first = group * g.per_group + place.run * kRun;
    A* const row = to.rows + (place.batch * g.segments + place.segment) * channels * (g.states + 2);
    for (int i = threadIdx.x; i < kSums * kRun; i += kThreadsHere) {
      const int sum = i / kRun, column = i % kRun;
      if (column >= stage.group().width) continue;
      A total = 0;
      for (int w = 0; w < kW; w++) total += room[(sum * kW + w) * kRun + column];
      if (sum == 0) {
        A* const at = row + channels * (g.states + 1) + first + column;
        *at = g.from > 0 ? *at + total : total;
      } else if (sum == 2) {
        row[first + column] = total;
      } else if (g.from == 0) {
        row[channels * g.states + first + column] = total;
      }
    }
    if constexpr (kN > 1) {
      for (int i = threadIdx.x; i < g.count * kRun; i += kThreadsHere) {
        const int n = i / kRun, column = i % kRun;
        if (column >= stage.group().width) continue;
        A total = 0;
        for (int w = 0; w < kW; w++)
          total += stage.at(stage.layout.sums)[n * kThreadsHere + w * kWarp + column];
        row[(first + column) * g.states + g.from + n] = total;
      }
    }
  }
}

/// Where the columns of a sum go, one target after the other.
template <class Out>
struct SumTargets {
  Out* data[3];
  int64_t size[3];
};

/// Sums the rows of [rows, columns] in double: slice i takes rows i, i + kSlices, ..., then slices in
/// order. A block owns kThreads / kSlices columns.
template <class A, class Out, int kSlices>
__global__ void __launch_bounds__(kThreads)
    scan_sum_kernel(const A* x, int64_t rows, int64_t columns, SumTargets<Out> to) {
  constexpr int kColumns = kThreads / kSlices;
  __shared__ double room[kSlices][kColumns];
  const int slice = threadIdx.x / kColumns;
  int64_t column = blockIdx.x * static_cast<int64_t>(kColumns) + threadIdx.x % kColumns;
  double total = 0;
  if (column < columns)
    for (int64_t row = slice; row < rows; row += kSlices)
      total += static_cast<double>(x[row * columns + column]);
  if constexpr (kSlices > 1) {
    room[slice][threadIdx.x % kColumns] = total;
    __syncthreads();
    if (slice > 0) return;
    for (int i = 1; i < kSlices; i++) total += room[i][threadIdx.x];
  }
  if (column >= columns) return;
  const Out result = narrow<Out>(static_cast<Acc<Out>>(total));
#pragma unroll
  for (int target = 0; target < 3; target++) {
    if (column >= 0 && column < to.size[target]) to.data[target][column] = result;
    column -= to.size[target];
  }
}

template <class A, class Out>
void sum_rows(const Call& call, const A* x, int64_t rows, int64_t columns, const SumTargets<Out>& to) {
  constexpr int kSlices = 8;
  if (rows >= 2 * kSlices)
    QM_LAUNCH(call, (scan_sum_kernel<A, Out, kSlices>), grid_of(columns, kThreads / kSlices), kThreads, 0, x,
              rows, columns, to);
  else
    QM_LAUNCH(call, (scan_sum_kernel<A, Out, 1>), grid_of(columns), kThreads, 0, x, rows, columns, to);
}

template <class T>
void backward(const Call& call) {
  using A = Acc<T>;
  ScanArguments<T> g = scan_arguments<T>(call, 1, call.in[9]);
  const TensorView *in = call.in, *out = call.out;
  const DType own = acc_dtype(in[0].dtype);
  call.require(in[0].shape == Shape{3, {g.batch, g.length, g.y_row()}}, "dy of y's shape");
  call.require(in[8].dtype == own && in[8].shape == Shape{4, {g.batch, g.chunks, g.channels, g.states}},
               "states of their shape and dtype");
  for (int k = 0; k < 5; k++)
    call.require(out[k].dtype == in[k + 1].dtype && out[k].shape == in[k + 1].shape,
                 "gradients of their input's shape and dtype");
  for (int k = 5; k < 7; k++)
    call.require(out[k].dtype == own && out[k].shape == Shape{1, {g.channels}}, "a [channels] gradient");
  const T* dy = in[0].as<T>();
  const A* states = in[8].as<A>();
  T *du = out[0].as<T>(), *ddelta = out[1].as<T>(), *db = out[3].as<T>(), *dc = out[4].as<T>();
  A *da = out[2].as<A>(), *dd = out[5].as<A>(), *dbias = out[6].as<A>();

  const bool aligned = aligned_to<16>(g.u) && aligned_to<16>(g.delta) && aligned_to<16>(dy) &&
                       aligned_to<16>(du) && aligned_to<16>(ddelta);
  scan_cut(g, g.shared_u && g.groups > 1, sizeof(T) == 2, aligned);
  const bool cut = g.segments > 1 && g.blocks() > 0, one_run = g.runs == 1;
  const int64_t channels = g.channels, columns = channels * (g.states + 2);
  const int64_t bc_size = g.batch * g.length * g.groups * g.states;
  const int64_t rows = g.blocks() > 0 ? g.batch * g.segments : 0;
  const auto room = [](int64_t count) { return std::max<int64_t>(1, count); };
  Scratch<A> starts(room(cut ? rows * channels * g.states : 0)), sums(room(rows * columns)),
      bc(room(one_run ? 0 : g.runs * 2 * bc_size));
  if (g.blocks() > 0) {
    const ScanGradients<T> to{du, ddelta, db, dc, one_run ? nullptr : bc.get(), sums.get()};
    if (cut) scan_starts<T, true>(call, g, dy, g.y_row(), starts.get());
    scan_launches(g, [&](const ScanArguments<T>& part) {
      scan_variant<T, sizeof(T) == 2, 2, sizeof(T) == 8 ? 2 : 4>(part, [&](auto v, auto n, auto w) {
        constexpr int kV = decltype(v)::value, kN = decltype(n)::value, kW = decltype(w)::value;
        const ScanLayout<T, kV, kN, kW, true> layout(part.count, part.adds);
        QM_LAUNCH(call, (selective_scan_bwd_kernel<T, kV, kN, kW>), grid_of(part.blocks(), 1), kW * kWarp,
                  layout.bytes, part, cut ? starts.get() : nullptr, dy, states, to);
      });
    });
  }
  if (!one_run)
    sum_rows<A, T>(call, bc.get(), g.runs, 2 * bc_size, {{db, dc, nullptr}, {bc_size, bc_size, 0}});
  sum_rows<A, A>(call, sums.get(), rows, columns,
                 {{da, dd, dbias}, {channels * g.states, channels, channels}});
}

}  // namespace

/// in: dy, u, delta, A, B, C, D?, bias?, states, order?; out: du, ddelta, dA, dB, dC, dD, dbias.
void selective_scan_bwd(const Call& call) {
  float_dispatch(call, call.in[0].dtype, [&](auto zero) { backward<decltype(zero)>(call); });
}

}  // namespace qm::cuda
