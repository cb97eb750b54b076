// Moving elements between a contiguous tensor (the dense side) and addresses offset + sum i_k * stride_k of
// another (the strided side). strided_read gathers (permute, expand, slice, flip), strided_write scatters
// (pad, the backward of slice). Elements are moved as whole units of up to 16 bytes where the innermost runs
// allow it; a thread owns one unit of the dense side.
#include "cuda/device/pack.cuh"

namespace qm::cuda {

#include "formulas/convert.h"

namespace {

/// The dense side's dimensions, innermost first, neighbours merged where the strided side allows.
struct Walk {
  int rank = 0;
  int64_t dims[kMaxRank] = {};
  int64_t strides[kMaxRank] = {};
  int64_t numel = 1;
};

/// Checks that every address of `shape` under the strides lies in [0, limit), and merges dimensions.
Walk make_walk(const Call& call, const Shape& shape, int64_t offset, IntList strides, int64_t limit) {
  call.require(strides.size() == shape.rank, "one stride per dimension");
  Walk walk;
  walk.numel = shape.numel();
  if (walk.numel == 0) return walk;
  int64_t low = offset, high = offset;
  for (int axis = shape.rank - 1; axis >= 0; axis--) {
    const int64_t dim = shape[axis], stride = strides[axis];
    if (dim == 1) continue;
    call.require(stride <= limit / (dim - 1) && stride >= -(limit / (dim - 1)),
                 "addresses inside the buffer");
    (stride < 0 ? low : high) += stride * (dim - 1);
    const int last = walk.rank - 1;
    if (last >= 0 && stride == walk.strides[last] * walk.dims[last]) {
      walk.dims[last] *= dim;
      continue;
    }
    walk.dims[walk.rank] = dim;
    walk.strides[walk.rank++] = stride;
  }
  call.require(low >= 0 && high < limit, "addresses inside the buffer");
  return walk;
}

/// Whether no two elements share an address: sorted by size, every stride steps over all that the smaller
/// ones reach.
bool distinct_addresses(const Walk& walk) {
  bool used[kMaxRank] = {};
  int64_t reach = 0;
  for (int step = 0; step < walk.rank; step++) {
    int next = -1;
    for (int axis = 0; axis < walk.rank; axis++)
      if (!used[axis] && (next < 0 || std::abs(walk.strides[axis]) < std::abs(walk.strides[next])))
        next = axis;
    if (std::abs(walk.strides[next]) <= reach) return false;
    reach += std::abs(walk.strides[next]) * (walk.dims[next] - 1);
    used[next] = true;
  }
  return true;
}

/// The walk in units of `n` elements, if all its runs and strides are whole units.
bool in_units(Walk& walk, int64_t n, int64_t offset, const void* strided, const void* dense, size_t bytes) {
  if (walk.rank == 0 || walk.strides[0] != 1 || walk.dims[0] % n != 0 || offset % n != 0) return false;
  if (reinterpret_cast<uintptr_t>(strided) % bytes != 0 || reinterpret_cast<uintptr_t>(dense) % bytes != 0)
    return false;
  for (int axis = 1; axis < walk.rank; axis++)
    if (walk.strides[axis] % n != 0) return false;
  walk.dims[0] /= n;
  for (int axis = 1; axis < walk.rank; axis++) walk.strides[axis] /= n;
  walk.numel /= n;
  return true;
}

template <bool kRead, class Unit>
__global__ void __launch_bounds__(kThreads)
    strided_kernel(Unit* strided, Unit* dense, const __grid_constant__ Walk walk) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i >= walk.numel) return;
  int64_t rest = i, at = 0;
#pragma unroll
  for (int axis = 0; axis < kMaxRank; axis++) {
    if (axis >= walk.rank) break;
    if (axis + 1 == walk.rank) {
      at += rest * walk.strides[axis];
    } else if (rest <= 0xffffffffll && walk.dims[axis] <= 0xffffffffll) {
      const uint32_t q = static_cast<uint32_t>(rest) / static_cast<uint32_t>(walk.dims[axis]);
      at += static_cast<int64_t>(static_cast<uint32_t>(rest) - q * static_cast<uint32_t>(walk.dims[axis])) *
            walk.strides[axis];
      rest = q;
    } else {
      at += rest % walk.dims[axis] * walk.strides[axis];
      rest /= walk.dims[axis];
    }
  }
  if constexpr (kRead)
    dense[i] = strided[at];
  else
    strided[at] = dense[i];
}

template <class T>
__global__ void __launch_bounds__(kThreads) fill_kernel(T* y, int64_t n, T value) {
  const int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x;
  if (i < n) y[i] = value;
}

template <bool kRead, class Unit>
void move_units(const Call& call, const Walk& walk, void* strided, void* dense) {
  QM_LAUNCH(call, (strided_kernel<kRead, Unit>), grid_of(walk.numel), kThreads, 0,
            static_cast<Unit*>(strided), static_cast<Unit*>(dense), walk);
}

template <bool kRead>
void move(const Call& call, Walk walk, DType dtype, int64_t offset, void* strided, void* dense) {
  if (walk.numel == 0) return;
  const int64_t width = static_cast<int64_t>(dtype_size(dtype));
  char* from = static_cast<char*>(strided) + offset * width;
  if (in_units(walk, 16 / width, offset, strided, dense, 16))
    return move_units<kRead, uint4>(call, walk, from, dense);
  if (width < 8 && in_units(walk, 8 / width, offset, strided, dense, 8))
    return move_units<kRead, uint2>(call, walk, from, dense);
  width_dispatch(dtype, [&](auto zero) { move_units<kRead, decltype(zero)>(call, walk, from, dense); });
}

}  // namespace

/// out[i] = x_flat[offset + sum i_k * strides_k]. Strides may be 0 or negative.
void strided_read(const Call& call) {
  const TensorView& x = call.in[0];
  TensorView& out = call.out[0];
  call.require(x.present && x.dtype == out.dtype, "an input of the output's dtype");
  const int64_t offset = call.attrs.i(0);
  const Walk walk = make_walk(call, out.shape, offset, call.attrs.v(1), x.numel());
  move<true>(call, walk, x.dtype, offset, x.data, out.data);
}

/// out filled with `fill`, then out_flat[offset + sum i_k * strides_k] = x[i]. No two elements may share an
/// address.
void strided_write(const Call& call) {
  const TensorView& x = call.in[0];
  TensorView& out = call.out[0];
  call.require(x.present && x.dtype == out.dtype, "an input of the output's dtype");
  const int64_t offset = call.attrs.i(0), numel = out.numel();
  const Walk walk = make_walk(call, x.shape, offset, call.attrs.v(1), numel);
  call.require(walk.numel == 0 || distinct_addresses(walk),
               "strides that give every element its own address");
  if (walk.numel < numel) {
    const uint64_t fill = bits_of(x.dtype, call.attrs.f(2));
    width_dispatch(x.dtype, [&](auto zero) {
      using T = decltype(zero);
      QM_LAUNCH(call, fill_kernel<T>, grid_of(numel), kThreads, 0, out.as<T>(), numel, static_cast<T>(fill));
    });
  }
  move<false>(call, walk, x.dtype, offset, out.data, x.data);
}

/// Inputs end to end along `axis`; all other dimensions are the same. One launch per input: a write of rows
/// of its length into rows of the output's.
void concat_fwd(const Call& call) {
  const TensorView& out = call.out[0];
  const int64_t axis = call.attrs.i(0);
  call.require(axis >= 0 && axis < out.shape.rank, "an axis of the output");
  const int a = static_cast<int>(axis);
  int64_t total = 0;
  for (int k = 0; k < call.n_in; k++) {
    const TensorView& x = call.in[k];
    call.require(x.present && x.dtype == out.dtype && x.shape.rank == out.shape.rank,
                 "inputs of one dtype and rank");
    for (int d = 0; d < out.shape.rank; d++)
      call.require(d == a || x.shape[d] == out.shape[d], "inputs that differ along the axis only");
    total += x.shape[a];
  }
  call.require(total == out.shape[a], "an output as long as its inputs");
  const int64_t outer = out.shape.count(0, a), inner = out.shape.count(a + 1, out.shape.rank);
  int64_t offset = 0;
  for (int k = 0; k < call.n_in; k++) {
    const TensorView& x = call.in[k];
    const int64_t run = x.shape[a] * inner;
    Walk walk;
    walk.rank = outer > 1 ? 2 : 1;
    walk.dims[0] = run;
    walk.strides[0] = 1;
    walk.dims[1] = outer;
    walk.strides[1] = total * inner;
    walk.numel = outer * run;
    move<false>(call, walk, out.dtype, offset, out.data, x.data);
    offset += run;
  }
}

}  // namespace qm::cuda
