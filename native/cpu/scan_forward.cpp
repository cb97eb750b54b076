// The forward recurrence of the selective scan: see cpu/scan.h.
#include "cpu/scan.h"

namespace qm::cpu::QM_ISA {

#include "formulas/math.h"

namespace {

/// What one vector of channels needs of the tokens of a chunk, a vector per token.
template <class T>
struct Lane {
  T *dt, *dtu, *sum;
};

template <class T>
__attribute__((noinline)) void prepare(const Scan<T>& g, int64_t batch, const ScanColumn<T>& column,
                                       const int32_t* token, int64_t n, const Lane<T>& lane) {
  const Vec<T> bias = column.parameter(g.bias), d = column.parameter(g.d);
  const T* u = g.u + batch * g.length * g.u_row() + (g.shared_u ? column.in_group : column.channel);
  for (int64_t j = 0; j < n; j++) {
    const Vec<T> ut = load_n(u + token[j] * g.u_row(), column.count);
    Vec<T> dt = load(lane.dt + j * kLanes<T>) + bias;
    if (g.softplus) dt = softplus_of(dt);
    store(lane.dt + j * kLanes<T>, dt);
    store(lane.dtu + j * kLanes<T>, dt * ut);
    store(lane.sum + j * kLanes<T>, d * ut);
  }
}

/// kN states of a vector of channels over a chunk; b and c are those of its group and first state.
template <class T, int kN>
__attribute__((noinline)) void recur(const T* b, const T* c, int64_t row, const Vec<T>* rates, Vec<T>* states,
                                     const int32_t* token, int64_t n, const Lane<T>& lane) {
  Vec<T> h[kN], rate[kN];
  for (int k = 0; k < kN; k++) {
    h[k] = states[k];
    rate[k] = rates[k];
  }
  for (int64_t j = 0; j < n; j++) {
    const Vec<T> dt = load(lane.dt + j * kLanes<T>), dtu = load(lane.dtu + j * kLanes<T>);
    const T *bt = b + token[j] * row, *ct = c + token[j] * row;
    Vec<T> sum = load(lane.sum + j * kLanes<T>);
    for (int k = 0; k < kN; k++) {
      h[k] = mul_add(exp_of(dt * rate[k]), h[k], dtu * bt[k]);
      sum = mul_add(h[k], splat(ct[k]), sum);
    }
    store(lane.sum + j * kLanes<T>, sum);
  }
  for (int k = 0; k < kN; k++) states[k] = h[k];
}

template <class T>
void write(const Scan<T>& g, int64_t batch, const ScanColumn<T>& column, const int32_t* token, int64_t n,
           bool add, const T* sum, T* y) {
  T* out = y + batch * g.length * g.y_row() + (g.merge ? column.in_group : column.channel);
  for (int64_t j = 0; j < n; j++) {
    T* at = out + token[j] * g.y_row();
    Vec<T> v = load(sum + j * kLanes<T>);
    if (add) v += load_n(at, column.count);
    store_n(at, v, column.count);
  }
}

/// Vectors [first, last) of batch entries [begin, end).
template <class T>
void run_task(const Scan<T>& g, const ScanTable<T>& table, int64_t begin, int64_t end, int64_t first,
              int64_t last, T* y, T* kept) {
  const int64_t n_states = g.states, size = std::min(g.chunk, g.length) * kLanes<T>;
  const Scratch<T> memory(static_cast<size_t>(3 * size));
  const Lane<T> lane{memory.get(), memory.get() + size, memory.get() + 2 * size};
  const Scratch<Vec<T>> states((static_cast<size_t>((last - first) * n_states)));
  const Scratch<int32_t> token(static_cast<size_t>(size));
  for (int64_t batch = begin; batch < end; batch++)
    for (int64_t group = 0; group < g.groups; group++) {
      std::fill(states.get(), states.get() + (last - first) * n_states, Vec<T>{});
      const int64_t group_first = batch * g.length * g.row + group * g.step;
      for (int64_t chunk = 0; chunk < g.chunks(); chunk++) {
        const int64_t from = chunk * g.chunk, n = std::min(g.chunk, g.length - from);
        g.order.tokens(batch, group, from, n, token.get());
        for (int64_t v = first; v < last; v++) {
          const ScanColumn<T> column(g, group, v);
          const Vec<T>* rates = table.rates(group, v);
          Vec<T>* h = states.get() + (v - first) * n_states;
          T* at = kept + ((batch * g.chunks() + chunk) * g.channels() + column.channel) * n_states;
          for (int64_t k = 0; k < n_states; k++) column.store_strided(at, n_states, k, h[k]);
          scan_steps(g, batch, group, column, rates + n_states, token.get(), n, lane.dt);
          prepare(g, batch, column, token.get(), n, lane);
          scan_state_blocks(n_states, [&](auto count, int64_t k) {
            recur<T, decltype(count)::value>(g.b + group_first + k, g.c + group_first + k, g.row, rates + k,
                                             h + k, token.get(), n, lane);
          });
          write(g, batch, column, token.get(), n, g.merge && group > 0, lane.sum, y);
        }
      }
    }
}

}  // namespace

template <class T>
void scan_forward(const Scan<T>& g, T* y, T* states) {
  const ScanTable<T> table(g);
  const int64_t slices = g.slices();
  parallel_tasks(g.pieces() * slices, [&](int64_t task) {
    const int64_t begin = task / slices * g.entries(), first = task % slices * g.slice();
    run_task(g, table, begin, std::min(g.batch, begin + g.entries()), first,
             std::min(g.vectors(), first + g.slice()), y, states);
  });
}

template void scan_forward<float>(const Scan<float>&, float*, float*);
template void scan_forward<double>(const Scan<double>&, double*, double*);

}  // namespace qm::cpu::QM_ISA
