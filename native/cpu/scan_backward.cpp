// Gradients of the selective scan: see cpu/scan.h. Chunks are walked from the last to the first; the states within
// one are computed again from the state before it.
#include "cpu/scan.h"

namespace qm::cpu::QM_ISA {

#include "formulas/math.h"

namespace {

/// What one vector of channels needs of the tokens of a chunk, a vector per token.
template <class T>
struct Lane {
  T *dt, *slope;  // step size, and softplus' of what it is made of
  T *u, *dy;
  T *du, *ddt;        // sums over the states
  T *decay, *before;  // per state of a block: exp(dt A), and the state before the step
};

/// The same, over the sequences of a task; but carry, which starts anew with each.
template <class T>
struct Column {
  Vec<T>*carry, *da;  // per state
  Vec<T>* dweight;    // per step of the projection
  Vec<T>*dd, *dbias;
};

template <class T>
__attribute__((noinline)) void prepare(const Scan<T>& g, int64_t batch, const ScanColumn<T>& column,
                                       const T* dy, const int32_t* token, int64_t n, const Lane<T>& lane,
                                       Vec<T>* dd) {
  const Vec<T> bias = column.parameter(g.bias), d = column.parameter(g.d);
  const T* u = g.u + batch * g.length * g.u_row() + (g.shared_u ? column.in_group : column.channel);
  const T* dy_at = dy + batch * g.length * g.y_row() + (g.merge ? column.in_group : column.channel);
  Vec<T> sum = *dd;
  for (int64_t j = 0; j < n; j++) {
    const int64_t at = j * kLanes<T>;
    const Vec<T> ut = load_n(u + token[j] * g.u_row(), column.count);
    const Vec<T> dyt = load_n(dy_at + token[j] * g.y_row(), column.count);
    Vec<T> dt = load(lane.dt + at) + bias, slope = same(dt, 1);
    if (g.softplus) dt = softplus_of(dt, &slope);
    store(lane.dt + at, dt);
    store(lane.slope + at, slope);
    store(lane.u + at, ut);
    store(lane.dy + at, dyt);
    store(lane.du + at, d * dyt);
    store(lane.ddt + at, Vec<T>{});
    sum = mul_add(dyt, ut, sum);
  }
  *dd = sum;
}

/// kN of all states of a vector of channels over a chunk, forth and back. db and dc: vectors [tokens, all] of products
/// that are yet to be summed over channels.
template <class T, int kN>
__attribute__((noinline)) void recur(const T* b, const T* c, int64_t row, const Vec<T>* h0,
                                     const Vec<T>* rates, Vec<T>* carries, Vec<T>* das, const int32_t* token,
                                     int64_t n, int64_t all, const Lane<T>& lane, T* db, T* dc) {
  Vec<T> h[kN], rate[kN], da[kN];
  for (int k = 0; k < kN; k++) {
    rate[k] = rates[k];
    h[k] = h0[k];
    da[k] = das[k];
  }
  for (int64_t j = 0; j < n; j++) {
    const Vec<T> dt = load(lane.dt + j * kLanes<T>), dtu = dt * load(lane.u + j * kLanes<T>);
    const T* bt = b + token[j] * row;
    for (int k = 0; k < kN; k++) {
      const int64_t at = (j * kN + k) * kLanes<T>;
      const Vec<T> decay = exp_of(dt * rate[k]);
      store(lane.decay + at, decay);
      store(lane.before + at, h[k]);
      h[k] = mul_add(decay, h[k], dtu * bt[k]);
    }
  }
  Vec<T> carry[kN];
  for (int k = 0; k < kN; k++) carry[k] = carries[k];
  for (int64_t j = n - 1; j >= 0; j--) {
    const int64_t here = j * kLanes<T>;
    const Vec<T> dt = load(lane.dt + here), ut = load(lane.u + here), dyt = load(lane.dy + here);
    const Vec<T> dtu = dt * ut;
    const T *bt = b + token[j] * row, *ct = c + token[j] * row;
    Vec<T> du_part = {}, ddt = load(lane.ddt + here);  // du_part: of B h', times dt in the end
    for (int k = 0; k < kN; k++) {
      const int64_t at = (j * kN + k) * kLanes<T>;
      T *db_at = db + (j * all + k) * kLanes<T>, *dc_at = dc + (j * all + k) * kLanes<T>;
      const Vec<T> decay = load(lane.decay + at), before = load(lane.before + at);
      const Vec<T> dh = mul_add(dyt, splat(ct[k]), carry[k]);
      store(dc_at, mul_add(dyt, h[k], load(dc_at)));
      store(db_at, mul_add(dh, dtu, load(db_at)));
      carry[k] = dh * decay;
      const Vec<T> through = carry[k] * before;  // dh . d exp(dt A) h / d (dt A)
      du_part = mul_add(dh, splat(bt[k]), du_part);
      ddt = mul_add(through, rate[k], ddt);
      da[k] = mul_add(through, dt, da[k]);
      h[k] = before;
    }
    store(lane.ddt + here, mul_add(du_part, ut, ddt));
    store(lane.du + here, mul_add(du_part, dt, load(lane.du + here)));
  }
  for (int k = 0; k < kN; k++) {
    carries[k] = carry[k];
    das[k] = da[k];
  }
}

/// Writes what a chunk adds to the gradients of u and of the steps, and turns ddt into the gradient of what softplus
/// was applied to.
template <class T>
__attribute__((noinline)) void write(const Scan<T>& g, int64_t batch, const ScanColumn<T>& column,
                                     const int32_t* token, int64_t n, bool add_u, const Lane<T>& lane, T* du,
                                     T* ddelta, Vec<T>* dbias) {
  T* du_at = du + batch * g.length * g.u_row() + (g.shared_u ? column.in_group : column.channel);
  Vec<T> sum = *dbias;
  for (int64_t j = 0; j < n; j++) {
    const int64_t at = j * kLanes<T>;
    const Vec<T> dx = load(lane.ddt + at) * load(lane.slope + at);
    sum += dx;
    if (ddelta)
      store_n(ddelta + (batch * g.length + token[j]) * g.channels() + column.channel, dx, column.count);
    else
      store(lane.ddt + at, dx);
    T* to = du_at + token[j] * g.u_row();
    Vec<T> v = load(lane.du + at);
    if (add_u) v += load_n(to, column.count);
    store_n(to, v, column.count);
  }
  *dbias = sum;
}

/// Gradients of the projection of steps; dsteps as db in `recur`.
template <class T>
__attribute__((noinline)) void project_back(const T* steps, int64_t row, int64_t rank, const int32_t* token,
                                            int64_t n, const T* dx, const Vec<T>* weight, Vec<T>* dweight,
                                            T* dsteps) {
  for (int64_t r = 0; r < rank; r++) {
    const Vec<T> w = weight[r];
    Vec<T> even = dweight[r], odd = {};
    const auto add = [&](int64_t j, Vec<T> & sum) __attribute__((always_inline)) {
      const Vec<T> d = load(dx + j * kLanes<T>);
      T* to = dsteps + (j * rank + r) * kLanes<T>;
      store(to, mul_add(d, w, load(to)));
      sum = mul_add(d, splat(steps[token[j] * row + r]), sum);
    };
    int64_t j = 0;
    for (; j + 2 <= n; j += 2) {
      add(j, even);
      add(j + 1, odd);
    }
    if (j < n) add(j, even);
    dweight[r] = even + odd;
  }
}

/// The lane sums of vectors [n, count] to to[token row + k].
template <class T>
__attribute__((noinline)) void sum_channels(const T* vectors, int64_t count, const int32_t* token, int64_t n,
                                            int64_t row, T* to) {
  int64_t j = 0, k = 0;
  for (int64_t first = 0; first < n * count; first += kLanes<T>) {
    T sums[kLanes<T>];
    store(sums, lane_sums<T>(vectors + first * kLanes<T>));
    for (int64_t l = 0; l < std::min<int64_t>(kLanes<T>, n * count - first); l++) {
      to[token[j] * row + k] = sums[l];
      if (++k < count) continue;
      k = 0;
      j++;
    }
  }
}

/// A slice of vectors of a few batch entries.
template <class T>
class Task {
 public:
  Task(const Scan<T>& g, const ScanTable<T>& table, const T* dy, const T* kept, const ScanGradients<T>& grad,
       int64_t piece, int64_t slice)
      : g_(g),
        table_(table),
        dy_(dy),
        kept_(kept),
        grad_(grad),
        piece_(piece),
        slice_(slice),
        first_(slice * g.slice()),
        last_(std::min(g.vectors(), first_ + g.slice())),
        room_(std::min(g.chunk, g.length)),
        per_vector_(2 * g.states + g.rank + 2),
        lanes_(static_cast<size_t>((6 + 2 * 4) * room_ * kLanes<T>)),
        // lane_sums reads whole groups of vectors
        products_(static_cast<size_t>(((2 * g.states + g.rank) * room_ + 3 * kLanes<T>)*kLanes<T>)),
        vectors_(static_cast<size_t>((last_ - first_) * per_vector_ + g.states)),
        token_(static_cast<size_t>(room_)) {
    std::fill(products_.get(), products_.get() + ((2 * g.states + g.rank) * room_ + 3 * kLanes<T>)*kLanes<T>,
              T{0});
  }

  void run() {
    const int64_t begin = piece_ * g_.entries(), end = std::min(g_.batch, begin + g_.entries());
    for (int64_t group = 0; group < g_.groups; group++) {
      std::fill(vectors_.get(), vectors_.get() + (last_ - first_) * per_vector_, Vec<T>{});
      for (int64_t batch = begin; batch < end; batch++) {
        for (int64_t v = first_; v < last_; v++)
          std::fill(column_of(v).carry, column_of(v).carry + g_.states, Vec<T>{});
        for (int64_t chunk = g_.chunks() - 1; chunk >= 0; chunk--) walk(batch, group, chunk);
      }
      for (int64_t v = first_; v < last_; v++) finish(group, v);
    }
  }

 private:
  Column<T> column_of(int64_t v) const {
    Vec<T>* at = vectors_.get() + (v - first_) * per_vector_;
    const int64_t n = g_.states, r = g_.rank;
    return {at, at + n, at + 2 * n, at + 2 * n + r, at + 2 * n + r + 1};
  }

  void walk(int64_t batch, int64_t group, int64_t chunk) {
    const int64_t begin = chunk * g_.chunk, n = std::min(g_.chunk, g_.length - begin), n_states = g_.states;
    const int64_t size = room_ * kLanes<T>;
    T* at = lanes_.get();
    const Lane<T> lane{at,
                       at + size,
                       at + 2 * size,
                       at + 3 * size,
                       at + 4 * size,
                       at + 5 * size,
                       at + 6 * size,
                       at + 10 * size};
    const int64_t whole = kLanes<T> * kLanes<T>;  // read past the end by lane_sums
    T *db = products_.get(), *dc = db + n_states * size + whole, *dsteps = dc + n_states * size + whole;
    std::fill(db, db + n * n_states * kLanes<T>, T{0});
    std::fill(dc, dc + n * n_states * kLanes<T>, T{0});
    std::fill(dsteps, dsteps + n * g_.rank * kLanes<T>, T{0});
    const int32_t* token = token_.get();
    g_.order.tokens(batch, group, begin, n, token_.get());
    const int64_t group_first = batch * g_.length * g_.row + group * g_.step;
    for (int64_t v = first_; v < last_; v++) {
      const ScanColumn<T> place(g_, group, v);
      const Column<T> column = column_of(v);
      const Vec<T>* rates = table_.rates(group, v);
      Vec<T>* h = vectors_.get() + (last_ - first_) * per_vector_;
      const T* saved = kept_ + ((batch * g_.chunks() + chunk) * g_.channels() + place.channel) * n_states;
      for (int64_t k = 0; k < n_states; k++) h[k] = place.strided(saved, n_states, k);
      scan_steps(g_, batch, group, place, rates + n_states, token, n, lane.dt);
      prepare(g_, batch, place, dy_, token, n, lane, column.dd);
      scan_state_blocks(n_states, [&](auto count, int64_t k) {
        recur<T, decltype(count)::value>(g_.b + group_first + k, g_.c + group_first + k, g_.row, h + k,
                                         rates + k, column.carry + k, column.da + k, token, n, n_states, lane,
                                         db + k * kLanes<T>, dc + k * kLanes<T>);
      });
      write(g_, batch, place, token, n, g_.shared_u && group > 0, lane, grad_.du, grad_.ddelta, column.dbias);
      if (g_.rank > 0)
        project_back(g_.steps + group_first, g_.row, g_.rank, token, n, lane.ddt, rates + n_states,
                     column.dweight, dsteps);
    }
    const int64_t first = slice_ * grad_.slice_size + group_first;
    sum_channels(db, n_states, token, n, g_.row, grad_.db + first);
    sum_channels(dc, n_states, token, n, g_.row, grad_.dc + first);
    if (g_.rank > 0) sum_channels(dsteps, g_.rank, token, n, g_.row, grad_.dsteps + first);
  }

  void finish(int64_t group, int64_t v) {
    const ScanColumn<T> place(g_, group, v);
    const Column<T> column = column_of(v);
    const int64_t first = piece_ * g_.channels() + place.channel;
    for (int64_t k = 0; k < g_.states; k++)
      place.store_strided(grad_.da + first * g_.states, g_.states, k, column.da[k]);
    for (int64_t r = 0; r < g_.rank; r++)
      place.store_strided(grad_.dweight + first * g_.rank, g_.rank, r, column.dweight[r]);
    store_n(grad_.dd + first, *column.dd, place.count);
    store_n(grad_.dbias + first, *column.dbias, place.count);
  }

  const Scan<T>& g_;
  const ScanTable<T>& table_;
  const T *dy_, *kept_;
  const ScanGradients<T>& grad_;
  int64_t piece_, slice_, first_, last_, room_, per_vector_;
  Scratch<T> lanes_, products_;
  Scratch<Vec<T>> vectors_;
  Scratch<int32_t> token_;
};

}  // namespace

template <class T>
void scan_backward(const Scan<T>& g, const T* dy, const T* states, const ScanGradients<T>& grad) {
  const ScanTable<T> table(g);
  const int64_t slices = g.slices();
  parallel_tasks(g.pieces() * slices, [&](int64_t task) {
    Task<T>(g, table, dy, states, grad, task / slices, task % slices).run();
  });
}

template void scan_backward<float>(const Scan<float>&, const float*, const float*,
                                   const ScanGradients<float>&);
template void scan_backward<double>(const Scan<double>&, const double*, const double*,
                                    const ScanGradients<double>&);

}  // namespace qm::cpu::QM_ISA
