#include "core/backend.h"

namespace qm {

Backend* backend(Device device) { return device == Device::cpu ? cpu_backend() : nullptr; }

}  // namespace qm
