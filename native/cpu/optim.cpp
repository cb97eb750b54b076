// Optimiser steps over many tensors at once, in place. All tensors are cut into chunks of kGrain elements
// that form one list of tasks, so that a hundred small tensors cost one parallel pass. Elementwise arithmetic
// is plain multiply, add, divide and square root, which every instruction set rounds alike.
#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

namespace {

/// The chunks of a list of tensors, numbered through.
class ChunkList {
 public:
  ChunkList(const TensorView* tensors, int n) : n_(n), first_(static_cast<size_t>(n) + 1) {
    first_[0] = 0;
    for (int k = 0; k < n; k++) {
      const int64_t chunks = (tensors[k].numel() + kGrain - 1) / kGrain;
      first_[static_cast<size_t>(k) + 1] = first_[static_cast<size_t>(k)] + chunks;
    }
  }
  int64_t count() const { return first_[static_cast<size_t>(n_)]; }
  /// The tensor of a chunk, and the chunk's number in it.
  int find(int64_t chunk, int64_t* within) const {
    const int64_t* after = std::upper_bound(first_.get(), first_.get() + n_ + 1, chunk);
    const int tensor = static_cast<int>(after - first_.get()) - 1;
    *within = chunk - first_[static_cast<size_t>(tensor)];
    return tensor;
  }

 private:
  int n_;
  Scratch<int64_t> first_;
};

/// Calls body(tensor, begin, end, zero of its type) for every chunk, in parallel. Dtypes are float32 or
/// float64.
template <class Body>
void each_chunk(const TensorView* tensors, int n, Body body) {
  const ChunkList chunks(tensors, n);
  parallel_tasks(chunks.count(), [&](int64_t chunk) {
    int64_t within;
    const int k = chunks.find(chunk, &within);
    const int64_t begin = within * kGrain, end = std::min(tensors[k].numel(), begin + kGrain);
    if (tensors[k].dtype == DType::f32)
      body(k, begin, end, float{});
    else
      body(k, begin, end, double{});
  });
}

void require_floats(const Call& call, const TensorView* tensors, int n) {
  for (int k = 0; k < n; k++) {
    call.require(tensors[k].present, "tensors that are there");
    if (tensors[k].dtype != DType::f32 && tensors[k].dtype != DType::f64) call.unsupported(tensors[k].dtype);
  }
}

/// Whether a gate, a tensor of one element or none, is finite: one that is not lets nothing through.
bool is_open(const Call& call, const TensorView& gate) {
  if (!gate.present) return true;
  require_floats(call, &gate, 1);
  call.require(gate.numel() == 1, "a gate of one element");
  return std::isfinite(gate.dtype == DType::f32 ? *gate.as<const float>() : *gate.as<const double>());
}

/// Outputs are `sets` lists of tensors like the n given ones.
void require_sets(const Call& call, const TensorView* given, int n, int sets) {
  require_floats(call, given, n);
  call.require(call.n_out == sets * n, "a full set of outputs for every input");
  for (int k = 0; k < call.n_out; k++) {
    const TensorView &x = given[k % n], &t = call.out[k];
    call.require(t.present && t.dtype == x.dtype && t.shape == x.shape, "outputs like the inputs");
  }
}

/// The inputs of a step: the numbers that change from step to step, a gate or none, and the gradients.
struct Step {
  static constexpr int kRates = 3;
  const TensorView* gradients;
  int n;
  const double* rates;
  bool open;
};

/// Checks the inputs, and that the outputs are `sets` lists of tensors like the gradients.
Step step_of(const Call& call, int sets) {
  call.require(call.n_in >= 2 && call.in[0].present && call.in[0].dtype == DType::f64 &&
                   call.in[0].numel() == Step::kRates,
               "three float64 rates, a gate or none, and gradients");
  const TensorView* gradients = call.in + 2;
  const int n = call.n_in - 2;
  require_sets(call, gradients, n, sets);
  return {gradients, n, call.in[0].as<const double>(), is_open(call, call.in[1])};
}

}  // namespace

/// rates (lr, correction1, correction2), gate?, n gradients; n parameters, n first and n second moments. AdamW
/// with decoupled decay:
///   p *= 1 - lr decay;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g g;
///   p -= lr / correction1 * m / (sqrt(v) / sqrt(correction2) + eps)
void adamw_step(const Call& call) {
  const Step given = step_of(call, 3);
  if (!given.open) return;
  const int n = given.n;
  const double beta1 = call.attrs.f(0), beta2 = call.attrs.f(1), eps = call.attrs.f(2),
               decay = call.attrs.f(3);
  const double lr = given.rates[0], correction1 = given.rates[1], correction2 = given.rates[2];
  each_chunk(given.gradients, n, [&](int k, int64_t begin, int64_t end, auto zero) {
    using T = decltype(zero);
    const T* __restrict g = given.gradients[k].as<const T>();
    T* __restrict p = call.out[k].as<T>();
    T* __restrict m = call.out[n + k].as<T>();
    T* __restrict v = call.out[2 * n + k].as<T>();
    const T shrink = static_cast<T>(1.0 - lr * decay), step = static_cast<T>(lr / correction1);
    const T b1 = static_cast<T>(beta1), c1 = static_cast<T>(1.0 - beta1);
    const T b2 = static_cast<T>(beta2), c2 = static_cast<T>(1.0 - beta2);
    const T root = static_cast<T>(1.0 / std::sqrt(correction2)), e = static_cast<T>(eps);
    for (int64_t i = begin; i < end; i++) {
      m[i] = b1 * m[i] + c1 * g[i];
      v[i] = b2 * v[i] + c2 * g[i] * g[i];
      p[i] = p[i] * shrink - step * m[i] / (std::sqrt(v[i]) * root + e);
    }
  });
}

/// rates (lr), gate?, n gradients; n parameters, n momentum buffers, which start as zeros. g += decay p; with
/// momentum, buffer = momentum buffer + g and the step is the buffer, or g + momentum buffer (nesterov);
/// p -= lr step. Without momentum the buffers stay as they are.
void sgd_step(const Call& call) {
  const Step given = step_of(call, 2);
  if (!given.open) return;
  const int n = given.n;
  const double lr_attr = given.rates[0], momentum_attr = call.attrs.f(0), decay_attr = call.attrs.f(1);
  const bool nesterov = call.attrs.b(2);
  each_chunk(given.gradients, n, [&](int k, int64_t begin, int64_t end, auto zero) {
    using T = decltype(zero);
    const T* __restrict g = given.gradients[k].as<const T>();
    T* __restrict p = call.out[k].as<T>();
    T* __restrict buffer = call.out[n + k].as<T>();
    const T lr = static_cast<T>(lr_attr), momentum = static_cast<T>(momentum_attr),
            decay = static_cast<T>(decay_attr);
    if (momentum == 0) {
      for (int64_t i = begin; i < end; i++) p[i] -= lr * (g[i] + decay * p[i]);
      return;
    }
    for (int64_t i = begin; i < end; i++) buffer[i] = momentum * buffer[i] + (g[i] + decay * p[i]);
    if (nesterov)
      for (int64_t i = begin; i < end; i++) p[i] -= lr * (g[i] + decay * p[i] + momentum * buffer[i]);
    else
      for (int64_t i = begin; i < end; i++) p[i] -= lr * buffer[i];
  });
}

/// gate?, n tensors; n running means of them, in place: mean += (1 - decay) (x - mean)
void ema_step(const Call& call) {
  call.require(call.n_in >= 1, "a gate or none, and tensors");
  const TensorView* given = call.in + 1;
  const int n = call.n_in - 1;
  require_sets(call, given, n, 1);
  if (!is_open(call, call.in[0])) return;
  const double rest = 1.0 - call.attrs.f(0);
  each_chunk(given, n, [&](int k, int64_t begin, int64_t end, auto zero) {
    using T = decltype(zero);
    const T* __restrict x = given[k].as<const T>();
    T* __restrict mean = call.out[k].as<T>();
    for (int64_t i = begin; i < end; i++) mean[i] += static_cast<T>(rest) * (x[i] - mean[i]);
  });
}

/// Any number of tensors to sqrt(sum of squares), 0-d. Squares are summed in double in 16 lanes per chunk,
/// chunks in order.
void global_norm(const Call& call) {
  TensorView& out = call.out[0];
  require_floats(call, call.in, call.n_in);
  call.require(out.numel() == 1, "an output of one element");
  const ChunkList chunks(call.in, call.n_in);
  Scratch<double> partial(static_cast<size_t>(chunks.count()));
  double* sums = partial.get();
  parallel_tasks(chunks.count(), [&](int64_t chunk) {
    int64_t within;
    const TensorView& x = call.in[chunks.find(chunk, &within)];
    const int64_t begin = within * kGrain, n = std::min(x.numel() - begin, kGrain);
    const auto sum = [n](const auto* data) {
      constexpr int64_t lanes = 16;
      double acc[lanes] = {};
      int64_t i = 0;
      for (; i + lanes <= n; i += lanes)
        for (int64_t l = 0; l < lanes; l++)
          acc[l] += static_cast<double>(data[i + l]) * static_cast<double>(data[i + l]);
      for (; i < n; i++) acc[i % lanes] += static_cast<double>(data[i]) * static_cast<double>(data[i]);
      for (int64_t half = lanes / 2; half > 0; half /= 2)
        for (int64_t l = 0; l < half; l++) acc[l] += acc[l + half];
      return acc[0];
    };
    sums[chunk] =
        x.dtype == DType::f32 ? sum(x.as<const float>() + begin) : sum(x.as<const double>() + begin);
  });
  double total = 0;
  for (int64_t chunk = 0; chunk < chunks.count(); chunk++) total += sums[chunk];
  float_dispatch(call, out.dtype, [&](auto zero) {
    using T = decltype(zero);
    *out.as<T>() = static_cast<T>(std::sqrt(total));
  });
}

/// A 0-d norm; n gradients, multiplied by min(1, limit / (norm + 1e-6)), and left as they are when that is 1.
/// A norm of NaN makes all of them NaN; an infinite one makes them 0, and NaN where they were infinite.
void clip_scale(const Call& call) {
  const TensorView& norm = call.in[0];
  require_floats(call, &norm, 1);
  require_floats(call, call.out, call.n_out);
  call.require(norm.numel() == 1, "a norm of one element");
  const double value = norm.dtype == DType::f32 ? *norm.as<const float>() : *norm.as<const double>();
  const double factor = call.attrs.f(0) / (value + 1e-6);
  if (factor >= 1) return;
  each_chunk(call.out, call.n_out, [&](int k, int64_t begin, int64_t end, auto zero) {
    using T = decltype(zero);
    T* g = call.out[k].as<T>();
    const T scale = static_cast<T>(factor);
    for (int64_t i = begin; i < end; i++) g[i] *= scale;
  });
}

}  // namespace qm::cpu::QM_ISA
