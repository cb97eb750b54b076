#include "cpu/dispatch.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "core/backend.h"
#include "cpu/allocator.h"

namespace qm::cpu {

// One table per instruction set, from cpu/table.cpp.
namespace baseline {
extern const Kernel kTable[];
}
#if QM_X86
namespace avx2 {
extern const Kernel kTable[];
}
namespace avx512 {
extern const Kernel kTable[];
}
#endif

namespace {

struct Isa {
  const char* name;
  const Kernel* table;
  bool (*supported)();
};

const Isa kIsas[] = {
#if QM_X86
    {"avx512", avx512::kTable,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
     }},
    {"avx2", avx2::kTable, [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
#endif
    {"baseline", baseline::kTable, [] { return true; }},
};

const Isa* selected = nullptr;

class CpuBackend final : public Backend {
 public:
  const char* name() const override { return "cpu"; }
  void* allocate(size_t bytes) override { return cpu::allocate(bytes); }
  void release(void* data, size_t bytes) override { cpu::release(data, bytes); }
  size_t cached_bytes() const override { return cpu::cached_bytes(); }
  void trim() override { cpu::trim(); }
  void copy_in(void* device, const void* host, size_t bytes) override { std::memcpy(device, host, bytes); }
  void copy_out(void* host, const void* device, size_t bytes) override { std::memcpy(host, device, bytes); }
  void run(const Call& call) override { selected->table[call.row](call); }
  void synchronize() override {}
};

}  // namespace

void select_isa() {
  if (selected) return;
  const char* wanted = std::getenv("QUADMAMBA_ISA");
  if (wanted && *wanted) {
    std::string names;
    for (const Isa& isa : kIsas) {
      if (!isa.supported()) continue;
      if (std::strcmp(isa.name, wanted) == 0) {
        selected = &isa;
        return;
      }
      names += std::string(names.empty() ? "" : ", ") + isa.name;
    }
    throw Error(ErrorKind::argument,
                std::string("QUADMAMBA_ISA: not available; expected one of ") + names + ", got " + wanted);
  }
  for (const Isa& isa : kIsas)
    if (isa.supported()) {
      selected = &isa;
      return;
    }
}

const char* isa_name() { return selected->name; }

std::vector<const char*> supported_isas() {
  std::vector<const char*> names;
  for (const Isa& isa : kIsas)
    if (isa.supported()) names.push_back(isa.name);
  return names;
}

}  // namespace qm::cpu

namespace qm {

Backend& cpu_backend() {
  static cpu::CpuBackend instance;
  return instance;
}

}  // namespace qm
