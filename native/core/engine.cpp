#include "core/engine.h"

#include <algorithm>
#include <memory>

#include "core/op_table.h"

namespace qm {

namespace {
constexpr double kSlotRange = 16777216.0;         // 2^24 slots
constexpr double kGenerationRange = 268435456.0;  // 2^28 generations: slot and generation fit 2^52
}  // namespace

Engine::~Engine() {
  for (Slot& s : slots_)
    if (s.storage && --s.storage->refs == 0) {
      backend(s.storage->device).release(s.storage->data, s.storage->bytes);
      delete s.storage;
    }
}

const Engine::Slot& Engine::slot(double handle) const {
  if (!(handle >= 0 && handle < kSlotRange * kGenerationRange) ||
      handle != static_cast<double>(static_cast<int64_t>(handle)))
    throw Error(ErrorKind::argument, "not a tensor handle");
  const int64_t id = static_cast<int64_t>(handle);
  const size_t index = static_cast<size_t>(id & ((int64_t{1} << 24) - 1));
  if (index >= slots_.size()) throw Error(ErrorKind::argument, "not a tensor handle");
  const Slot& s = slots_[index];
  if (!s.storage || s.generation != static_cast<uint32_t>(id >> 24))
    throw Error(ErrorKind::disposed, "the tensor was disposed");
  return s;
}

double Engine::insert(Storage* storage, DType dtype, const Shape& shape) {
  if (free_.empty()) {
    if (slots_.size() >= static_cast<size_t>(kSlotRange))
      throw Error(ErrorKind::out_of_memory, "more than 2^24 live tensors");
    free_.reserve(slots_.size() + 1);  // release() must not allocate
    slots_.emplace_back();
    free_.push_back(static_cast<uint32_t>(slots_.size() - 1));
  }
  const uint32_t index = free_.back();
  free_.pop_back();
  Slot& s = slots_[index];
  s.storage = storage;
  s.dtype = dtype;
  s.shape = shape;
  live_handles_++;
  return static_cast<double>((static_cast<int64_t>(s.generation) << 24) | index);
}

Storage* Engine::allocate(size_t bytes, Device device, int creator) {
  Backend& b = backend(device);
  Usage& used = usage(device);
  const int64_t wanted = static_cast<int64_t>(bytes);
  void* data = nullptr;
  if (used.live + wanted <= used.budget) {
    if (used.live + wanted + static_cast<int64_t>(b.cached_bytes()) > used.budget) b.trim();
    data = b.allocate(bytes);
  }
  if (!data)
    throw Error(ErrorKind::out_of_memory, std::string("out of memory on ") + b.name() +
                                              "; expected at most " + std::to_string(used.budget) +
                                              " bytes in use, got a request of " + std::to_string(wanted) +
                                              " with " + std::to_string(used.live) + " live (" +
                                              largest_holders(device) + ")");
  auto storage = new (std::nothrow) Storage{data, bytes, 1, device, creator};
  if (!storage) {
    b.release(data, bytes);
    throw Error(ErrorKind::out_of_memory, "out of memory");
  }
  used.live += wanted;
  used.peak = std::max(used.peak, used.live);
  return storage;
}

double Engine::create(DType dtype, const Shape& shape, Device device, int creator) {
  Storage* storage = allocate(static_cast<size_t>(checked_bytes(shape, dtype)), device, creator);
  try {
    return insert(storage, dtype, shape);
  } catch (...) {
    usage(device).live -= static_cast<int64_t>(storage->bytes);
    backend(device).release(storage->data, storage->bytes);
    delete storage;
    throw;
  }
}

double Engine::view(double handle, const Shape& shape) {
  const Slot& s = slot(handle);
  if (checked_bytes(shape, s.dtype) != checked_bytes(s.shape, s.dtype))
    throw Error(ErrorKind::shape, "a view keeps the number of elements; expected as many as " +
                                      s.shape.text() + ", got " + shape.text());
  Storage* storage = s.storage;
  const double result = insert(storage, s.dtype, shape);
  storage->refs++;
  return result;
}

void Engine::release(double handle) {
  Slot& s = const_cast<Slot&>(slot(handle));
  Storage* storage = s.storage;
  s.storage = nullptr;
  s.generation = (s.generation + 1) & ((1u << 28) - 1);
  free_.push_back(static_cast<uint32_t>(static_cast<int64_t>(handle) & ((int64_t{1} << 24) - 1)));
  live_handles_--;
  if (--storage->refs > 0) return;
  usage(storage->device).live -= static_cast<int64_t>(storage->bytes);
  backend(storage->device).release(storage->data, storage->bytes);
  delete storage;
}

TensorView Engine::get(double handle) const {
  const Slot& s = slot(handle);
  return TensorView{s.storage->data, s.dtype, s.shape, true};
}

Device Engine::device_of(double handle) const { return slot(handle).storage->device; }

void Engine::copy_in(double handle, const void* host, size_t bytes) {
  const Slot& s = slot(handle);
  if (bytes != s.storage->bytes) throw Error(ErrorKind::shape, "data and tensor differ in size");
  if (bytes) backend(s.storage->device).copy_in(s.storage->data, host, bytes);
}

void Engine::copy_out(double handle, void* host, size_t bytes) const {
  const Slot& s = slot(handle);
  if (bytes != s.storage->bytes) throw Error(ErrorKind::shape, "data and tensor differ in size");
  if (bytes) backend(s.storage->device).copy_out(host, s.storage->data, bytes);
}

double Engine::transfer(double handle, Device device) {
  const TensorView from = get(handle);
  const Device source = device_of(handle);
  const size_t bytes = slot(handle).storage->bytes;
  const double made = create(from.dtype, from.shape, device, -1);
  if (bytes == 0) return made;
  try {
    void* target = get(made).data;
    if (device == Device::cpu)
      backend(source).copy_out(target, from.data, bytes);
    else if (source == Device::cpu)
      backend(device).copy_in(target, from.data, bytes);
    else
      throw Error(ErrorKind::device, "a tensor cannot be transferred to the device that it is on");
  } catch (...) {
    release(made);
    throw;
  }
  return made;
}

std::string Engine::largest_holders(Device device) const {
  struct Holder {
    int creator;
    int64_t bytes, count;
  };
  std::vector<Holder> holders;
  std::vector<const Storage*> seen;
  for (const Slot& s : slots_)
    if (s.storage && s.storage->device == device) seen.push_back(s.storage);
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  for (const Storage* s : seen) {
    auto it = std::find_if(holders.begin(), holders.end(),
                           [&](const Holder& h) { return h.creator == s->creator; });
    if (it == holders.end()) it = holders.insert(it, Holder{s->creator, 0, 0});
    it->bytes += static_cast<int64_t>(s->bytes);
    it->count++;
  }
  std::sort(holders.begin(), holders.end(),
            [](const Holder& a, const Holder& b) { return a.bytes > b.bytes; });
  if (holders.size() > 5) holders.resize(5);
  std::string text = "largest holders:";
  for (const Holder& h : holders)
    text += std::string(&h == &holders[0] ? " " : ", ") + (h.creator < 0 ? "tensor" : kOps[h.creator].name) +
            " " + std::to_string(h.bytes) + " bytes in " + std::to_string(h.count);
  return holders.empty() ? "no live tensors" : text;
}

}  // namespace qm
