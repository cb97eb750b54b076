// Max pooling over images [batch, height, width, channels]. The winner of each window is kept as the number
// of its pixel, row * width + column, so that the gradient needs neither input nor output.
#include "cuda/device/fault.cuh"
#include "cuda/device/quotient.cuh"

namespace qm::cuda {

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
  __device__ int64_t begin(int64_t i) const {
    const int64_t k = i * stride - padding;
    return k > 0 ? k : 0;
  }
  __device__ int64_t end(int64_t i) const {
    const int64_t k = i * stride - padding + kernel;
    return k < size ? k : size;
  }
};

/// One output element a thread, neighbouring threads neighbouring channels. Only what is larger, or the first
/// NaN, displaces the winner.
template <class T>
__global__ void __launch_bounds__(kThreads)
    max_pool2d_fwd_kernel(const T* x, T* y, int32_t* index, const Window rows, const Window columns,
                          int64_t channels, int64_t n) {
  const int64_t k = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (k >= n) return;
  const int64_t pixel = quotient(k, channels), row = quotient(pixel, columns.out),
                batch = quotient(row, rows.out);
  const int64_t i = row - batch * rows.out, j = pixel - row * columns.out;
  const T* image = x + batch * rows.size * columns.size * channels + k - pixel * channels;
  int64_t winner = rows.begin(i) * columns.size + columns.begin(j);
  Acc<T> best = widen(image[winner * channels]);
  for (int64_t r = rows.begin(i); r < rows.end(i); r++)
    for (int64_t s = columns.begin(j); s < columns.end(j); s++) {
      const int64_t at = r * columns.size + s;
      const Acc<T> value = widen(image[at * channels]);
      if (value > best || (value != value && best == best)) {
        best = value;
        winner = at;
      }
    }
  y[k] = narrow<T>(best);
  index[k] = static_cast<int32_t>(winner);
}

/// A thread owns one channel of one image: zeros, then each dy added at its winner, windows in row-major order,
/// in Acc<T>. A bad index is reported and left out.
template <class T>
__global__ void __launch_bounds__(kThreads)
    max_pool2d_bwd_kernel(const T* dy, const int32_t* index, Acc<T>* dx, int64_t n, int64_t channels,
                          int64_t pixels, int64_t windows, Fault* fault, int row) {
  const int64_t k = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (k >= n) return;
  const int64_t image = quotient(k, channels), c = k - image * channels;
  Acc<T>* to = dx + image * pixels * channels + c;
  for (int64_t p = 0; p < pixels; p++) to[p * channels] = Acc<T>{0};
  for (int64_t w = 0; w < windows; w++) {
    const int64_t at = (image * windows + w) * channels + c;
    const int32_t winner = index[at];
    if (winner >= 0 && winner < pixels)
      to[winner * channels] += widen(dy[at]);
    else
      report(fault, FaultKind::index, row, winner, pixels);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) narrow_kernel(const Acc<T>* from, T* to, int64_t n) {
  const int64_t k = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (k < n) to[k] = narrow<T>(from[k]);
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
  float_dispatch(call, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    QM_LAUNCH(call, max_pool2d_fwd_kernel<T>, grid_of(y.numel()), kThreads, 0, x.as<const T>(), y.as<T>(),
              index.as<int32_t>(), rows, columns, x.shape[3], y.numel());
  });
}

/// dx: every dy at its winner.
void max_pool2d_bwd(const Call& call) {
  const TensorView &dy = call.in[0], &index = call.in[1], &dx = call.out[0];
  call.require(dy.present && dy.shape.rank == 4 && dx.shape.rank == 4 && dx.dtype == dy.dtype &&
                   dx.shape[0] == dy.shape[0] && dx.shape[3] == dy.shape[3],
               "gradients of one dtype, [batch, height, width, channels]");
  call.require(index.present && index.dtype == DType::i32 && index.shape == dy.shape,
               "an int32 index like the gradient");
  const int64_t pixels = dx.shape[1] * dx.shape[2], windows = dy.shape[1] * dy.shape[2];
  const int64_t channels = dx.shape[3], n = dx.shape[0] * channels;
  float_dispatch(call, dy.dtype, [&](auto zero) {
    using T = decltype(zero);
    const auto scatter = [&](Acc<T>* to) {
      QM_LAUNCH(call, max_pool2d_bwd_kernel<T>, grid_of(n), kThreads, 0, dy.as<const T>(),
                index.as<const int32_t>(), to, n, channels, pixels, windows, fault(), call.row);
    };
    if constexpr (std::is_same_v<T, bf16>) {
      Scratch<float> sums(dx.numel());
      scatter(sums.get());
      QM_LAUNCH(call, narrow_kernel<T>, grid_of(dx.numel()), kThreads, 0, sums.get(), dx.as<T>(), dx.numel());
    } else {
      scatter(dx.as<T>());
    }
  });
}

}  // namespace qm::cuda
