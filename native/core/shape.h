// Shapes: at most six dimensions, row-major, every product checked against one ceiling.
#pragma once
#include <cstdint>
#include <string>

#include "core/dtype.h"
#include "core/error.h"

namespace qm {

constexpr int kMaxRank = 6;
constexpr int64_t kMaxBytes = int64_t{1} << 46;  // far above any machine, far below int64 overflow

struct Shape {
  int rank = 0;
  int64_t dims[kMaxRank] = {};

  int64_t operator[](int axis) const { return dims[axis]; }
  /// The dimension counted from the end: last(0) is the innermost.
  int64_t last(int from_end) const { return dims[rank - 1 - from_end]; }
  bool operator==(const Shape& other) const {
    if (rank != other.rank) return false;
    for (int axis = 0; axis < rank; axis++)
      if (dims[axis] != other.dims[axis]) return false;
    return true;
  }
  bool operator!=(const Shape& other) const { return !(*this == other); }

  /// Product of dims[begin, end). Shapes in the handle table were checked, so this cannot wrap.
  int64_t count(int begin, int end) const {
    int64_t n = 1;
    for (int axis = begin; axis < end; axis++) n *= dims[axis];
    return n;
  }
  int64_t numel() const { return count(0, rank); }

  std::string text() const {
    std::string s = "[";
    for (int axis = 0; axis < rank; axis++) s += (axis ? ", " : "") + std::to_string(dims[axis]);
    return s + "]";
  }
};

/// Bytes of a shape, or an error: the only place where sizes from outside are multiplied.
inline int64_t checked_bytes(const Shape& shape, DType dtype) {
  int64_t bytes = static_cast<int64_t>(dtype_size(dtype));
  bool empty = false;
  for (int axis = 0; axis < shape.rank; axis++) {
    if (shape.dims[axis] < 0) throw Error(ErrorKind::shape, "a dimension is negative; got " + shape.text());
    empty = empty || shape.dims[axis] == 0;
  }
  for (int axis = 0; axis < shape.rank; axis++) {
    const int64_t dim = empty && shape.dims[axis] == 0 ? 1 : shape.dims[axis];
    if (dim > kMaxBytes / bytes)
      throw Error(ErrorKind::shape, "too large; expected at most 2^46 bytes, got shape " + shape.text() +
                                        " of " + dtype_name(dtype));
    bytes *= dim;
  }
  return empty ? 0 : bytes;
}

}  // namespace qm
