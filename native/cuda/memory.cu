// The caching allocator, and copies from the host. All work is on one stream, so a released buffer can be
// handed out again at once: what runs later comes later. With QUADMAMBA_CUDA_CACHE=0 every buffer is one of the
// driver's, of its exact size, so that compute-sanitizer sees where it ends.
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "cuda/context.h"

namespace qm::cuda {

namespace {

constexpr size_t kAlignment = 512;
constexpr size_t kSegment = size_t{32} << 20;  // asked of the driver at a time for small buffers
constexpr size_t kLarge = size_t{4} << 20;     // from here on a buffer gets a segment of its own size

/// A piece of a segment; neighbours in memory are linked, so that free ones can be joined.
struct Block {
  char* data;
  size_t bytes;
  bool free;
  int64_t pool;
  Block *before, *after;
};

/// Free blocks by size, then address: best fit, and the same choice every time.
using FreeList = std::map<std::pair<size_t, char*>, Block*>;

struct Memory {
  std::mutex mutex;
  std::unordered_map<void*, Block*> used;
  std::map<int64_t, FreeList> free;  // by pool; 0 is everybody's
  int64_t pool = 0;
  size_t reserved = 0;
  size_t in_use = 0;
};
Memory& memory() {
  static Memory* instance = new Memory;
  return *instance;
}

void insert_free(Memory& m, Block* b) { m.free[b->pool][{b->bytes, b->data}] = b; }
void erase_free(Memory& m, Block* b) { m.free[b->pool].erase({b->bytes, b->data}); }

/// Gives whole free segments of a pool back to the driver.
void trim_pool(Memory& m, int64_t pool) {
  FreeList& list = m.free[pool];
  for (auto it = list.begin(); it != list.end();) {
    Block* b = it->second;
    if (b->before || b->after) {
      ++it;
      continue;
    }
    cudaFree(b->data);  // waits for the device
    m.reserved -= b->bytes;
    delete b;
    it = list.erase(it);
  }
}

Block* new_segment(Memory& m, size_t bytes) {
  const size_t size = bytes < kLarge ? kSegment : (bytes + (size_t{2} << 20) - 1) >> 21 << 21;
  void* data = nullptr;
  if (cudaMalloc(&data, size) != cudaSuccess) {
    cudaGetLastError();
    trim_pool(m, m.pool);
    if (m.pool != 0) trim_pool(m, 0);
    if (cudaMalloc(&data, size) != cudaSuccess) {
      cudaGetLastError();
      return nullptr;
    }
  }
  m.reserved += size;
  return new Block{static_cast<char*>(data), size, true, m.pool, nullptr, nullptr};
}

bool caching() {
  static const bool on = [] {
    const char* asked = std::getenv("QUADMAMBA_CUDA_CACHE");
    return !asked || std::strcmp(asked, "0") != 0;
  }();
  return on;
}

/// Pinned memory in a ring: a slot is used again when its copy has been read.
struct Staging {
  static constexpr int kSlots = 16;
  static constexpr size_t kBytes = size_t{8} << 20;
  std::mutex mutex;
  char* data[kSlots] = {};
  cudaEvent_t read[kSlots] = {};
  int next = 0;
};
Staging& staging() {
  static Staging* instance = new Staging;
  return *instance;
}

}  // namespace

void* allocate(size_t bytes) {
  if (!caching()) {
    void* data = nullptr;
    if (cudaMalloc(&data, bytes ? bytes : 1) == cudaSuccess) return data;
    cudaGetLastError();
    return nullptr;
  }
  Memory& m = memory();
  std::lock_guard<std::mutex> lock(m.mutex);
  const size_t wanted = bytes == 0 ? kAlignment : (bytes + kAlignment - 1) / kAlignment * kAlignment;
  FreeList& list = m.free[m.pool];
  auto it = list.lower_bound({wanted, nullptr});
  Block* b = nullptr;
  // a small buffer must not break up a large segment, nor a large one waste more than a quarter
  while (it != list.end() && wanted >= kLarge && it->first.first > wanted + wanted / 4 &&
         !(it->second->before || it->second->after) && it->first.first < 8 * wanted)
    ++it;
  if (it != list.end() && (wanted >= kLarge || it->first.first <= kSegment)) {
    b = it->second;
    list.erase(it);
  } else {
    b = new_segment(m, wanted);
    if (!b) return nullptr;
  }
  if (b->bytes - wanted >= kAlignment) {
    Block* rest = new Block{b->data + wanted, b->bytes - wanted, true, b->pool, b, b->after};
    if (rest->after) rest->after->before = rest;
    b->after = rest;
    b->bytes = wanted;
    insert_free(m, rest);
  }
  b->free = false;
  m.in_use += b->bytes;
  m.used[b->data] = b;
  return b->data;
}

void release(void* data, size_t) {
  if (!data) return;
  if (!caching()) {
    cudaFree(data);  // waits for the work that uses it
    return;
  }
  Memory& m = memory();
  std::lock_guard<std::mutex> lock(m.mutex);
  const auto it = m.used.find(data);
  if (it == m.used.end()) return;
  Block* b = it->second;
  m.used.erase(it);
  m.in_use -= b->bytes;
  b->free = true;
  if (Block* a = b->after; a && a->free) {
    erase_free(m, a);
    b->bytes += a->bytes;
    b->after = a->after;
    if (b->after) b->after->before = b;
    delete a;
  }
  if (Block* p = b->before; p && p->free) {
    erase_free(m, p);
    p->bytes += b->bytes;
    p->after = b->after;
    if (p->after) p->after->before = p;
    delete b;
    b = p;
  }
  insert_free(m, b);
}

size_t cached_bytes() {
  Memory& m = memory();
  std::lock_guard<std::mutex> lock(m.mutex);
  return m.reserved - m.in_use;
}

void trim() {
  Memory& m = memory();
  std::lock_guard<std::mutex> lock(m.mutex);
  trim_pool(m, 0);
}

void begin_pool(int64_t pool) {
  Memory& m = memory();
  std::lock_guard<std::mutex> lock(m.mutex);
  m.pool = pool;
}

void end_pool() { begin_pool(0); }

void drop_pool(int64_t pool) {
  Memory& m = memory();
  std::lock_guard<std::mutex> lock(m.mutex);
  // what is still in use by tensors goes to everybody's pool when it is released
  for (auto& [data, block] : m.used)
    if (block->pool == pool) block->pool = 0;
  FreeList list;
  list.swap(m.free[pool]);
  m.free.erase(pool);
  for (auto& [key, block] : list) {
    block->pool = 0;
    insert_free(m, block);
  }
}

void copy_in(void* device, const void* host, size_t bytes) {
  Staging& s = staging();
  std::lock_guard<std::mutex> lock(s.mutex);
  const char* from = static_cast<const char*>(host);
  char* to = static_cast<char*>(device);
  while (bytes > 0) {
    const size_t n = bytes < Staging::kBytes ? bytes : Staging::kBytes;
    const int k = s.next;
    s.next = (s.next + 1) % Staging::kSlots;
    if (!s.data[k]) {
      check(cudaMallocHost(&s.data[k], Staging::kBytes), "allocating pinned memory");
      check(cudaEventCreateWithFlags(&s.read[k], cudaEventDisableTiming), "making an event");
    } else {
      check(cudaEventSynchronize(s.read[k]), "waiting for an earlier copy");
    }
    std::memcpy(s.data[k], from, n);
    check(cudaMemcpyAsync(to, s.data[k], n, cudaMemcpyHostToDevice, stream()), "copying to the device");
    check(cudaEventRecord(s.read[k], stream()), "recording an event");
    from += n;
    to += n;
    bytes -= n;
  }
}

}  // namespace qm::cuda
