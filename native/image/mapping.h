// A file as memory: pages are read when they are touched, and all threads and processes share them.
#pragma once
#include <cstddef>
#include <string>

namespace qm::image {

struct Mapping {
  void* data;
  size_t size;
};

/// The whole file. Writes to the memory stay in this process, and reads beyond the end of a file that others have cut since end it.
/// Throws a native error with the system's reason.
Mapping map_file(const std::string& path);
void unmap(Mapping mapping);

}  // namespace qm::image
