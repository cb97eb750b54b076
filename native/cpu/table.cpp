// The kernels of one instruction set, in the order of ops.def. A row without its function fails to link.
#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

#define QM_OP(name, n_in, n_out, attrs) void name(const Call& call);
#include "ops.def"
#undef QM_OP

extern const Kernel kTable[];
const Kernel kTable[] = {
#define QM_OP(name, n_in, n_out, attrs) name,
#include "ops.def"
#undef QM_OP
};

}  // namespace qm::cpu::QM_ISA
