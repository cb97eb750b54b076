// The selective scan of SS2D, with its steps, B and C as one projection of the tokens: see cpu/scan.h. Steps are
// projected further within the scan, so that they never lie in memory.
//
//   u [batch, length, width], shared by the groups; projected [batch, length, groups, rank + 2 states];
//   weight [groups, width, rank]; A [groups width, states]; D and bias [groups width]; y [batch, length, width];
//   states [batch, chunks, groups width, states]
#include "cpu/scan.h"

namespace qm::cpu::QM_ISA {

namespace {

/// The scan whose inputs u, projected, weight, A, D?, bias? start at in[first], checked.
template <class T>
Scan<T> scan_of(const Call& call, int first, const TensorView& order) {
  const TensorView* in = call.in + first;
  const Shape &u = in[0].shape, &projected = in[1].shape, &weight = in[2].shape, &a = in[3].shape;
  call.require(u.rank == 3 && projected.rank == 4 && weight.rank == 3 && a.rank == 2, "ranks 3, 4, 3, 2");
  Scan<T> g{};
  g.batch = u[0], g.length = u[1], g.width = u[2], g.groups = weight[0], g.rank = weight[2], g.states = a[1];
  g.chunk = call.attrs.i(0);
  g.softplus = g.merge = g.shared_u = true;
  call.require(g.chunk >= 1 && g.groups >= 1 && g.rank >= 1 && weight[1] == g.width && a[0] == g.channels() &&
                   projected == Shape{4, {g.batch, g.length, g.groups, g.rank + 2 * g.states}},
               "shapes that agree");
  for (int k = 0; k < 6; k++)
    call.require(!in[k].present || in[k].dtype == call.in[0].dtype, "inputs of one dtype");
  for (int k = 4; k < 6; k++)
    call.require(!in[k].present || (in[k].shape.rank == 1 && in[k].shape[0] == g.channels()),
                 "a [channels] vector");
  for (int k = 0; k < call.n_out; k++)
    call.require(call.out[k].dtype == call.in[0].dtype, "outputs of the input's dtype");
  g.u = in[0].as<const T>();
  g.steps = in[1].as<const T>(), g.b = g.steps + g.rank, g.c = g.b + g.states;
  g.step = g.rank + 2 * g.states, g.row = g.groups * g.step;
  g.weight = in[2].as<const T>(), g.a = in[3].as<const T>();
  g.d = in[4].present ? in[4].as<const T>() : nullptr;
  g.bias = in[5].present ? in[5].as<const T>() : nullptr;
  g.order = ScanOrder::of(call, order, g.batch, g.groups, g.length);
  return g;
}

}  // namespace

/// in: u, projected, weight, A, D?, bias?, order?; out: y, states.
void projected_scan_fwd(const Call& call) {
  float_dispatch(call, call.in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const Scan<T> g = scan_of<T>(call, 0, call.in[6]);
    call.require(call.out[0].shape == call.in[0].shape, "y of u's shape");
    call.require(call.out[1].shape == Shape{4, {g.batch, g.chunks(), g.channels(), g.states}},
                 "states of their shape");
    scan_forward(g, call.out[0].as<T>(), call.out[1].as<T>());
  });
}

/// in: dy, u, projected, weight, A, D?, bias?, states, order?; out: du, dprojected, dweight, dA, dD, dbias.
void projected_scan_bwd(const Call& call) {
  const TensorView *in = call.in, *out = call.out;
  float_dispatch(call, in[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const Scan<T> g = scan_of<T>(call, 1, in[8]);
    call.require(in[0].shape == in[1].shape, "dy of u's shape");
    call.require(
        in[7].dtype == in[0].dtype && in[7].shape == Shape{4, {g.batch, g.chunks(), g.channels(), g.states}},
        "states of their shape");
    for (int k = 0; k < 4; k++)
      call.require(out[k].shape == in[k + 1].shape, "gradients of their input's shape");
    for (int k = 4; k < 6; k++)
      call.require(out[k].shape.rank == 1 && out[k].shape[0] == g.channels(), "a [channels] vector");
    const int64_t slices = g.slices(), size = g.batch * g.length * g.row;
    const size_t channels = static_cast<size_t>(g.pieces() * g.channels());
    const Scratch<T> partial(slices > 1 ? static_cast<size_t>(slices * size) : 0),
        dweight(channels * static_cast<size_t>(g.rank)), da(channels * static_cast<size_t>(g.states)),
        dd(channels), dbias(channels);
    T* dprojected = slices > 1 ? partial.get() : out[1].as<T>();
    const ScanGradients<T> grad{
        out[0].as<T>(), nullptr,  dprojected, dprojected + g.rank, dprojected + g.rank + g.states, size,
        dweight.get(),  da.get(), dd.get(),   dbias.get()};
    scan_backward(g, in[0].as<const T>(), in[7].as<const T>(), grad);
    if (slices > 1) sum_leading(partial.get(), slices, size, out[1].as<T>());
    sum_leading(dweight.get(), g.pieces(), g.channels() * g.rank, out[2].as<T>());
    sum_leading(da.get(), g.pieces(), g.channels() * g.states, out[3].as<T>());
    sum_leading(dd.get(), g.pieces(), g.channels(), out[4].as<T>());
    sum_leading(dbias.get(), g.pieces(), g.channels(), out[5].as<T>());
  });
}

}  // namespace qm::cpu::QM_ISA
