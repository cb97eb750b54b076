// Reporting a bad value from a kernel: the first one is kept.
#pragma once
#include "cuda/runtime.h"

namespace qm::cuda {

__device__ __forceinline__ void report(Fault* fault, FaultKind kind, int op, long long value,
                                       long long limit) {
  if (atomicCAS(&fault->kind, 0, static_cast<int>(kind)) != 0) return;
  fault->op = op;
  fault->value = value;
  fault->limit = limit;
}

}  // namespace qm::cuda
