// The one exception type of the native code. `kind` picks the error class that JavaScript sees.
#pragma once
#include <exception>
#include <string>
#include <utility>

namespace qm {

enum class ErrorKind { argument, shape, dtype, device, index, disposed, out_of_memory, native };

constexpr const char* error_kind_name(ErrorKind kind) {
  constexpr const char* names[] = {"argument", "shape",    "dtype",         "device",
                                   "index",    "disposed", "out_of_memory", "native"};
  return names[static_cast<int>(kind)];
}

class Error : public std::exception {
 public:
  Error(ErrorKind kind, std::string message) : kind_(kind), message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
  std::string message_;
};

}  // namespace qm
