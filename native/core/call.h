// What a kernel sees: checked views of its inputs and outputs, and its attributes.
#pragma once
#include <cstdint>
#include <string>

#include "core/attrs.h"
#include "core/dtype.h"
#include "core/shape.h"

namespace qm {

/// A contiguous, row-major tensor. Plain data: kernels never own memory through it.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  bool present = false;  // optional inputs may be absent

  int64_t numel() const { return shape.numel(); }
  /// The elements. Only code that bypasses `infer` can ask for those of an absent tensor, or of another
  /// width than theirs or a byte.
  template <class T>
  T* as() const {
    if (!present || (sizeof(T) != 1 && sizeof(T) != dtype_size(dtype)))
      throw Error(ErrorKind::dtype, "kernel: a tensor is missing or has another dtype");
    return static_cast<T*>(data);
  }
};

struct Call {
  const char* op;
  const TensorView* in;
  int n_in;
  TensorView* out;
  int n_out;
  const Attrs& attrs;
  int row;  // of ops.def

  /// A kernel's own guard. `infer` in TypeScript has refused bad input already, with a better message;
  /// this keeps a mistake there from becoming a stray write.
  void require(bool ok, const char* rule) const {
    if (!ok) throw Error(ErrorKind::shape, std::string(op) + ": kernel expected " + rule);
  }
  [[noreturn]] void unsupported(DType dtype) const {
    throw Error(ErrorKind::dtype, std::string(op) + ": no kernel for dtype " + dtype_name(dtype));
  }
};

using Kernel = void (*)(const Call&);

}  // namespace qm
