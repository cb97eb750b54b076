// The kernel of the float32 and float64 products, every sum in T and over k in ascending order.
//
// A block owns one tile of C, [kRows, kColumns], of one product and one piece of k; how it is dealt out to
// threads is in gemm_units.cuh. Steps of 64 bytes of k: the next one travels from memory into registers while
// the current one, in shared memory as [k][outer], is multiplied.
#pragma once
#include "cuda/gemm.h"
#include "cuda/gemm_units.cuh"

namespace qm::cuda {

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
  /// Of a row of shared memory; 4 more spread both kinds of access over the banks.
  static constexpr int kPitch = kOuter + 4;
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

/// Blocks that registers let share a multiprocessor.
template <class T, class S>
constexpr int kSimtBlocks =
    65536 / (S::kBlock * (S::kRowsEach * S::kColumnsEach * static_cast<int>(sizeof(T) / 4) + 60));

template <class T, class S, Fuse kFuse>
__global__ void __launch_bounds__(S::kBlock, (kSimtBlocks<T, S>)) gemm_simt_kernel(const SimtProduct<T> p) {
  using A = Carried<T, S::kRows, S::kBlock>;
  using B = Carried<T, S::kColumns, S::kBlock>;
  constexpr int kDepth = A::kDepth;
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

  typename UnitsOf<T, S>::type units;
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
    units.template multiply<kDepth, A::kPitch, B::kPitch>(tiles_a[current], tiles_b[current]);
    current ^= 1;
    if (more) store(current);
    __syncthreads();
  }

  units.results([&](int r, int c, Pack<T, kPack<T>> values) {
    const int64_t i = row + r, j = column + c, left = p.n - j, offset = c_offset + i * p.ldc + j;
    if (i >= p.m || left <= 0) return;
#pragma unroll
    for (int e = 0; e < kPack<T>; e++) {
      if (e >= left) continue;
      if (p.bias) values.v[e] += p.bias[j + e];
      if constexpr (kFuse == Fuse::gelu_grad) values.v[e] = Gelu::backward(p.h[offset + e], values.v[e]);
      if (!p.wide_c) p.c[offset + e] = values.v[e];
    }
    if (p.wide_c) store_pack(p.c + offset, values);
  });
}

}  // namespace qm::cuda
