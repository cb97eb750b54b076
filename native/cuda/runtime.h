// The one CUDA context of the process: its stream, its memory, and what went wrong on the device. Host code.
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "core/error.h"

namespace qm::cuda {

/// The stream of all work, in order; every buffer may therefore be reused as soon as it is released.
cudaStream_t stream();
int multiprocessors();
/// Whether products of float32 may round their operands to TF32 (10 bits) for the tensor cores: off unless
/// asked for.
bool tf32_allowed();

/// Added to the counter of every draw: 0, but for the replay of a graph. In device memory.
const uint64_t* draw_offset();

/// Memory from the caching allocator, or null. Released memory is reused by later work on the stream.
void* allocate(size_t bytes);
void release(void* data, size_t bytes);

/// Throws for a CUDA error, naming what was being done.
void check(cudaError_t status, const char* what);
void check_launch(const char* op, const char* kernel, dim3 grid, dim3 block, size_t shared);
/// Raises a kernel's limit of dynamic shared memory where it needs more than 48 KiB.
void prepare_shared(const void* kernel, size_t bytes);

/// A bad value that a kernel found in a tensor. Kernels run later than their call returns, so the error is
/// thrown where the host next waits: at the first one only, and nothing was read or written out of bounds.
enum class FaultKind : int { none = 0, label, index, order, table };
struct Fault {
  int kind;
  int op;  // row of ops.def
  long long value;
  long long limit;
};
/// In device memory.
Fault* fault();

/// Memory of the device for the time of a call.
template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t count) : bytes_(static_cast<size_t>(count) * sizeof(T)) {
    data_ = static_cast<T*>(allocate(bytes_));
    if (!data_) throw Error(ErrorKind::out_of_memory, "no device memory for a kernel's scratch");
  }
  ~Scratch() { release(data_, bytes_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* get() const { return data_; }

 private:
  size_t bytes_;
  T* data_;
};

}  // namespace qm::cuda
