// Parts of JPEG files by libjpeg-turbo, where the build found it (QM_JPEG); without it nothing is decoded here.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace qm::image {

struct JpegSize {
  int64_t height, width;
};

struct Part {
  int64_t top, left, height, width;
};

/// The library and its version, or an empty text.
std::string jpeg_library();

/// False for what is left to other decoders: no JPEG, a damaged header, four channels (CMYK).
bool jpeg_size(const uint8_t* bytes, size_t size, JpegSize& found);

/// Decodes a part of a file of the size that jpeg_size found. It lies inside, and comes as red, green and blue: the same bytes as if the whole were decoded and then cut.
/// Returns what is wrong with the file, or an empty text.
std::string jpeg_part(const uint8_t* bytes, size_t size, const JpegSize& whole, const Part& part,
                      uint8_t* out);

}  // namespace qm::image
