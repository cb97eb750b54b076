// One op call, as one flat record of doubles (so that a call costs one crossing and no array of its own):
//   op, inputs, handle..., outputs, output..., attributes...
// An absent input is -1. An output is a live handle to write into, or -1, dtype, device, rank, dims... to
// allocate. After the call the new handles stand at the front of the record, in order.
#pragma once
#include <cstdint>
#include <vector>

#include "core/engine.h"

namespace qm::binding {

/// Runs calls. Its vectors are kept from call to call, so that a call allocates nothing but its outputs.
class Executor {
 public:
  explicit Executor(Engine& engine) : engine_(engine) {}
  void run(double* record, int64_t size);

 private:
  Engine& engine_;
  std::vector<TensorView> in_, out_;
  std::vector<double*> made_;
};

}  // namespace qm::binding
