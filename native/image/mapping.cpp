#include "image/mapping.h"

#include "core/error.h"

#ifndef _WIN32
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#endif

namespace qm::image {

#ifdef _WIN32

Mapping map_file(const std::string&) { throw Error(ErrorKind::native, "files cannot be mapped on Windows"); }
void unmap(Mapping) {}

#else

Mapping map_file(const std::string& path) {
  const auto fail = [](int code) -> Mapping {
    throw Error(ErrorKind::native, std::string("cannot be mapped: ") + std::strerror(code));
  };
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return fail(errno);
  struct stat status;
  const bool regular = fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0;
  const size_t size = regular ? static_cast<size_t>(status.st_size) : 0;
  // Private and writable: a stray write from JavaScript is harmless instead of the end of the process.
  void* data = regular ? mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file, 0)
                       : MAP_FAILED;
  const int code = regular ? errno : EINVAL;
  close(file);
  if (data == MAP_FAILED) return fail(code);
  return {data, size};
}

void unmap(Mapping mapping) { munmap(mapping.data, mapping.size); }

#endif

}  // namespace qm::image
