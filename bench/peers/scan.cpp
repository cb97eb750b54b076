// Selective scan for the CPU, forward and backward: a C++ extension for PyTorch as one would write it for a
// fair comparison. Blocks of 16 channels of one group are turned into lanes, tile by tile of 64 steps, so that
// every loop over lanes is one of vectors. Parallel over batch x blocks (forward) and batch x groups (backward,
// where the channels of a group share dB and dC). Shapes as in scans.py, all tensors contiguous.
#include <ATen/Parallel.h>
#include <torch/extension.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace {

using Tensor = at::Tensor;
constexpr int64_t kLanes = 16, kTile = 64;
template <typename T>
using Lanes = T[kLanes];
template <typename T>
using Tile = T[kTile][kLanes];

struct Shape {
  int64_t batch, channels, length, groups, states;
  Shape(const Tensor& u, const Tensor& B)
      : batch(u.size(0)), channels(u.size(1)), length(u.size(2)), groups(B.size(1)), states(B.size(2)) {}
  int64_t per_group() const { return channels / groups; }
  int64_t blocks() const { return (per_group() + kLanes - 1) / kLanes; }
  int64_t tiles() const { return (length + kTile - 1) / kTile; }
};

template <typename T>
struct Inputs {
  const T *u, *delta, *A, *B, *C, *D, *bias;
};

// Channels of one sample and group. `row` counts channels over all samples, `line` states over all groups.
struct Block {
  int64_t channel, row, line, lanes;
  Block(const Shape& s, int64_t group_of_sample, int64_t block)
      : channel(group_of_sample % s.groups * s.per_group() + block * kLanes),
        row(group_of_sample * s.per_group() + block * kLanes),
        line(group_of_sample * s.states),
        lanes(std::min(kLanes, s.per_group() - block * kLanes)) {}
};

template <typename T>
void load(const T* rows, int64_t length, int64_t steps, int64_t lanes, Tile<T>& tile) {
  for (int64_t w = 0; w < kLanes; ++w)
    for (int64_t t = 0; t < steps; ++t) tile[t][w] = w < lanes ? rows[w * length + t] : T(0);
}

template <typename T>
void store(const Tile<T>& tile, int64_t length, int64_t steps, int64_t lanes, T* rows) {
  for (int64_t w = 0; w < lanes; ++w)
    for (int64_t t = 0; t < steps; ++t) rows[w * length + t] = tile[t][w];
}

// One value for each lane, `stride` apart; 0 for lanes without a channel.
template <typename T>
void load(const T* values, int64_t stride, int64_t lanes, Lanes<T>& out) {
  for (int64_t w = 0; w < kLanes; ++w) out[w] = w < lanes ? values[w * stride] : T(0);
}

template <typename T>
T softplus(T x) {
  return x > 20 ? x : std::log1p(std::exp(std::min<T>(x, 20)));
}

// u, delta + bias and the step sizes of a tile.
template <typename T>
void load_steps(const Shape& s, const Inputs<T>& in, const Block& b, int64_t start, int64_t steps, Tile<T>& x,
                Tile<T>& raw, Tile<T>& dt) {
  Lanes<T> bias;
  load(in.bias + b.channel, 1, b.lanes, bias);
  load(in.u + b.row * s.length + start, s.length, steps, b.lanes, x);
  load(in.delta + b.row * s.length + start, s.length, steps, b.lanes, raw);
  for (int64_t t = 0; t < steps; ++t)
#pragma omp simd
    for (int64_t w = 0; w < kLanes; ++w) {
      raw[t][w] += bias[w];
      dt[t][w] = softplus(raw[t][w]);
    }
}

// Writes y, or the states before every tile, [tiles][states][lanes]; null: not wanted.
template <typename T>
void forward_block(const Shape& s, const Inputs<T>& in, const Block& b, T* y, T* starts) {
  Tile<T> x, raw, dt, out;
  Lanes<T> skip;
  load(in.D + b.channel, 1, b.lanes, skip);
  std::vector<T> states(s.states * kLanes, T(0));
  for (int64_t start = 0; start < s.length; start += kTile) {
    const int64_t steps = std::min(kTile, s.length - start);
    load_steps(s, in, b, start, steps, x, raw, dt);
    if (starts) starts = std::copy(states.begin(), states.end(), starts);
    for (int64_t t = 0; t < steps; ++t)
      for (int64_t w = 0; w < kLanes; ++w) out[t][w] = skip[w] * x[t][w];
    for (int64_t n = 0; n < s.states; ++n) {
      const T *B = in.B + (b.line + n) * s.length + start, *C = in.C + (b.line + n) * s.length + start;
      Lanes<T> rate, h;
      load(in.A + b.channel * s.states + n, s.states, b.lanes, rate);
      std::copy_n(&states[n * kLanes], kLanes, h);
      for (int64_t t = 0; t < steps; ++t)
#pragma omp simd
        for (int64_t w = 0; w < kLanes; ++w) {
          h[w] = std::exp(dt[t][w] * rate[w]) * h[w] + dt[t][w] * x[t][w] * B[t];
          out[t][w] += C[t] * h[w];
        }
      std::copy_n(h, kLanes, &states[n * kLanes]);
    }
    if (y) store(out, s.length, steps, b.lanes, y + b.row * s.length + start);
  }
}

// dA [samples, channels, states], dD and dbias [samples, channels] are still to be summed over samples.
template <typename T>
struct Gradients {
  T *u, *delta, *A, *B, *C, *D, *bias;
};

template <typename T>
void backward_block(const Shape& s, const Inputs<T>& in, const Block& b, const T* dy, const Gradients<T>& d) {
  Tile<T> x, raw, dt, g, decay, h, du, ddt;
  Lanes<T> skip, sum_D{}, sum_bias{};
  load(in.D + b.channel, 1, b.lanes, skip);
  std::vector<T> starts(s.tiles() * s.states * kLanes);
  forward_block<T>(s, in, b, nullptr, starts.data());
  std::vector<T> carries(s.states * kLanes, T(0)), sums_A(s.states * kLanes, T(0));
  for (int64_t tile = s.tiles() - 1; tile >= 0; --tile) {
    const int64_t start = tile * kTile, steps = std::min(kTile, s.length - start);
    load_steps(s, in, b, start, steps, x, raw, dt);
    load(dy + b.row * s.length + start, s.length, steps, b.lanes, g);
    for (int64_t t = 0; t < steps; ++t)
      for (int64_t w = 0; w < kLanes; ++w) {
        du[t][w] = skip[w] * g[t][w];
        sum_D[w] += g[t][w] * x[t][w];
        ddt[t][w] = 0;
      }
    for (int64_t n = 0; n < s.states; ++n) {
      const int64_t line = (b.line + n) * s.length + start;
      const T *B = in.B + line, *C = in.C + line;
      Lanes<T> rate, state, carry, sum_A;
      load(in.A + b.channel * s.states + n, s.states, b.lanes, rate);
      std::copy_n(&starts[(tile * s.states + n) * kLanes], kLanes, state);
      std::copy_n(&carries[n * kLanes], kLanes, carry);
      std::copy_n(&sums_A[n * kLanes], kLanes, sum_A);
      for (int64_t t = 0; t < steps; ++t)
#pragma omp simd
        for (int64_t w = 0; w < kLanes; ++w) {
          decay[t][w] = std::exp(dt[t][w] * rate[w]);
          h[t][w] = state[w] = decay[t][w] * state[w] + dt[t][w] * x[t][w] * B[t];
        }
      for (int64_t t = steps - 1; t >= 0; --t) {
        T sum_B = 0, sum_C = 0;
#pragma omp simd reduction(+ : sum_B, sum_C)
        for (int64_t w = 0; w < kLanes; ++w) {
          const T dh = carry[w] + g[t][w] * C[t];
          const T kept = h[t][w] - dt[t][w] * x[t][w] * B[t];  // decay x state before
          sum_B += dh * dt[t][w] * x[t][w];
          sum_C += g[t][w] * h[t][w];
          sum_A[w] += dh * dt[t][w] * kept;
          du[t][w] += dh * dt[t][w] * B[t];
          ddt[t][w] += dh * (rate[w] * kept + B[t] * x[t][w]);
          carry[w] = dh * decay[t][w];
        }
        d.B[line + t] += sum_B;
        d.C[line + t] += sum_C;
      }
      std::copy_n(carry, kLanes, &carries[n * kLanes]);
      std::copy_n(sum_A, kLanes, &sums_A[n * kLanes]);
    }
    for (int64_t t = 0; t < steps; ++t)
#pragma omp simd
      for (int64_t w = 0; w < kLanes; ++w) {
        ddt[t][w] /= 1 + std::exp(-raw[t][w]);
        sum_bias[w] += ddt[t][w];
      }
    store(du, s.length, steps, b.lanes, d.u + b.row * s.length + start);
    store(ddt, s.length, steps, b.lanes, d.delta + b.row * s.length + start);
  }
  for (int64_t w = 0; w < b.lanes; ++w) {
    for (int64_t n = 0; n < s.states; ++n) d.A[(b.row + w) * s.states + n] = sums_A[n * kLanes + w];
    d.D[b.row + w] = sum_D[w];
    d.bias[b.row + w] = sum_bias[w];
  }
}

template <typename T>
Inputs<T> pointers(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                   const Tensor& D, const Tensor& bias) {
  return {u.data_ptr<T>(), delta.data_ptr<T>(), A.data_ptr<T>(),   B.data_ptr<T>(),
          C.data_ptr<T>(), D.data_ptr<T>(),     bias.data_ptr<T>()};
}

Tensor forward(const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
               const Tensor& D, const Tensor& bias) {
  const Shape s(u, B);
  Tensor y = at::empty_like(u);
  AT_DISPATCH_FLOATING_TYPES(u.scalar_type(), "selective_scan", [&] {
    const auto in = pointers<scalar_t>(u, delta, A, B, C, D, bias);
    scalar_t* out = y.data_ptr<scalar_t>();
    at::parallel_for(0, s.batch * s.groups * s.blocks(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k)
        forward_block<scalar_t>(s, in, Block(s, k / s.blocks(), k % s.blocks()), out, nullptr);
    });
  });
  return y;
}

std::vector<Tensor> backward(const Tensor& dy, const Tensor& u, const Tensor& delta, const Tensor& A,
                             const Tensor& B, const Tensor& C, const Tensor& D, const Tensor& bias) {
  const Shape s(u, B);
  Tensor du = at::empty_like(u), ddelta = at::empty_like(u), dB = at::zeros_like(B), dC = at::zeros_like(C);
  Tensor dA = at::empty({s.batch, s.channels, s.states}, u.options());
  Tensor dD = at::empty({s.batch, s.channels}, u.options()), dbias = at::empty_like(dD);
  AT_DISPATCH_FLOATING_TYPES(u.scalar_type(), "selective_scan_backward", [&] {
    using T = scalar_t;
    const auto in = pointers<T>(u, delta, A, B, C, D, bias);
    const T* g = dy.data_ptr<T>();
    const Gradients<T> d{du.data_ptr<T>(), ddelta.data_ptr<T>(), dA.data_ptr<T>(),   dB.data_ptr<T>(),
                         dC.data_ptr<T>(), dD.data_ptr<T>(),     dbias.data_ptr<T>()};
    at::parallel_for(0, s.batch * s.groups, 1, [&](int64_t begin, int64_t end) {
      for (int64_t group = begin; group < end; ++group)
        for (int64_t k = 0; k < s.blocks(); ++k) backward_block(s, in, Block(s, group, k), g, d);
    });
  });
  return {du, ddelta, dA.sum(0), dB, dC, dD.sum(0), dbias.sum(0)};
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("forward", &forward);
  m.def("backward", &backward);
}
