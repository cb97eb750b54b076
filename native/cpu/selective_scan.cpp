// The selective scan with its steps, B and C given: see cpu/scan.h.
//
//   u [batch, length, channels] or [batch, length, channels / groups] shared by the groups
//   delta [batch, length, channels], A [channels, states], B and C [batch, length, groups, states], D and
//   bias [channels]; order int32 [length] | [batch, length] | [1 or batch, groups, length]: each line a
//   permutation of the tokens; y [batch, length, channels], or with merge [batch, length, channels / groups]:
//   the groups summed on their tokens; states [batch, chunks, channels, states]
#include "cpu/scan.h"

namespace qm::cpu::QM_ISA {

ScanOrder ScanOrder::of(const Call& call, const TensorView& t, int64_t batch, int64_t groups,
                        int64_t length) {
  if (!t.present) return {};
  const Shape& shape = t.shape;
  call.require(t.dtype == DType::i32 && shape.rank >= 1 && shape.rank <= 3 && shape.last(0) == length,
               "an int32 order");
  ScanOrder order{t.as<int32_t>(), 0, 0};
  if (shape.rank == 2) {
    call.require(shape[0] == batch, "an order [batch, length]");
    order.batch_stride = length;
  } else if (shape.rank == 3) {
    call.require((shape[0] == 1 || shape[0] == batch) && shape[1] == groups,
                 "an order [1 or batch, groups, length]");
    order.batch_stride = shape[0] == 1 ? 0 : groups * length;
    order.group_stride = length;
  }
  const int64_t lines = shape.count(0, shape.rank - 1);
  Scratch<uint8_t> seen(static_cast<size_t>(length));
  for (int64_t line = 0; line < lines; line++) {
    std::memset(seen.get(), 0, static_cast<size_t>(length));
    for (int64_t j = 0; j < length; j++) {
      const int64_t token = order.data[line * length + j];
      if (token < 0 || token >= length || seen[token])
        throw Error(ErrorKind::index, std::string(call.op) +
                                          ": order must be a permutation; expected each token from 0 to " +
                                          std::to_string(length - 1) + " once, got " + std::to_string(token) +
                                          (token < 0 || token >= length ? "" : " twice"));
      seen[token] = 1;
    }
  }
  return order;
}

namespace {

/// The scan whose inputs u, delta, A, B, C, D?, bias? start at in[first], checked.
template <class T>
Scan<T> scan_of(const Call& call, int first, const TensorView& order) {
  const TensorView* in = call.in + first;
  const Shape &u = in[0].shape, &delta = in[1].shape, &a = in[2].shape, &b = in[3].shape;
  call.require(delta.rank == 3 && u.rank == 3 && a.rank == 2 && b.rank == 4 && b == in[4].shape,
               "ranks 3, 3, 2, 4, 4");
  const int64_t batch = delta[0], length = delta[1], channels = delta[2], groups = b[2], states = a[1];
  const int64_t chunk = call.attrs.i(2);
  call.require(chunk >= 1 && groups >= 1 && channels % groups == 0 && a[0] == channels && b[0] == batch &&
                   b[1] == length && b[3] == states && u[0] == batch && u[1] == length &&
                   (u[2] == channels || u[2] == channels / groups),
               "shapes that agree");
  for (int k = 0; k < 7; k++)
    call.require(!in[k].present || in[k].dtype == call.in[0].dtype, "inputs of one dtype");
  for (int k = 5; k < 7; k++)
    call.require(!in[k].present || (in[k].shape.rank == 1 && in[k].shape[0] == channels),
                 "a [channels] vector");
  for (int k = 0; k < call.n_out; k++)
    call.require(call.out[k].dtype == call.in[0].dtype, "outputs of the input's dtype");
  const auto optional = [&](int k) { return in[k].present ? in[k].as<const T>() : nullptr; };
  Scan<T> g{};
  g.batch = batch, g.length = length, g.groups = groups, g.width = channels / groups, g.states = states;
  g.chunk = chunk;
  g.softplus = call.attrs.b(0), g.merge = call.attrs.b(1), g.shared_u = u[2] != channels;
  g.u = in[0].as<const T>(), g.delta = in[1].as<const T>(), g.a = in[2].as<const T>();
  g.b = in[3].as<const T>(), g.c = in[4].as<const T>();
  g.row = groups * states, g.step = states;
  g.d = optional(5), g.bias = optional(6);
  g.order = ScanOrder::of(call, order, batch, groups, length);
  return g;
}

}  // namespace

/// in: u, delta, A, B, C, D?, bias?, order?; out: y, states.
void selective_scan_fwd(const Call& call) {
  float_dispatch(call, call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const Scan<T> g = scan_of<T>(call, 0, call.in[7]);
    call.require(call.out[0].shape == Shape{3, {g.batch, g.length, g.y_row()}}, "y of its shape");
    call.require(call.out[1].shape == Shape{4, {g.batch, g.chunks(), g.channels(), g.states}},
                 "states of their shape");
    scan_forward(g, call.out[0].as<T>(), call.out[1].as<T>());
  });
}

/// in: dy, u, delta, A, B, C, D?, bias?, states, order?; out: du, ddelta, dA, dB, dC, dD, dbias.
void selective_scan_bwd(const Call& call) {
  const TensorView *in = call.in, *out = call.out;
  float_dispatch(call, in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const Scan<T> g = scan_of<T>(call, 1, in[9]);
    call.require(in[0].shape == Shape{3, {g.batch, g.length, g.y_row()}}, "dy of y's shape");
    call.require(
        in[8].dtype == in[0].dtype && in[8].shape == Shape{4, {g.batch, g.chunks(), g.channels(), g.states}},
        "states of their shape");
    for (int k = 0; k < 5; k++)
      call.require(out[k].shape == in[k + 1].shape, "gradients of their input's shape");
    for (int k = 5; k < 7; k++)
      call.require(out[k].shape.rank == 1 && out[k].shape[0] == g.channels(), "a [channels] vector");
    const int64_t slices = g.slices(), size = g.batch * g.length * g.row;
    const size_t partial = slices > 1 ? static_cast<size_t>(slices * size) : 0;
    const size_t channels = static_cast<size_t>(g.pieces() * g.channels());
    const Scratch<T> db(partial), dc(partial), da(channels * static_cast<size_t>(g.states)), dd(channels),
        dbias(channels);
    const ScanGradients<T> grad{out[0].as<T>(),
                                out[1].as<T>(),
                                nullptr,
                                slices > 1 ? db.get() : out[3].as<T>(),
                                slices > 1 ? dc.get() : out[4].as<T>(),
                                size,
                                nullptr,
                                da.get(),
                                dd.get(),
                                dbias.get()};
    scan_backward(g, in[0].as<const T>(), in[8].as<const T>(), grad);
    if (slices > 1) {
      sum_leading(db.get(), slices, size, out[3].as<T>());
      sum_leading(dc.get(), slices, size, out[4].as<T>());
    }
    sum_leading(da.get(), g.pieces(), g.channels() * g.states, out[2].as<T>());
    sum_leading(dd.get(), g.pieces(), g.channels(), out[5].as<T>());
    sum_leading(dbias.get(), g.pieces(), g.channels(), out[6].as<T>());
  });
}

}  // namespace qm::cpu::QM_ISA
