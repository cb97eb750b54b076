#include "core/plugin.h"

#include <dlfcn.h>

#include <mutex>

#include "core/op_table.h"

namespace qm {

namespace {

constexpr const char* kLibrary = "quadmamba_cuda.so";

/// The C table as a backend; failures become exceptions again.
class PluginBackend final : public Backend {
 public:
  explicit PluginBackend(const DeviceApi& api) : api_(api) {}
  const char* name() const override { return "cuda"; }
  void* allocate(size_t bytes) override { return api_.allocate(bytes); }
  void release(void* data, size_t bytes) override { api_.release(data, bytes); }
  size_t cached_bytes() const override { return api_.cached_bytes(); }
  void trim() override { api_.trim(); }
  void copy_in(void* device, const void* host, size_t bytes) override {
    attempt([&](DeviceFailure* f) { return api_.copy_in(device, host, bytes, f); });
  }
  void copy_out(void* host, const void* device, size_t bytes) override {
    attempt([&](DeviceFailure* f) { return api_.copy_out(host, device, bytes, f); });
  }
  void run(const Call& call) override {
    attempt([&](DeviceFailure* f) { return api_.run(&call, f); });
  }
  void synchronize() override { attempt(api_.synchronize); }
  void begin_capture() override { attempt(api_.begin_capture); }
  int64_t end_capture() override {
    int64_t graph = 0;
    attempt([&](DeviceFailure* f) { return api_.end_capture(&graph, f); });
    return graph;
  }
  void abort_capture() override { api_.abort_capture(); }
  void replay(int64_t graph, uint64_t draw_offset) override {
    attempt([&](DeviceFailure* f) { return api_.replay(graph, draw_offset, f); });
  }
  void drop_graph(int64_t graph) override { api_.drop_graph(graph); }
  int64_t record_event() override {
    int64_t event = 0;
    attempt([&](DeviceFailure* f) { return api_.record_event(&event, f); });
    return event;
  }
  double milliseconds_between(int64_t begin, int64_t end) override {
    double milliseconds = 0;
    attempt([&](DeviceFailure* f) { return api_.milliseconds_between(begin, end, &milliseconds, f); });
    return milliseconds;
  }
  void allow_tf32(bool on) override {
    attempt([&](DeviceFailure* f) { return api_.allow_tf32(on, f); });
  }
  void bad_launch() override { attempt(api_.bad_launch); }
  void begin_profile() override { attempt(api_.begin_profile); }
  void end_profile(OpCost* costs) override {
    attempt([&](DeviceFailure* f) { return api_.end_profile(costs, f); });
  }

 private:
  template <class Fn>
  static void attempt(Fn&& fn) {
    DeviceFailure failure;
    if (!fn(&failure)) throw Error(failure.kind, failure.message);
  }
  const DeviceApi& api_;
};

/// The folder of this addon.
std::string own_folder() {
  Dl_info info;
  if (!dladdr(reinterpret_cast<const void*>(&own_folder), &info) || !info.dli_fname) return ".";
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::mutex opening;  // workers may ask at the same time

}  // namespace

void CudaPlugin::refuse(std::string reason) { reason_ = std::move(reason); }

void CudaPlugin::open() {
  std::lock_guard<std::mutex> lock(opening);
  if (tried_) return;
  tried_ = true;
  const std::string path = own_folder() + "/" + kLibrary;
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* why = dlerror();
    return refuse(std::string("the CUDA part is not built, or cannot be loaded (") + (why ? why : path) +
                  "); with nvcc 12.4 or later installed, npm run build makes it");
  }
  const auto entry = reinterpret_cast<const DeviceApi* (*)()>(dlsym(library, "qm_device_api"));
  const DeviceApi* api = entry ? entry() : nullptr;
  if (!api || api->version != kDeviceApi || api->ops != kOpCount)
    return refuse(path + " was built from other sources than the addon: npm run build");
  DeviceFailure failure;
  if (!api->open(&info_, &failure)) return refuse(failure.message);
  backend_ = new PluginBackend(*api);  // as long as the process: so do buffers in finalizers
}

bool CudaPlugin::available() {
  open();
  return backend_ != nullptr;
}

const std::string& CudaPlugin::reason() {
  open();
  return reason_;
}

Backend& CudaPlugin::backend() {
  if (!available()) throw Error(ErrorKind::device, "no CUDA device: " + reason_);
  return *backend_;
}

CudaPlugin& cuda_plugin() {
  static CudaPlugin* instance = new CudaPlugin;
  return *instance;
}

}  // namespace qm
