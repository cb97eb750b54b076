// A device, as the rest of the engine sees it. A backend brings memory, copies and the kernels of ops.def;
// nothing above this interface knows which device it talks to.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/call.h"

namespace qm {

enum class Device : int { cpu = 0, cuda = 1 };
constexpr int kDeviceCount = 2;

/// What the calls of one op have cost.
struct OpCost {
  int64_t calls = 0;
  double milliseconds = 0;
  double bytes = 0;  // of all inputs and outputs, each once: the least that must move
};

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
  /// `host` may be reused when the call returns.
  virtual void copy_in(void* device, const void* host, size_t bytes) = 0;
  /// Waits for the work that `device` depends on.
  virtual void copy_out(void* host, const void* device, size_t bytes) = 0;
  virtual void run(const Call& call) = 0;
  /// Waits for all work, and throws what went wrong in it.
  virtual void synchronize() = 0;

  /// Between begin and end, calls are recorded instead of run; the graph runs them again, on the same memory.
  virtual void begin_capture() { no_capture(); }
  virtual int64_t end_capture() { no_capture(); }
  virtual void abort_capture() {}
  /// @param draw_offset added to the counters of random numbers
  virtual void replay(int64_t graph, uint64_t draw_offset) {
    (void)graph, (void)draw_offset;
    no_capture();
  }
  virtual void drop_graph(int64_t graph) { (void)graph; }

  /// A point in the order of work, and the time between two of them, which is waited for.
  virtual int64_t record_event() { unsupported(); }
  virtual double milliseconds_between(int64_t begin, int64_t end) {
    (void)begin, (void)end;
    unsupported();
  }
  /// Until end_profile, every call is timed; `costs` has a place for every row of ops.def.
  virtual void begin_profile() { unsupported(); }
  /// Whether products of float32 may round their operands to TF32.
  virtual void allow_tf32(bool on) {
    (void)on;
    unsupported();
  }
  /// Launches a kernel that cannot run, for tests of how that is reported.
  virtual void bad_launch() { unsupported(); }
  virtual void end_profile(OpCost* costs) {
    (void)costs;
    unsupported();
  }

 private:
  [[noreturn]] void no_capture() const {
    throw Error(ErrorKind::device, std::string("capture: the device ") + name() + " does not record graphs");
  }
  [[noreturn]] void unsupported() const {
    throw Error(ErrorKind::device, std::string("the device ") + name() + " does not offer this");
  }
};

/// The backend of a device; throws, with the reason, when this build or machine has none.
Backend& backend(Device device);
Backend& cpu_backend();

}  // namespace qm
