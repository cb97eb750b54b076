#include "cpu/dispatch.h"

#include "image/resample.h"

namespace qm::image {

QM_DECLARE(void resample_columns(const uint8_t*, int64_t, int64_t, int64_t, const Taps&, uint8_t*);
           void resample_rows(const uint8_t*, int64_t, const Taps&, uint8_t*);)

void resample_columns(const uint8_t* in, int64_t rows, int64_t width, int64_t channels, const Taps& taps,
                      uint8_t* out) {
  QM_DISPATCH(resample_columns(in, rows, width, channels, taps, out));
}
void resample_rows(const uint8_t* in, int64_t row_bytes, const Taps& taps, uint8_t* out) {
  QM_DISPATCH(resample_rows(in, row_bytes, taps, out));
}

}  // namespace qm::image
