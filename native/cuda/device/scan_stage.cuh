// A stage of the selective scan in shared memory: a tile of each data tensor for every warp, which nobody
// but that warp reads, the B and C of its tokens, and what the warps tell each other about their piece of
// time.
#pragma once
#include "cuda/device/pack.cuh"
#include "cuda/device/scan_math.cuh"
#include "cuda/selective_scan.cuh"

namespace qm::cuda {

/// [batch, length, row]; row is the channels of all groups, or of one where groups share or merge.
template <class T>
struct ScanTensor {
  T* data;
  int row;
};

/// N elements, widened. Two of bfloat16 are the halves of a word.
template <class T, int N>
__device__ __forceinline__ Pack<Acc<T>, N> load_wide(const T* p) {
  Pack<Acc<T>, N> wide;
  if constexpr (std::is_same_v<T, bf16> && N == 2) {
    const uint32_t word = *reinterpret_cast<const uint32_t*>(p);
    wide.v[0] = __uint_as_float(word << 16);
    wide.v[1] = __uint_as_float(word & 0xffff0000u);
  } else {
    const Pack<T, N> narrow_pack = load_pack<T, N>(p);
#pragma unroll
    for (int k = 0; k < N; k++) wide.v[k] = widen(narrow_pack.v[k]);
  }
  return wide;
}

/// What a block needs to know of the group in hand. In shared memory, because registers are short. Columns
/// begin with the run's first channel at token 0 of the batch entry; a row is the bytes from token to
/// token.
template <class T>
struct ScanGroup {
  const T* column[3];
  T* result[2][kWarp];  // for each lane
  int row[3], result_row[2];
  int width;       // channels in the run
  const T *b, *c;  // first state, at token 0
  int bc_row;
  int begin, end;  // scan positions of the block
  const int32_t* line;
  int64_t first_state;  // of the first chunk and channel
};

/// Shared memory of a block: offsets in bytes, multiples of 16. T and Acc<T> arrays, slowest dimension
/// first:
///   group  ScanGroup
///   tiles  T   [slots][u, delta, dy][kW][kTokens][kRun]     dy: backward
///   tokens int [2 slots][kW][kTokens]
///   old    T   [kW][kTokens][kRun]                          du as it was, to be added to (backward, 2 slots)
///   raw    T   [slots][kW][kTokens][B, C][count]            B and C as they come (kN > 1)
///   bc     Acc [kW][B, C][padded / kN][kTokens][kN]         zeros from `count` on
///   lanes  Acc [bias, D][kRun]
///   rates  Acc [padded][kRun]                               A * scale
///   carry  Acc [2 stages][padded][kRun]                     h at a stage's start; backward r at its end
///   ends   Acc [2 turns][kEnds][kW][kN][kRun]               decay of a piece, its ends from a start of 0
///   sums   Acc [padded][kW * 32]                            dA of each thread (backward, kN > 1)
/// Slots, stages and turns alternate, so that one barrier between writing and reading is enough. Channels
/// that do not exist have zeros everywhere.
template <class T, int kV, int kN, int kW, bool kBackward>
struct ScanLayout {
  static_assert(kN == 1 || kV == 1);
  static constexpr int kRun = kWarp * kV;
  static constexpr int kTile = kTokens * kRun;
  static constexpr int kTiles = kBackward ? 3 : 2;
  static constexpr int kEnds = kBackward ? 3 : 2;
  static constexpr int kSlots = sizeof(T) == 8 ? 1 : 2;  // stages of data: two of float64 are too much
  int count, padded;
  int tiles, tokens, old, raw, bc, lanes, rates, carry, ends, sums, bytes;

  __host__ __device__ ScanLayout(int states, bool adds) {
    constexpr int size = sizeof(Acc<T>), data_size = sizeof(T);
    count = kN == 1 ? 1 : states;
    padded = (count + kN - 1) / kN * kN;
    tiles = (static_cast<int>(sizeof(ScanGroup<T>)) + 15) / 16 * 16;
    tokens = tiles + kSlots * kTiles * kW * kTile * data_size;
    old = tokens + 2 * kW * kTokens * static_cast<int>(sizeof(int));
    raw = old + (kBackward && kSlots == 2 && adds ? kW * kTile * data_size : 0);
    bc = raw + (kN == 1 ? 0 : kSlots * kW * kTokens * 2 * count * data_size);
    lanes = bc + kW * kTokens * 2 * padded * size;
    rates = lanes + 2 * kRun * size;
    carry = rates + padded * kRun * size;
    ends = carry + 2 * padded * kRun * size;
    sums = ends + 2 * kEnds * kW * kN * kRun * size;
    bytes = sums + (kBackward && kN > 1 ? padded * kW * kWarp * size : 0);
  }
};

/// One warp's view of its block's stages: brings the data of the next one while this one is computed.
template <class T, int kV, int kN, int kW, bool kBackward>
struct ScanStages {
  using A = Acc<T>;
  using Layout = ScanLayout<T, kV, kN, kW, kBackward>;
  static constexpr int kRun = Layout::kRun;
  static constexpr int kStage = kW * kTokens;  // scan positions

  const ScanArguments<T>& g;
  unsigned char* shared;
  Layout layout;
  int lane, warp;
  T held = T(0.0f);  // an element of B or C on its way (kN == 1)

  __device__ ScanStages(const ScanArguments<T>& arguments, unsigned char* memory)
      : g(arguments),
        shared(memory),
        layout(arguments.count, arguments.adds),
        lane(threadIdx.x % kWarp),
        warp(threadIdx.x / kWarp) {}

  /// Fills in what stays for a whole group. `starts`: the first carries, [batch, segments, channels,
  /// states], or null. Barriers before and after: the previous group is done with and its results may be
  /// read, this one may begin.
  __device__ void enter_group(const ScanPlace& place, int index, const A* starts, ScanTensor<const T> dy,
                              ScanTensor<T> result, ScanTensor<T> second_result) {
    __syncthreads();
    const int run_first = place.run * kRun, first = index * g.per_group + run_first;
    if (threadIdx.x == 0) {
      ScanGroup<T>& to = group();
      const int64_t token = place.batch * g.length;
      const auto offset = [&](int row) { return token * row + (row == g.channels ? first : run_first); };
      const ScanTensor<const T> tiles[3] = {{g.u, g.u_row()}, {g.delta, g.channels}, dy};
      const ScanTensor<T> results[2] = {result, second_result};
#pragma unroll
      for (int which = 0; which < Layout::kTiles; which++) {
        to.column[which] = tiles[which].data + offset(tiles[which].row);
        to.row[which] = tiles[which].row * static_cast<int>(sizeof(T));
      }
#pragma unroll
      for (int which = 0; which < (kBackward ? 2 : 1); which++) {
        T* const first_result = results[which].data + offset(results[which].row);
        for (int i = 0; i < kWarp; i++) to.result[which][i] = first_result + i * kV;
        to.result_row[which] = results[which].row * static_cast<int>(sizeof(T));
      }
      to.width = min(kRun, g.per_group - run_first);
      const int bc_row = g.groups * g.states;
      to.bc_row = bc_row * static_cast<int>(sizeof(T));
      to.b = g.b + token * bc_row + index * g.states + g.from;
      to.c = g.c + token * bc_row + index * g.states + g.from;
      to.begin = place.begin;
      to.end = place.end;
      to.line = g.order.data
                    ? g.order.data + place.batch * g.order.batch_stride + index * g.order.group_stride
                    : nullptr;
      const int64_t chunk = place.batch * g.chunks + place.begin / g.chunk;
      to.first_state = (chunk * g.channels + first) * g.states + g.from;
    }
    const int64_t row = (place.batch * g.segments + place.segment) * g.channels;
    for (int i = threadIdx.x; i < kRun; i += kW * kWarp) {
      const bool real = run_first + i < g.per_group;
      const int channel = first + i;
      at(layout.lanes)[i] = real && g.bias ? g.bias[channel] : A(0);
      at(layout.lanes)[kRun + i] = real && g.d && g.from == 0 ? g.d[channel] : A(0);
      for (int n = 0; n < layout.padded; n++) {
        const bool both = real && n < layout.count;
        const int64_t state = g.from + n;
        at(layout.rates)[n * kRun + i] =
            both ? g.a[static_cast<int64_t>(channel) * g.states + state] * ScanMath<T>::scale : A(0);
        at(layout.carry)[n * kRun + i] = both && starts ? starts[(row + channel) * g.states + state] : A(0);
      }
    }
    __syncthreads();
  }

  __device__ ScanGroup<T>& group() const { return *reinterpret_cast<ScanGroup<T>*>(shared); }
  /// Scan position of the warp's first token in a stage.
  __device__ int position(int stage) const { return group().begin + (stage * kW + warp) * kTokens; }
  /// Tokens of the warp from a position on; 0 or less: none.
  __device__ int tokens(int position) const {
    return position < group().begin ? 0 : min(kTokens, group().end - position);
  }
  /// Whether the lane's channels exist.
  __device__ bool here() const { return lane * kV < group().width; }

  /// Lane k (modulo kTokens): the k-th token from a position on, from memory.
  __device__ int read_token(int position) const {
    const int k = lane % kTokens;
    if (k >= tokens(position)) return 0;
    const int32_t* const line = group().line;
    return line ? min(max(__ldg(line + position + k), 0), g.length - 1) : position + k;
  }
  /// Keeps the tokens of a stage for the warp; a barrier of it must follow.
  __device__ void keep_token(int slot, int of_lane) const {
    if (lane < kTokens) kept_tokens(slot)[lane] = of_lane;
  }
  __device__ int token(int slot, int k) const { return kept_tokens(slot)[k]; }
  /// All tokens of the warp in a stage.
  __device__ void tokens_of(int slot, int (&of)[kTokens]) const {
#pragma unroll
    for (int k = 0; k < kTokens; k += 4) {
      const Pack<int, 4> four = load_pack<int, 4>(kept_tokens(slot) + k);
#pragma unroll
      for (int i = 0; i < 4; i++) of[k + i] = four.v[i];
    }
  }
  /// A token's address in a tensor whose tokens are `row` bytes apart.
  template <class U>
  __device__ U* at_token(U* first, int slot, int k, int row) const {
    return address_plus(first, static_cast<unsigned>(token(slot, k)), static_cast<unsigned>(row));
  }

  /// The lane's channels of the warp's k-th token: of u (0), delta (1) or dy (2), or of the first result as
  /// it was.
  __device__ Pack<A, kV> get(int which, int slot, int k) const {
    return load_wide<T, kV>(tile(which, slot) + k * kRun + lane * kV);
  }
  __device__ Pack<A, kV> get_old(int slot, int k) const {
    return load_wide<T, kV>(old_tile(slot) + k * kRun + lane * kV);
  }
  /// B (0) or C (1) of a token, states from n on.
  __device__ Pack<A, kN> coefficient(int which, int k, int n) const {
    return load_pack<A, kN>(coefficients(which, n) + k * kN);
  }
  /// Of the lane's channels: the bias (0) and D (1), and the rate of a state.
  __device__ Pack<A, kV> parameter(int which) const {
    return load_pack<A, kV>(at(layout.lanes) + which * kRun + lane * kV);
  }
  __device__ Pack<A, kV> rate(int n) const {
    return load_pack<A, kV>(at(layout.rates) + n * kRun + lane * kV);
  }
  __device__ A* carry(int stage, int n) const {
    return at(layout.carry) + ((stage & 1) * layout.padded + n) * kRun + lane * kV;
  }
  __device__ A* ends(int turn, int which, int of_warp, int n) const {
    return at(layout.ends) + ((((turn & 1) * Layout::kEnds + which) * kW + of_warp) * kN + n) * kRun +
           lane * kV;
  }
  /// Of the saved states: state n of the lane's first channel before a stage.
  __device__ int64_t saved(int stage, int n) const {
    return group().first_state + (static_cast<int64_t>(stage) * g.channels + lane * kV) * g.states + n;
  }
  /// The lane's channels of a result, at token 0.
  __device__ T* result(int which) const { return group().result[which][lane]; }
  __device__ A* at(int offset) const { return reinterpret_cast<A*>(shared + offset); }

  /// Whether fetch() is called a stage ahead, for the other slot, or for the stage in hand.
  static constexpr bool kAhead = Layout::kSlots == 2;

  /// Starts to bring the tokens from a position on, which are kept.
  __device__ void fetch(int slot, int position) {
    const int n = tokens(position);
    if (!kAhead) __syncwarp();
    if (kN == 1 && n <= 0) return copy_async_commit();
    fetch_tiles<Layout::kTiles>(tile(0, slot), group().column, group().row, n, slot);
    fetch_coefficients(slot, n);
    copy_async_commit();
  }
  /// Starts to bring what the first result holds. Forward it takes the place of delta, of which dt has been
  /// made; backward it goes before the fetch() of the next stage, which then need not be waited for.
  __device__ void fetch_old(int slot, int position) {
    if (!kBackward) __syncwarp();
    const T* const column[1] = {group().result[0][0]};
    fetch_tiles<1>(old_tile(slot), column, group().result_row, tokens(position), slot);
    copy_async_commit();
  }
  __device__ void settle_old() {
    if (kBackward)
      copy_async_wait_but_last();
    else
      copy_async_wait();
    __syncwarp();
  }

  /// Waits for what fetch() brings, and makes it readable by the whole warp, as the next stage's tokens,
  /// which this lane has read.
  __device__ void settle(int slot, int next_token) {
    copy_async_wait();
    __syncwarp();
    keep_token(slot ^ 1, next_token);
    if constexpr (kN == 1) {
      if (lane < 2 * kTokens) coefficients(0, 0)[lane] = widen(held);
    } else {
      // kN states of a token for a lane
      const int k = lane % kTokens, count = layout.count, padded = layout.padded;
#pragma unroll 2
      for (int i = lane / kTokens * kN; i < 2 * padded; i += kWarp / kTokens * kN) {
        const int which = i >= padded, n = i - which * padded;
        const T* const from = raw(slot) + (2 * k + which) * count + n;
        Pack<A, kN> wide;
        if (count == padded) {
          wide = load_wide<T, kN>(from);
        } else {
#pragma unroll
          for (int e = 0; e < kN; e++) wide.v[e] = n + e < count ? widen(from[e]) : A(0);
        }
        store_pack<A, kN>(coefficients(which, n) + k * kN, wide);
      }
    }
    __syncwarp();
  }

 private:
  __device__ T* tile(int which, int slot) const {
    return reinterpret_cast<T*>(shared + layout.tiles) +
           ((slot % Layout::kSlots * Layout::kTiles + which) * kW + warp) * Layout::kTile;
  }
  __device__ T* old_tile(int slot) const {
    return kBackward ? reinterpret_cast<T*>(shared + layout.old) + warp * Layout::kTile : tile(1, slot);
  }
  __device__ int* kept_tokens(int slot) const {
    return reinterpret_cast<int*>(shared + layout.tokens) + (slot * kW + warp) * kTokens;
  }
  __device__ T* raw(int slot) const {
    return reinterpret_cast<T*>(shared + layout.raw) +
           (slot % Layout::kSlots * kW + warp) * kTokens * 2 * layout.count;
  }
  /// B (0) or C (1) of the warp's tokens, kN states from n on.
  __device__ A* coefficients(int which, int n) const {
    return at(layout.bc) + ((warp * 2 + which) * layout.padded + n) * kTokens;
  }

  /// Tiles of one slot; zeros where there is no token or channel.
  template <int kCount>
  __device__ void fetch_tiles(T* to, const T* const* column, const int* row, int n, int slot) const {
    constexpr int kStride = kW * Layout::kTile;
    const int width = group().width;
    if (g.aligned) {
      // a lane takes the same channels of several tokens
      constexpr int kRowWords = kRun / kPack<T>, kAtOnce = kWarp / kRowWords, kWords = kTokens / kAtOnce;
      static_assert(kAtOnce > 0 && kTokens % kAtOnce == 0);
      const int i = lane % kRowWords * kPack<T>, first = lane / kRowWords;
      const int end = i < width ? n : 0;
      unsigned of[kWords];
#pragma unroll
      for (int k = 0; k < kWords; k++) of[k] = static_cast<unsigned>(token(slot, first + k * kAtOnce));
#pragma unroll
      for (int which = 0; which < kCount; which++) {
        const T* const from = column[which] + i;
        const auto row_bytes = static_cast<unsigned>(row[which]);
#pragma unroll
        for (int k = 0; k < kWords; k++)
          copy_async16(to + which * kStride + (first + k * kAtOnce) * kRun + i,
                       address_plus(from, of[k], row_bytes), first + k * kAtOnce < end);
      }
    } else {
#pragma unroll 1
      for (int which = 0; which < kCount; which++)
#pragma unroll 1
        for (int k = 0; k < kTokens; k++) {
          const T* const at = at_token(column[which], slot, k, row[which]);
#pragma unroll 1
          for (int i = lane; i < kRun; i += kWarp)
            to[which * kStride + k * kRun + i] = k < n && i < width ? at[i] : T(0.0f);
        }
    }
  }

  __device__ void fetch_coefficients(int slot, int n) {
    const T *const b = group().b, *const c = group().c;
    const int bc_row = group().bc_row;
    if constexpr (kN == 1) {
      const int k = lane % kTokens;
      const T* const from = at_token(lane < kTokens ? b : c, slot, k, bc_row);
      held = lane < 2 * kTokens && k < n ? __ldg(from) : T(0.0f);
    } else {
      // four lanes share the rows of a token
      constexpr int kShare = kWarp / kTokens;
      const int k = lane % kTokens, part = lane / kTokens, count = layout.count;
      const T *const bk = at_token(b, slot, k, bc_row), *const ck = at_token(c, slot, k, bc_row);
      T* const to = raw(slot) + 2 * k * count;
      if (g.word) {
        const int row_words = count * static_cast<int>(sizeof(T)) >> g.word;
#pragma unroll 1
        for (int i = part; i < 2 * row_words; i += kShare) {
          const int column = i < row_words ? i : i - row_words;
          char* const at = reinterpret_cast<char*>(to) + (i << g.word);
          const char* const from =
              reinterpret_cast<const char*>(i < row_words ? bk : ck) + (column << g.word);
          if (g.word == 4)
            copy_async16(at, from, k < n);
          else
            copy_async4(at, from, k < n);
        }
      } else {
#pragma unroll 1
        for (int i = part; i < 2 * count; i += kShare)
          to[i] = k < n ? (i < count ? bk[i] : ck[i - count]) : T(0.0f);
      }
    }
  }
};

/// Step sizes of the warp's tokens: the one place that turns delta into dt. 0, which leaves a state as it
/// is, where there is no token.
template <class T, int kV, class Stages>
__device__ __forceinline__ void scan_steps(const Stages& stage, int slot, int tokens,
                                           Acc<T> (&dt)[kTokens][kV]) {
  const Pack<Acc<T>, kV> bias = stage.parameter(0);
#pragma unroll
  for (int k = 0; k < kTokens; k++) {
    const Pack<Acc<T>, kV> raw = stage.get(1, slot, k);
#pragma unroll
    for (int v = 0; v < kV; v++) dt[k][v] = raw.v[v] + bias.v[v];
  }
  if (stage.g.softplus) {
#pragma unroll
    for (int k = 0; k < kTokens; k++)
#pragma unroll
      for (int v = 0; v < kV; v++) dt[k][v] = ScanMath<T>::softplus(dt[k][v]);
  }
  if (tokens < kTokens) {
#pragma unroll
    for (int k = 0; k < kTokens; k++)
#pragma unroll
      for (int v = 0; v < kV; v++) dt[k][v] = k < tokens ? dt[k][v] : Acc<T>(0);
  }
}

}  // namespace qm::cuda
