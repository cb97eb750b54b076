// The kernel of the float32 and float64 products: fused multiply-adds of the ordinary units, every sum in T and
// over k in ascending order.
//
// A block owns one tile of C, [kRows, kColumns], of one product and one piece of k. A thread owns kRowsEach x
// kColumnsEach of it, as groups of 16 bytes that lie side by side with those of its neighbours, so that shared
// memory is read and C is written in whole lines. Steps of 64 bytes of k: the next one travels from memory into
// registers while the current one, in shared memory as [k][outer], is multiplied.
#pragma once
#include "cuda/device/formulas.cuh"
#include "cuda/device/pack.cuh"
#include "cuda/gemm.h"

namespace qm::cuda {

template <int rows, int columns, int rows_each, int columns_each>
struct SimtTile {
  static constexpr int kRows = rows;
  static constexpr int kColumns = columns;
  static constexpr int kRowsEach = rows_each;
  static constexpr int kColumnsEach = columns_each;
  static constexpr int kAcross = columns / columns_each;
  static constexpr int kBlock = rows / rows_each * kAcross;
  template <class T>
  static constexpr int kRegisters = rows_each * columns_each * static_cast<int>(sizeof(T) / 4) + 60;
};

template <class T>
struct SimtOperand {
  const T* data;
  int64_t pitch, outers;
  bool k_rows, wide;  // wide: 16 bytes can be read at once
};

template <class T>
struct SimtProduct {
  int64_t m, n, k;
  SimtOperand<T> a, b;
  T* c;
  int64_t ldc;
  bool wide_c;
  const T *h, *bias;
  int64_t k_piece, piece_stride;
  int64_t row_tiles, column_tiles, pieces;
  Batches batches;
};

/// The part of an operand that one thread carries: packs of 16 bytes, kV elements along the contiguous index.
template <class T, int kOuter, int kBlock>
struct Carried {
  static constexpr int kV = kPack<T>;
  static constexpr int kDepth = 64 / static_cast<int>(sizeof(T));
  static constexpr int kPitch = kOuter + kV;  // of a row of shared memory
  static constexpr int kPacks = kOuter * kDepth / kV;
  static constexpr int kEach = (kPacks + kBlock - 1) / kBlock;
  Pack<T, kV> packs[kEach];

  /// Outer and k index of pack i in the tile.
  __device__ __forceinline__ static void place(int i, bool k_rows, int& outer, int& k) {
    const int index = i * kBlock + static_cast<int>(threadIdx.x);
    outer = k_rows ? index % (kOuter / kV) * kV : index / (kDepth / kV);
    k = k_rows ? index / (kOuter / kV) : index % (kDepth / kV) * kV;
  }
  __device__ __forceinline__ static bool has(int i) {
    return kPacks % kBlock == 0 || i * kBlock + static_cast<int>(threadIdx.x) < kPacks;
  }

  /// Reads the tile at (first_outer, first_k); elements outside become 0.
  __device__ __forceinline__ void fetch(const SimtOperand<T>& s, int64_t first_outer, int64_t first_k,
                                        int64_t k_count) {
#pragma unroll
    for (int i = 0; i < kEach; i++) {
      packs[i] = {};
      if (!has(i)) continue;
      int outer, k;
      place(i, s.k_rows, outer, k);
      const int64_t outers_left = s.outers - first_outer - outer, k_left = k_count - first_k - k;
      const int64_t across = s.k_rows ? k_left : outers_left, along = s.k_rows ? outers_left : k_left;
      if (across <= 0) continue;
      const T* from = s.data + (s.k_rows ? (first_k + k) * s.pitch + first_outer + outer
                                         : (first_outer + outer) * s.pitch + first_k + k);
      if (s.wide && along >= kV) {
        packs[i] = load_pack(from);
      } else {
#pragma unroll
        for (int e = 0; e < kV; e++)
          if (e < along) packs[i].v[e] = from[e];
      }
    }
  }

  __device__ __forceinline__ void store(T* tile, bool k_rows) const {
#pragma unroll
    for (int i = 0; i < kEach; i++) {
      if (!has(i)) continue;
      int outer, k;
      place(i, k_rows, outer, k);
      if (k_rows) {
        store_pack(tile + k * kPitch + outer, packs[i]);
      } else {
#pragma unroll
        for (int e = 0; e < kV; e++) tile[(k + e) * kPitch + outer] = packs[i].v[e];
      }
    }
  }

  /// gelu of what this thread stored. Not unrolled: the formula is long.
  __device__ __forceinline__ static void gelu(T* tile, bool k_rows) {
#pragma unroll 1
    for (int i = 0; i < kEach; i++) {
      if (!has(i)) continue;
      int outer, k;
      place(i, k_rows, outer, k);
      T* from = tile + k * kPitch + outer;
      const int step = k_rows ? 1 : kPitch;
#pragma unroll 2
      for (int e = 0; e < kV; e++) from[e * step] = Gelu::forward(from[e * step]);
    }
  }
};

template <class T, class S, Fuse kFuse>
__global__ void __launch_bounds__(S::kBlock, 65536 / (S::kBlock * S::template kRegisters<T>))
    gemm_simt_kernel(const SimtProduct<T> p) {
  using A = Carried<T, S::kRows, S::kBlock>;
  using B = Carried<T, S::kColumns, S::kBlock>;
  constexpr int kV = A::kV, kDepth = A::kDepth;
  constexpr int kRowGroups = S::kRowsEach / kV, kColumnGroups = S::kColumnsEach / kV;
  __shared__ __align__(16) T tiles_a[2][kDepth * A::kPitch];
  __shared__ __align__(16) T tiles_b[2][kDepth * B::kPitch];

  int64_t index = blockIdx.x;
  const int64_t column = index % p.column_tiles * S::kColumns;
  index /= p.column_tiles;
  const int64_t row = index % p.row_tiles * S::kRows;
  index /= p.row_tiles;
  const int64_t piece = index % p.pieces;
  int64_t batch = index / p.pieces;
  const int64_t c_offset = batch * p.batches.c + piece * p.piece_stride;
  const int64_t k_begin = piece * p.k_piece, k_count = min(p.k - k_begin, p.k_piece);
  SimtOperand<T> a = p.a, b = p.b;
  a.data += k_begin * (a.k_rows ? a.pitch : 1);
  b.data += k_begin * (b.k_rows ? b.pitch : 1);
  for (int axis = p.batches.rank - 1; axis >= 0; axis--) {
    a.data += batch % p.batches.dims[axis] * p.batches.a[axis];
    b.data += batch % p.batches.dims[axis] * p.batches.b[axis];
    batch /= p.batches.dims[axis];
  }

  const int x = threadIdx.x % S::kAcross, y = threadIdx.x / S::kAcross;
  T sums[S::kRowsEach][S::kColumnsEach] = {};
  A next_a;
  B next_b;
  const auto fetch = [&](int64_t k) {
    next_a.fetch(a, row, k, k_count);
    next_b.fetch(b, column, k, k_count);
  };
  const auto store = [&](int to) {
    next_a.store(tiles_a[to], a.k_rows);
    next_b.store(tiles_b[to], b.k_rows);
    if constexpr (kFuse == Fuse::gelu_a) A::gelu(tiles_a[to], a.k_rows);
    if constexpr (kFuse == Fuse::gelu_b) B::gelu(tiles_b[to], b.k_rows);
  };
  fetch(0);
  store(0);
  __syncthreads();
  int current = 0;
  for (int64_t k = 0; k < k_count; k += kDepth) {
    const bool more = k + kDepth < k_count;
    if (more) fetch(k + kDepth);
#pragma unroll
    for (int i = 0; i < kDepth; i++) {
      Pack<T, kV> va[kRowGroups], vb[kColumnGroups];
#pragma unroll
      for (int g = 0; g < kRowGroups; g++)
        va[g] = load_pack(tiles_a[current] + i * A::kPitch + g * (S::kRows / kRowGroups) + y * kV);
#pragma unroll
      for (int g = 0; g < kColumnGroups; g++)
        vb[g] = load_pack(tiles_b[current] + i * B::kPitch + g * (S::kColumns / kColumnGroups) + x * kV);
#pragma unroll
      for (int r = 0; r < S::kRowsEach; r++)
#pragma unroll
        for (int c = 0; c < S::kColumnsEach; c++)
          sums[r][c] = mul_add(va[r / kV].v[r % kV], vb[c / kV].v[c % kV], sums[r][c]);
    }
    current ^= 1;
    if (more) store(current);
    __syncthreads();
  }

#pragma unroll
  for (int r = 0; r < S::kRowsEach; r++) {
    const int64_t i = row + r / kV * (S::kRows / kRowGroups) + y * kV + r % kV;
    if (i >= p.m) continue;
#pragma unroll
    for (int g = 0; g < kColumnGroups; g++) {
      const int64_t j = column + g * (S::kColumns / kColumnGroups) + x * kV, left = p.n - j;
      const int64_t offset = c_offset + i * p.ldc + j;
      Pack<T, kV> out;
#pragma unroll
      for (int e = 0; e < kV; e++) {
        out.v[e] = sums[r][g * kV + e];
        if (e >= left) continue;
        if (p.bias) out.v[e] += p.bias[j + e];
        if constexpr (kFuse == Fuse::gelu_grad) out.v[e] = Gelu::backward(p.h[offset + e], out.v[e]);
        if (!p.wide_c) p.c[offset + e] = out.v[e];
      }
      if (p.wide_c && left > 0) store_pack(p.c + offset, out);
    }
  }
}

}  // namespace qm::cuda
