// bfloat16 products: forms, pieces, and what the device can do.
#include <cstring>

#include "cuda/gemm_bf16_forms.cuh"
#include "cuda/gemm_gelu_copy.h"
#include "cuda/gemm_pieces.h"

namespace qm::cuda {

namespace {

int attribute(cudaDeviceAttr which) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, 0), "asking for an attribute of the device");
  return value;
}

const DeviceKind& device_kind() {
  static const DeviceKind kind = [] {
    const bool hopper = attribute(cudaDevAttrComputeCapabilityMajor) == 9 &&
                        attribute(cudaDevAttrComputeCapabilityMinor) == 0;
    // their instructions belong to sm_90a alone: a build without it has no code for them
    return DeviceKind{attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin),
                      attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor),
                      hopper && std::strstr(QM_CUDA_ARCHITECTURES, "90a") != nullptr};
  }();
  return kind;
}

/// Bytes that copies of an operand can move at once.
int copy_width(const Operand<bf16>& s, const Batches& batches, const int64_t* strides) {
  const auto fits = [&](int64_t bytes) {
    const int64_t elements = bytes / static_cast<int64_t>(sizeof(bf16));
    bool ok = reinterpret_cast<uintptr_t>(s.data) % bytes == 0 && s.pitch % elements == 0;
    for (int axis = 0; axis < batches.rank; axis++) ok = ok && strides[axis] % elements == 0;
    return ok;
  };
  return fits(16) ? 16 : (fits(4) ? 4 : 2);
}

/// All but the output and its pieces.
template <class Out, class ProductOut>
Bf16Product<Out> describe(const Product<bf16, ProductOut>& s) {
  Bf16Product<Out> p{};
  p.m = s.m;
  p.n = s.n;
  p.k = s.k;
  p.a = s.a.data;
  p.b = s.b.data;
  p.h = s.h;
  p.bias = s.bias;
  p.pitch_a = s.a.pitch;
  p.pitch_b = s.b.pitch;
  p.width_a = copy_width(s.a, s.batches, s.batches.a);
  p.width_b = copy_width(s.b, s.batches, s.batches.b);
  p.batches = s.batches;
  return p;
}

/// Rows of C start where a chunk can be stored at once; so do those of h, which lies as C does.
template <class Out>
bool wide_rows(const Bf16Product<Out>& p) {
  const int64_t bytes = std::is_same_v<Out, float> ? 8 : 16,
                count = bytes / static_cast<int64_t>(sizeof(Out));
  const auto starts = [&](const void* data) { return reinterpret_cast<uintptr_t>(data) % bytes == 0; };
  return p.n % count == 0 && p.ldc % count == 0 && p.batches.c % count == 0 && p.piece_stride % count == 0 &&
         starts(p.c) && starts(p.h);
}

/// The copy engine reads single matrices whose rows start at 16 bytes, and counts in 32 bits.
template <class Out>
bool bulk_copies(const Bf16Product<Out>& p) {
  constexpr int64_t kMost = (int64_t{1} << 31) - 1;
  return p.batches.count == 1 && p.width_a == 16 && p.width_b == 16 && p.k > 0 &&
         std::max({p.m, p.n, p.k}) <= kMost - kWidestTile &&
         ceil_div(p.m, kTileRows) * ceil_div(p.n, int64_t{128}) * ceil_div(p.k, kDepth) <= kMost;
}

template <class F>
Plan plan_of(const Bf16Product<typename F::Out>& p) {
  constexpr bool kMaySplit = std::is_same_v<typename F::Out, float>;
  return plan_form<F>(
      Cut{p.m, p.n, p.k, p.batches.count, F::kBKRows, kMaySplit, F::kFuse == Fuse::gelu_a,
          F::kFuse == Fuse::gelu_b, sizeof(typename F::Out), F::kFuse == Fuse::gelu_grad, bulk_copies(p)},
      device_kind());
}

template <class F>
void run_whole(const Call& call, const Product<bf16, bf16>& s) {
  Bf16Product<bf16> p = describe<bf16>(s);
  p.c = s.c;
  p.ldc = s.ldc;
  p.wide_c = wide_rows(p);
  launch_form<F>(call, plan_of<F>(p), p);
}

constexpr int64_t kMostTurned = 1 << 20;  // elements of C

Bf16Product<float> transpose(Bf16Product<float> p) {
  std::swap(p.m, p.n);
  std::swap(p.a, p.b);
  std::swap(p.pitch_a, p.pitch_b);
  std::swap(p.width_a, p.width_b);
  std::swap(p.batches.a, p.batches.b);
  return p;
}

/// Both operands in rows along k. If its tiles waste less, the transpose of C is computed, and turned when its
/// pieces are added: too slow for a large C.
template <Fuse fuse, class Out>
void run_sums(const Call& call, const Product<bf16, Out>& s) {
  using F = SumForm<fuse>;
  Bf16Product<float> p = describe<float>(s);
  Plan plan = plan_of<F>(p);
  bool turned = false;
  if (fuse == Fuse::none && s.m * s.n <= kMostTurned) {
    const Bf16Product<float> other = transpose(p);
    const Plan other_plan = plan_of<F>(other);
    turned = other_plan.time < plan.time;
    if (turned) {
      p = other;
      plan = other_plan;
    }
  }
  if constexpr (std::is_same_v<Out, float>) {
    if (plan.pieces == 1 && !turned) {
      p.c = s.c;
      p.ldc = s.ldc;
      p.wide_c = wide_rows(p);
      return launch_form<F>(call, plan, p);
    }
  }
  p.batches.c = p.m * p.n;
  p.piece_stride = p.batches.count * p.batches.c;
  Scratch<float> partial(plan.pieces * p.piece_stride);
  p.c = partial.get();
  p.ldc = p.n;
  p.wide_c = wide_rows(p);
  launch_form<F>(call, plan, p);
  add_pieces(call, partial.get(), plan.pieces, s.batches.count, s.m, s.n, s.c, s.ldc, s.batches.c, turned);
}

template <class Out>
bool empty(const Product<bf16, Out>& p) {
  return p.m == 0 || p.n == 0 || p.batches.count == 0;
}

/// gelu of an operand as a matrix in memory, whose rows start at 16 bytes.
struct GeluCopy {
  int64_t rows, columns, pitch;
  int64_t elements() const { return rows * pitch; }
};
template <class Out>
GeluCopy copy_of(const Product<bf16, Out>& p) {
  const bool of_a = p.fuse == Fuse::gelu_a;
  const int64_t columns = of_a ? p.k : p.n;
  return {of_a ? p.m : p.k, columns, ceil_div(columns, 8) * 8};
}
/// The plain product on such a copy.
template <class Out>
Product<bf16, Out> product_on(const GeluCopy& copy, const bf16* data, Product<bf16, Out> p) {
  Operand<bf16>& operand = p.fuse == Fuse::gelu_a ? p.a : p.b;
  operand = {data, copy.pitch, operand.k_rows};
  p.fuse = Fuse::none;
  return p;
}

/// On its way to a product an element passes the GELU once for every tile of the other operand's, and holds up
/// the tensor cores. A pass of its own costs memory traffic.
template <class OnTheWay, class Plain, class Out>
bool copy_pays(const Product<bf16, Out>& p) {
  using Sum = typename Plain::Out;
  if (p.k == 0 || p.batches.count > 1) return false;
  const GeluCopy copy = copy_of(p);
  const double pass = pass_time(2 * copy.elements() * int64_t{sizeof(bf16)});
  return pass + plan_of<Plain>(describe<Sum>(product_on(copy, nullptr, p))).time <
         plan_of<OnTheWay>(describe<Sum>(p)).time;
}

template <class Out>
void run_on_copy(const Call& call, const Product<bf16, Out>& p) {
  const Operand<bf16>& operand = p.fuse == Fuse::gelu_a ? p.a : p.b;
  const GeluCopy copy = copy_of(p);
  const Scratch<bf16> data(copy.elements());
  gelu_copy(call, operand.data, operand.pitch, data.get(), copy.rows, copy.columns);
  gemm(call, product_on(copy, data.get(), p));
}

}  // namespace

void gemm(const Call& call, const Product<bf16, bf16>& p) {
  if (empty(p)) return;
  if (p.fuse == Fuse::gelu_a && copy_pays<RowForm<Fuse::gelu_a>, RowForm<Fuse::none>>(p))
    return run_on_copy(call, p);
  if (p.a.k_rows && p.b.k_rows) return run_sums<Fuse::none>(call, p);
  if (p.a.k_rows) return run_whole<OtherForm>(call, p);
  if (p.fuse == Fuse::gelu_grad) return run_whole<TurnedForm<Fuse::gelu_grad>>(call, p);
  if (p.b.k_rows) return run_whole<TurnedForm<Fuse::none>>(call, p);
  if (p.fuse == Fuse::gelu_a) return run_whole<RowForm<Fuse::gelu_a>>(call, p);
  run_whole<RowForm<Fuse::none>>(call, p);
}

void gemm(const Call& call, const Product<bf16, float>& p) {
  if (empty(p)) return;
  if (p.fuse == Fuse::gelu_b && copy_pays<SumForm<Fuse::gelu_b>, SumForm<Fuse::none>>(p))
    return run_on_copy(call, p);
  if (p.fuse == Fuse::gelu_b) return run_sums<Fuse::gelu_b>(call, p);
  run_sums<Fuse::none>(call, p);
}

}  // namespace qm::cuda
