#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "cuda/context.h"
#include "cuda/runtime.h"

namespace qm::cuda {

namespace {

/// What the process holds of the device. Never destroyed: finalizers may release memory until the very end.
struct Context {
  cudaStream_t stream = nullptr;
  int multiprocessors = 0;
  bool wait_after_launch = false;
  Fault* fault = nullptr;       // on the device
  Fault* fault_copy = nullptr;  // pinned, for reading it
  uint64_t* draw_offset = nullptr;
  bool tf32 = false;
  std::string dead;  // the first error that the device cannot recover from
};
Context& context() {
  static Context* instance = new Context;
  return *instance;
}

std::string text_of(cudaError_t status) {
  return std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status);
}

/// After these the context is lost: every later call repeats the first one.
bool sticky(cudaError_t status) {
  return status == cudaErrorIllegalAddress || status == cudaErrorLaunchFailure ||
         status == cudaErrorMisalignedAddress || status == cudaErrorInvalidAddressSpace ||
         status == cudaErrorInvalidPc || status == cudaErrorHardwareStackError ||
         status == cudaErrorIllegalInstruction || status == cudaErrorLaunchTimeout ||
         status == cudaErrorAssert || status == cudaErrorECCUncorrectable;
}

[[noreturn]] void fail(cudaError_t status, const std::string& what) {
  Context& c = context();
  const std::string message = what + ": " + text_of(status);
  if (sticky(status) && c.dead.empty()) c.dead = message;
  cudaGetLastError();
  throw Error(status == cudaErrorMemoryAllocation ? ErrorKind::out_of_memory : ErrorKind::native, message);
}

__global__ void set_draw_offset_kernel(uint64_t* place, uint64_t value) { *place = value; }

}  // namespace

cudaStream_t stream() { return context().stream; }
int multiprocessors() { return context().multiprocessors; }
Fault* fault() { return context().fault; }
bool tf32_allowed() { return context().tf32; }
void allow_tf32(bool on) { context().tf32 = on; }
const uint64_t* draw_offset() { return context().draw_offset; }

void require_alive() {
  const Context& c = context();
  if (!c.dead.empty())
    throw Error(ErrorKind::native,
                "cuda: the device failed earlier and cannot be used any more (" + c.dead + ")");
}

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) fail(status, std::string("cuda: ") + what);
}

void check_launch(const char* op, const char* kernel, dim3 grid, dim3 block, size_t shared) {
  const Context& c = context();
  cudaError_t status = cudaPeekAtLastError();
  if (status == cudaSuccess && c.wait_after_launch && !capturing()) status = cudaStreamSynchronize(c.stream);
  if (status == cudaSuccess) return;
  const auto size = [](dim3 d) {
    return std::to_string(d.x) + " x " + std::to_string(d.y) + " x " + std::to_string(d.z);
  };
  fail(status, std::string(op) + ": kernel " + kernel + " with grid " + size(grid) + ", block " +
                   size(block) + ", " + std::to_string(shared) + " bytes of shared memory failed");
}

void prepare_shared(const void* kernel, size_t bytes) {
  if (bytes <= 48 * 1024) return;
  static std::map<const void*, size_t>* raised = new std::map<const void*, size_t>;
  size_t& limit = (*raised)[kernel];
  if (bytes <= limit) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "a kernel asks for more shared memory than the device has");
  limit = bytes;
}

void set_draw_offset(uint64_t value) {
  set_draw_offset_kernel<<<1, 1, 0, stream()>>>(context().draw_offset, value);
  check(cudaPeekAtLastError(), "setting the counter of random numbers");
}

Fault wait_for_all() {
  Context& c = context();
  require_alive();
  check(cudaMemcpyAsync(c.fault_copy, c.fault, sizeof(Fault), cudaMemcpyDeviceToHost, c.stream),
        "reading the fault record");
  check(cudaStreamSynchronize(c.stream), "an earlier kernel failed (QUADMAMBA_CUDA_SYNC=1 finds which)");
  const Fault found = *c.fault_copy;
  if (found.kind != 0)
    check(cudaMemsetAsync(c.fault, 0, sizeof(Fault), c.stream), "clearing the fault record");
  return found;
}

void open_context(DeviceInfo* info) {
  Context& c = context();
  int count = 0, driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  const cudaError_t found = cudaGetDeviceCount(&count);
  const auto version = [](int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); };
  if (driver == 0) throw Error(ErrorKind::device, "no NVIDIA driver is installed");
  if (found == cudaErrorInsufficientDriver)
    throw Error(ErrorKind::device, "the NVIDIA driver is too old: it serves CUDA " + version(driver) +
                                       ", this build needs " + version(runtime));
  if (found != cudaSuccess || count == 0)
    throw Error(ErrorKind::device, "the driver shows no device (" + text_of(found) + ")");
  cudaDeviceProp properties;
  check(cudaSetDevice(0), "choosing the device");
  check(cudaGetDeviceProperties(&properties, 0), "asking for the device's properties");
  cudaFuncAttributes attributes;
  const cudaError_t image =
      cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(set_draw_offset_kernel));
  if (image != cudaSuccess)
    throw Error(ErrorKind::device, std::string(properties.name) + " has compute capability " +
                                       std::to_string(properties.major) + "." +
                                       std::to_string(properties.minor) + ", which this build (" +
                                       QM_CUDA_ARCHITECTURES + ") does not serve: " + text_of(image));
  check(cudaStreamCreateWithFlags(&c.stream, cudaStreamNonBlocking), "making a stream");
  check(cudaMalloc(&c.fault, sizeof(Fault)), "allocating the fault record");
  check(cudaMalloc(&c.draw_offset, sizeof(uint64_t)), "allocating the counter of random numbers");
  check(cudaMallocHost(&c.fault_copy, sizeof(Fault)), "allocating pinned memory");
  check(cudaMemsetAsync(c.fault, 0, sizeof(Fault), c.stream), "clearing the fault record");
  check(cudaMemsetAsync(c.draw_offset, 0, sizeof(uint64_t), c.stream), "clearing a counter");
  c.multiprocessors = properties.multiProcessorCount;
  const char* wait = std::getenv("QUADMAMBA_CUDA_SYNC");
  c.wait_after_launch = wait && *wait && std::strcmp(wait, "0") != 0;

  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "asking for free memory");
  std::snprintf(info->name, sizeof(info->name), "%s", properties.name);
  std::snprintf(info->built_for, sizeof(info->built_for), "%s", QM_CUDA_ARCHITECTURES);
  info->major = properties.major;
  info->minor = properties.minor;
  info->multiprocessors = properties.multiProcessorCount;
  info->driver = driver;
  info->runtime = runtime;
  info->memory = total;
  info->free = free;
}

}  // namespace qm::cuda
