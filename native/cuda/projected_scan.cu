// On this device the scan with projections is composed of its parts: lib/ops/projected_scan.ts.
#include <string>

#include "cuda/kernel.cuh"

namespace qm::cuda {

namespace {

[[noreturn]] void refuse(const Call& call) {
  throw Error(ErrorKind::device, std::string(call.op) + ": runs on the CPU only");
}

}  // namespace

void projected_scan_fwd(const Call& call) { refuse(call); }
void projected_scan_bwd(const Call& call) { refuse(call); }

}  // namespace qm::cuda
