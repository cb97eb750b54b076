// The process-wide pool. Kernels cut their work by shape only and give each piece its own output, so the
// number of threads changes who computes a piece, never its bits.
#pragma once
#include <cstdint>
#include <type_traits>

namespace qm::cpu {

constexpr int kMaxThreads = 256;

int threads();
void set_threads(int n);

using TaskFn = void (*)(void* context, int64_t task);
void run_tasks(int64_t tasks, TaskFn fn, void* context);

/// Calls body(task) for task in [0, tasks), on any thread, in any order. What body throws, the caller gets.
template <class Body>
void parallel_tasks(int64_t tasks, Body&& body) {
  using Plain = std::remove_reference_t<Body>;
  run_tasks(
      tasks, [](void* context, int64_t task) { (*static_cast<Plain*>(context))(task); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

/// Calls body(begin, end) over [0, n) in pieces of `grain`.
template <class Body>
void parallel_for(int64_t n, int64_t grain, Body&& body) {
  if (n <= 0) return;
  const int64_t tasks = (n + grain - 1) / grain;
  parallel_tasks(tasks, [&](int64_t task) {
    const int64_t begin = task * grain;
    body(begin, begin + grain < n ? begin + grain : n);
  });
}

}  // namespace qm::cpu
