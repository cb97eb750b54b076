// What a backend in a library of its own exports (native/cuda): a table of C functions, so that neither
// exceptions nor the C++ runtime cross the border. A function that can fail returns false and fills the
// failure.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "core/backend.h"

namespace qm {

constexpr int kDeviceApi = 1;  // raised whenever the two sides must change together

struct DeviceFailure {
  ErrorKind kind;
  char message[1024];

  void set(ErrorKind k, const char* text) {
    kind = k;
    std::snprintf(message, sizeof(message), "%s", text);
  }
};

struct DeviceInfo {
  char name[256];
  int major, minor;  // compute capability
  int multiprocessors;
  int driver, runtime;    // versions, as CUDA counts them
  char built_for[256];    // architectures of this build
  uint64_t memory, free;  // bytes
};

struct DeviceApi {
  int version;
  int ops;  // rows of ops.def
  bool (*open)(DeviceInfo*, DeviceFailure*);
  void* (*allocate)(size_t);
  void (*release)(void*, size_t);
  size_t (*cached_bytes)();
  void (*trim)();
  bool (*copy_in)(void*, const void*, size_t, DeviceFailure*);
  bool (*copy_out)(void*, const void*, size_t, DeviceFailure*);
  bool (*run)(const Call*, DeviceFailure*);
  bool (*synchronize)(DeviceFailure*);
  bool (*begin_capture)(DeviceFailure*);
  bool (*end_capture)(int64_t*, DeviceFailure*);
  void (*abort_capture)();
  bool (*replay)(int64_t, uint64_t, DeviceFailure*);
  void (*drop_graph)(int64_t);
  bool (*record_event)(int64_t*, DeviceFailure*);
  bool (*milliseconds_between)(int64_t, int64_t, double*, DeviceFailure*);
  bool (*begin_profile)(DeviceFailure*);
  bool (*end_profile)(OpCost*, DeviceFailure*);
  bool (*bad_launch)(DeviceFailure*);
  bool (*allow_tf32)(bool, DeviceFailure*);
};

}  // namespace qm
