#include "image/jpeg.h"

#if QM_JPEG
#include <csetjmp>
#include <cstdio>
#include <cstring>
// after cstdio, whose types it uses
#include <jpeglib.h>
#endif

namespace qm::image {

#if QM_JPEG

namespace {

/// Columns beside the part that are decoded too: to smooth chroma the decoder looks at the neighbours, and at the edge of what it
/// decodes it has none.
constexpr int64_t kMargin = 2;
constexpr int64_t kColours = 3;
/// A progressive file may repeat its scans without end.
constexpr int kMostScans = 500;

/// libjpeg reports by a jump: nothing between setjmp and it may need a destructor.
struct Failure {
  jpeg_error_mgr manager;  // first, so that a pointer to it is one to this
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

void fail(j_common_ptr info) {
  Failure* failure = reinterpret_cast<Failure*>(info->err);
  failure->manager.format_message(info, failure->message);
  std::longjmp(failure->jump, 1);
}

void watch_scans(j_common_ptr info) {
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMostScans) return;
  Failure* failure = reinterpret_cast<Failure*>(info->err);
  std::snprintf(failure->message, sizeof failure->message, "more than %d scans", kMostScans);
  std::longjmp(failure->jump, 1);
}

void begin(jpeg_decompress_struct& info, Failure& failure) {
  info.err = jpeg_std_error(&failure.manager);
  failure.manager.error_exit = fail;
  failure.manager.emit_message = [](j_common_ptr, int) {};  // warnings: libvips goes on, too
}

/// Whether the end marker stands somewhere after `from`, where the pixels begin. In coded pixels it cannot occur.
bool has_end(const uint8_t* bytes, size_t size, size_t from) {
  for (size_t at = size; at >= from + 2; at--)
    if (bytes[at - 2] == 0xff && bytes[at - 1] == JPEG_EOI) return true;
  return false;
}

/// From the header on. `row` holds a whole row of the image. May jump.
void decode(jpeg_decompress_struct& info, const Part& part, uint8_t* row, uint8_t* out) {
  info.out_color_space = JCS_RGB;
  jpeg_start_decompress(&info);
  const int64_t wanted_left = part.left > kMargin ? part.left - kMargin : 0;
  const int64_t wanted_right = part.left + part.width + kMargin;
  JDIMENSION left = static_cast<JDIMENSION>(wanted_left);
  JDIMENSION width = static_cast<JDIMENSION>(
      (wanted_right < info.output_width ? wanted_right : static_cast<int64_t>(info.output_width)) -
      wanted_left);
  if (width < info.output_width) jpeg_crop_scanline(&info, &left, &width);
  if (part.top > 0) jpeg_skip_scanlines(&info, static_cast<JDIMENSION>(part.top));
  const uint8_t* from = row + (part.left - left) * kColours;
  for (int64_t y = 0; y < part.height; y++) {
    JSAMPROW rows[] = {row};
    jpeg_read_scanlines(&info, rows, 1);
    std::memcpy(out + y * part.width * kColours, from, static_cast<size_t>(part.width * kColours));
  }
}

}  // namespace

std::string jpeg_library() {
#ifdef LIBJPEG_TURBO_VERSION_NUMBER
  const int v = LIBJPEG_TURBO_VERSION_NUMBER;
  return "libjpeg-turbo " + std::to_string(v / 1000000) + "." + std::to_string(v / 1000 % 1000) + "." +
         std::to_string(v % 1000);
#else
  return "libjpeg-turbo";
#endif
}

bool jpeg_size(const uint8_t* bytes, size_t size, JpegSize& found) {
  if (size < 2 || bytes[0] != 0xff || bytes[1] != 0xd8) return false;
  jpeg_decompress_struct info;
  Failure failure;
  begin(info, failure);
  if (setjmp(failure.jump)) {
    jpeg_destroy_decompress(&info);
    return false;
  }
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, bytes, static_cast<unsigned long>(size));
  jpeg_read_header(&info, TRUE);
  found = {static_cast<int64_t>(info.image_height), static_cast<int64_t>(info.image_width)};
  const bool known = info.jpeg_color_space == JCS_GRAYSCALE || info.jpeg_color_space == JCS_YCbCr ||
                     info.jpeg_color_space == JCS_RGB;
  jpeg_destroy_decompress(&info);
  return known;
}

std::string jpeg_part(const uint8_t* bytes, size_t size, const JpegSize& whole, const Part& part,
                      uint8_t* out) {
  std::string row(static_cast<size_t>(whole.width * kColours), '\0');
  uint8_t* const row_bytes = reinterpret_cast<uint8_t*>(row.data());
  jpeg_decompress_struct info;
  Failure failure;
  jpeg_progress_mgr progress{};
  progress.progress_monitor = watch_scans;
  begin(info, failure);
  if (setjmp(failure.jump)) {
    jpeg_destroy_decompress(&info);
    return failure.message;
  }
  jpeg_create_decompress(&info);
  info.progress = &progress;
  jpeg_mem_src(&info, bytes, static_cast<unsigned long>(size));
  jpeg_read_header(&info, TRUE);
  // The part may end before the place where the file was cut: looked for first, so that the same files are refused whatever the part.
  if (!has_end(bytes, size, size - info.src->bytes_in_buffer)) {
    jpeg_destroy_decompress(&info);
    return "the file is cut short";
  }
  decode(info, part, row_bytes, out);
  jpeg_destroy_decompress(&info);  // without reading what follows the part
  return {};
}

#else

std::string jpeg_library() { return {}; }
bool jpeg_size(const uint8_t*, size_t, JpegSize&) { return false; }
std::string jpeg_part(const uint8_t*, size_t, const JpegSize&, const Part&, uint8_t*) {
  return "built without libjpeg-turbo";
}

#endif

}  // namespace qm::image
