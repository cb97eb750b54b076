// Matrix products on the device: one interface. bfloat16 runs on tensor cores and accumulates in
// float32 (gemm_bf16.cu); float32 and float64 run on the ordinary units and are not rounded to less
// (gemm_simt.cu), unless float32 has been allowed TF32.
#pragma once
#include "cuda/kernel.cuh"

namespace qm::cuda {

/// Element (outer, k) at data[outer * pitch + k], or with k_rows at data[k * pitch + outer].
template <class T>
struct Operand {
  const T* data;
  int64_t pitch;
  bool k_rows;
};

/// Products of one shape side by side, the last index fastest. Strides in elements, 0 where an operand is
/// shared; those of C are `c` times the number of the product.
struct Batches {
  int64_t count = 1;
  int rank = 0;
  int64_t dims[kMaxRank] = {};
  int64_t a[kMaxRank] = {};
  int64_t b[kMaxRank] = {};
  int64_t c = 0;

  void add(int64_t dim, int64_t stride_a, int64_t stride_b) {
    count *= dim;
    dims[rank] = dim;
    a[rank] = stride_a;
    b[rank++] = stride_b;
  }
};

/// What is computed on the way in or out. With gelu_a and gelu_b an operand is gelu of what is stored; with
/// gelu_grad the product is multiplied by gelu'(h), h lying as C does.
enum class Fuse { none, gelu_a, gelu_b, gelu_grad };

/// C(i, j) = sum over k of A(i, k) B(j, k), + bias[j]; C has rows of pitch `ldc`. Out is T, or float for sums
/// over bfloat16.
template <class T, class Out>
struct Product {
  int64_t m, n, k;
  Operand<T> a, b;
  Out* c;
  int64_t ldc;
  Batches batches = {};
  Fuse fuse = Fuse::none;
  const T* h = nullptr;
  const Acc<T>* bias = nullptr;
};

/// Where k is long and C small, k is cut into pieces whose sums are added in order, by shape alone.
/// bfloat16: gelu_a takes operands without k_rows, gelu_grad B with k_rows, gelu_b both with k_rows and Out float.
void gemm(const Call& call, const Product<bf16, bf16>& p);
void gemm(const Call& call, const Product<bf16, float>& p);
void gemm(const Call& call, const Product<float, float>& p);
void gemm(const Call& call, const Product<double, double>& p);

/// The engine of float32 where tf32_allowed(): operands rounded to TF32, on tensor cores (gemm_tf32.cu).
void gemm_tf32(const Call& call, const Product<float, float>& p);

}  // namespace qm::cuda
