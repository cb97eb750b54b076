#include "bench/bench.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "cpu/dispatch.h"

namespace qm::bench {

QM_DECLARE(double multiply_adds_f32(int64_t rounds); double multiply_adds_f64(int64_t rounds);)

double multiply_adds_f32(int64_t rounds) { QM_DISPATCH(multiply_adds_f32(rounds)); }
double multiply_adds_f64(int64_t rounds) { QM_DISPATCH(multiply_adds_f64(rounds)); }

namespace {

/// The token at place `step` of a direction.
int64_t token_of(const ScanSizes& s, int64_t direction, int64_t step) {
  return direction % 2 == 0 ? step : s.length - 1 - step;
}

}  // namespace

template <class T>
void plain_scan(const ScanSizes& s, const ScanInputs<T>& in, T* y, T* h) {
  std::vector<T> state(static_cast<size_t>(s.channels * s.states));
  std::memset(y, 0, static_cast<size_t>(s.batch * s.length * s.channels) * sizeof(T));
  for (int64_t batch = 0; batch < s.batch; batch++)
    for (int64_t direction = 0; direction < s.directions; direction++) {
      std::fill(state.begin(), state.end(), T{0});
      for (int64_t step = 0; step < s.length; step++) {
        const int64_t token = batch * s.length + token_of(s, direction, step);
        const int64_t place = token * s.directions + direction;
        for (int64_t channel = 0; channel < s.channels; channel++) {
          const T u = in.u[token * s.channels + channel];
          const T dt = in.delta[place * s.channels + channel];
          T sum = 0;
          for (int64_t n = 0; n < s.states; n++) {
            T& now = state[static_cast<size_t>(channel * s.states + n)];
            const T a = in.a[(direction * s.channels + channel) * s.states + n];
            now = std::exp(dt * a) * now + dt * in.b[place * s.states + n] * u;
            sum += in.c[place * s.states + n] * now;
            if (h) h[(place * s.channels + channel) * s.states + n] = now;
          }
          y[token * s.channels + channel] += sum;
        }
      }
    }
}

template <class T>
void plain_scan_backward(const ScanSizes& s, const ScanInputs<T>& in, const T* h, const T* dy,
                         const ScanGradients<T>& grad) {
  std::vector<T> carry(static_cast<size_t>(s.channels * s.states));
  for (int64_t batch = 0; batch < s.batch; batch++)
    for (int64_t direction = 0; direction < s.directions; direction++) {
      std::fill(carry.begin(), carry.end(), T{0});
      for (int64_t step = s.length - 1; step >= 0; step--) {
        const int64_t token = batch * s.length + token_of(s, direction, step);
        const int64_t place = token * s.directions + direction;
        const int64_t earlier = place + (direction % 2 == 0 ? -s.directions : s.directions);
        for (int64_t channel = 0; channel < s.channels; channel++) {
          const int64_t at = token * s.channels + channel;
          const T u = in.u[at], dt = in.delta[place * s.channels + channel];
          T du = 0, ddt = 0;
          for (int64_t n = 0; n < s.states; n++) {
            const int64_t ka = (direction * s.channels + channel) * s.states + n;
            const int64_t kb = place * s.states + n;
            T& carried = carry[static_cast<size_t>(channel * s.states + n)];
            const T before = step == 0 ? T{0} : h[(earlier * s.channels + channel) * s.states + n];
            const T decay = std::exp(dt * in.a[ka]);
            const T dh = dy[at] * in.c[kb] + carried;
            carried = dh * decay;
            grad.c[kb] += dy[at] * h[(place * s.channels + channel) * s.states + n];
            grad.b[kb] += dh * dt * u;
            grad.a[ka] += carried * before * dt;
            du += dh * dt * in.b[kb];
            ddt += dh * in.b[kb] * u + carried * before * in.a[ka];
          }
          grad.u[at] += du;
          grad.delta[place * s.channels + channel] = ddt;
        }
      }
    }
}

template void plain_scan(const ScanSizes&, const ScanInputs<float>&, float*, float*);
template void plain_scan(const ScanSizes&, const ScanInputs<double>&, double*, double*);
template void plain_scan_backward(const ScanSizes&, const ScanInputs<float>&, const float*, const float*,
                                  const ScanGradients<float>&);
template void plain_scan_backward(const ScanSizes&, const ScanInputs<double>&, const double*, const double*,
                                  const ScanGradients<double>&);

}  // namespace qm::bench
