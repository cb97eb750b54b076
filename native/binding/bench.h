// What benches measure the kernels against (bench/bench.h), for JavaScript.
#pragma once
#include <napi.h>

namespace qm::binding {

/// multiplyAdds(dtype, rounds) -> floating-point operations done
Napi::Value multiply_adds(const Napi::CallbackInfo& info);

/// plainScan(sizes: Float64Array, u, delta, A, B, C, y, h), and with dy and the gradients of all inputs also backward:
/// plainScan(sizes, u, delta, A, B, C, y, h, dy, du, ddelta, dA, dB, dC). Typed arrays of one type, float32 or float64; h may be
/// empty without backward.
Napi::Value plain_scan(const Napi::CallbackInfo& info);

}  // namespace qm::binding
