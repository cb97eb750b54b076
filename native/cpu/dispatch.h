// Picks the instruction set once, when the addon is loaded: the best one the processor has, or the one that
// QUADMAMBA_ISA names.
#pragma once
#include <vector>

namespace qm::cpu {

void select_isa();
const char* isa_name();
/// Built in and supported by this processor, best first.
std::vector<const char*> supported_isas();

}  // namespace qm::cpu
