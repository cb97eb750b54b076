// The library's one export: the table of core/device_api.h. Workers share the device; a lock keeps their
// calls apart.
#include <exception>
#include <mutex>
#include <string>

#include "core/op_table.h"
#include "cuda/context.h"
#include "cuda/kernel.cuh"

namespace qm::cuda {

namespace {

const Kernel kTable[] = {
#define QM_OP(name, n_in, n_out, attrs) name,
#include "ops.def"
#undef QM_OP
};

std::recursive_mutex& lock_of_all() {
  static std::recursive_mutex* instance = new std::recursive_mutex;
  return *instance;
}

template <class Fn>
bool guarded(DeviceFailure* failure, Fn&& fn) noexcept {
  try {
    std::lock_guard<std::recursive_mutex> lock(lock_of_all());
    cudaSetDevice(0);  // workers are other threads
    fn();
    return true;
  } catch (const Error& error) {
    failure->set(error.kind(), error.what());
  } catch (const std::bad_alloc&) {
    failure->set(ErrorKind::out_of_memory, "out of memory");
  } catch (const std::exception& error) {
    failure->set(ErrorKind::native, error.what());
  } catch (...) {
    failure->set(ErrorKind::native, "unknown error");
  }
  return false;
}

[[noreturn]] void throw_fault(const Fault& f) {
  const std::string op = f.op >= 0 && f.op < kOpCount ? kOps[f.op].name : "cuda";
  const std::string value = std::to_string(f.value), limit = std::to_string(f.limit);
  switch (static_cast<FaultKind>(f.kind)) {
    case FaultKind::label:
      throw Error(ErrorKind::index,
                  "crossEntropy: label out of range; expected 0 <= label < " + limit + ", got " + value);
    case FaultKind::order:
      throw Error(ErrorKind::index, op + ": order must be a permutation; expected each token from 0 to " +
                                        std::to_string(f.limit - 1) + " once, got " + value);
    case FaultKind::table:
      throw Error(ErrorKind::shape, op + ": kernel expected a table of weights within the image");
    default:
      throw Error(ErrorKind::index,
                  op + ": index out of range; expected 0 <= index < " + limit + ", got " + value);
  }
}

void wait() {
  const Fault found = wait_for_all();
  if (found.kind != 0) throw_fault(found);
}

__global__ void planted_kernel() {}

/// No device has blocks of 4096 threads.
void bad_launch() {
  const Attrs none("", nullptr, 0);
  const Call call{"bad_launch", nullptr, 0, nullptr, 0, none, -1};
  QM_LAUNCH(call, planted_kernel, dim3(1), dim3(4096), 0);
}

void refuse_in_capture(const char* what) {
  if (capturing())
    throw Error(ErrorKind::argument, std::string("capture: ") + what + " cannot be part of a recorded step");
}

const DeviceApi kApi = {
    kDeviceApi,
    kOpCount,
    [](DeviceInfo* info, DeviceFailure* failure) { return guarded(failure, [&] { open_context(info); }); },
    [](size_t bytes) -> void* {
      std::lock_guard<std::recursive_mutex> lock(lock_of_all());
      cudaSetDevice(0);
      return allocate(bytes);
    },
    [](void* data, size_t bytes) {
      std::lock_guard<std::recursive_mutex> lock(lock_of_all());
      forget_weight(data);
      release(data, bytes);
    },
    [] { return cached_bytes(); },
    [] {
      std::lock_guard<std::recursive_mutex> lock(lock_of_all());
      if (capturing()) return;
      forget_weights();
      trim();
    },
    [](void* device, const void* host, size_t bytes, DeviceFailure* failure) {
      return guarded(failure, [&] {
        require_alive();
        refuse_in_capture("a copy from the host");
        forget_weight(device);
        copy_in(device, host, bytes);
      });
    },
    [](void* host, const void* device, size_t bytes, DeviceFailure* failure) {
      return guarded(failure, [&] {
        require_alive();
        refuse_in_capture("reading a tensor");
        check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream()),
              "copying from the device");
        wait();
      });
    },
    [](const Call* call, DeviceFailure* failure) {
      return guarded(failure, [&] {
        require_alive();
        for (int i = 0; i < call->n_out; i++) forget_weight(call->out[i].data);
        run_timed(*call, kTable[call->row]);
      });
    },
    [](DeviceFailure* failure) {
      return guarded(failure, [] {
        refuse_in_capture("waiting for the device");
        wait();
      });
    },
    [](DeviceFailure* failure) { return guarded(failure, [] { begin_capture(); }); },
    [](int64_t* graph, DeviceFailure* failure) { return guarded(failure, [&] { *graph = end_capture(); }); },
    [] {
      std::lock_guard<std::recursive_mutex> lock(lock_of_all());
      abort_capture();
    },
    [](int64_t graph, uint64_t offset, DeviceFailure* failure) {
      return guarded(failure, [&] {
        require_alive();
        replay(graph, offset);
      });
    },
    [](int64_t graph) {
      std::lock_guard<std::recursive_mutex> lock(lock_of_all());
      drop_graph(graph);
    },
    [](int64_t* event, DeviceFailure* failure) { return guarded(failure, [&] { *event = record_event(); }); },
    [](int64_t begin, int64_t end, double* time, DeviceFailure* failure) {
      return guarded(failure, [&] { *time = milliseconds_between(begin, end); });
    },
    [](DeviceFailure* failure) { return guarded(failure, [] { begin_profile(); }); },
    [](OpCost* costs, DeviceFailure* failure) { return guarded(failure, [&] { end_profile(costs); }); },
    [](DeviceFailure* failure) { return guarded(failure, [] { bad_launch(); }); },
    [](bool on, DeviceFailure* failure) { return guarded(failure, [&] { allow_tf32(on); }); },
};

}  // namespace

}  // namespace qm::cuda

extern "C" __attribute__((visibility("default"))) const qm::DeviceApi* qm_device_api() {
  return &qm::cuda::kApi;
}
