// The parts of the runtime that only the plugin itself needs: opening, waiting, capturing. Kernels include
// cuda/runtime.h.
#pragma once
#include "core/device_api.h"
#include "cuda/runtime.h"

namespace qm::cuda {

/// Finds the device and makes the stream; throws the reason if there is none that this build serves.
void open_context(DeviceInfo* info);
/// Throws if the device was lost.
void require_alive();
/// Waits for the stream, and returns what kernels reported since the last time.
Fault wait_for_all();
void set_draw_offset(uint64_t value);
void allow_tf32(bool on);

/// Allocator: cuda/memory.cu.
size_t cached_bytes();
void trim();
/// Copies through pinned buffers, so that the host goes on at once.
void copy_in(void* device, const void* host, size_t bytes);

/// Copies of weights that kernels keep (cuda/gemm_weight.cu). Memory at `data` is about to be written or freed, or
/// any memory may be. A recording neither uses copies from outside of it nor leaves its own.
void forget_weight(const void* data);
void forget_weights();

/// Graphs: cuda/graph.cu.
bool capturing();
void begin_capture();
int64_t end_capture();
void abort_capture();
void replay(int64_t graph, uint64_t draw_offset);
void drop_graph(int64_t graph);

/// Time: cuda/clock.cu.
int64_t record_event();
double milliseconds_between(int64_t begin, int64_t end);
void begin_profile();
void end_profile(OpCost* costs);
/// Runs a kernel, and notes its time while a profile is taken.
void run_timed(const Call& call, Kernel kernel);

/// While a pool is in use, memory comes from it and goes back to it, and nowhere else.
void begin_pool(int64_t pool);
void end_pool();
void drop_pool(int64_t pool);

}  // namespace qm::cuda
