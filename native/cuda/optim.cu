// Optimiser steps over many tensors at once, in place. A launch carries a table of tensors by value in its
// parameters, so that it can be recorded in a graph; a block owns kChunk neighbouring elements of one tensor,
// and all tensors of one dtype are a few launches. Elementwise arithmetic is in Acc<T>, each operation rounded
// by itself, so that results have the bits that the CPU's have.
#include "cuda/device/reduce.cuh"
#include "cuda/device/rounded.cuh"

namespace qm::cuda {

namespace {

constexpr int64_t kChunk = 4096;
constexpr int kNormThreads = 1024;

/// Tensors of one launch, each in kLists versions (such as gradient, parameter, moments). Limited by what
/// kernel parameters may hold: 4 KiB, of which the operation needs some.
template <int kLists>
struct Table {
  static constexpr int kTensors = 3400 / (8 * kLists + 12);
  void* data[kLists][kTensors];
  int64_t size[kTensors];
  int first[kTensors + 1];  // block of each tensor, and their number at the end
  int count;
};

/// The tensor of this block, and the elements of it that are its own.
struct Chunk {
  int tensor;
  int64_t begin, end;
};
template <int kLists>
__device__ __forceinline__ Chunk chunk_of(const Table<kLists>& table) {
  const int block = static_cast<int>(blockIdx.x);
  int low = 0, high = table.count;  // first[low] <= block < first[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (table.first[middle] <= block ? low : high) = middle;
  }
  const int64_t begin = (block - table.first[low]) * kChunk;
  return {low, begin, std::min(table.size[low], begin + kChunk)};
}

/// Runs an operation on all elements. It names how many lists it reads, of which it writes those from
/// kFirstWritten on, and changes one value of each list at a time; start() says whether there is anything to
/// do.
template <class T, class Op>
__global__ void __launch_bounds__(kThreads)
    update_kernel(const __grid_constant__ Table<Op::kLists> table, Op op) {
  constexpr int P = kPack<T>, kLists = Op::kLists;
  if (!op.start()) return;
  const Chunk chunk = chunk_of(table);
  T* data[kLists];
  bool packed = true;
#pragma unroll
  for (int list = 0; list < kLists; list++) {
    data[list] = static_cast<T*>(table.data[list][chunk.tensor]);
    packed = packed && reinterpret_cast<uintptr_t>(data[list]) % 16 == 0;
  }
  const auto update = [&](auto width, int64_t i) {
    constexpr int N = decltype(width)::value;
    Pack<T, N> v[kLists];
#pragma unroll
    for (int list = 0; list < kLists; list++) v[list] = load_pack<T, N>(data[list] + i);
#pragma unroll
    for (int l = 0; l < N; l++) {
      Acc<T> values[kLists];
#pragma unroll
      for (int list = 0; list < kLists; list++) values[list] = widen(v[list].v[l]);
      op(values);
#pragma unroll
      for (int list = Op::kFirstWritten; list < kLists; list++) v[list].v[l] = narrow<T>(values[list]);
    }
#pragma unroll
    for (int list = Op::kFirstWritten; list < kLists; list++) store_pack<T, N>(data[list] + i, v[list]);
  };
  const int64_t packs_end = packed ? chunk.begin + (chunk.end - chunk.begin) / P * P : chunk.begin;
  for (int64_t i = chunk.begin + threadIdx.x * P; i < packs_end; i += kThreads * P)
    update(std::integral_constant<int, P>{}, i);
  for (int64_t i = packs_end + threadIdx.x; i < chunk.end; i += kThreads)
    update(std::integral_constant<int, 1>{}, i);
}

/// A number on the device, or none. One that is not finite lets nothing through.
struct Gate {
  const void* value;
  bool wide;  // float64

  __device__ bool open() const {
    if (!value) return true;
    return wide ? isfinite(*static_cast<const double*>(value)) : isfinite(*static_cast<const float*>(value));
  }
};

/// What a step reads on the device: the numbers that change from step to step, and a gate.
struct Step {
  static constexpr int kRates = 3;
  const double* rates;
  Gate gate;
};

/// One AdamW step of an element (gradient, parameter, first and second moment).
template <class T>
struct AdamW {
  static constexpr int kLists = 4, kFirstWritten = 1;
  Step given;
  double decay;
  T beta1, rest1, beta2, rest2, eps;
  T shrink = 0, step = 0, root = 0;

  AdamW(Step s, const Attrs& attrs)
      : given(s),
        decay(attrs.f(3)),
        beta1(static_cast<T>(attrs.f(0))),
        rest1(static_cast<T>(1.0 - attrs.f(0))),
        beta2(static_cast<T>(attrs.f(1))),
        rest2(static_cast<T>(1.0 - attrs.f(1))),
        eps(static_cast<T>(attrs.f(2))) {}
  __device__ bool start() {
    const double lr = given.rates[0], correction1 = given.rates[1], correction2 = given.rates[2];
    shrink = static_cast<T>(__dadd_rn(1.0, -__dmul_rn(lr, decay)));
    step = static_cast<T>(lr / correction1);
    root = static_cast<T>(1.0 / std::sqrt(correction2));
    return given.gate.open();
  }
  __device__ void operator()(T (&v)[kLists]) const {
    const T g = v[0];
    v[2] = plus(times(beta1, v[2]), times(rest1, g));
    v[3] = plus(times(beta2, v[3]), times(times(rest2, g), g));
    v[1] = plus(times(v[1], shrink), -(times(step, v[2]) / plus(times(std::sqrt(v[3]), root), eps)));
  }
};

/// One SGD step of an element (gradient, parameter).
template <class T>
struct Sgd {
  static constexpr int kLists = 2, kFirstWritten = 1;
  Step given;
  T decay;
  T lr = 0;

  Sgd(Step s, const Attrs& attrs) : given(s), decay(static_cast<T>(attrs.f(1))) {}
  __device__ bool start() {
    lr = static_cast<T>(given.rates[0]);
    return given.gate.open();
  }
  __device__ void operator()(T (&v)[kLists]) const {
    v[1] = plus(v[1], -times(lr, plus(v[0], times(decay, v[1]))));
  }
};
/// The same with a momentum buffer, which starts as zeros, as the third list.
template <class T>
struct SgdMomentum {
  static constexpr int kLists = 3, kFirstWritten = 1;
  Step given;
  T momentum, decay;
  bool nesterov;
  T lr = 0;

  SgdMomentum(Step s, const Attrs& attrs)
      : given(s),
        momentum(static_cast<T>(attrs.f(0))),
        decay(static_cast<T>(attrs.f(1))),
        nesterov(attrs.b(2)) {}
  __device__ bool start() {
    lr = static_cast<T>(given.rates[0]);
    return given.gate.open();
  }
  __device__ void operator()(T (&v)[kLists]) const {
    const T g = plus(v[0], times(decay, v[1]));
    v[2] = plus(times(momentum, v[2]), g);
    v[1] = plus(v[1], -times(lr, nesterov ? plus(g, times(momentum, v[2])) : v[2]));
  }
};

/// A running mean of an element (element, mean).
template <class T>
struct Ema {
  static constexpr int kLists = 2, kFirstWritten = 1;
  Gate gate;
  T rest;

  __device__ bool start() { return gate.open(); }
  __device__ void operator()(T (&v)[kLists]) const { v[1] = plus(v[1], times(rest, plus(v[0], -v[1]))); }
};

/// Multiplies by min(1, limit / (norm + 1e-6)), and leaves everything as it is when that is 1. A norm of NaN
/// makes all NaN.
template <class T>
struct Clip {
  static constexpr int kLists = 1, kFirstWritten = 0;
  const void* norm;
  bool wide;  // the norm is float64
  double limit;
  Acc<T> scale = 1;

  __device__ bool start() {
    const double value =
        wide ? *static_cast<const double*>(norm) : static_cast<double>(*static_cast<const float*>(norm));
    const double factor = limit / (value + 1e-6);
    scale = static_cast<Acc<T>>(factor);
    return !(factor >= 1);
  }
  __device__ void operator()(Acc<T> (&v)[kLists]) const { v[0] *= scale; }
};

/// Sums of squares, in double: a chunk per block, a thread every so many packs of it, then a tree.
template <class T>
__global__ void __launch_bounds__(kThreads)
    squares_kernel(const __grid_constant__ Table<1> table, double* __restrict__ partial) {
  constexpr int P = kPack<T>;
  const Chunk chunk = chunk_of(table);
  const T* x = static_cast<const T*>(table.data[0][chunk.tensor]);
  const bool packed = reinterpret_cast<uintptr_t>(x) % 16 == 0;
  const int64_t packs_end = packed ? chunk.begin + (chunk.end - chunk.begin) / P * P : chunk.begin;
  double total = 0;
  const auto add = [&](T v) {
    const double wide = static_cast<double>(widen(v));
    total += wide * wide;
  };
#pragma unroll 4
  for (int64_t i = chunk.begin + threadIdx.x * P; i < packs_end; i += kThreads * P) {
    const Pack<T, P> v = load_pack(x + i);
#pragma unroll
    for (int l = 0; l < P; l++) add(v.v[l]);
  }
  for (int64_t i = packs_end + threadIdx.x; i < chunk.end; i += kThreads) add(x[i]);
  __shared__ double room[kWarp];
  total = block_reduce(total, Sum{}, room, 0.0);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

/// One block: sqrt of the sum of all chunks, a thread every 1024th of them, then a tree.
template <class T>
__global__ void __launch_bounds__(kNormThreads)
    norm_kernel(const double* __restrict__ partial, T* __restrict__ norm, int64_t chunks) {
  double total = 0;
#pragma unroll 8
  for (int64_t i = threadIdx.x; i < chunks; i += kNormThreads) total += partial[i];
  __shared__ double room[kWarp];
  total = block_reduce(total, Sum{}, room, 0.0);
  if (threadIdx.x == 0) *norm = static_cast<T>(std::sqrt(total));
}

/// Calls body(table, blocks) for as many tables as the tensors of one dtype fill. Each list holds n tensors.
template <int kLists, class Body>
void each_table(const TensorView* const (&lists)[kLists], int n, DType dtype, Body body) {
  using Tensors = Table<kLists>;
  Tensors table;
  table.count = 0;
  int64_t blocks = 0;
  const auto flush = [&] {
    if (table.count == 0) return;
    table.first[table.count] = static_cast<int>(blocks);
    body(table, blocks);
    table.count = 0;
    blocks = 0;
  };
  for (int k = 0; k < n; k++) {
    const int64_t size = lists[0][k].numel(), chunks = ceil_div(size, kChunk);
    if (lists[0][k].dtype != dtype || size == 0) continue;
    if (table.count == Tensors::kTensors || blocks + chunks > kMaxGrid) flush();
    for (int list = 0; list < kLists; list++) table.data[list][table.count] = lists[list][k].data;
    table.size[table.count] = size;
    table.first[table.count] = static_cast<int>(blocks);
    table.count++;
    blocks += chunks;
  }
  flush();
}

/// Runs an operation on all tensors of a dtype, which is that of T.
template <class T, class Op>
void update_all(const Call& call, DType dtype, const TensorView* const (&lists)[Op::kLists], int n,
                const Op& op) {
  static_assert(sizeof(Table<Op::kLists>) + sizeof(Op) <= 4096, "kernel parameters");
  each_table(lists, n, dtype, [&](const Table<Op::kLists>& table, int64_t blocks) {
    QM_LAUNCH(call, (update_kernel<T, Op>), grid_of(blocks, 1), kThreads, 0, table, op);
  });
}

/// Tensors that are there, of float32 or float64, or `narrow` ones as well.
void require_floats(const Call& call, const TensorView* tensors, int n, bool narrow) {
  for (int k = 0; k < n; k++) {
    const DType type = tensors[k].dtype;
    call.require(tensors[k].present, "tensors that are there");
    if (type != DType::f32 && type != DType::f64 && !(narrow && type == DType::bf16)) call.unsupported(type);
  }
}

/// A tensor of one element, or none.
Gate gate_of(const Call& call, const TensorView& gate) {
  if (!gate.present) return {nullptr, false};
  require_floats(call, &gate, 1, false);
  call.require(gate.numel() == 1, "a gate of one element");
  return {gate.data, gate.dtype == DType::f64};
}

/// Outputs are `sets` lists of tensors like the n given ones.
void require_sets(const Call& call, const TensorView* given, int n, int sets) {
  require_floats(call, given, n, false);
  call.require(call.n_out == sets * n, "a full set of outputs for every input");
  for (int k = 0; k < call.n_out; k++) {
    const TensorView &x = given[k % n], &t = call.out[k];
    call.require(t.present && t.dtype == x.dtype && t.shape == x.shape, "outputs like the inputs");
  }
}

/// The inputs of a step: rates, a gate or none, and gradients. Outputs are `sets` lists of tensors like the
/// gradients.
Step step_of(const Call& call, int sets) {
  call.require(call.n_in >= 2 && call.in[0].present && call.in[0].dtype == DType::f64 &&
                   call.in[0].numel() == Step::kRates,
               "three float64 rates, a gate or none, and gradients");
  require_sets(call, call.in + 2, call.n_in - 2, sets);
  return {call.in[0].as<const double>(), gate_of(call, call.in[1])};
}

template <class T>
void sgd(const Call& call, Step given, DType dtype) {
  const int n = call.n_in - 2;
  const TensorView* gradients = call.in + 2;
  if (static_cast<T>(call.attrs.f(0)) == 0)
    update_all<T>(call, dtype, {gradients, call.out}, n, Sgd<T>(given, call.attrs));
  else
    update_all<T>(call, dtype, {gradients, call.out, call.out + n}, n, SgdMomentum<T>(given, call.attrs));
}

}  // namespace

/// rates (lr, correction1, correction2), gate?, n gradients; n parameters, n first and n second moments. AdamW
/// with decoupled decay:
///   p *= 1 - lr decay;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g g;
///   p -= lr / correction1 * m / (sqrt(v) / sqrt(correction2) + eps)
void adamw_step(const Call& call) {
  const Step given = step_of(call, 3);
  const int n = call.n_in - 2;
  const TensorView *g = call.in + 2, *p = call.out, *m = p + n, *v = m + n;
  update_all<float>(call, DType::f32, {g, p, m, v}, n, AdamW<float>(given, call.attrs));
  update_all<double>(call, DType::f64, {g, p, m, v}, n, AdamW<double>(given, call.attrs));
}

/// rates (lr), gate?, n gradients; n parameters, n momentum buffers, which start as zeros. g += decay p; with
/// momentum, buffer = momentum buffer + g and the step is the buffer, or g + momentum buffer (nesterov);
/// p -= lr step. Without momentum the buffers stay as they are.
void sgd_step(const Call& call) {
  const Step given = step_of(call, 2);
  sgd<float>(call, given, DType::f32);
  sgd<double>(call, given, DType::f64);
}

/// gate?, n tensors; n running means of them, in place: mean += (1 - decay) (x - mean)
void ema_step(const Call& call) {
  call.require(call.n_in >= 1, "a gate or none, and tensors");
  const TensorView* given = call.in + 1;
  const int n = call.n_in - 1;
  require_sets(call, given, n, 1);
  const Gate gate = gate_of(call, call.in[0]);
  const double rest = 1.0 - call.attrs.f(0);
  update_all<float>(call, DType::f32, {given, call.out}, n, Ema<float>{gate, static_cast<float>(rest)});
  update_all<double>(call, DType::f64, {given, call.out}, n, Ema<double>{gate, rest});
}

/// Any number of tensors to sqrt(sum of squares), 0-d. Squares are summed in double, chunks of float32 tensors
/// first, then of float64 and bfloat16 ones.
void global_norm(const Call& call) {
  const TensorView& out = call.out[0];
  require_floats(call, call.in, call.n_in, true);
  require_floats(call, &out, 1, false);
  call.require(out.numel() == 1, "an output of one element");
  int64_t chunks = 0;
  for (int k = 0; k < call.n_in; k++) chunks += ceil_div(call.in[k].numel(), kChunk);
  const Scratch<double> partial(chunks);
  int64_t done = 0;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
    float_dispatch(call, dtype, [&](auto zero) {
      const TensorView* const lists[] = {call.in};
      each_table(lists, call.n_in, dtype, [&](const Table<1>& table, int64_t blocks) {
        QM_LAUNCH(call, (squares_kernel<decltype(zero)>), grid_of(blocks, 1), kThreads, 0, table,
                  partial.get() + done);
        done += blocks;
      });
    });
  if (out.dtype == DType::f32)
    QM_LAUNCH(call, (norm_kernel<float>), 1, kNormThreads, 0, partial.get(), out.as<float>(), chunks);
  else
    QM_LAUNCH(call, (norm_kernel<double>), 1, kNormThreads, 0, partial.get(), out.as<double>(), chunks);
}

/// A 0-d norm; n gradients, multiplied by min(1, limit / (norm + 1e-6)), and left as they are when that is 1.
/// A norm of NaN makes all of them NaN; an infinite one makes them 0, and NaN where they were infinite.
void clip_scale(const Call& call) {
  const TensorView& norm = call.in[0];
  require_floats(call, &norm, 1, false);
  require_floats(call, call.out, call.n_out, true);
  call.require(norm.numel() == 1, "a norm of one element");
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
    float_dispatch(call, dtype, [&](auto zero) {
      using T = decltype(zero);
      update_all<T>(call, dtype, {call.out}, call.n_out,
                    Clip<T>{norm.data, norm.dtype == DType::f64, call.attrs.f(0)});
    });
}

}  // namespace qm::cuda
