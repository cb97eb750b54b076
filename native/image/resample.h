// The two passes of resampling images of bytes (lib/data/resample.ts), which make the taps. Whole numbers only: the bits do not
// depend on the instruction set.
#pragma once
#include <cstdint>

namespace qm::image {

/// For each place of the output: the first place of the input that it reads, how many, and from `k * stride` on their weights.
struct Taps {
  const int32_t *starts, *counts, *weights;
  int64_t places, stride;
};

/// Weights are in fixed point with this many bits.
constexpr int kPrecision = 22;

/// in [rows, width, channels] -> out [rows, taps.places, channels]
void resample_columns(const uint8_t* in, int64_t rows, int64_t width, int64_t channels, const Taps& taps,
                      uint8_t* out);

/// in [rows, row_bytes] -> out [taps.places, row_bytes]
void resample_rows(const uint8_t* in, int64_t row_bytes, const Taps& taps, uint8_t* out);

}  // namespace qm::image
