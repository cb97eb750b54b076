// Max pooling over images [batch, height, width, channels]. The winner of each window is kept as the number
// of its pixel, row * width + column, so that the gradient needs neither input nor output.
#include <limits>

#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

namespace {

/// Pooling along one direction.
struct Window {
  int64_t size, out, kernel, stride, padding;

  Window(const Call& call, int direction)
      : size(call.in[0].shape[1 + direction]),
        out(call.out[0].shape[1 + direction]),
        kernel(call.attrs.v(0)[direction]),
        stride(call.attrs.v(1)[direction]),
        padding(call.attrs.v(2)[direction]) {
    call.require(kernel >= 1 && stride >= 1 && padding >= 0 && padding <= kernel / 2,
                 "a kernel and stride of at least 1, and padding of at most half a kernel");
    // together these leave no window without a pixel
    call.require(
        size >= 1 && kernel - padding <= size + padding && out == (size + 2 * padding - kernel) / stride + 1,
        "an output of (image + 2 padding - kernel) / stride + 1");
  }
  int64_t begin(int64_t i) const { return std::max<int64_t>(0, i * stride - padding); }
  int64_t end(int64_t i) const { return std::min(size, i * stride - padding + kernel); }
};

/// Takes one more pixel into the best of n channels: only what is larger, or the first NaN, displaces.
template <class T>
void challenge(const T* x, int32_t pixel, T* best, int32_t* winner, int64_t n) {
  for (int64_t c = 0; c < n; c++) {
    const T value = x[c], held = best[c];
    const bool wins = (value > held) | ((value != value) & (held == held));
    best[c] = wins ? value : held;
    winner[c] = wins ? pixel : winner[c];
  }
}

}  // namespace

/// y: the largest value of each window; index (int32): its pixel. Padding never wins, ties go to the first
/// pixel in row-major order, and NaN wins.
void max_pool2d_fwd(const Call& call) {
  const TensorView &x = call.in[0], &y = call.out[0], &index = call.out[1];
  call.require(x.present && x.shape.rank == 4 && y.shape.rank == 4 && x.dtype == y.dtype &&
                   x.shape[0] == y.shape[0] && x.shape[3] == y.shape[3],
               "input and output of one dtype, [batch, height, width, channels]");
  call.require(index.dtype == DType::i32 && index.shape == y.shape, "an int32 index like the output");
  for (int k = 0; k < 3; k++) call.require(call.attrs.v(k).size() == 2, "kernel, stride and padding of two");
  const Window rows(call, 0), columns(call, 1);
  call.require(rows.size <= std::numeric_limits<int32_t>::max() / columns.size, "fewer than 2^31 pixels");
  const int64_t channels = x.shape[3];
  if (y.numel() == 0) return;
  float_dispatch(call, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* px = x.as<T>();
    T* py = y.as<T>();
    int32_t* pi = index.as<int32_t>();
    const int64_t taps = std::min(rows.kernel, rows.size) * std::min(columns.kernel, columns.size);
    const int64_t grain = std::max<int64_t>(1, kGrain / (columns.out * channels * std::min(taps, kGrain)));
    parallel_for(x.shape[0] * rows.out, grain, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; k++) {
        const T* image = px + k / rows.out * rows.size * columns.size * channels;
        const int64_t i = k % rows.out;
        for (int64_t j = 0; j < columns.out; j++) {
          T* best = py + (k * columns.out + j) * channels;
          int32_t* winner = pi + (k * columns.out + j) * channels;
          const int64_t first = rows.begin(i) * columns.size + columns.begin(j);
          std::memcpy(best, image + first * channels, static_cast<size_t>(channels) * sizeof(T));
          for (int64_t c = 0; c < channels; c++) winner[c] = static_cast<int32_t>(first);
          for (int64_t r = rows.begin(i); r < rows.end(i); r++)
            for (int64_t c = columns.begin(j); c < columns.end(j); c++) {
              const int64_t pixel = r * columns.size + c;
              challenge(image + pixel * channels, static_cast<int32_t>(pixel), best, winner, channels);
            }
        }
      }
    });
  });
}

/// dx: zeros, then each dy added at its winner, output pixels in row-major order, in the dtype itself. A task
/// owns a run of channels of one image, so overlapping windows never meet across tasks.
void max_pool2d_bwd(const Call& call) {
  constexpr int64_t kChannels = 32;
  const TensorView &dy = call.in[0], &index = call.in[1], &dx = call.out[0];
  call.require(dy.present && dy.shape.rank == 4 && dx.shape.rank == 4 && dx.dtype == dy.dtype &&
                   dx.shape[0] == dy.shape[0] && dx.shape[3] == dy.shape[3],
               "gradients of one dtype, [batch, height, width, channels]");
  call.require(index.present && index.dtype == DType::i32 && index.shape == dy.shape,
               "an int32 index like the gradient");
  const int64_t pixels = dx.shape[1] * dx.shape[2], windows = dy.shape[1] * dy.shape[2],
                channels = dx.shape[3];
  const int32_t* pi = index.as<int32_t>();
  bool good = true;
  for (int64_t k = 0; k < index.numel(); k++) good &= pi[k] >= 0 && pi[k] < pixels;
  call.require(good, "an index of pixels of the image");
  float_dispatch(call, dy.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* pdy = dy.as<T>();
    T* pdx = dx.as<T>();
    const int64_t runs = (channels + kChannels - 1) / kChannels;
    const int64_t work = std::max<int64_t>(1, (pixels + windows) * std::min(channels, kChannels));
    parallel_for(dx.shape[0] * runs, std::max<int64_t>(1, kGrain / work), [=](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; task++) {
        const int64_t batch = task / runs, channel = task % runs * kChannels;
        const int64_t n = std::min(kChannels, channels - channel);
        T* image = pdx + batch * pixels * channels + channel;
        for (int64_t p = 0; p < pixels; p++)
          std::memset(image + p * channels, 0, static_cast<size_t>(n) * sizeof(T));
        for (int64_t w = 0; w < windows; w++) {
          const int64_t at = (batch * windows + w) * channels + channel;
          for (int64_t c = 0; c < n; c++) image[pi[at + c] * channels + c] += pdy[at + c];
        }
      }
    });
  });
}

}  // namespace qm::cpu::QM_ISA
