#include "core/backend.h"

#include "core/plugin.h"

namespace qm {

Backend& backend(Device device) { return device == Device::cpu ? cpu_backend() : cuda_plugin().backend(); }

}  // namespace qm
