// The CUDA backend lives in a library of its own beside the addon, opened when a program first asks for the
// device: the addon itself links nothing of CUDA.
#pragma once
#include <string>

#include "core/backend.h"
#include "core/device_api.h"

namespace qm {

class CudaPlugin {
 public:
  /// Opens the library at the first call. Throws the reason if there is no usable device.
  Backend& backend();
  bool available();
  /// Why not, if not available.
  const std::string& reason();
  const DeviceInfo& info() const { return info_; }

 private:
  void open();
  void refuse(std::string reason);

  bool tried_ = false;
  Backend* backend_ = nullptr;
  std::string reason_;
  DeviceInfo info_ = {};
};

CudaPlugin& cuda_plugin();

}  // namespace qm
