// Handles, storage and accounting of one JavaScript environment. A handle is a number that JavaScript holds:
// a slot of the table and the generation of its use, so that a stale or foreign number is refused instead of
// being followed. Several handles may share one storage (reshape, detach, saved-for-backward).
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/call.h"

namespace qm {

struct Storage {
  void* data;
  size_t bytes;
  int64_t refs;
  Device device;
  int creator;  // row of ops.def that allocated it, -1: data from JavaScript
};

/// Bytes of one device.
struct Usage {
  int64_t live = 0;
  int64_t peak = 0;
  int64_t budget = kMaxBytes;
};

class Engine {
 public:
  Engine() = default;
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  double create(DType dtype, const Shape& shape, Device device, int creator);
  /// A second handle on the same storage, with a shape of the same element count.
  double view(double handle, const Shape& shape);
  void release(double handle);
  TensorView get(double handle) const;
  Device device_of(double handle) const;
  int64_t refs(double handle) const { return slot(handle).storage->refs; }
  void copy_in(double handle, const void* host, size_t bytes);
  void copy_out(double handle, void* host, size_t bytes) const;

  /// A tensor on another device with the same elements.
  double transfer(double handle, Device device);

  /// Live handles on all devices.
  int64_t live_handles() const { return live_handles_; }
  Usage& usage(Device device) { return usage_[static_cast<int>(device)]; }

 private:
  struct Slot {
    Storage* storage = nullptr;
    DType dtype = DType::f32;
    Shape shape;
    uint32_t generation = 0;
  };

  const Slot& slot(double handle) const;
  double insert(Storage* storage, DType dtype, const Shape& shape);
  Storage* allocate(size_t bytes, Device device, int creator);
  std::string largest_holders(Device device) const;

  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  int64_t live_handles_ = 0;
  Usage usage_[kDeviceCount];
};

}  // namespace qm
