// Compiled once per instruction set, as the kernels are.
#include "image/resample.h"

#include <cstring>

namespace qm::image::QM_ISA {

namespace {

constexpr int32_t kHalf = 1 << (kPrecision - 1);
constexpr int64_t kColours = 3;
constexpr int64_t kBlock = 16;

typedef uint8_t Bytes4 __attribute__((vector_size(4)));
typedef uint8_t Bytes16 __attribute__((vector_size(16)));
typedef int32_t Sums4 __attribute__((vector_size(16)));
typedef int32_t Sums16 __attribute__((vector_size(64)));

template <class Bytes, class Sums>
struct Lanes {
  static Sums load(const uint8_t* from) {
    Bytes bytes;
    std::memcpy(&bytes, from, sizeof bytes);
    return __builtin_convertvector(bytes, Sums);
  }
  static Bytes to_bytes(Sums sums) {
    sums >>= kPrecision;
    sums = sums < 0 ? Sums{} : sums;
    sums = sums > 255 ? Sums{} + 255 : sums;
    return __builtin_convertvector(sums, Bytes);
  }
};

uint8_t to_byte(int32_t sum) {
  const int32_t value = sum >> kPrecision;
  return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

/// One row whose pixels have any number of channels.
void columns_plain(const uint8_t* in, int64_t channels, const Taps& taps, uint8_t* out) {
  for (int64_t x = 0; x < taps.places; x++) {
    const uint8_t* from = in + taps.starts[x] * channels;
    const int32_t* weights = taps.weights + x * taps.stride;
    for (int64_t c = 0; c < channels; c++) {
      int32_t sum = kHalf;
      for (int32_t k = 0; k < taps.counts[x]; k++) sum += from[k * channels + c] * weights[k];
      *out++ = to_byte(sum);
    }
  }
}

/// Two rows of three channels, one pixel with a lane to spare at a time: reads a byte beyond each pixel.
void columns_of_colours(const uint8_t* in, int64_t row, const Taps& taps, uint8_t* out) {
  using Pixel = Lanes<Bytes4, Sums4>;
  const int64_t out_row = taps.places * kColours;
  for (int64_t x = 0; x < taps.places; x++) {
    const uint8_t* from = in + taps.starts[x] * kColours;
    const int32_t* weights = taps.weights + x * taps.stride;
    Sums4 above = Sums4{} + kHalf, below = above;
    for (int32_t k = 0; k < taps.counts[x]; k++) {
      above += Pixel::load(from + k * kColours) * weights[k];
      below += Pixel::load(from + row + k * kColours) * weights[k];
    }
    const Bytes4 bytes[] = {Pixel::to_bytes(above), Pixel::to_bytes(below)};
    std::memcpy(out + x * kColours, &bytes[0], kColours);
    std::memcpy(out + out_row + x * kColours, &bytes[1], kColours);
  }
}

}  // namespace

void resample_columns(const uint8_t* in, int64_t rows, int64_t width, int64_t channels, const Taps& taps,
                      uint8_t* out) {
  const int64_t row = width * channels, out_row = taps.places * channels;
  int64_t y = 0;
  // The last row is left to the plain loop: nothing may be read beyond it.
  if (channels == kColours)
    for (; y + 2 < rows; y += 2) columns_of_colours(in + y * row, row, taps, out + y * out_row);
  for (; y < rows; y++) columns_plain(in + y * row, channels, taps, out + y * out_row);
}

void resample_rows(const uint8_t* in, int64_t row_bytes, const Taps& taps, uint8_t* out) {
  using Block = Lanes<Bytes16, Sums16>;
  for (int64_t y = 0; y < taps.places; y++) {
    const uint8_t* from = in + taps.starts[y] * row_bytes;
    const int32_t* weights = taps.weights + y * taps.stride;
    const int32_t count = taps.counts[y];
    int64_t x = 0;
    for (; x + kBlock <= row_bytes; x += kBlock) {
      Sums16 sums = Sums16{} + kHalf;
      for (int32_t k = 0; k < count; k++) sums += Block::load(from + k * row_bytes + x) * weights[k];
      const Bytes16 bytes = Block::to_bytes(sums);
      std::memcpy(out + x, &bytes, kBlock);
    }
    for (; x < row_bytes; x++) {
      int32_t sum = kHalf;
      for (int32_t k = 0; k < count; k++) sum += from[k * row_bytes + x] * weights[k];
      out[x] = to_byte(sum);
    }
    out += row_bytes;
  }
}

}  // namespace qm::image::QM_ISA
