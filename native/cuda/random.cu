// Random numbers as pure functions of (seed, stream, counter, element): formulas/philox.h. A thread makes one
// block of four words; integers and uniform numbers are those of the CPU, bit for bit.
#include "cuda/kernel.cuh"

namespace qm::cuda {

#include "formulas/philox.h"

namespace {

Draw draw_of(const Call& call, int first_attr) {
  const int64_t seed = call.attrs.i(first_attr), stream = call.attrs.i(first_attr + 1),
                counter = call.attrs.i(first_attr + 2);
  call.require(seed >= 0 && counter >= 0 && stream >= 0 && stream < 65536,
               "a seed, a counter, and a stream below 65536");
  return {static_cast<uint64_t>(seed), static_cast<uint64_t>(stream), static_cast<uint64_t>(counter)};
}

/// The block of this draw, moved on by what replays have drawn since the recording.
__device__ __forceinline__ PhiloxWords words_of(Draw draw, const uint64_t* offset, uint64_t block) {
  draw.counter += *offset;
  return philox_block(draw, block);
}

struct Uniform {
  static constexpr int kWords = 1;
  __device__ void operator()(const uint32_t* w, float* y, int n) const {
    for (int k = 0; k < n; k++) y[k] = uniform_float(w[k]);
  }
};
struct UniformDouble {
  static constexpr int kWords = 2;
  __device__ void operator()(const uint32_t* w, double* y, int n) const {
    for (int k = 0; k < n; k++) y[k] = uniform_double(w[2 * k], w[2 * k + 1]);
  }
};
/// Box-Muller: words 2j and 2j + 1 give elements 2j (cosine) and 2j + 1 (sine).
struct Normal {
  static constexpr int kWords = 1;
  template <class T>
  __device__ void operator()(const uint32_t* w, T* y, int n) const {
    for (int k = 0; k < n; k += 2) {
      const double radius = sqrt(-2.0 * log(uniform_positive(w[k])));
      const double angle = 6.28318530717958647693 * uniform_positive(w[k + 1]);
      y[k] = static_cast<T>(radius * cos(angle));
      if (k + 1 < n) y[k + 1] = static_cast<T>(radius * sin(angle));
    }
  }
};
struct Gumbel {
  static constexpr int kWords = 1;
  template <class T>
  __device__ void operator()(const uint32_t* w, T* y, int n) const {
    for (int k = 0; k < n; k++) y[k] = static_cast<T>(-log(-log(uniform_open(w[k]))));
  }
};

template <class T, class Fn>
__global__ void __launch_bounds__(kThreads)
    random_kernel(T* y, int64_t numel, Draw draw, const uint64_t* offset, Fn fn) {
  constexpr int kEach = 4 / Fn::kWords;
  const int64_t block = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  const int64_t first = block * kEach;
  if (first >= numel) return;
  const PhiloxWords words = words_of(draw, offset, static_cast<uint64_t>(block));
  fn(words.w, y + first, static_cast<int>(min(static_cast<int64_t>(kEach), numel - first)));
}

template <class T, class Fn>
void fill(const Call& call, Fn fn) {
  TensorView& y = call.out[0];
  QM_LAUNCH(call, (random_kernel<T, Fn>), grid_of(y.numel(), kThreads * (4 / Fn::kWords)), kThreads, 0,
            y.as<T>(), y.numel(), draw_of(call, 0), draw_offset(), fn);
}

/// y = x / (1 - p) where the uniform of word i / group is at least p, else 0. A thread owns four elements.
template <class T>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(const T* x, T* y, int64_t numel, int64_t group, uint32_t threshold, Acc<T> scale,
                   Draw draw, const uint64_t* offset) {
  const int64_t first = (blockIdx.x * int64_t{kThreads} + threadIdx.x) * 4;
  if (first >= numel) return;
  const int n = static_cast<int>(min(int64_t{4}, numel - first));
  int64_t word = first / group;
  PhiloxWords words = words_of(draw, offset, static_cast<uint64_t>(word / 4));
  for (int k = 0; k < n; k++) {
    const int64_t own = (first + k) / group;
    if (own / 4 != word / 4) words = words_of(draw, offset, static_cast<uint64_t>(own / 4));
    word = own;
    const bool keep = words.w[word % 4] >> 8 >= threshold;
    y[first + k] = keep ? narrow<T>(widen(x[first + k]) * scale) : narrow<T>(Acc<T>{0});
  }
}

}  // namespace

/// [0, 1): 24 bits of one word per float32 element, 53 bits of two words per float64 element.
void uniform_fwd(const Call& call) {
  if (call.out[0].dtype == DType::f32) return fill<float>(call, Uniform{});
  if (call.out[0].dtype == DType::f64) return fill<double>(call, UniformDouble{});
  call.unsupported(call.out[0].dtype);
}

void normal_fwd(const Call& call) {
  if (call.out[0].dtype == DType::f32) return fill<float>(call, Normal{});
  if (call.out[0].dtype == DType::f64) return fill<double>(call, Normal{});
  call.unsupported(call.out[0].dtype);
}

/// Standard Gumbel, -log(-log(u)), one word per element, computed in double.
void gumbel_fwd(const Call& call) {
  if (call.out[0].dtype == DType::f32) return fill<float>(call, Gumbel{});
  if (call.out[0].dtype == DType::f64) return fill<double>(call, Gumbel{});
  call.unsupported(call.out[0].dtype);
}

/// `group` consecutive elements share their fate; the mask does not depend on the dtype.
void dropout_fwd(const Call& call) {
  const TensorView& x = call.in[0];
  TensorView& y = call.out[0];
  const double probability = call.attrs.f(0);
  const int64_t group = call.attrs.i(1);
  const Draw draw = draw_of(call, 2);
  call.require(probability >= 0 && probability <= 1 && group >= 1,
               "a probability, and a group of at least 1");
  call.require(x.present && x.shape == y.shape && x.dtype == y.dtype, "an output like the input");
  // uniform >= p exactly when its 24 bits are at least this
  const uint32_t threshold = static_cast<uint32_t>(std::ceil(probability * 0x1p24));
  float_dispatch(call, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    QM_LAUNCH(call, dropout_kernel<T>, grid_of(x.numel(), kThreads * 4), kThreads, 0, x.as<T>(), y.as<T>(),
              x.numel(), group, threshold, static_cast<Acc<T>>(1.0 / (1.0 - probability)), draw,
              draw_offset());
  });
}

}  // namespace qm::cuda
