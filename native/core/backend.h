// A device, as the rest of the engine sees it. A backend brings memory, copies and one kernel per row of
// ops.def (null where it has none); nothing above this interface knows which device it talks to.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/call.h"

namespace qm {

enum class Device : int { cpu = 0, cuda = 1 };
constexpr int kDeviceCount = 2;

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const char* name() const = 0;
  /// Memory aligned to 64 bytes, or null when there is none. Contents are undefined.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* data, size_t bytes) = 0;
  /// Bytes kept for reuse, and a way to give them back.
  virtual size_t cached_bytes() const = 0;
  virtual void trim() = 0;
  virtual void copy_in(void* device, const void* host, size_t bytes) = 0;
  virtual void copy_out(void* host, const void* device, size_t bytes) = 0;
  virtual Kernel kernel(int op) const = 0;
};

/// The backend of a device, or null when this build or machine has none.
Backend* backend(Device device);
Backend* cpu_backend();

}  // namespace qm
