// Random numbers from Philox: element e of a draw has its own word, so the bits depend on the key and on e
// only, never on the number of threads. Words are made in batches of blocks, then turned into elements.
#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

#include "formulas/philox.h"

namespace {

constexpr int kBatchBlocks = 64;
constexpr int kBatchWords = 4 * kBatchBlocks;

/// Reads the attributes seed, stream and counter, which start at `first`.
PhiloxKey key_of(const Call& call, int first) {
  const int64_t seed = call.attrs.i(first), stream = call.attrs.i(first + 1),
                counter = call.attrs.i(first + 2);
  call.require(seed >= 0 && counter >= 0, "a seed and a counter of at least 0");
  call.require(stream >= 0 && stream < 65536, "a stream from 0 to 65535");
  return {static_cast<uint64_t>(seed), static_cast<uint64_t>(stream), static_cast<uint64_t>(counter)};
}

/// The words of `blocks` blocks. Each word has its own array first, which lets the compiler do many blocks at
/// once.
void draw_words(PhiloxKey key, int64_t first_block, int64_t blocks, uint32_t* words) {
  uint32_t lane[4][kBatchBlocks];
  for (int b = 0; b < kBatchBlocks; b++) {
    const PhiloxWords block = philox_block(key, static_cast<uint64_t>(first_block + b));
    for (int w = 0; w < 4; w++) lane[w][b] = block.word[w];
  }
  for (int64_t b = 0; b < blocks; b++)
    for (int w = 0; w < 4; w++) words[4 * b + w] = lane[w][b];
}

/// Calls body(words, at, count) for batches of the n elements of a tensor: `words` holds kWords words per
/// element, from element `at` on. A batch begins at a block, and its words are there even past the last
/// element.
template <int kWords, class Body>
void for_batches(PhiloxKey key, int64_t n, Body&& body) {
  constexpr int64_t batch = kBatchWords / kWords;
  static_assert(kGrain % batch == 0, "a task begins at a block");
  parallel_for(n, kGrain, [&](int64_t begin, int64_t end) {
    uint32_t words[kBatchWords];
    for (int64_t at = begin; at < end; at += batch) {
      draw_words(key, at * kWords / 4, kBatchBlocks, words);
      body(static_cast<const uint32_t*>(words), at, std::min(batch, end - at));
    }
  });
}

}  // namespace

/// [0, 1): float32 with 24 bits, one word per element; float64 with 53 bits, two words per element.
void uniform_fwd(const Call& call) {
  const PhiloxKey key = key_of(call, 0);
  const int64_t n = call.out[0].numel();
  if (call.out[0].dtype == DType::f32) {
    float* y = call.out[0].as<float>();
    return for_batches<1>(key, n, [=](const uint32_t* words, int64_t at, int64_t count) {
      for (int64_t k = 0; k < count; k++) y[at + k] = philox_uniform24(words[k]);
    });
  }
  if (call.out[0].dtype != DType::f64) call.unsupported(call.out[0].dtype);
  double* y = call.out[0].as<double>();
  for_batches<2>(key, n, [=](const uint32_t* words, int64_t at, int64_t count) {
    for (int64_t k = 0; k < count; k++) y[at + k] = philox_uniform53(words[2 * k], words[2 * k + 1]);
  });
}

/// Standard normal by Box-Muller: a pair of words gives a pair of elements. In double, then rounded: float32
/// draws are the float64 ones.
void normal_fwd(const Call& call) {
  const PhiloxKey key = key_of(call, 0);
  float_dispatch(call, call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    T* y = call.out[0].as<T>();
    for_batches<1>(key, call.out[0].numel(), [=](const uint32_t* words, int64_t at, int64_t count) {
      constexpr double turn = 6.28318530717958647693 * 2.3283064365386962891e-10;  // 2 pi / 2^32
      for (int64_t k = 0; k < count; k += 2) {
        const double radius = std::sqrt(-2.0 * std::log(philox_above_zero(words[k])));
        const double angle = turn * static_cast<double>(words[k + 1]);
        y[at + k] = static_cast<T>(radius * std::cos(angle));
        if (k + 1 < count) y[at + k + 1] = static_cast<T>(radius * std::sin(angle));
      }
    });
  });
}

/// Standard Gumbel, -log(-log u), in double, then rounded.
void gumbel_fwd(const Call& call) {
  const PhiloxKey key = key_of(call, 0);
  float_dispatch(call, call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    T* y = call.out[0].as<T>();
    for_batches<1>(key, call.out[0].numel(), [=](const uint32_t* words, int64_t at, int64_t count) {
      for (int64_t k = 0; k < count; k++)
        y[at + k] = static_cast<T>(-std::log(-std::log(philox_inside(words[k]))));
    });
  });
}

/// y = x / (1 - p) where the draw of the element's group is at least p, else 0 (even for an infinite or NaN
/// x). Groups are runs of `group` elements in row-major order. Forward and backward are this one op with one
/// key: no mask is stored.
void dropout_fwd(const Call& call) {
  const double probability = call.attrs.f(0);
  const int64_t group = call.attrs.i(1);
  const PhiloxKey key = key_of(call, 2);
  call.require(probability >= 0 && probability <= 1, "a probability from 0 to 1");
  call.require(group >= 1, "groups of at least one element");
  call.require(
      call.in[0].present && call.out[0].dtype == call.in[0].dtype && call.out[0].shape == call.in[0].shape,
      "an output like the input");
  float_dispatch(call, call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = call.in[0].as<T>();
    T* y = call.out[0].as<T>();
    const T scale = static_cast<T>(1.0 / (1.0 - probability));  // infinite at 1, where nothing is kept
    parallel_for(call.in[0].numel(), kGrain, [=](int64_t begin, int64_t end) {
      uint32_t words[kBatchWords];
      const int64_t draws = (end - 1) / group + 1;
      for (int64_t first = begin / group / 4 * 4; first < draws; first += kBatchWords) {
        draw_words(key, first / 4, kBatchBlocks, words);
        const int64_t last = std::min(draws, first + kBatchWords);
        for (int64_t draw = std::max(first, begin / group); draw < last; draw++) {
          const bool keep = static_cast<double>(philox_uniform24(words[draw - first])) >= probability;
          const int64_t to = std::min(end, (draw + 1) * group);
          for (int64_t i = std::max(begin, draw * group); i < to; i++) y[i] = keep ? x[i] * scale : T{0};
        }
      }
    });
  });
}

}  // namespace qm::cpu::QM_ISA
