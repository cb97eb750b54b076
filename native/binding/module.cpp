// The Node-API surface: few functions, none of which knows an op. State lives in the instance data of the
// environment, so worker threads each have their own handles.
#include <napi.h>

#include "binding/bench.h"
#include "binding/convert.h"
#include "binding/execute.h"
#include "binding/image.h"
#include "core/engine.h"
#include "core/op_table.h"
#include "core/plugin.h"
#include "cpu/dispatch.h"
#include "cpu/thread_pool.h"
#include "image/jpeg.h"

namespace qm::binding {

namespace {

constexpr int kAbi = 4;  // raised whenever lib/native and this file must change together

constexpr int64_t kMaxRecord = int64_t{1} << 24;

/// What one JavaScript environment has.
struct Environment {
  Engine engine;
  Executor executor{engine};
  /// What JavaScript writes calls into; held, so that its memory stays where it is.
  Napi::Reference<Napi::ArrayBuffer> record;
  double* record_data = nullptr;
  int64_t record_size = 0;
};

Environment& environment(const Napi::CallbackInfo& info) {
  return *info.Env().GetInstanceData<Environment>();
}
Engine& engine(const Napi::CallbackInfo& info) { return environment(info).engine; }

/// Every entry point runs through here: native errors become JavaScript errors that carry their kind.
template <Napi::Value (*body)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return body(info);
  } catch (const Error& error) {
    Napi::Error js = Napi::Error::New(info.Env(), error.what());
    js.Set("kind", error_kind_name(error.kind()));
    throw js;
  } catch (const std::bad_alloc&) {
    Napi::Error js = Napi::Error::New(info.Env(), "out of memory");
    js.Set("kind", error_kind_name(ErrorKind::out_of_memory));
    throw js;
  }
}

/// record(size) -> the one array that calls are written into, with room for at least `size` doubles
Napi::Value record(const Napi::CallbackInfo& info) {
  Environment& e = environment(info);
  const int64_t size = integer(info, 0);
  if (size < 1 || size > kMaxRecord) throw Error(ErrorKind::argument, "a call record has 1 to 2^24 numbers");
  if (size > e.record_size) {
    auto buffer = Napi::ArrayBuffer::New(info.Env(), static_cast<size_t>(size) * sizeof(double));
    e.record_data = static_cast<double*>(buffer.Data());
    e.record_size = size;
    e.record = Napi::Persistent(buffer);
  }
  return Napi::Float64Array::New(info.Env(), static_cast<size_t>(e.record_size), e.record.Value(), 0);
}

/// run(size): the call that the first `size` numbers of the record describe
Napi::Value run(const Napi::CallbackInfo& info) {
  Environment& e = environment(info);
  const int64_t size = integer(info, 0);
  if (size < 0 || size > e.record_size) throw Error(ErrorKind::argument, "call record is cut short");
  if (e.record_size > 0 && e.record.Value().IsDetached())
    throw Error(ErrorKind::argument, "the call record was transferred to another thread");
  e.executor.run(e.record_data, size);
  return {};
}

/// create(dtype, device, dims: Float64Array, data: TypedArray) -> handle
Napi::Value create(const Napi::CallbackInfo& info) {
  const DType type = dtype(number(info, 0));
  const Device where = device(number(info, 1));
  const Doubles dims = doubles(info, 2);
  const Shape s = shape(dims.data, static_cast<int64_t>(dims.size));
  const int64_t size = checked_bytes(s, type);
  const Bytes source = bytes(info, 3, type);
  if (static_cast<int64_t>(source.size) != size)
    throw Error(ErrorKind::shape, "data does not fill the shape; expected " + std::to_string(size) +
                                      " bytes for " + s.text() + ", got " + std::to_string(source.size));
  Engine& e = engine(info);
  const double handle = e.create(type, s, where, -1);
  e.copy_in(handle, source.data, source.size);
  return Napi::Number::New(info.Env(), handle);
}

Napi::Value view(const Napi::CallbackInfo& info) {
  const Doubles dims = doubles(info, 1);
  const Shape s = shape(dims.data, static_cast<int64_t>(dims.size));
  return Napi::Number::New(info.Env(), engine(info).view(number(info, 0), s));
}

/// A second handle with the same shape: what the tape holds for backward.
Napi::Value retain(const Napi::CallbackInfo& info) {
  Engine& e = engine(info);
  const double handle = number(info, 0);
  return Napi::Number::New(info.Env(), e.view(handle, e.get(handle).shape));
}

Napi::Value release(const Napi::CallbackInfo& info) {
  engine(info).release(number(info, 0));
  return {};
}

/// Handles that share the storage of this one, itself included.
Napi::Value refs(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(engine(info).refs(number(info, 0))));
}

Napi::Value read(const Napi::CallbackInfo& info) {
  Engine& e = engine(info);
  const double handle = number(info, 0);
  const Bytes target = bytes(info, 1, e.get(handle).dtype);
  e.copy_out(handle, target.data, target.size);
  return {};
}

Napi::Value write(const Napi::CallbackInfo& info) {
  Engine& e = engine(info);
  const double handle = number(info, 0);
  const Bytes source = bytes(info, 1, e.get(handle).dtype);
  e.copy_in(handle, source.data, source.size);
  return {};
}

/// transfer(handle, device) -> a handle on that device
Napi::Value transfer(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), engine(info).transfer(number(info, 0), device(number(info, 1))));
}

Napi::Value stats(const Napi::CallbackInfo& info) {
  Engine& e = engine(info);
  const Device where = device(number(info, 0));
  const Usage& used = e.usage(where);
  Napi::Object o = Napi::Object::New(info.Env());
  o.Set("liveTensors", static_cast<double>(e.live_handles()));
  o.Set("liveBytes", static_cast<double>(used.live));
  o.Set("peakBytes", static_cast<double>(used.peak));
  const int64_t cached = static_cast<int64_t>(backend(where).cached_bytes());
  o.Set("cachedBytes", static_cast<double>(cached));
  o.Set("reservedBytes", static_cast<double>(used.live + cached));
  o.Set("budget", static_cast<double>(used.budget));
  return o;
}

Napi::Value set_budget(const Napi::CallbackInfo& info) {
  const int64_t bytes = integer(info, 0);
  if (bytes < 0) throw Error(ErrorKind::argument, "a budget is at least 0 bytes");
  engine(info).usage(device(number(info, 1))).budget = bytes;
  return {};
}

Napi::Value reset_peak(const Napi::CallbackInfo& info) {
  Usage& used = engine(info).usage(device(number(info, 0)));
  used.peak = used.live;
  return {};
}

Napi::Value empty_cache(const Napi::CallbackInfo& info) {
  backend(device(number(info, 0))).trim();
  return {};
}

Napi::Value synchronize(const Napi::CallbackInfo& info) {
  backend(device(number(info, 0))).synchronize();
  return {};
}

Napi::Value begin_capture(const Napi::CallbackInfo& info) {
  backend(device(number(info, 0))).begin_capture();
  return {};
}

Napi::Value end_capture(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(backend(device(number(info, 0))).end_capture()));
}

Napi::Value abort_capture(const Napi::CallbackInfo& info) {
  backend(device(number(info, 0))).abort_capture();
  return {};
}

/// replay(device, graph, draws since the capture)
Napi::Value replay(const Napi::CallbackInfo& info) {
  backend(device(number(info, 0))).replay(integer(info, 1), static_cast<uint64_t>(integer(info, 2)));
  return {};
}

Napi::Value drop_graph(const Napi::CallbackInfo& info) {
  backend(device(number(info, 0))).drop_graph(integer(info, 1));
  return {};
}

Napi::Value record_event(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(backend(device(number(info, 0))).record_event()));
}

/// millisecondsBetween(device, event, event)
Napi::Value milliseconds_between(const Napi::CallbackInfo& info) {
  Backend& b = backend(device(number(info, 0)));
  return Napi::Number::New(info.Env(), b.milliseconds_between(integer(info, 1), integer(info, 2)));
}

Napi::Value bad_launch(const Napi::CallbackInfo& info) {
  backend(device(number(info, 0))).bad_launch();
  return {};
}

/// allowTf32(device, 0 or 1)
Napi::Value allow_tf32(const Napi::CallbackInfo& info) {
  backend(device(number(info, 0))).allow_tf32(integer(info, 1) != 0);
  return {};
}

Napi::Value begin_profile(const Napi::CallbackInfo& info) {
  backend(device(number(info, 0))).begin_profile();
  return {};
}

/// [{name, calls, milliseconds, bytes}] of the ops that were called.
Napi::Value end_profile(const Napi::CallbackInfo& info) {
  OpCost costs[kOpCount];
  backend(device(number(info, 0))).end_profile(costs);
  Napi::Array rows = Napi::Array::New(info.Env());
  for (int k = 0; k < kOpCount; k++) {
    if (costs[k].calls == 0) continue;
    Napi::Object row = Napi::Object::New(info.Env());
    row.Set("name", kOps[k].name);
    row.Set("calls", static_cast<double>(costs[k].calls));
    row.Set("milliseconds", costs[k].milliseconds);
    row.Set("bytes", costs[k].bytes);
    rows.Set(rows.Length(), row);
  }
  return rows;
}

/// The CUDA device, or {reason} why there is none.
Napi::Value cuda_info(const Napi::CallbackInfo& info) {
  Napi::Object o = Napi::Object::New(info.Env());
  CudaPlugin& plugin = cuda_plugin();
  o.Set("available", plugin.available());
  if (!plugin.available()) {
    o.Set("reason", plugin.reason());
    return o;
  }
  const DeviceInfo& d = plugin.info();
  o.Set("name", d.name);
  o.Set("capability", std::to_string(d.major) + "." + std::to_string(d.minor));
  o.Set("multiprocessors", d.multiprocessors);
  o.Set("driver", d.driver);
  o.Set("runtime", d.runtime);
  o.Set("builtFor", d.built_for);
  o.Set("memory", static_cast<double>(d.memory));
  o.Set("free", static_cast<double>(d.free));
  return o;
}

Napi::Value set_threads(const Napi::CallbackInfo& info) {
  const int64_t n = integer(info, 0);
  if (n < 1 || n > cpu::kMaxThreads) throw Error(ErrorKind::argument, "threads must be 1 to 256");
  cpu::set_threads(static_cast<int>(n));
  return {};
}

Napi::Value describe(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Napi::Object o = Napi::Object::New(env);
  o.Set("abi", kAbi);
  o.Set("isa", cpu::isa_name());
  Napi::Array supported = Napi::Array::New(env);
  for (const char* name : cpu::supported_isas()) supported.Set(supported.Length(), name);
  o.Set("supported", supported);
  o.Set("threads", cpu::threads());
  o.Set("compiler", QM_COMPILER);
  o.Set("sanitized", QM_SANITIZED);
  o.Set("jpeg", image::jpeg_library());
  Napi::Array ops = Napi::Array::New(env);
  for (int k = 0; k < kOpCount; k++) {
    Napi::Object op = Napi::Object::New(env);
    op.Set("name", kOps[k].name);
    op.Set("inputs", kOps[k].n_in);
    op.Set("outputs", kOps[k].n_out);
    op.Set("attrs", kOps[k].attrs);
    ops.Set(static_cast<uint32_t>(k), op);
  }
  o.Set("ops", ops);
  return o;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  cpu::select_isa();
  env.SetInstanceData(new Environment);
  const auto add = [&](const char* name, Napi::Value (*f)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, f, name));
  };
  add("record", guarded<record>);
  add("run", guarded<run>);
  add("create", guarded<create>);
  add("view", guarded<view>);
  add("retain", guarded<retain>);
  add("release", guarded<release>);
  add("refs", guarded<refs>);
  add("read", guarded<read>);
  add("write", guarded<write>);
  add("stats", guarded<stats>);
  add("setBudget", guarded<set_budget>);
  add("resetPeak", guarded<reset_peak>);
  add("emptyCache", guarded<empty_cache>);
  add("transfer", guarded<transfer>);
  add("synchronize", guarded<synchronize>);
  add("beginCapture", guarded<begin_capture>);
  add("endCapture", guarded<end_capture>);
  add("abortCapture", guarded<abort_capture>);
  add("replay", guarded<replay>);
  add("dropGraph", guarded<drop_graph>);
  add("recordEvent", guarded<record_event>);
  add("millisecondsBetween", guarded<milliseconds_between>);
  add("allowTf32", guarded<allow_tf32>);
  add("badLaunch", guarded<bad_launch>);
  add("beginProfile", guarded<begin_profile>);
  add("endProfile", guarded<end_profile>);
  add("cudaInfo", guarded<cuda_info>);
  add("setThreads", guarded<set_threads>);
  add("describe", guarded<describe>);
  add("multiplyAdds", guarded<multiply_adds>);
  add("plainScan", guarded<plain_scan>);
  add("jpegSize", guarded<jpeg_size>);
  add("jpegPart", guarded<jpeg_part>);
  add("resampleColumns", guarded<resample_columns>);
  add("resampleRows", guarded<resample_rows>);
  add("mapFile", guarded<map_file>);
  return exports;
}

}  // namespace

NODE_API_MODULE(NODE_GYP_MODULE_NAME, init)

}  // namespace qm::binding
