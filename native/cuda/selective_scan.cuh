// What the forward and the backward scan share on the host: checks, the arguments of their kernels, and how
// the work is cut.
//
// A block of kW warps owns one run of channels (kV for each lane) of one batch entry and group, or of all
// groups one after the other where they meet in the same elements. It walks the scan positions in stages of
// kW * kTokens: lanes are channels, warps are consecutive pieces of time. Where that gives too few blocks,
// the scan is cut into segments of whole stages whose states at the start come from a summary of the
// segments before (scan_segments.cuh). The cuts depend on shapes only. A stage is a chunk: `states` are
// what the stages begin with.
#pragma once
#include "cuda/device/fault.cuh"
#include "cuda/device/pack.cuh"
#include "cuda/kernel.cuh"

namespace qm::cuda {

constexpr int kTokens = 8;  // scan positions of a thread in a stage

/// States of a launch: the next one adds the others.
template <class T>
constexpr int kMaxStates = sizeof(T) == 8 ? 8 : 32;

/// Token of a scan position: order lines are picked by batch entry and group.
struct ScanOrder {
  const int32_t* data = nullptr;
  int64_t batch_stride = 0, group_stride = 0;
  int64_t lines = 0;
};

template <class T>
struct ScanArguments {
  int64_t batch;
  int length, channels, groups, per_group, states, chunk, chunks;
  bool softplus, merge, shared_u;
  const T *u, *delta;
  const Acc<T>* a;
  const T *b, *c;
  const Acc<T>*d, *bias;
  ScanOrder order;

  // how the work is cut
  int lane_channels = 1;                 // kV
  int runs = 0;                          // of channels, in a group
  int segments = 1, segment_chunks = 0;  // of the length
  int first_group = 0, group_blocks = 1, block_groups = 1;
  int from = 0, count = 0;  // states of this launch
  bool aligned = false;     // runs of channels are whole 16-byte words
  int word = 0;             // log2 of the bytes that rows of B and C come in: 4, 2, or 0: by element
  bool adds = false;        // groups or launches add to the first result of others

  __host__ __device__ int u_row() const { return shared_u ? per_group : channels; }
  __host__ __device__ int y_row() const { return merge ? per_group : channels; }
  int64_t blocks() const { return length == 0 ? 0 : batch * segments * group_blocks * runs; }
};

/// What a block owns: neighbouring blocks take neighbouring channels of the same tokens.
struct ScanPlace {
  int64_t batch;
  int segment, group, run;
  int begin, end;  // scan positions

  template <class T>
  __device__ explicit ScanPlace(const ScanArguments<T>& g) {
    unsigned index = blockIdx.x;
    run = static_cast<int>(index % g.runs);
    index /= g.runs;
    group = g.first_group + static_cast<int>(index % g.group_blocks) * g.block_groups;
    index /= g.group_blocks;
    segment = static_cast<int>(index % g.segments);
    batch = index / g.segments;
    begin = segment * g.segment_chunks * g.chunk;
    end = min(g.length, begin + g.segment_chunks * g.chunk);
  }
};

/// Checks of the inputs from `first` on, u, delta, A, B, C, D?, bias?, and the order.
template <class T>
ScanArguments<T> scan_arguments(const Call& call, int first, const TensorView& order) {
  const TensorView* in = call.in + first;
  const Shape &u = in[0].shape, &delta = in[1].shape, &a = in[2].shape, &b = in[3].shape;
  call.require(delta.rank == 3 && u.rank == 3 && a.rank == 2 && b.rank == 4 && b == in[4].shape,
               "ranks 3, 3, 2, 4, 4");
  const int64_t batch = delta[0], length = delta[1], channels = delta[2], groups = b[2], states = a[1];
  call.require(groups >= 1 && channels % groups == 0 && a[0] == channels && b[0] == batch && b[1] == length &&
                   b[3] == states && u[0] == batch && u[1] == length &&
                   (u[2] == channels || u[2] == channels / groups),
               "shapes that agree");
  constexpr int64_t limit = 1 << 27;  // so that bytes of a token fit an int
  call.require(length < limit && channels < limit && groups * states < limit,
               "length, channels and groups x states below 2^27");
  const int64_t chunk = states <= 4 ? 64 : 32;
  call.require(call.attrs.i(2) == chunk, "chunks of 64 positions, of 32 above four states");
  for (int k : {0, 1, 3, 4}) call.require(in[k].dtype == call.in[0].dtype, "u, delta, B and C of one dtype");
  for (int k : {2, 5, 6})
    call.require(!in[k].present || in[k].dtype == acc_dtype(call.in[0].dtype), "A, D and bias of its dtype");
  for (int k : {5, 6})
    call.require(!in[k].present || (in[k].shape.rank == 1 && in[k].shape[0] == channels),
                 "a [channels] vector");

  const auto parameter = [&](int k) { return in[k].present ? in[k].template as<Acc<T>>() : nullptr; };
  ScanArguments<T> g{batch,
                     static_cast<int>(length),
                     static_cast<int>(channels),
                     static_cast<int>(groups),
                     static_cast<int>(channels / groups),
                     static_cast<int>(states),
                     static_cast<int>(chunk),
                     static_cast<int>(ceil_div(length, chunk)),
                     call.attrs.b(0),
                     call.attrs.b(1),
                     u[2] != channels,
                     in[0].template as<T>(),
                     in[1].template as<T>(),
                     parameter(2),
                     in[3].template as<T>(),
                     in[4].template as<T>(),
                     parameter(5),
                     parameter(6),
                     {}};
  if (order.present) {
    const Shape& shape = order.shape;
    call.require(order.dtype == DType::i32 && shape.rank >= 1 && shape.rank <= 3 && shape.last(0) == length,
                 "an int32 order");
    g.order = {order.template as<int32_t>(), 0, 0, shape.count(0, shape.rank - 1)};
    if (shape.rank == 2) {
      call.require(shape[0] == batch, "an order [batch, length]");
      g.order.batch_stride = length;
    } else if (shape.rank == 3) {
      call.require((shape[0] == 1 || shape[0] == batch) && shape[1] == groups,
                   "an order [1 or batch, groups, length]");
      g.order.batch_stride = shape[0] == 1 ? 0 : groups * length;
      g.order.group_stride = length;
    }
  }
  return g;
}

/// Fills in the cuts. `meet`: the groups of a channel add to the same elements, so that they take turns.
/// `wide`: two channels for a lane are allowed where there is one state. `aligned`: the tensors' addresses
/// are.
template <class T>
void scan_cut(ScanArguments<T>& g, bool meet, bool wide, bool aligned) {
  constexpr int64_t full = 528;    // blocks that keep the largest card busy: four on each multiprocessor
  constexpr int64_t enough = 256;  // blocks from which on it pays that each does more
  const int64_t own = g.per_group, size = sizeof(T);
  g.aligned = aligned && own * size % 16 == 0;
  const auto rows_are = [&](auto bytes) {
    return g.states * size % bytes == 0 && aligned_to<bytes>(g.b) && aligned_to<bytes>(g.c);
  };
  g.word = rows_are(std::integral_constant<int, 16>{})  ? 4
           : rows_are(std::integral_constant<int, 4>{}) ? 2
                                                        : 0;
  const int64_t turns = meet ? g.groups : 1;
  const int64_t pieces = g.batch * (g.groups / turns);
  // two channels for a lane cost less than two lanes, unless half of the last run's lanes have none
  const int64_t runs = ceil_div(own, kWarp), wide_runs = ceil_div(own, 2 * kWarp);
  g.lane_channels =
      wide && g.states == 1 && g.aligned && 7 * wide_runs <= 4 * runs && pieces * wide_runs >= enough ? 2 : 1;
  g.runs = static_cast<int>(g.lane_channels == 2 ? wide_runs : runs);

  const int64_t blocks = std::max<int64_t>(1, pieces * g.runs), chunks = std::max(1, g.chunks);
  // the summary reads the data once more, a position after the other: only many short segments repay that
  const int64_t many = 2 * full / blocks, segments = many >= 16 ? std::min(chunks, many) : 1;
  g.segment_chunks = static_cast<int>(ceil_div(chunks, segments));
  g.segments = static_cast<int>(ceil_div(chunks, g.segment_chunks));
  // blocks of different segments cannot take turns: then each group is a launch
  g.first_group = 0;
  g.block_groups = meet && g.segments == 1 ? g.groups : 1;
  g.group_blocks = meet ? 1 : g.groups;
  g.adds = meet || g.states > kMaxStates<T>;
}

/// Calls body(kV, kN, kW), integral constants, for the kernel that fits: two channels for a lane with
/// kWide, which scan_cut() was told, kFew states at a time of up to four, kMany of more.
template <class T, bool kWide, int kFew, int kMany, class Body>
void scan_variant(const ScanArguments<T>& g, Body&& body) {
  using One = std::integral_constant<int, 1>;
  using Short = std::integral_constant<int, 4>;
  using Long = std::integral_constant<int, 8>;
  if (g.states > 4) return body(One{}, std::integral_constant<int, kMany>{}, Short{});
  if (g.states > 1) return body(One{}, std::integral_constant<int, kFew>{}, Long{});
  if constexpr (kWide)
    if (g.lane_channels == 2) return body(std::integral_constant<int, 2>{}, One{}, Long{});
  body(One{}, One{}, Long{});
}

/// Runs body for each launch of a scan: the groups where they cannot take turns in a block, and blocks of
/// states.
template <class T, class Body>
void scan_launches(ScanArguments<T> g, Body&& body) {
  const int turns = g.group_blocks * g.block_groups == g.groups ? 1 : g.groups;
  for (int turn = 0; turn < turns; turn++) {
    g.first_group = turn;
    for (g.from = 0; g.from < g.states; g.from += kMaxStates<T>) {
      g.count = std::min(kMaxStates<T>, g.states - g.from);
      body(g);
    }
  }
}

}  // namespace qm::cuda
