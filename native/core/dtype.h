// Element types. The numbers are the wire format between lib/tensor/dtype.ts and the addon.
#pragma once
#include <cstddef>
#include <cstdint>

namespace qm {

enum class DType : int { f32 = 0, f64 = 1, i32 = 2, i64 = 3, u8 = 4, boolean = 5, bf16 = 6 };
constexpr int kDTypeCount = 7;

constexpr size_t dtype_size(DType t) {
  constexpr size_t sizes[kDTypeCount] = {4, 8, 4, 8, 1, 1, 2};
  return sizes[static_cast<int>(t)];
}

constexpr const char* dtype_name(DType t) {
  constexpr const char* names[kDTypeCount] = {"float32", "float64", "int32",   "int64",
                                              "uint8",   "bool",    "bfloat16"};
  return names[static_cast<int>(t)];
}

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::u8;
};

}  // namespace qm
