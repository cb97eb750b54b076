// Attributes of a call: doubles on the wire, parsed by the signature that ops.def declares
// ("axis:i eps:f hard:b dims:v"; i integer, f number, b flag, v list of integers).
#pragma once
#include <cmath>
#include <cstdint>
#include <string>

#include "core/error.h"

namespace qm {

class IntList {
 public:
  IntList(const double* values, int64_t size) : values_(values), size_(size) {}
  int64_t size() const { return size_; }
  int64_t operator[](int64_t k) const { return static_cast<int64_t>(values_[k]); }

 private:
  const double* values_;
  int64_t size_;
};

class Attrs {
 public:
  static constexpr int kMax = 16;

  /// Reads `count` wire values by `signature`; throws when they do not fit it exactly.
  Attrs(const char* signature, const double* values, int64_t count) : values_(values) {
    int64_t at = 0;
    for (const char* p = signature; *p; p++) {
      if (*p != ':') continue;
      const char kind = p[1];
      if (n_ == kMax || at >= count) fail(signature);
      start_[n_] = at;
      length_[n_] = 1;
      if (kind == 'v') {
        const int64_t length = integer(values[at], signature);
        if (length < 0 || length > count - at - 1) fail(signature);
        start_[n_] = at + 1;
        length_[n_] = length;
        at += length;
      }
      if (kind != 'f')
        for (int64_t k = 0; k < length_[n_]; k++) integer(values[start_[n_] + k], signature);
      at++;
      n_++;
    }
    if (at != count) fail(signature);
  }

  int64_t i(int k) const { return static_cast<int64_t>(values_[start_[k]]); }
  double f(int k) const { return values_[start_[k]]; }
  bool b(int k) const { return values_[start_[k]] != 0; }
  IntList v(int k) const { return IntList(values_ + start_[k], length_[k]); }

 private:
  static int64_t integer(double value, const char* signature) {
    if (!(std::fabs(value) <= 9007199254740992.0) || value != std::floor(value)) fail(signature);
    return static_cast<int64_t>(value);
  }
  [[noreturn]] static void fail(const char* signature) {
    throw Error(ErrorKind::argument,
                std::string("attributes do not fit the signature \"") + signature + "\"");
  }

  const double* values_;
  int n_ = 0;
  int64_t start_[kMax] = {};
  int64_t length_[kMax] = {};
};

}  // namespace qm
