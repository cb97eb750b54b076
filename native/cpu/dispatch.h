// Picks the instruction set once, when the addon is loaded: the best one the processor has, or the one that
// QUADMAMBA_ISA names.
#pragma once
#include <cstring>
#include <vector>

namespace qm::cpu {

void select_isa();
const char* isa_name();
/// Built in and supported by this processor, best first.
std::vector<const char*> supported_isas();

}  // namespace qm::cpu

// For functions that stand in no table of kernels: QM_DECLARE declares them for every instruction set that is built,
// QM_DISPATCH calls and returns that of the chosen one.
#if QM_X86
#define QM_DECLARE(...) \
  namespace baseline {  \
  __VA_ARGS__           \
  }                     \
  namespace avx2 {      \
  __VA_ARGS__           \
  }                     \
  namespace avx512 {    \
  __VA_ARGS__           \
  }
#define QM_DISPATCH(call)                                                     \
  if (std::strcmp(::qm::cpu::isa_name(), "avx512") == 0) return avx512::call; \
  if (std::strcmp(::qm::cpu::isa_name(), "avx2") == 0) return avx2::call;     \
  return baseline::call
#else
#define QM_DECLARE(...) \
  namespace baseline {  \
  __VA_ARGS__           \
  }
#define QM_DISPATCH(call) return baseline::call
#endif
