// What a bench measures the kernels against: the processor's peak, and the scan as a plain loop. Nothing of the library runs
// through here.
#pragma once
#include <cstdint>

namespace qm::bench {

/// Runs chains of fused multiply-adds in registers, on all threads of the pool, in the widest vectors of the instruction set in
/// use. Returns the floating-point operations done; the caller holds the clock.
double multiply_adds_f32(int64_t rounds);
double multiply_adds_f64(int64_t rounds);

struct ScanSizes {
  int64_t batch, length, channels, directions, states;
};

/// u [batch, length, channels], delta [batch, length, directions, channels], A [directions, channels, states],
/// B and C [batch, length, directions, states]. Odd directions read the tokens from the last to the first.
template <class T>
struct ScanInputs {
  const T *u, *delta, *a, *b, *c;
};

/// The selective scan as one would write it first, on one thread. y [batch, length, channels] is the sum over the directions;
/// `h` gets the state after every step, [batch, length, directions, channels, states], or is null.
template <class T>
void plain_scan(const ScanSizes& s, const ScanInputs<T>& in, T* y, T* h);

/// Gradients of all inputs, in arrays that are zero beforehand, from dy and the states that plain_scan has kept.
template <class T>
struct ScanGradients {
  T *u, *delta, *a, *b, *c;
};
template <class T>
void plain_scan_backward(const ScanSizes& s, const ScanInputs<T>& in, const T* h, const T* dy,
                         const ScanGradients<T>& grad);

}  // namespace qm::bench
