// Products of tensors, all by way of gemm: batched with broadcasting, linear layers with and without a GELU
// before them, and linear layers in groups. The MLP keeps only what goes into its GELU: gelu(h) is made again
// where a product reads it.
#include "cuda/gemm.h"
#include "cuda/gemm_weight.h"

namespace qm::cuda {

namespace {

/// x, y and their gradients have the output's dtype (`data`); parameters and their gradients are float32
/// where the data is bfloat16.
void require_dtypes(const Call& call, const TensorView& data,
                    std::initializer_list<const TensorView*> tensors,
                    std::initializer_list<const TensorView*> parameters) {
  for (const TensorView* t : tensors) call.require(t->dtype == data.dtype, "tensors of one dtype");
  for (const TensorView* t : parameters)
    call.require(!t->present || t->dtype == acc_dtype(data.dtype),
                 "parameters of the data's dtype, float32 with bfloat16");
}

bool batch_fits(const Shape& in, const Shape& out) {
  if (in.rank < 2 || in.rank > out.rank) return false;
  for (int from_end = 2; from_end < in.rank; from_end++)
    if (in.last(from_end) != 1 && in.last(from_end) != out.last(from_end)) return false;
  return true;
}

/// Elements between neighbours of the batch axis `from_end`, 0 where the operand is broadcast.
int64_t batch_stride(const Shape& in, int from_end) {
  if (from_end >= in.rank || in.last(from_end) == 1) return 0;
  return in.count(in.rank - from_end, in.rank);
}

}  // namespace

/// out [.., m, n] = a [.., m, k] b [.., k, n]; a flag says that an operand lies transposed.
void matmul_fwd(const Call& call) {
  require_dtypes(call, call.out[0], {&call.in[0], &call.in[1]}, {});
  const bool trans_a = call.attrs.b(0), trans_b = call.attrs.b(1);
  const Shape &sa = call.in[0].shape, &sb = call.in[1].shape, &so = call.out[0].shape;
  call.require(so.rank >= 2 && batch_fits(sa, so) && batch_fits(sb, so),
               "matrices with batches that broadcast");
  const int64_t m = so.last(1), n = so.last(0), k = sa.last(trans_a ? 1 : 0);
  call.require(
      sa.last(trans_a ? 0 : 1) == m && sb.last(trans_b ? 1 : 0) == n && sb.last(trans_b ? 0 : 1) == k,
      "[m, k] x [k, n] = [m, n]");
  float_dispatch(call, call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    Product<T, T> p{m,
                    n,
                    k,
                    {call.in[0].as<T>(), sa.last(0), trans_a},
                    {call.in[1].as<T>(), sb.last(0), !trans_b},
                    call.out[0].as<T>(),
                    n};
    p.batches.c = m * n;
    const bool rows =
        !trans_a && sb.count(0, sb.rank - 2) == 1 && sa.count(0, sa.rank - 2) == so.count(0, so.rank - 2);
    if (rows)
      p.m = so.count(0, so.rank - 1);  // one product: all rows of a have the same b
    else
      for (int from_end = so.rank - 1; from_end >= 2; from_end--)
        p.batches.add(so.last(from_end), batch_stride(sa, from_end), batch_stride(sb, from_end));
    gemm(call, p);
  });
}

namespace {

/// x [.., in], weight [out, in], y [.., out].
struct Layer {
  int64_t rows, out, in;
};
Layer layer_of(const Call& call, const Shape& x, const Shape& weight, const Shape& y) {
  call.require(x.rank >= 1 && weight.rank == 2 && y.rank == x.rank && weight[1] == x.last(0) &&
                   weight[0] == y.last(0) && x.count(0, x.rank - 1) == y.count(0, y.rank - 1),
               "x [.., in], weight [out, in], y [.., out]");
  return {x.count(0, x.rank - 1), weight[0], weight[1]};
}

void layer_fwd(const Call& call, Fuse fuse) {
  const TensorView &x = call.in[0], &weight = call.in[1], &bias = call.in[2], &y = call.out[0];
  require_dtypes(call, y, {&x}, {&weight, &bias});
  const Layer s = layer_of(call, x.shape, weight.shape, y.shape);
  call.require(!bias.present || bias.numel() == s.out, "bias [out]");
  float_dispatch(call, y.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Weight<T> w = weight_operand<T>(call, weight.as<Acc<T>>(), 1, s.out, s.in, false);
    Product<T, T> p{s.rows, s.out, s.in, {x.as<T>(), s.in, false}, w.operand, y.as<T>(), s.out};
    p.fuse = fuse;
    p.bias = bias.present ? bias.as<Acc<T>>() : nullptr;
    gemm(call, p);
  });
}

/// With h: times gelu'(h).
void layer_bwd_x(const Call& call, const TensorView* h) {
  const TensorView &dy = call.in[0], &weight = call.in[1], &dx = call.out[0];
  require_dtypes(call, dx, {&dy, h ? h : &dy}, {&weight});
  const Layer s = layer_of(call, dx.shape, weight.shape, dy.shape);
  call.require(!h || h->shape == dx.shape, "h of the shape of dh");
  float_dispatch(call, dx.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Weight<T> w = weight_operand<T>(call, weight.as<Acc<T>>(), 1, s.out, s.in, true);
    Product<T, T> p{s.rows, s.in, s.out, {dy.as<T>(), s.out, false}, w.operand, dx.as<T>(), s.in};
    if (h) {
      p.fuse = Fuse::gelu_grad;
      p.h = h->as<T>();
    }
    gemm(call, p);
  });
}

void layer_bwd_w(const Call& call, Fuse fuse) {
  const TensorView &dy = call.in[0], &x = call.in[1], &dweight = call.out[0];
  require_dtypes(call, x, {&dy}, {&dweight});
  const Layer s = layer_of(call, x.shape, dweight.shape, dy.shape);
  float_dispatch(call, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    Product<T, Acc<T>> p{
        s.out, s.in, s.rows, {dy.as<T>(), s.out, true}, {x.as<T>(), s.in, true}, dweight.as<Acc<T>>(), s.in};
    p.fuse = fuse;
    gemm(call, p);
  });
}

}  // namespace

/// y [.., out] = x [.., in] weight^T + bias; weight [out, in].
void linear_fwd(const Call& call) { layer_fwd(call, Fuse::none); }
/// dx [.., in] = dy [.., out] weight.
void linear_bwd_x(const Call& call) { layer_bwd_x(call, nullptr); }
/// dweight [out, in] = dy^T x.
void linear_bwd_w(const Call& call) { layer_bwd_w(call, Fuse::none); }

/// y [.., out] = gelu(h) [.., in] weight^T + bias.
void gelu_linear_fwd(const Call& call) { layer_fwd(call, Fuse::gelu_a); }
/// dh [.., in] = dy [.., out] weight * gelu'(h).
void gelu_linear_bwd_x(const Call& call) { layer_bwd_x(call, &call.in[2]); }
/// dweight [out, in] = dy^T gelu(h).
void gelu_linear_bwd_w(const Call& call) { layer_bwd_w(call, Fuse::gelu_b); }

namespace {

/// x [.., groups, in], weight [groups, out, in], y [.., groups, out].
struct Groups {
  int64_t rows, groups, in, out;
};
Groups groups_of(const Call& call, const Shape& x, const Shape& weight, const Shape& y) {
  call.require(x.rank >= 2 && y.rank == x.rank && weight.rank == 3 && weight[0] == x.last(1) &&
                   weight[0] == y.last(1) && weight[1] == y.last(0) && weight[2] == x.last(0) &&
                   x.count(0, x.rank - 2) == y.count(0, y.rank - 2),
               "x [.., groups, in], weight [groups, out, in], y [.., groups, out]");
  return {x.count(0, x.rank - 2), weight[0], weight[2], weight[1]};
}

}  // namespace

/// y[.., g, :] = x[.., g, :] weight[g]^T.
void grouped_linear_fwd(const Call& call) {
  const TensorView &x = call.in[0], &weight = call.in[1], &y = call.out[0];
  require_dtypes(call, y, {&x}, {&weight});
  const Groups s = groups_of(call, x.shape, weight.shape, y.shape);
  float_dispatch(call, y.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Weight<T> w = weight_operand<T>(call, weight.as<Acc<T>>(), s.groups, s.out, s.in, false);
    const int64_t ldc = s.groups * s.out;
    Product<T, T> p{s.rows, s.out, s.in, {x.as<T>(), s.groups * s.in, false}, w.operand, y.as<T>(), ldc};
    p.batches.add(s.groups, s.in, w.group_stride);
    p.batches.c = s.out;
    gemm(call, p);
  });
}

/// dx[.., g, :] = dy[.., g, :] weight[g].
void grouped_linear_bwd_x(const Call& call) {
  const TensorView &dy = call.in[0], &weight = call.in[1], &dx = call.out[0];
  require_dtypes(call, dx, {&dy}, {&weight});
  const Groups s = groups_of(call, dx.shape, weight.shape, dy.shape);
  float_dispatch(call, dx.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Weight<T> w = weight_operand<T>(call, weight.as<Acc<T>>(), s.groups, s.out, s.in, true);
    const int64_t ldc = s.groups * s.in;
    Product<T, T> p{s.rows, s.in, s.out, {dy.as<T>(), s.groups * s.out, false}, w.operand, dx.as<T>(), ldc};
    p.batches.add(s.groups, s.out, w.group_stride);
    p.batches.c = s.in;
    gemm(call, p);
  });
}

/// dweight[g] = dy[.., g, :]^T x[.., g, :].
void grouped_linear_bwd_w(const Call& call) {
  const TensorView &dy = call.in[0], &x = call.in[1], &dweight = call.out[0];
  require_dtypes(call, x, {&dy}, {&dweight});
  const Groups s = groups_of(call, x.shape, dweight.shape, dy.shape);
  float_dispatch(call, x.dtype, [&](auto zero) {
    using T = decltype(zero);
    Product<T, Acc<T>> p{s.out,
                         s.in,
                         s.rows,
                         {dy.as<T>(), s.groups * s.out, true},
                         {x.as<T>(), s.groups * s.in, true},
                         dweight.as<Acc<T>>(),
                         s.in};
    p.batches.add(s.groups, s.out, s.in);
    p.batches.c = s.out * s.in;
    gemm(call, p);
  });
}

}  // namespace qm::cuda
