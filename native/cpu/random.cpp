// Random numbers as pure functions of (seed, stream, counter, element): formulas/philox.h. Any cut of the
// work gives the same bits.
#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

#include "formulas/philox.h"

namespace {

constexpr int64_t kBatch = 256;  // words made at a time, in vectors of blocks

Draw draw_of(const Call& call, int first_attr) {
  const int64_t seed = call.attrs.i(first_attr), stream = call.attrs.i(first_attr + 1),
                counter = call.attrs.i(first_attr + 2);
  call.require(seed >= 0 && counter >= 0 && stream >= 0 && stream < 65536,
               "a seed, a counter, and a stream below 65536");
  return {static_cast<uint64_t>(seed), static_cast<uint64_t>(stream), static_cast<uint64_t>(counter)};
}

/// Words [first, first + kBatch) of a draw; first is a multiple of 4.
void make_words(Draw draw, int64_t first, uint32_t* words) {
  const uint64_t block = static_cast<uint64_t>(first) / 4;
  for (int64_t b = 0; b < kBatch / 4; b++) {
    const PhiloxWords p = philox_block(draw, block + static_cast<uint64_t>(b));
    words[4 * b] = p.w[0];
    words[4 * b + 1] = p.w[1];
    words[4 * b + 2] = p.w[2];
    words[4 * b + 3] = p.w[3];
  }
}

/// Calls body(element, n, words) for runs of n <= kBatch / words_each elements with their words, in parallel.
template <class Body>
void each_batch(Draw draw, int64_t numel, int64_t words_each, Body body) {
  const int64_t batch = kBatch / words_each;
  static_assert(kGrain % kBatch == 0);
  parallel_for(numel, kGrain, [=](int64_t begin, int64_t end) {
    uint32_t words[kBatch];
    for (int64_t element = begin; element < end; element += batch) {
      make_words(draw, element * words_each, words);
      body(element, std::min(batch, end - element), words);
    }
  });
}

}  // namespace

/// [0, 1): 24 bits of one word per float32 element, 53 bits of two words per float64 element.
void uniform_fwd(const Call& call) {
  TensorView& y = call.out[0];
  const Draw draw = draw_of(call, 0);
  if (y.dtype == DType::f32) {
    float* data = y.as<float>();
    return each_batch(draw, y.numel(), 1, [=](int64_t element, int64_t n, const uint32_t* words) {
      for (int64_t i = 0; i < n; i++) data[element + i] = uniform_float(words[i]);
    });
  }
  if (y.dtype != DType::f64) call.unsupported(y.dtype);
  double* data = y.as<double>();
  each_batch(draw, y.numel(), 2, [=](int64_t element, int64_t n, const uint32_t* words) {
    for (int64_t i = 0; i < n; i++) data[element + i] = uniform_double(words[2 * i], words[2 * i + 1]);
  });
}

/// Standard normal by Box-Muller: words 2j and 2j + 1 give elements 2j (cosine) and 2j + 1 (sine). Computed
/// in double, so that float32 draws are float64 draws, rounded.
void normal_fwd(const Call& call) {
  TensorView& y = call.out[0];
  const Draw draw = draw_of(call, 0);
  float_dispatch(call, y.dtype, [&](auto zero) {
    using T = decltype(zero);
    T* data = y.as<T>();
    each_batch(draw, y.numel(), 1, [=](int64_t element, int64_t n, const uint32_t* words) {
      for (int64_t i = 0; i < n; i += 2) {
        const double radius = std::sqrt(-2.0 * std::log(uniform_positive(words[i])));
        const double angle = 6.28318530717958647693 * uniform_positive(words[i + 1]);
        data[element + i] = static_cast<T>(radius * std::cos(angle));
        if (i + 1 < n) data[element + i + 1] = static_cast<T>(radius * std::sin(angle));
      }
    });
  });
}

/// Standard Gumbel, -log(-log(u)), one word per element, computed in double.
void gumbel_fwd(const Call& call) {
  TensorView& y = call.out[0];
  const Draw draw = draw_of(call, 0);
  float_dispatch(call, y.dtype, [&](auto zero) {
    using T = decltype(zero);
    T* data = y.as<T>();
    each_batch(draw, y.numel(), 1, [=](int64_t element, int64_t n, const uint32_t* words) {
      for (int64_t i = 0; i < n; i++)
        data[element + i] = static_cast<T>(-std::log(-std::log(uniform_open(words[i]))));
    });
  });
}

/// y = x / (1 - p) where the float32 uniform of word i / group is at least p, else 0: `group` consecutive
/// elements share their fate. The mask does not depend on the dtype.
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
    const T* from = x.as<const T>();
    T* to = y.as<T>();
    const T scale = static_cast<T>(1.0 / (1.0 - probability));
    if (group == 1)
      return each_batch(draw, x.numel(), 1, [=](int64_t element, int64_t n, const uint32_t* words) {
        for (int64_t i = 0; i < n; i++)
          to[element + i] = words[i] >> 8 >= threshold ? from[element + i] * scale : T{0};
      });
    parallel_for(x.numel(), kGrain, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end;) {
        const int64_t word = i / group, stop = std::min(end, (word + 1) * group);
        const bool keep = philox_block(draw, static_cast<uint64_t>(word / 4)).w[word % 4] >> 8 >= threshold;
        for (; i < stop; i++) to[i] = keep ? from[i] * scale : T{0};
      }
    });
  });
}

}  // namespace qm::cpu::QM_ISA
