// Optimiser steps in place over many tensors at once, each tensor contiguous. All tensors are cut into chunks
// of kGrain elements, and one parallel pass takes all chunks: a model of many small tensors keeps every
// thread busy.
#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

#include "formulas/math.h"

namespace {

bool is_float(DType dtype) { return dtype == DType::f32 || dtype == DType::f64; }

/// The chunks of a list of tensors, numbered across the list.
class Chunks {
 public:
  Chunks(const TensorView* tensors, int count) : count_(count), first_(static_cast<size_t>(count) + 1) {
    first_[0] = 0;
    for (int t = 0; t < count; t++) first_[t + 1] = first_[t] + (tensors[t].numel() + kGrain - 1) / kGrain;
  }
  int64_t size() const { return first_[count_]; }

  /// Calls body(tensor, begin, end, chunk) for every chunk, in parallel.
  template <class Body>
  void each(const TensorView* tensors, Body&& body) const {
    parallel_tasks(size(), [&](int64_t chunk) {
      const int64_t* after = std::upper_bound(first_.get(), first_.get() + count_ + 1, chunk);
      const int64_t tensor = after - first_.get() - 1;
      const int64_t begin = (chunk - first_[tensor]) * kGrain;
      body(tensor, begin, std::min(begin + kGrain, tensors[tensor].numel()), chunk);
    });
  }

 private:
  int count_;
  Scratch<int64_t> first_;
};

/// Gradient k, parameter k and each of its states must be alike.
void require_states(const Call& call, int per_gradient) {
  call.require(call.n_out == static_cast<int64_t>(per_gradient) * call.n_in,
               "a parameter and its states per gradient");
  for (int k = 0; k < call.n_out; k++) {
    const TensorView& gradient = call.in[k % call.n_in];
    call.require(gradient.present && is_float(gradient.dtype), "float gradients");
    call.require(call.out[k].dtype == gradient.dtype && call.out[k].shape == gradient.shape,
                 "parameters and states like their gradients");
  }
}

template <class T>
struct AdamW {
  Vec<T> keep, beta1, rest1, beta2, rest2, step, scale, eps;

  explicit AdamW(const Attrs& attrs) {
    const double lr = attrs.f(0), b1 = attrs.f(1), b2 = attrs.f(2);
    keep = splat(static_cast<T>(1.0 - lr * attrs.f(4)));
    beta1 = splat(static_cast<T>(b1));
    rest1 = splat(static_cast<T>(1.0 - b1));
    beta2 = splat(static_cast<T>(b2));
    rest2 = splat(static_cast<T>(1.0 - b2));
    step = splat(static_cast<T>(-lr / attrs.f(5)));
    scale = splat(static_cast<T>(1.0 / std::sqrt(attrs.f(6))));
    eps = splat(static_cast<T>(attrs.f(3)));
  }
  void update(const T* g, T* p, T* m, T* v, int64_t n) const {
    for (int64_t i = 0; i < n; i += kLanes<T>) {
      const int64_t left = n - i;
      const Vec<T> gradient = load_n(g + i, left);
      const Vec<T> mean = mul_add(beta1, load_n(m + i, left), rest1 * gradient);
      const Vec<T> square = mul_add(beta2, load_n(v + i, left), rest2 * gradient * gradient);
      const Vec<T> denominator = mul_add(sqrt_of(square), scale, eps);
      store_n(p + i, keep * load_n(p + i, left) + step * mean / denominator, left);
      store_n(m + i, mean, left);
      store_n(v + i, square, left);
    }
  }
};

template <class T>
struct Sgd {
  Vec<T> step, momentum, decay;
  bool moving, nesterov, first;

  explicit Sgd(const Attrs& attrs)
      : step(splat(static_cast<T>(-attrs.f(0)))),
        momentum(splat(static_cast<T>(attrs.f(1)))),
        decay(splat(static_cast<T>(attrs.f(2)))),
        moving(attrs.f(1) != 0),
        nesterov(attrs.b(3)),
        first(attrs.b(4)) {}
  void update(const T* g, T* p, T* buffer, int64_t n) const {
    for (int64_t i = 0; i < n; i += kLanes<T>) {
      const int64_t left = n - i;
      const Vec<T> value = load_n(p + i, left);
      Vec<T> gradient = mul_add(decay, value, load_n(g + i, left));
      if (moving) {
        // the first buffer is the gradient, whatever the memory held
        const Vec<T> velocity = first ? gradient : mul_add(momentum, load_n(buffer + i, left), gradient);
        store_n(buffer + i, velocity, left);
        gradient = nesterov ? mul_add(momentum, velocity, gradient) : velocity;
      }
      store_n(p + i, mul_add(step, gradient, value), left);
    }
  }
};

/// In double, in sixteen interleaved sums: squares of float32 are exact there and cannot overflow.
template <class T>
double sum_of_squares(const T* x, int64_t n) {
  constexpr int ways = 16;
  double sums[ways] = {};
  int64_t i = 0;
  for (; i + ways <= n; i += ways)
    for (int k = 0; k < ways; k++) sums[k] += static_cast<double>(x[i + k]) * static_cast<double>(x[i + k]);
  for (int k = 0; i + k < n; k++) sums[k] += static_cast<double>(x[i + k]) * static_cast<double>(x[i + k]);
  double total = 0;
  for (int k = 0; k < ways; k++) total += sums[k];
  return total;
}

}  // namespace

/// AdamW with decoupled decay. Inputs: n gradients. Outputs, updated in place: n parameters, n first moments,
/// n second moments. correction = 1 - beta^t. Arithmetic in the tensors' dtype; the factors are made in
/// double.
void adamw_step(const Call& call) {
  require_states(call, 3);
  const int n = call.n_in;
  const AdamW<float> single(call.attrs);
  const AdamW<double> twofold(call.attrs);
  Chunks(call.in, n).each(call.in, [&](int64_t t, int64_t begin, int64_t end, int64_t) {
    const auto update = [&](auto zero, const auto& formula) {
      using T = decltype(zero);
      formula.update(call.in[t].as<T>() + begin, call.out[t].as<T>() + begin, call.out[n + t].as<T>() + begin,
                     call.out[2 * n + t].as<T>() + begin, end - begin);
    };
    call.in[t].dtype == DType::f32 ? update(float{}, single) : update(double{}, twofold);
  });
}

/// Stochastic gradient descent. Inputs: n gradients. Outputs, updated in place: n parameters, n momentum
/// buffers (left alone without momentum). Arithmetic in the tensors' dtype.
void sgd_step(const Call& call) {
  require_states(call, 2);
  const int n = call.n_in;
  const Sgd<float> single(call.attrs);
  const Sgd<double> twofold(call.attrs);
  Chunks(call.in, n).each(call.in, [&](int64_t t, int64_t begin, int64_t end, int64_t) {
    const auto update = [&](auto zero, const auto& formula) {
      using T = decltype(zero);
      formula.update(call.in[t].as<T>() + begin, call.out[t].as<T>() + begin, call.out[n + t].as<T>() + begin,
                     end - begin);
    };
    call.in[t].dtype == DType::f32 ? update(float{}, single) : update(double{}, twofold);
  });
}

/// Square root of the sum of all squares of all inputs: one sum in double per chunk, then the chunks in
/// order.
void global_norm(const Call& call) {
  const DType dtype = call.out[0].dtype;
  call.require(call.out[0].shape.rank == 0, "an output without axes");
  for (int k = 0; k < call.n_in; k++)
    call.require(call.in[k].present && call.in[k].dtype == dtype, "inputs of the output's dtype");
  float_dispatch(call, dtype, [&](auto zero) {
    using T = decltype(zero);
    const Chunks chunks(call.in, call.n_in);
    Scratch<double> partial(static_cast<size_t>(chunks.size()));
    chunks.each(call.in, [&](int64_t t, int64_t begin, int64_t end, int64_t chunk) {
      partial[chunk] = sum_of_squares(call.in[t].as<T>() + begin, end - begin);
    });
    double total = 0;
    for (int64_t chunk = 0; chunk < chunks.size(); chunk++) total += partial[chunk];
    call.out[0].as<T>()[0] = static_cast<T>(std::sqrt(total));
  });
}

/// Multiplies the outputs in place by min(1, limit / (norm + 1e-6)); a factor of 1 touches nothing. A NaN
/// norm makes the factor NaN, and with it every gradient: a broken step shows, rather than being taken at
/// full size.
void clip_scale(const Call& call) {
  const TensorView& norm = call.in[0];
  call.require(norm.present && is_float(norm.dtype) && norm.shape.rank == 0, "a float norm without axes");
  for (int k = 0; k < call.n_out; k++) call.require(is_float(call.out[k].dtype), "float gradients");
  const double length =
      norm.dtype == DType::f32 ? static_cast<double>(*norm.as<float>()) : *norm.as<double>();
  const double ratio = call.attrs.f(0) / (length + 1e-6);
  if (ratio >= 1) return;
  Chunks(call.out, call.n_out).each(call.out, [&](int64_t t, int64_t begin, int64_t end, int64_t) {
    float_dispatch(call, call.out[t].dtype, [&](auto zero) {
      using T = decltype(zero);
      T* g = call.out[t].as<T>();
      const T factor = static_cast<T>(ratio);
      for (int64_t i = begin; i < end; i++) g[i] *= factor;
    });
  });
}

}  // namespace qm::cpu::QM_ISA
