#include "cpu/dispatch.h"

#include <cstring>

#include "image/resample.h"

namespace qm::image {

#define QM_DECLARE(isa)                                                                    \
  namespace isa {                                                                          \
  void resample_columns(const uint8_t*, int64_t, int64_t, int64_t, const Taps&, uint8_t*); \
  void resample_rows(const uint8_t*, int64_t, const Taps&, uint8_t*);                      \
  }
QM_DECLARE(baseline)
#if QM_X86
QM_DECLARE(avx2)
QM_DECLARE(avx512)
#endif
#undef QM_DECLARE

#if QM_X86
#define QM_DISPATCH(call)                                               \
  if (std::strcmp(cpu::isa_name(), "avx512") == 0) return avx512::call; \
  if (std::strcmp(cpu::isa_name(), "avx2") == 0) return avx2::call;     \
  return baseline::call
#else
#define QM_DISPATCH(call) return baseline::call
#endif
void resample_columns(const uint8_t* in, int64_t rows, int64_t width, int64_t channels, const Taps& taps,
                      uint8_t* out) {
  QM_DISPATCH(resample_columns(in, rows, width, channels, taps, out));
}
void resample_rows(const uint8_t* in, int64_t row_bytes, const Taps& taps, uint8_t* out) {
  QM_DISPATCH(resample_rows(in, row_bytes, taps, out));
}
#undef QM_DISPATCH

}  // namespace qm::image
