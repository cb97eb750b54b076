// One op call, as one flat record of doubles (so that a call costs one crossing and one typed array):
//   op, inputs, handle..., outputs, output..., attributes...
// An absent input is -1. An output is a live handle to write into, or -1, dtype, device, rank, dims... to
// allocate; its new handle is written back in place of the -1.
#pragma once
#include <cstdint>

#include "core/engine.h"

namespace qm::binding {

void execute(Engine& engine, double* record, int64_t size);

}  // namespace qm::binding
