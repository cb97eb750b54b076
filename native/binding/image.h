// Images for JavaScript: image/jpeg.h, image/resample.h, image/mapping.h.
#pragma once
#include <napi.h>

namespace qm::binding {

/// jpegSize(file: Uint8Array) -> Float64Array [height, width], or undefined for what is left to other decoders
Napi::Value jpeg_size(const Napi::CallbackInfo& info);

/// jpegPart(file: Uint8Array, part: Float64Array [top, left, height, width], out: Uint8Array [height, width, 3]) -> what is wrong with
/// the file, or an empty text
Napi::Value jpeg_part(const Napi::CallbackInfo& info);

/// resampleColumns(in: Uint8Array [rows, width, channels], sizes: Float64Array [rows, width, channels], starts, counts, weights:
/// Int32Array, out: Uint8Array [rows, places, channels])
Napi::Value resample_columns(const Napi::CallbackInfo& info);

/// resampleRows(in: Uint8Array [rows, rowBytes], sizes: Float64Array [rows, rowBytes], starts, counts, weights: Int32Array,
/// out: Uint8Array [places, rowBytes])
Napi::Value resample_rows(const Napi::CallbackInfo& info);

/// mapFile(path) -> ArrayBuffer on the file's pages, unmapped when it is collected
Napi::Value map_file(const Napi::CallbackInfo& info);

}  // namespace qm::binding
