// Selective scan, channels last: h_j = exp(dt_j A) h_{j-1} + dt_j B_j u_j, y_j = <C_j, h_j> + D u_j, with j
// walking over tokens in the order given for each batch and group.
//
//   u [batch, length, channels] or [batch, length, channels / groups] shared by the groups
//   delta [batch, length, channels], A [channels, states], B and C [batch, length, groups, states], D and
//   bias [channels] order int32 [length] | [batch, length] | [1 or batch, groups, length]: each line a
//   permutation of the tokens y [batch, length, channels], or with merge [batch, length, channels / groups]:
//   the groups summed on their tokens states [batch, chunks, channels, states]: h before each chunk, all that
//   forward keeps for backward
//
// One task owns a batch entry and one vector of channels of every group: nothing is shared between tasks but
// dB and dC, which are summed over channel blocks afterwards, in order. States are float32 for float32 data.
#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

#include "formulas/math.h"

namespace {

constexpr int kMaxStates = 16;  // held in registers at a time; more states take more passes

struct Sizes {
  int64_t batch, length, channels, groups, states, chunk;
  int64_t per_group() const { return channels / groups; }
  int64_t chunks() const { return (length + chunk - 1) / chunk; }
};

/// Token of a scan position: order lines are picked by batch and group.
struct Order {
  const int32_t* data = nullptr;
  int64_t batch_stride = 0, group_stride = 0;
  const int32_t* line(int64_t batch, int64_t group) const {
    return data ? data + batch * batch_stride + group * group_stride : nullptr;
  }
};

Sizes sizes_of(const Call& call, const Shape& u, const Shape& delta, const Shape& a, const Shape& b,
               const Shape& c, int64_t chunk) {
  call.require(delta.rank == 3 && u.rank == 3 && a.rank == 2 && b.rank == 4 && b == c, "ranks 3, 3, 2, 4, 4");
  const Sizes s{delta[0], delta[1], delta[2], b[2], a[1], chunk};
  call.require(s.chunk >= 1 && s.groups >= 1 && s.channels % s.groups == 0 && a[0] == s.channels &&
                   b[0] == s.batch && b[1] == s.length && b[3] == s.states && u[0] == s.batch &&
                   u[1] == s.length && (u[2] == s.channels || u[2] == s.per_group()),
               "shapes that agree");
  return s;
}

void require_channels(const Call& call, const TensorView& t, const Sizes& s) {
  call.require(!t.present || (t.shape.rank == 1 && t.shape[0] == s.channels), "a [channels] vector");
}

/// Checks every line of the index: a token named twice would be written twice, one left out not at all.
Order order_of(const Call& call, const TensorView& t, const Sizes& s) {
  if (!t.present) return {};
  const Shape& shape = t.shape;
  call.require(t.dtype == DType::i32 && shape.rank >= 1 && shape.rank <= 3 && shape.last(0) == s.length,
               "an int32 order");
  Order order{t.as<int32_t>(), 0, 0};
  if (shape.rank == 2) {
    call.require(shape[0] == s.batch, "an order [batch, length]");
    order.batch_stride = s.length;
  } else if (shape.rank == 3) {
    call.require((shape[0] == 1 || shape[0] == s.batch) && shape[1] == s.groups,
                 "an order [1 or batch, groups, length]");
    order.batch_stride = shape[0] == 1 ? 0 : s.groups * s.length;
    order.group_stride = s.length;
  }
  const int64_t lines = shape.count(0, shape.rank - 1);
  Scratch<uint8_t> seen(static_cast<size_t>(s.length));
  for (int64_t line = 0; line < lines; line++) {
    std::memset(seen.get(), 0, static_cast<size_t>(s.length));
    for (int64_t j = 0; j < s.length; j++) {
      const int64_t token = order.data[line * s.length + j];
      if (token < 0 || token >= s.length || seen[token])
        throw Error(ErrorKind::index,
                    std::string(call.op) + ": order must be a permutation; expected each token from 0 to " +
                        std::to_string(s.length - 1) + " once, got " + std::to_string(token) +
                        (token < 0 || token >= s.length ? "" : " twice"));
      seen[token] = 1;
    }
  }
  return order;
}

template <class T>
struct Arguments {
  Sizes s;
  Order order;
  bool softplus, merge, shared_u;
  const T *u, *delta, *a, *b, *c, *d, *bias;
  int64_t u_channels() const { return shared_u ? s.per_group() : s.channels; }
  int64_t y_channels() const { return merge ? s.per_group() : s.channels; }
};

/// One vector of channels of one group: where its parameters and columns lie.
template <class T>
struct Column {
  int64_t first;  // channel in [0, channels)
  int64_t count;  // lanes in use
  Vec<T> bias, d;

  Column(const Arguments<T>& g, int64_t group, int64_t block)
      : first(group * g.s.per_group() + block * kLanes<T>),
        count(std::min<int64_t>(kLanes<T>, g.s.per_group() - block * kLanes<T>)),
        bias(g.bias ? load_n(g.bias + first, count) : Vec<T>{}),
        d(g.d ? load_n(g.d + first, count) : Vec<T>{}) {}

  Vec<T> rate(const Arguments<T>& g, int64_t state) const {
    Vec<T> v = {};
    for (int64_t l = 0; l < count; l++) v[l] = g.a[(first + l) * g.s.states + state];
    return v;
  }
};

template <class T>
QM_INLINE Vec<T> load_states(const T* states, int64_t n_states, int64_t n, int64_t count) {
  Vec<T> v = {};
  for (int64_t l = 0; l < count; l++) v[l] = states[l * n_states + n];
  return v;
}

/// States [from, from + kN or n) of one column; `add` adds to y instead of writing it.
template <class T, int kN>
void forward_column(const Arguments<T>& g, int64_t batch, int64_t group, int64_t block, int64_t from,
                    int64_t n_given, bool add, T* y, T* states) {
  const int n = kN > 0 ? kN : static_cast<int>(n_given);
  const Sizes& s = g.s;
  const Column<T> column(g, group, block);
  Vec<T> rate[kN > 0 ? kN : kMaxStates], h[kN > 0 ? kN : kMaxStates];
  for (int k = 0; k < n; k++) {
    rate[k] = column.rate(g, from + k);
    h[k] = Vec<T>{};
  }
  const int64_t in_group = block * kLanes<T>;
  const T* u = g.u + batch * s.length * g.u_channels() + (g.shared_u ? in_group : column.first);
  const T* delta = g.delta + batch * s.length * s.channels + column.first;
  const T* b = g.b + (batch * s.length * s.groups + group) * s.states + from;
  const T* c = g.c + (batch * s.length * s.groups + group) * s.states + from;
  T* out = y + batch * s.length * g.y_channels() + (g.merge ? in_group : column.first);
  const int32_t* line = g.order.line(batch, group);
  for (int64_t j = 0; j < s.length; j++) {
    if (j % s.chunk == 0) {
      T* at = states + ((batch * s.chunks() + j / s.chunk) * s.channels + column.first) * s.states + from;
      for (int k = 0; k < n; k++)
        for (int64_t l = 0; l < column.count; l++) at[l * s.states + k] = h[k][l];
    }
    const int64_t t = line ? line[j] : j;
    const Vec<T> ut = load_n(u + t * g.u_channels(), column.count);
    Vec<T> dt = load_n(delta + t * s.channels, column.count) + column.bias;
    if (g.softplus) dt = softplus_of(dt);
    const Vec<T> dtu = dt * ut;
    const T* bt = b + t * s.groups * s.states;
    const T* ct = c + t * s.groups * s.states;
    Vec<T> sum = from == 0 ? column.d * ut : Vec<T>{};
    for (int k = 0; k < n; k++) {
      h[k] = mul_add(exp_of(dt * rate[k]), h[k], dtu * bt[k]);
      sum = mul_add(h[k], splat(ct[k]), sum);
    }
    T* yt = out + t * g.y_channels();
    if (add) sum += load_n(yt, column.count);
    store_n(yt, sum, column.count);
  }
}

template <class T>
struct Gradients {
  T *du, *ddelta;
  T *da, *dd, *dbias;  // per batch: [batch, channels, states], [batch, channels], [batch, channels]
  T *db, *dc;          // per channel block: [blocks, batch, length, groups, states]
};

template <class T, int kN>
void backward_column(const Arguments<T>& g, const T* dy, const T* states, const Gradients<T>& grad,
                     int64_t batch, int64_t group, int64_t block, int64_t from, int64_t n_given, T* scratch) {
  const int n = kN > 0 ? kN : static_cast<int>(n_given);
  constexpr int kMax = kN > 0 ? kN : kMaxStates;
  const Sizes& s = g.s;
  const Column<T> column(g, group, block);
  Vec<T> rate[kMax], carry[kMax], da[kMax];
  for (int k = 0; k < n; k++) {
    rate[k] = column.rate(g, from + k);
    carry[k] = Vec<T>{};
    da[k] = Vec<T>{};
  }
  Vec<T> dd = {}, dbias = {};
  const int64_t in_group = block * kLanes<T>;
  const int64_t u_row = g.u_channels(), y_row = g.y_channels();
  const int64_t u_first = batch * s.length * u_row + (g.shared_u ? in_group : column.first);
  const int64_t delta_first = batch * s.length * s.channels + column.first;
  const T* dy_column = dy + batch * s.length * y_row + (g.merge ? in_group : column.first);
  const int64_t bc_row = s.groups * s.states;
  const int64_t bc_first = batch * s.length * bc_row + group * s.states + from;
  const int64_t bc_partial = block * s.batch * s.length * bc_row + bc_first;
  const int32_t* line = g.order.line(batch, group);
  const bool add_u = from > 0 || (g.shared_u && group > 0);
  // scratch of one chunk: dt, then per state the decay exp(dt A) and the state before the step
  T* dt_at = scratch;
  T* decay_at = scratch + s.chunk * kLanes<T>;
  T* before_at = decay_at + s.chunk * kMaxStates * kLanes<T>;

  for (int64_t chunk = s.chunks() - 1; chunk >= 0; chunk--) {
    const int64_t begin = chunk * s.chunk, end = std::min(s.length, begin + s.chunk);
    Vec<T> h[kMax];
    const T* saved = states + ((batch * s.chunks() + chunk) * s.channels + column.first) * s.states + from;
    for (int k = 0; k < n; k++) h[k] = load_states(saved, s.states, k, column.count);
    for (int64_t j = begin; j < end; j++) {
      const int64_t t = line ? line[j] : j;
      Vec<T> dt = load_n(g.delta + delta_first + t * s.channels, column.count) + column.bias;
      if (g.softplus) dt = softplus_of(dt);
      store(dt_at + (j - begin) * kLanes<T>, dt);
      const Vec<T> dtu = dt * load_n(g.u + u_first + t * u_row, column.count);
      const T* bt = g.b + bc_first + t * bc_row;
      for (int k = 0; k < n; k++) {
        const int64_t at = ((j - begin) * n + k) * kLanes<T>;
        const Vec<T> decay = exp_of(dt * rate[k]);
        store(decay_at + at, decay);
        store(before_at + at, h[k]);
        h[k] = mul_add(decay, h[k], dtu * bt[k]);
      }
    }
    for (int64_t j = end - 1; j >= begin; j--) {
      const int64_t t = line ? line[j] : j;
      const Vec<T> dt = load(dt_at + (j - begin) * kLanes<T>);
      const Vec<T> ut = load_n(g.u + u_first + t * u_row, column.count);
      const Vec<T> dyt = load_n(dy_column + t * y_row, column.count);
      const Vec<T> dtu = dt * ut;
      const T* bt = g.b + bc_first + t * bc_row;
      const T* ct = g.c + bc_first + t * bc_row;
      T* db = grad.db + bc_partial + t * bc_row;
      T* dc = grad.dc + bc_partial + t * bc_row;
      Vec<T> du = from == 0 ? column.d * dyt : Vec<T>{};
      Vec<T> ddt = {};
      for (int k = 0; k < n; k++) {
        const int64_t at = ((j - begin) * n + k) * kLanes<T>;
        const Vec<T> decay = load(decay_at + at), before = load(before_at + at);
        const Vec<T> now = mul_add(decay, before, dtu * bt[k]);
        const Vec<T> dh = mul_add(dyt, splat(ct[k]), carry[k]);
        const Vec<T> through = dh * decay * before;  // dh . d exp(dt A) h / d (dt A)
        dc[k] = lane_sum<T>(dyt * now);
        db[k] = lane_sum<T>(dh * dtu);
        const Vec<T> dhb = dh * bt[k];
        du = mul_add(dhb, dt, du);
        ddt = mul_add(dhb, ut, mul_add(through, rate[k], ddt));
        da[k] = mul_add(through, dt, da[k]);
        carry[k] = dh * decay;
      }
      if (from == 0) dd = mul_add(dyt, ut, dd);
      T* ddelta = grad.ddelta + delta_first + t * s.channels;
      if (g.softplus) {  // softplus' is the sigmoid; 1 - e^-dt would be cheaper, but loses four digits at dt
                         // = 0.001
        const Vec<T> raw = load_n(g.delta + delta_first + t * s.channels, column.count) + column.bias;
        ddt *= raw > 20 ? same(raw, 1) : sigmoid_of(raw);
      }
      dbias += ddt;
      if (from > 0) ddt += load_n(ddelta, column.count);
      store_n(ddelta, ddt, column.count);
      T* du_at = grad.du + u_first + t * u_row;
      if (add_u) du += load_n(du_at, column.count);
      store_n(du_at, du, column.count);
    }
  }
  const int64_t first = batch * s.channels + column.first;
  for (int k = 0; k < n; k++)
    for (int64_t l = 0; l < column.count; l++) grad.da[(first + l) * s.states + from + k] = da[k][l];
  if (from == 0) store_n(grad.dd + first, dd, column.count);
  if (from > 0) dbias += load_n(grad.dbias + first, column.count);
  store_n(grad.dbias + first, dbias, column.count);
}

/// sum over the leading axis of [n, size], in order, in double.
template <class T>
void sum_leading(const T* x, int64_t n, int64_t size, T* y) {
  parallel_for(size, 4096, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      double total = 0;
      for (int64_t k = 0; k < n; k++) total += static_cast<double>(x[k * size + i]);
      y[i] = static_cast<T>(total);
    }
  });
}

/// Runs fn<1>, fn<4>, fn<16> or the general form over blocks of states.
template <class Fn>
void for_states(int64_t states, Fn&& fn) {
  for (int64_t from = 0; from < states; from += kMaxStates) {
    const int64_t n = std::min<int64_t>(kMaxStates, states - from);
    if (n == 1)
      fn(std::integral_constant<int, 1>{}, from, n);
    else if (n == 4)
      fn(std::integral_constant<int, 4>{}, from, n);
    else if (n == 16)
      fn(std::integral_constant<int, 16>{}, from, n);
    else
      fn(std::integral_constant<int, 0>{}, from, n);
  }
}

template <class T>
Arguments<T> arguments(const Call& call, int first, const Sizes& s, const Order& order, bool shared_u) {
  const auto data = [&](int k) {
    return call.in[first + k].present ? call.in[first + k].template as<T>() : nullptr;
  };
  return Arguments<T>{s,       order,   call.attrs.b(0), call.attrs.b(1), shared_u, data(0),
                      data(1), data(2), data(3),         data(4),         data(5),  data(6)};
}

void require_dtypes(const Call& call, int count, DType dtype) {
  for (int k = 0; k < count; k++)
    call.require(!call.in[k].present || call.in[k].dtype == dtype, "inputs of one dtype");
  for (int k = 0; k < call.n_out; k++)
    call.require(call.out[k].dtype == dtype, "outputs of the input's dtype");
}

Shape shape3(int64_t a, int64_t b, int64_t c) { return Shape{3, {a, b, c}}; }

}  // namespace

/// in: u, delta, A, B, C, D?, bias?, order?; out: y, states.
void selective_scan_fwd(const Call& call) {
  const TensorView* in = call.in;
  const Sizes s =
      sizes_of(call, in[0].shape, in[1].shape, in[2].shape, in[3].shape, in[4].shape, call.attrs.i(2));
  require_channels(call, in[5], s);
  require_channels(call, in[6], s);
  require_dtypes(call, 7, in[0].dtype);
  const bool merge = call.attrs.b(1), shared_u = in[0].shape[2] != s.channels;
  call.require(call.out[0].shape == shape3(s.batch, s.length, merge ? s.per_group() : s.channels),
               "y of its shape");
  call.require(call.out[1].shape == Shape{4, {s.batch, s.chunks(), s.channels, s.states}},
               "states of their shape");
  const Order order = order_of(call, in[7], s);
  float_dispatch(call, in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const Arguments<T> g = arguments<T>(call, 0, s, order, shared_u);
    T* y = call.out[0].as<T>();
    T* states = call.out[1].as<T>();
    const int64_t blocks = (s.per_group() + kLanes<T> - 1) / kLanes<T>;
    parallel_tasks(s.batch * blocks, [&](int64_t task) {
      for (int64_t group = 0; group < s.groups; group++)
        for_states(s.states, [&](auto n_fixed, int64_t from, int64_t n) {
          forward_column<T, decltype(n_fixed)::value>(g, task / blocks, group, task % blocks, from, n,
                                                      from > 0 || (g.merge && group > 0), y, states);
        });
    });
  });
}

/// in: dy, u, delta, A, B, C, D?, bias?, states, order?; out: du, ddelta, dA, dB, dC, dD, dbias.
void selective_scan_bwd(const Call& call) {
  const TensorView* in = call.in;
  const Sizes s =
      sizes_of(call, in[1].shape, in[2].shape, in[3].shape, in[4].shape, in[5].shape, call.attrs.i(2));
  require_channels(call, in[6], s);
  require_channels(call, in[7], s);
  require_dtypes(call, 9, in[0].dtype);
  const bool merge = call.attrs.b(1), shared_u = in[1].shape[2] != s.channels;
  call.require(in[0].shape == shape3(s.batch, s.length, merge ? s.per_group() : s.channels),
               "dy of y's shape");
  call.require(in[8].shape == Shape{4, {s.batch, s.chunks(), s.channels, s.states}}, "states of their shape");
  for (int k = 0; k < 5; k++)
    call.require(call.out[k].shape == in[k + 1].shape, "gradients of their input's shape");
  for (int k = 5; k < 7; k++) require_channels(call, call.out[k], s);
  const Order order = order_of(call, in[9], s);
  float_dispatch(call, in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const Arguments<T> g = arguments<T>(call, 1, s, order, shared_u);
    const int64_t blocks = (s.per_group() + kLanes<T> - 1) / kLanes<T>;
    const int64_t bc_size = s.batch * s.length * s.groups * s.states;
    const size_t partial_bc = blocks > 1 ? static_cast<size_t>(blocks * bc_size) : 0;
    const size_t channels = static_cast<size_t>(s.batch * s.channels);
    Scratch<T> db(partial_bc), dc(partial_bc), da(channels * static_cast<size_t>(s.states)), dd(channels),
        dbias(channels);
    const Gradients<T> grad{call.out[0].as<T>(),
                            call.out[1].as<T>(),
                            da.get(),
                            dd.get(),
                            dbias.get(),
                            blocks > 1 ? db.get() : call.out[3].as<T>(),
                            blocks > 1 ? dc.get() : call.out[4].as<T>()};
    parallel_tasks(s.batch * blocks, [&](int64_t task) {
      Scratch<T> scratch(static_cast<size_t>(s.chunk * (1 + 2 * kMaxStates) * kLanes<T>));
      for (int64_t group = 0; group < s.groups; group++)
        for_states(s.states, [&](auto n_fixed, int64_t from, int64_t n) {
          backward_column<T, decltype(n_fixed)::value>(g, in[0].as<T>(), in[8].as<T>(), grad, task / blocks,
                                                       group, task % blocks, from, n, scratch.get());
        });
    });
    if (blocks > 1) {
      sum_leading(db.get(), blocks, bc_size, call.out[3].as<T>());
      sum_leading(dc.get(), blocks, bc_size, call.out[4].as<T>());
    }
    sum_leading(da.get(), s.batch, s.channels * s.states, call.out[2].as<T>());
    sum_leading(dd.get(), s.batch, s.channels, call.out[5].as<T>());
    sum_leading(dbias.get(), s.batch, s.channels, call.out[6].as<T>());
  });
}

}  // namespace qm::cpu::QM_ISA
