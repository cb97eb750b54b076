#include "cpu/allocator.h"

#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

namespace qm::cpu {

namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kMaxCached = size_t{4} << 30;

/// Rounds up to one of eight steps per power of two: at most 12.5 % is wasted.
size_t size_class(size_t bytes) {
  if (bytes <= 512) return (bytes + kAlignment - 1) / kAlignment * kAlignment + (bytes == 0 ? kAlignment : 0);
  size_t step = kAlignment;
  while (step * 16 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

struct Cache {
  std::mutex mutex;
  std::map<size_t, std::vector<void*>> buffers;
  size_t bytes = 0;
};

/// Never destroyed, for the same reason as the thread pool.
Cache& cache() {
  static Cache* instance = new Cache;
  return *instance;
}

}  // namespace

void* allocate(size_t bytes) {
  const size_t rounded = size_class(bytes);
#if !QM_SANITIZED  // under a sanitizer every buffer is the system's own, so that stray accesses are seen
  Cache& c = cache();
  {
    std::lock_guard<std::mutex> lock(c.mutex);
    const auto it = c.buffers.find(rounded);
    if (it != c.buffers.end() && !it->second.empty()) {
      void* data = it->second.back();
      it->second.pop_back();
      c.bytes -= rounded;
      return data;
    }
  }
  return std::aligned_alloc(kAlignment, rounded);
#else
  void* data = nullptr;
  (void)rounded;
  return posix_memalign(&data, kAlignment, bytes ? bytes : 1) == 0 ? data : nullptr;
#endif
}

void release(void* data, size_t bytes) {
  if (!data) return;
#if !QM_SANITIZED
  const size_t rounded = size_class(bytes);
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  if (c.bytes + rounded <= kMaxCached) {
    try {
      c.buffers[rounded].push_back(data);
      c.bytes += rounded;
      return;
    } catch (...) {  // no memory for the list itself
    }
  }
#else
  (void)bytes;
#endif
  std::free(data);
}

size_t cached_bytes() {
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  return c.bytes;
}

void trim() {
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  for (auto& [size, list] : c.buffers)
    for (void* data : list) std::free(data);
  c.buffers.clear();
  c.bytes = 0;
}

}  // namespace qm::cpu
