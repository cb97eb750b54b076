// Products of tensors, all by way of gemm: batched with broadcasting, linear layers, linear layers of a GELU,
// and linear layers in groups.
#include "cpu/gemm.h"

namespace qm::cpu::QM_ISA {

#include "formulas/elementwise.h"

namespace {

void require_one_float(const Call& call) {
  for (int k = 0; k < call.n_in; k++)
    call.require(!call.in[k].present || call.in[k].dtype == call.out[0].dtype,
                 "inputs of the output's dtype");
}

template <class T>
Matrix<T> matrix(const T* data, int64_t columns, bool transposed) {
  return transposed ? Matrix<T>{data, 1, columns} : Matrix<T>{data, columns, 1};
}

/// Batch offset of one operand for batch index `batch` of the output.
int64_t batch_offset(const Shape& in, const Shape& out, int64_t batch) {
  int64_t offset = 0, stride = 1;
  for (int from_end = 2; from_end < out.rank; from_end++) {
    const int64_t index = batch % out.last(from_end);
    batch /= out.last(from_end);
    if (from_end >= in.rank) continue;
    if (in.last(from_end) != 1) offset += index * stride;
    stride *= in.last(from_end);
  }
  return offset;
}

bool batch_fits(const Shape& in, const Shape& out) {
  if (in.rank < 2 || in.rank > out.rank) return false;
  for (int from_end = 2; from_end < in.rank; from_end++)
    if (in.last(from_end) != 1 && in.last(from_end) != out.last(from_end)) return false;
  return true;
}

}  // namespace

/// out [.., m, n] = a [.., m, k] b [.., k, n]; a flag says that an operand lies transposed.
void matmul_fwd(const Call& call) {
  require_one_float(call);
  const bool trans_a = call.attrs.b(0), trans_b = call.attrs.b(1);
  const Shape &sa = call.in[0].shape, &sb = call.in[1].shape, &so = call.out[0].shape;
  call.require(so.rank >= 2 && batch_fits(sa, so) && batch_fits(sb, so),
               "matrices with batches that broadcast");
  const int64_t m = so.last(1), n = so.last(0), k = sa.last(trans_a ? 1 : 0);
  call.require(
      sa.last(trans_a ? 0 : 1) == m && sb.last(trans_b ? 1 : 0) == n && sb.last(trans_b ? 0 : 1) == k,
      "[m, k] x [k, n] = [m, n]");
  const int64_t batches = so.count(0, so.rank - 2);
  float_dispatch(call, call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const auto one = [&](int64_t batch) {
      const T* a = call.in[0].as<T>() + batch_offset(sa, so, batch) * m * k;
      const T* b = call.in[1].as<T>() + batch_offset(sb, so, batch) * k * n;
      gemm(m, n, k, matrix(a, sa.last(0), trans_a), matrix(b, sb.last(0), trans_b),
           call.out[0].as<T>() + batch * m * n, n, static_cast<const T*>(nullptr));
    };
    if (batches >= 4) return parallel_tasks(batches, one);
    for (int64_t batch = 0; batch < batches; batch++) one(batch);
  });
}

/// y [.., out] = x [.., in] weight^T + bias; weight [out, in].
void linear_fwd(const Call& call) {
  require_one_float(call);
  const Shape &sx = call.in[0].shape, &sw = call.in[1].shape, &sy = call.out[0].shape;
  call.require(sx.rank >= 1 && sw.rank == 2 && sy.rank == sx.rank && sw[1] == sx.last(0) &&
                   sw[0] == sy.last(0) && sx.count(0, sx.rank - 1) == sy.count(0, sy.rank - 1),
               "y [.., out] = x [.., in] weight [out, in]");
  call.require(!call.in[2].present || call.in[2].numel() == sw[0], "bias [out]");
  const int64_t rows = sx.count(0, sx.rank - 1);
  float_dispatch(call, call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    gemm(rows, sw[0], sw[1], matrix(call.in[0].as<T>(), sw[1], false),
         matrix(call.in[1].as<T>(), sw[1], true), call.out[0].as<T>(), sw[0],
         call.in[2].present ? call.in[2].as<T>() : nullptr);
  });
}

/// dx [.., in] = dy [.., out] weight.
void linear_bwd_x(const Call& call) {
  require_one_float(call);
  const Shape &sy = call.in[0].shape, &sw = call.in[1].shape, &sx = call.out[0].shape;
  call.require(sy.rank >= 1 && sw.rank == 2 && sx.rank == sy.rank && sw[0] == sy.last(0) &&
                   sw[1] == sx.last(0) && sx.count(0, sx.rank - 1) == sy.count(0, sy.rank - 1),
               "dx [.., in] = dy [.., out] weight [out, in]");
  float_dispatch(call, call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    gemm(sy.count(0, sy.rank - 1), sw[1], sw[0], matrix(call.in[0].as<T>(), sw[0], false),
         matrix(call.in[1].as<T>(), sw[1], false), call.out[0].as<T>(), sw[1],
         static_cast<const T*>(nullptr));
  });
}

/// dweight [out, in] = dy^T x.
void linear_bwd_w(const Call& call) {
  require_one_float(call);
  const Shape &sy = call.in[0].shape, &sx = call.in[1].shape, &sw = call.out[0].shape;
  call.require(sy.rank >= 1 && sx.rank == sy.rank && sw.rank == 2 && sw[0] == sy.last(0) &&
                   sw[1] == sx.last(0) && sx.count(0, sx.rank - 1) == sy.count(0, sy.rank - 1),
               "dweight [out, in] = dy [.., out]^T x [.., in]");
  float_dispatch(call, call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    gemm(sw[0], sw[1], sy.count(0, sy.rank - 1), matrix(call.in[0].as<T>(), sw[0], true),
         matrix(call.in[1].as<T>(), sw[1], false), call.out[0].as<T>(), sw[1],
         static_cast<const T*>(nullptr));
  });
}

namespace {

/// A RowMap.
template <class T>
void gelu_of(const T* h, int64_t n, T* y) {
  for (int64_t i = 0; i < n; i += kLanes<T>) store_n(y + i, Gelu::forward(load_n(h + i, n - i)), n - i);
}

/// Calls body(begin, end) for rows of `width` elements, so many at a time that they stay in the second-level cache.
template <class T, class Body>
void parallel_rows(int64_t rows, int64_t width, Body&& body) {
  constexpr int64_t bytes = 256 << 10, step = 8;
  const int64_t fit = bytes / static_cast<int64_t>(sizeof(T)) / std::max<int64_t>(1, width);
  parallel_for(rows, std::min<int64_t>(96, std::max(step, fit / step * step)), body);
}

}  // namespace

/// h [.., in], weight [out, in], bias [out] or absent: y [.., out] = gelu(h) weight^T + bias.
void gelu_linear_fwd(const Call& call) {
  require_one_float(call);
  const Shape &sh = call.in[0].shape, &sw = call.in[1].shape, &so = call.out[0].shape;
  call.require(sh.rank >= 1 && sw.rank == 2 && so.rank == sh.rank && sw[1] == sh.last(0) &&
                   sw[0] == so.last(0) && so.count(0, so.rank - 1) == sh.count(0, sh.rank - 1),
               "y [.., out] = gelu(h [.., in]) weight [out, in]^T");
  call.require(!call.in[2].present || call.in[2].numel() == sw[0], "bias [out]");
  float_dispatch(call, call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t in = sw[1], out = sw[0];
    const Scratch<T> weight(static_cast<size_t>(packed_size<T>(in, out)));
    pack_b(in, out, matrix(call.in[1].as<T>(), in, true), weight.get());
    const T *h = call.in[0].as<T>(), *bias = call.in[2].present ? call.in[2].as<T>() : nullptr;
    T* y = call.out[0].as<T>();
    parallel_rows<T>(sh.count(0, sh.rank - 1), in, [&](int64_t begin, int64_t end) {
      const Scratch<T> x(static_cast<size_t>((end - begin) * in));
      gelu_of(h + begin * in, (end - begin) * in, x.get());
      gemm_packed(end - begin, out, in, Matrix<T>{x.get(), in, 1}, weight.get(), y + begin * out, out, bias,
                  false);
    });
  });
}

/// dh [.., in] = (dy [.., out] weight) gelu'(h).
void gelu_linear_bwd_x(const Call& call) {
  require_one_float(call);
  const Shape &sy = call.in[0].shape, &sw = call.in[1].shape, &sh = call.out[0].shape;
  call.require(sy.rank >= 1 && sw.rank == 2 && sh.rank == sy.rank && sw[0] == sy.last(0) &&
                   sw[1] == sh.last(0) && sh.count(0, sh.rank - 1) == sy.count(0, sy.rank - 1) &&
                   call.in[2].shape == sh,
               "dh [.., in] = dy [.., out] weight [out, in], h like dh");
  float_dispatch(call, call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t in = sw[1], out = sw[0];
    const Scratch<T> weight(static_cast<size_t>(packed_size<T>(out, in)));
    pack_b(out, in, matrix(call.in[1].as<T>(), in, false), weight.get());
    const T *dy = call.in[0].as<T>(), *h = call.in[2].as<T>();
    T* dh = call.out[0].as<T>();
    parallel_rows<T>(sy.count(0, sy.rank - 1), in, [&](int64_t begin, int64_t end) {
      gemm_packed(end - begin, in, out, Matrix<T>{dy + begin * out, out, 1}, weight.get(), dh + begin * in,
                  in, static_cast<const T*>(nullptr), false);
      for (int64_t i = begin * in; i < end * in; i += kLanes<T>) {
        const int64_t count = end * in - i;
        store_n(dh + i, Gelu::backward(load_n(h + i, count), load_n(dh + i, count)), count);
      }
    });
  });
}

/// dweight [out, in] = dy^T gelu(h).
void gelu_linear_bwd_w(const Call& call) {
  require_one_float(call);
  const Shape &sy = call.in[0].shape, &sh = call.in[1].shape, &sw = call.out[0].shape;
  call.require(sy.rank >= 1 && sh.rank == sy.rank && sw.rank == 2 && sw[0] == sy.last(0) &&
                   sw[1] == sh.last(0) && sh.count(0, sh.rank - 1) == sy.count(0, sy.rank - 1),
               "dweight [out, in] = dy [.., out]^T gelu(h [.., in])");
  float_dispatch(call, call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    gemm(sw[0], sw[1], sy.count(0, sy.rank - 1), matrix(call.in[0].as<T>(), sw[0], true),
         matrix(call.in[1].as<T>(), sw[1], false), call.out[0].as<T>(), sw[1], static_cast<const T*>(nullptr),
         gelu_of<T>);
  });
}

namespace {

struct Groups {
  int64_t rows, groups, in, out;
};

/// x [.., groups, in], weight [groups, out, in], y [.., groups, out].
Groups groups_of(const Call& call, const Shape& x, const Shape& weight, const Shape& y) {
  call.require(x.rank >= 2 && y.rank == x.rank && weight.rank == 3 && weight[0] == x.last(1) &&
                   weight[0] == y.last(1) && weight[1] == y.last(0) && weight[2] == x.last(0) &&
                   x.count(0, x.rank - 2) == y.count(0, y.rank - 2),
               "x [.., groups, in], weight [groups, out, in], y [.., groups, out]");
  return Groups{x.count(0, x.rank - 2), weight[0], weight[2], weight[1]};
}

}  // namespace

/// y[.., g, :] = x[.., g, :] weight[g]^T.
void grouped_linear_fwd(const Call& call) {
  require_one_float(call);
  const Groups s = groups_of(call, call.in[0].shape, call.in[1].shape, call.out[0].shape);
  float_dispatch(call, call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    for (int64_t g = 0; g < s.groups; g++)
      gemm(s.rows, s.out, s.in, Matrix<T>{call.in[0].as<T>() + g * s.in, s.groups * s.in, 1},
           Matrix<T>{call.in[1].as<T>() + g * s.out * s.in, 1, s.in}, call.out[0].as<T>() + g * s.out,
           s.groups * s.out, static_cast<const T*>(nullptr));
  });
}

/// dx[.., g, :] = dy[.., g, :] weight[g].
void grouped_linear_bwd_x(const Call& call) {
  require_one_float(call);
  const Groups s = groups_of(call, call.out[0].shape, call.in[1].shape, call.in[0].shape);
  float_dispatch(call, call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    for (int64_t g = 0; g < s.groups; g++)
      gemm(s.rows, s.in, s.out, Matrix<T>{call.in[0].as<T>() + g * s.out, s.groups * s.out, 1},
           Matrix<T>{call.in[1].as<T>() + g * s.out * s.in, s.in, 1}, call.out[0].as<T>() + g * s.in,
           s.groups * s.in, static_cast<const T*>(nullptr));
  });
}

/// dweight[g] = dy[.., g, :]^T x[.., g, :].
void grouped_linear_bwd_w(const Call& call) {
  require_one_float(call);
  const Groups s = groups_of(call, call.in[1].shape, call.out[0].shape, call.in[0].shape);
  float_dispatch(call, call.out[0].dtype, [&](auto zero) {
    using T = decltype(zero);
    for (int64_t g = 0; g < s.groups; g++)
      gemm(s.out, s.in, s.rows, Matrix<T>{call.in[0].as<T>() + g * s.out, 1, s.groups * s.out},
           Matrix<T>{call.in[1].as<T>() + g * s.in, s.groups * s.in, 1},
           call.out[0].as<T>() + g * s.out * s.in, s.in, static_cast<const T*>(nullptr));
  });
}

}  // namespace qm::cpu::QM_ISA
