#include "cpu/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace qm::cpu {

namespace {

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

constexpr int kSpins = 4000;  // some 50 microseconds: the usual gap between two kernels of a step

thread_local bool inside_task = false;  // a parallel call from within a task runs where it is

class Pool {
 public:
  explicit Pool(int n) { resize(n); }

  int size() {
    std::lock_guard<std::mutex> lock(owner_);
    return static_cast<int>(workers_.size()) + 1;
  }

  void set(int n) {
    std::lock_guard<std::mutex> lock(owner_);
    resize(n);
  }

  void run(int64_t tasks, TaskFn fn, void* context) {
    if (tasks <= 1 || inside_task) return serial(tasks, fn, context);
    // A second JavaScript thread does its own work: same bits, no queue.
    std::unique_lock<std::mutex> lock(owner_, std::try_to_lock);
    if (!lock.owns_lock() || workers_.empty()) return serial(tasks, fn, context);
    fn_ = fn;
    context_ = context;
    tasks_ = tasks;
    next_.store(0, std::memory_order_relaxed);
    busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    {
      std::lock_guard<std::mutex> wake(mutex_);
      round_.fetch_add(1, std::memory_order_release);
    }
    condition_.notify_all();
    work();
    for (int spin = 0; busy_.load(std::memory_order_acquire) > 0; spin++) {
      if (spin < kSpins)
        relax();
      else  // a worker lost its core to another program: let it have ours
        std::this_thread::yield();
    }
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  static void serial(int64_t tasks, TaskFn fn, void* context) {
    for (int64_t task = 0; task < tasks; task++) fn(context, task);
  }

  void work() {
    inside_task = true;
    try {
      for (int64_t task; (task = next_.fetch_add(1, std::memory_order_relaxed)) < tasks_;)
        fn_(context_, task);
    } catch (...) {  // the caller of run() gets it; tasks not yet begun are dropped
      std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
      next_.store(tasks_, std::memory_order_relaxed);
    }
    inside_task = false;
  }

  void loop(uint64_t seen) {
    for (;;) {
      for (int spin = 0; spin < kSpins && round_.load(std::memory_order_acquire) == seen; spin++) relax();
      if (round_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        condition_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != seen; });
      }
      seen = round_.load(std::memory_order_acquire);
      if (stop_) return;
      work();
      busy_.fetch_sub(1, std::memory_order_release);
    }
  }

  void resize(int n) {
    {
      std::lock_guard<std::mutex> wake(mutex_);
      stop_ = true;
      round_.fetch_add(1, std::memory_order_release);
    }
    condition_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
    stop_ = false;
    const uint64_t seen = round_.load();
    for (int k = 1; k < n; k++) workers_.emplace_back([this, seen] { loop(seen); });
  }

  std::mutex owner_;  // held by whoever runs or resizes
  std::mutex mutex_;
  std::condition_variable condition_;
  std::vector<std::thread> workers_;
  std::atomic<uint64_t> round_{0};
  std::atomic<int64_t> next_{0};
  std::atomic<int> busy_{0};
  TaskFn fn_ = nullptr;
  void* context_ = nullptr;
  int64_t tasks_ = 0;
  std::exception_ptr error_;
  bool stop_ = false;  // written under mutex_ with no round running
};

int default_threads() {
  const int n = static_cast<int>(std::thread::hardware_concurrency());
  return n < 1 ? 1 : n > kMaxThreads ? kMaxThreads : n;
}

/// Never destroyed: joining threads while the process unloads the addon would deadlock.
Pool& pool() {
  static Pool* instance = new Pool(default_threads());
  return *instance;
}

}  // namespace

int threads() { return pool().size(); }
void set_threads(int n) { pool().set(n); }
void run_tasks(int64_t tasks, TaskFn fn, void* context) { pool().run(tasks, fn, context); }

}  // namespace qm::cpu
