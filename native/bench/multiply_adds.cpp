// Compiled once per instruction set, as the kernels are: see multiply_adds of bench.h.
#include "cpu/simd.h"
#include "cpu/thread_pool.h"

namespace qm::bench::QM_ISA {

namespace {

using cpu::QM_ISA::kLanes;
using cpu::QM_ISA::mul_add;
using cpu::QM_ISA::splat;
using cpu::QM_ISA::Vec;

// Enough to hide the latency (4 to 5 cycles on two units), and few enough for 16 registers.
constexpr int kChains = 12;
constexpr int kTasksPerThread = 4;  // so that a thread that starts late does not hold up the others

template <class T>
double multiply_adds(int64_t rounds) {
  const int64_t tasks = int64_t{kTasksPerThread} * cpu::threads();
  cpu::parallel_tasks(tasks, [&](int64_t task) {
    Vec<T> x[kChains];
    for (int k = 0; k < kChains; k++) x[k] = splat(static_cast<T>(k + task));
    const Vec<T> half = splat(static_cast<T>(0.5)), one = splat(static_cast<T>(1));
    for (int64_t round = 0; round < rounds; round++)
      for (int k = 0; k < kChains; k++) x[k] = mul_add(x[k], half, one);
    for (int k = 1; k < kChains; k++) x[0] += x[k];
    volatile T kept = x[0][0];  // or the compiler would see that nobody reads it
    (void)kept;
  });
  return 2.0 * kLanes<T> * kChains * static_cast<double>(rounds) * static_cast<double>(tasks);
}

}  // namespace

double multiply_adds_f32(int64_t rounds) { return multiply_adds<float>(rounds); }
double multiply_adds_f64(int64_t rounds) { return multiply_adds<double>(rounds); }

}  // namespace qm::bench::QM_ISA
