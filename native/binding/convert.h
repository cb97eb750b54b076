// JavaScript values to plain C++ and back, each checked before use.
#pragma once
#include <napi.h>

#include "core/backend.h"
#include "core/error.h"
#include "core/shape.h"

namespace qm::binding {

inline double number(const Napi::CallbackInfo& info, size_t index) {
  if (index >= info.Length() || !info[index].IsNumber())
    throw Error(ErrorKind::argument, "argument " + std::to_string(index) + " must be a number");
  return info[index].As<Napi::Number>().DoubleValue();
}

inline int64_t integer(const Napi::CallbackInfo& info, size_t index) {
  const double value = number(info, index);
  if (!(value >= -9007199254740991.0 && value <= 9007199254740991.0) ||
      value != static_cast<double>(static_cast<int64_t>(value)))
    throw Error(ErrorKind::argument, "argument " + std::to_string(index) + " must be an integer");
  return static_cast<int64_t>(value);
}

/// The doubles of a Float64Array argument. `As<>` checks nothing, so the type is asked for first; a detached
/// or shrunk buffer reads as length 0.
struct Doubles {
  double* data;
  size_t size;
};
inline Doubles doubles(const Napi::CallbackInfo& info, size_t index) {
  if (index >= info.Length() || !info[index].IsTypedArray() ||
      info[index].As<Napi::TypedArray>().TypedArrayType() != napi_float64_array)
    throw Error(ErrorKind::argument, "argument " + std::to_string(index) + " must be a Float64Array");
  auto array = info[index].As<Napi::Float64Array>();
  return {array.Data(), array.ElementLength()};
}

inline bool typed_array_fits(napi_typedarray_type type, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return type == napi_float32_array;
    case DType::f64:
      return type == napi_float64_array;
    case DType::i32:
      return type == napi_int32_array;
    case DType::i64:
      return type == napi_bigint64_array;
    case DType::u8:
    case DType::boolean:
      return type == napi_uint8_array;
    case DType::bf16:
      return type == napi_uint16_array;
  }
  return false;
}

/// The bytes of a typed array whose element type is the tensor's.
struct Bytes {
  uint8_t* data;
  size_t size;
};
inline Bytes bytes(const Napi::CallbackInfo& info, size_t index, DType dtype) {
  if (index >= info.Length() || !info[index].IsTypedArray())
    throw Error(ErrorKind::argument, "argument " + std::to_string(index) + " must be a typed array");
  auto array = info[index].As<Napi::TypedArray>();
  if (!typed_array_fits(array.TypedArrayType(), dtype))
    throw Error(ErrorKind::dtype,
                std::string("the typed array is of another type; expected one for ") + dtype_name(dtype));
  // Not through array.ArrayBuffer(): that refuses a SharedArrayBuffer, on which loader threads leave their batches.
  void* data = nullptr;
  size_t length = 0;
  if (napi_get_typedarray_info(info.Env(), array, nullptr, &length, &data, nullptr, nullptr) != napi_ok)
    throw Error(ErrorKind::argument, "argument " + std::to_string(index) + " cannot be read");
  return {static_cast<uint8_t*>(data), length * array.ElementSize()};
}

inline DType dtype(double value) {
  if (!(value >= 0 && value < kDTypeCount) || value != static_cast<int>(value))
    throw Error(ErrorKind::dtype, "not a dtype");
  return static_cast<DType>(static_cast<int>(value));
}

inline Device device(double value) {
  if (!(value >= 0 && value < kDeviceCount) || value != static_cast<int>(value))
    throw Error(ErrorKind::device, "not a device");
  return static_cast<Device>(static_cast<int>(value));
}

/// `rank` dimensions starting at `at`.
inline Shape shape(const double* at, int64_t rank) {
  if (rank < 0 || rank > kMaxRank)
    throw Error(ErrorKind::shape, "expected a rank from 0 to 6, got " + std::to_string(rank));
  Shape s;
  s.rank = static_cast<int>(rank);
  for (int axis = 0; axis < s.rank; axis++) {
    const double dim = at[axis];
    if (!(dim >= 0 && dim <= static_cast<double>(kMaxBytes)) ||
        dim != static_cast<double>(static_cast<int64_t>(dim)))
      throw Error(ErrorKind::shape, "a dimension must be a whole number from 0 to 2^46");
    s.dims[axis] = static_cast<int64_t>(dim);
  }
  return s;
}

}  // namespace qm::binding
