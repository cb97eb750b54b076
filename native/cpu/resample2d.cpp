// Images [batch, height, width, channels] of another size: output rows are weighted sums of input rows,
// output columns of input columns. The weights come as two sparse tables, which makes this one kernel
// pooling, interpolation and their gradients.
#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

namespace {

/// Compressed sparse rows: output position i takes the entries offsets[i] to offsets[i + 1] of index and
/// weight.
struct Taps {
  const int32_t* offsets;
  const int32_t* index;
  const double* weight;
};

/// Checks the table in inputs first to first + 2 against the two sizes, whole: afterwards no entry can lead
/// astray.
Taps taps_of(const Call& call, int first, int64_t out_size, int64_t in_size) {
  const TensorView &offsets = call.in[first], &index = call.in[first + 1], &weight = call.in[first + 2];
  call.require(offsets.present && offsets.dtype == DType::i32 && offsets.shape.rank == 1 &&
                   offsets.shape[0] == out_size + 1,
               "int32 offsets, one more than output positions");
  call.require(index.present && index.dtype == DType::i32 && index.shape.rank == 1, "int32 indices");
  call.require(weight.present && weight.dtype == DType::f64 && weight.shape == index.shape,
               "a float64 weight per index");
  const Taps taps{offsets.as<int32_t>(), index.as<int32_t>(), weight.as<double>()};
  bool good = taps.offsets[0] == 0 && taps.offsets[out_size] == index.shape[0];
  for (int64_t k = 0; k < out_size; k++) good &= taps.offsets[k] <= taps.offsets[k + 1];
  for (int64_t k = 0; k < index.shape[0]; k++) good &= taps.index[k] >= 0 && taps.index[k] < in_size;
  call.require(good, "offsets that rise from 0 to the number of indices, and indices within the input");
  return taps;
}

/// sum = the n values of x at every tap of position i, weighted; taps are `stride` elements apart per index.
template <class T>
void weighted_sum(const T* x, int64_t stride, const Taps& taps, int64_t i, double* sum, int64_t n) {
  std::memset(sum, 0, static_cast<size_t>(n) * sizeof(double));
  for (int32_t tap = taps.offsets[i]; tap < taps.offsets[i + 1]; tap++) {
    const double weight = taps.weight[tap];
    const T* from = x + taps.index[tap] * stride;
    for (int64_t k = 0; k < n; k++) sum[k] += weight * static_cast<double>(from[k]);
  }
}

}  // namespace

/// y[b, i, j, :] = sum over r, c of row_weight(i, r) column_weight(j, c) x[b, r, c, :], first the rows, then
/// the columns, each in the order of its table. In double whatever the dtype, so that the mean of equal
/// values is that value.
void resample2d_fwd(const Call& call) {
  const TensorView &x = call.in[0], &y = call.out[0];
  call.require(x.present && x.shape.rank == 4 && y.shape.rank == 4 && x.dtype == y.dtype &&
                   x.shape[0] == y.shape[0] && x.shape[3] == y.shape[3],
               "input and output of one dtype, [batch, height, width, channels]");
  const int64_t height = x.shape[1], width = x.shape[2], channels = x.shape[3];
  const int64_t out_height = y.shape[1], out_width = y.shape[2];
  const Taps rows = taps_of(call, 1, out_height, height);
  const Taps columns = taps_of(call, 4, out_width, width);
  if (y.numel() == 0) return;
  float_dispatch(call, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* px = x.as<T>();
    T* py = y.as<T>();
    const int64_t line = width * channels;
    const int64_t work = std::max(line, out_width * channels);
    parallel_for(y.shape[0] * out_height, std::max<int64_t>(1, kGrain / work),
                 [&](int64_t begin, int64_t end) {
                   const Scratch<double> scratch(static_cast<size_t>(line + channels));
                   double *row = scratch.get(), *pixel = row + line;
                   for (int64_t k = begin; k < end; k++) {
                     weighted_sum(px + k / out_height * height * line, line, rows, k % out_height, row, line);
                     for (int64_t j = 0; j < out_width; j++) {
                       weighted_sum(row, channels, columns, j, pixel, channels);
                       T* to = py + (k * out_width + j) * channels;
                       for (int64_t c = 0; c < channels; c++) to[c] = static_cast<T>(pixel[c]);
                     }
                   }
                 });
  });
}

}  // namespace qm::cpu::QM_ISA
