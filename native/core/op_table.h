// The op table as data: names, arities and attribute signatures, in the order of ops.def.
#pragma once

namespace qm {

struct OpInfo {
  const char* name;
  int n_in;  // -1: any number
  int n_out;
  const char* attrs;
};

constexpr OpInfo kOps[] = {
#define QM_OP(name, n_in, n_out, attrs) {#name, n_in, n_out, attrs},
#include "ops.def"
#undef QM_OP
};
constexpr int kOpCount = static_cast<int>(sizeof(kOps) / sizeof(kOps[0]));

}  // namespace qm
