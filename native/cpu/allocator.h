// Buffers of the CPU backend and scratch space of its kernels. Freed buffers are kept by size class: a fresh
// page costs more to touch than most kernels take to fill it.
#pragma once
#include <cstddef>

#include "core/error.h"

namespace qm::cpu {

/// 64-byte aligned, or null when the machine has none.
void* allocate(size_t bytes);
void release(void* data, size_t bytes);
size_t cached_bytes();
void trim();

/// Scratch of one kernel call, in elements of T.
template <class T>
class Scratch {
 public:
  explicit Scratch(size_t count) : bytes_(count * sizeof(T)), data_(static_cast<T*>(allocate(bytes_))) {
    if (!data_) throw Error(ErrorKind::out_of_memory, "out of memory for scratch space");
  }
  ~Scratch() { release(data_, bytes_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* get() const { return data_; }
  T& operator[](size_t k) const { return data_[k]; }

 private:
  size_t bytes_;
  T* data_;
};

}  // namespace qm::cpu
