#include "binding/image.h"

#include "binding/convert.h"
#include "image/jpeg.h"
#include "image/mapping.h"
#include "image/resample.h"

namespace qm::binding {

namespace {

/// Keeps every product of sizes below 2^63.
constexpr int64_t kMostPixels = int64_t{1} << 31;

/// `count` whole numbers from `least` on.
const double* whole_numbers(const Napi::CallbackInfo& info, size_t index, size_t count, double least) {
  const Doubles given = doubles(info, index);
  if (given.size != count)
    throw Error(ErrorKind::shape,
                "argument " + std::to_string(index) + " must have " + std::to_string(count) + " numbers");
  for (size_t k = 0; k < count; k++)
    if (!(given.data[k] >= least && given.data[k] <= static_cast<double>(kMostPixels)) ||
        given.data[k] != static_cast<double>(static_cast<int64_t>(given.data[k])))
      throw Error(ErrorKind::shape, "argument " + std::to_string(index) + " has a number that is no size");
  return given.data;
}

/// Taps that read within `places_in` places only.
image::Taps taps(const Napi::CallbackInfo& info, size_t index, int64_t places_in) {
  const Bytes starts = bytes(info, index, DType::i32), counts = bytes(info, index + 1, DType::i32);
  const Bytes weights = bytes(info, index + 2, DType::i32);
  const auto* first = reinterpret_cast<const int32_t*>(starts.data);
  const auto* many = reinterpret_cast<const int32_t*>(counts.data);
  const int64_t places = static_cast<int64_t>(starts.size / sizeof(int32_t));
  const int64_t all = static_cast<int64_t>(weights.size / sizeof(int32_t));
  if (places == 0 || counts.size != starts.size || all % places != 0)
    throw Error(ErrorKind::shape, "starts, counts and weights do not fit each other");
  const int64_t stride = all / places;
  for (int64_t k = 0; k < places; k++)
    if (first[k] < 0 || many[k] < 0 || many[k] > stride || int64_t{first[k]} + many[k] > places_in)
      throw Error(ErrorKind::index, "a tap lies outside of the image");
  return {first, many, reinterpret_cast<const int32_t*>(weights.data), places, stride};
}

void require_size(const Bytes& given, int64_t expected) {
  if (static_cast<int64_t>(given.size) != expected)
    throw Error(ErrorKind::shape, "an image has " + std::to_string(given.size) + " bytes instead of " +
                                      std::to_string(expected));
}

}  // namespace

Napi::Value jpeg_size(const Napi::CallbackInfo& info) {
  const Bytes file = bytes(info, 0, DType::u8);
  image::JpegSize size;
  if (!image::jpeg_size(file.data, file.size, size)) return info.Env().Undefined();
  Napi::Float64Array found = Napi::Float64Array::New(info.Env(), 2);
  found[0] = static_cast<double>(size.height);
  found[1] = static_cast<double>(size.width);
  return found;
}

Napi::Value jpeg_part(const Napi::CallbackInfo& info) {
  const Bytes file = bytes(info, 0, DType::u8);
  const double* given = whole_numbers(info, 1, 4, 0);
  const auto number = [&](int k) { return static_cast<int64_t>(given[k]); };
  const image::Part part{number(0), number(1), number(2), number(3)};
  const Bytes out = bytes(info, 2, DType::u8);
  image::JpegSize whole;
  if (!image::jpeg_size(file.data, file.size, whole))
    return Napi::String::New(info.Env(), "no JPEG of a known kind");
  if (part.height < 1 || part.width < 1 || part.top + part.height > whole.height ||
      part.left + part.width > whole.width)
    throw Error(ErrorKind::index, "the part lies outside of the image");
  require_size(out, part.height * part.width * 3);
  return Napi::String::New(info.Env(), image::jpeg_part(file.data, file.size, whole, part, out.data));
}

Napi::Value resample_columns(const Napi::CallbackInfo& info) {
  const Bytes in = bytes(info, 0, DType::u8);
  const double* sizes = whole_numbers(info, 1, 3, 1);
  const auto size = [&](int k) { return static_cast<int64_t>(sizes[k]); };
  const image::Taps columns = taps(info, 2, size(1));
  const Bytes out = bytes(info, 5, DType::u8);
  if (size(0) * size(1) > kMostPixels || size(2) > 4) throw Error(ErrorKind::shape, "the image is too large");
  require_size(in, size(0) * size(1) * size(2));
  require_size(out, size(0) * columns.places * size(2));
  image::resample_columns(in.data, size(0), size(1), size(2), columns, out.data);
  return info.Env().Undefined();
}

Napi::Value resample_rows(const Napi::CallbackInfo& info) {
  const Bytes in = bytes(info, 0, DType::u8);
  const double* sizes = whole_numbers(info, 1, 2, 1);
  const auto size = [&](int k) { return static_cast<int64_t>(sizes[k]); };
  const image::Taps rows = taps(info, 2, size(0));
  const Bytes out = bytes(info, 5, DType::u8);
  require_size(in, size(0) * size(1));
  require_size(out, rows.places * size(1));
  image::resample_rows(in.data, size(1), rows, out.data);
  return info.Env().Undefined();
}

Napi::Value map_file(const Napi::CallbackInfo& info) {
  if (info.Length() < 1 || !info[0].IsString()) throw Error(ErrorKind::argument, "a path must be a string");
  const image::Mapping mapping = image::map_file(info[0].As<Napi::String>().Utf8Value());
  return Napi::ArrayBuffer::New(info.Env(), mapping.data, mapping.size,
                                [mapping](Napi::Env, void*) { image::unmap(mapping); });
}

}  // namespace qm::binding
