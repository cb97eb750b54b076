#include "cpu/allocator.h"

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <vector>

namespace qm::cpu {

namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kMaxCached = size_t{4} << 30;

/// Eight steps per power of two: at most 12.5 % is wasted.
struct SizeClass {
  size_t bytes;
  size_t index;
};
constexpr size_t kClasses = 512;  // more than 2^64 bytes have

SizeClass size_class(size_t bytes) {
  size_t step = kAlignment, steps = 0;
  while (step * 16 < bytes) step *= 2, steps += 8;
  const size_t multiple = bytes == 0 ? 1 : (bytes + step - 1) / step;
  return {multiple * step, steps + multiple};
}

struct Cache {
  std::mutex mutex;
  std::vector<void*> buffers[kClasses];
  std::atomic<size_t> bytes{0};  // changed with the mutex held
};

/// Never destroyed, for the same reason as the thread pool.
Cache& cache() {
  static Cache* instance = new Cache;
  return *instance;
}

}  // namespace

void* allocate(size_t bytes) {
#if !QM_SANITIZED  // under a sanitizer every buffer is the system's own, so that stray accesses are seen
  const SizeClass size = size_class(bytes);
  Cache& c = cache();
  {
    std::lock_guard<std::mutex> lock(c.mutex);
    std::vector<void*>& kept = c.buffers[size.index];
    if (!kept.empty()) {
      void* data = kept.back();
      kept.pop_back();
      c.bytes -= size.bytes;
      return data;
    }
  }
  return std::aligned_alloc(kAlignment, size.bytes);
#else
  void* data = nullptr;
  return posix_memalign(&data, kAlignment, bytes ? bytes : 1) == 0 ? data : nullptr;
#endif
}

void release(void* data, size_t bytes) {
  if (!data) return;
#if !QM_SANITIZED
  const SizeClass size = size_class(bytes);
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  if (c.bytes + size.bytes <= kMaxCached) {
    try {
      c.buffers[size.index].push_back(data);
      c.bytes += size.bytes;
      return;
    } catch (...) {  // no memory for the list itself
    }
  }
#else
  (void)bytes;
#endif
  std::free(data);
}

size_t cached_bytes() { return cache().bytes; }

void trim() {
  Cache& c = cache();
  std::lock_guard<std::mutex> lock(c.mutex);
  for (std::vector<void*>& kept : c.buffers) {
    for (void* data : kept) std::free(data);
    kept = {};
  }
  c.bytes = 0;
}

}  // namespace qm::cpu
