// Who multiplies a tile in float32 or float64: ordinary units (float32), or tensor cores, which are exact to
// the last bit of float64 as well. Operands are in shared memory as [k][outer]. Either way a thread ends with
// groups of 16 bytes of C, and every sum is a chain of fused multiply-adds over k in ascending order.
#pragma once
#include "cuda/device/formulas.cuh"
#include "cuda/device/pack.cuh"
#include "cuda/gemm_tensor.cuh"

namespace qm::cuda {

/// A tile of C and the threads that own it, each kRowsEach x kColumnsEach.
template <int rows, int columns, int rows_each, int columns_each>
struct SimtTile {
  static constexpr int kRows = rows;
  static constexpr int kColumns = columns;
  static constexpr int kRowsEach = rows_each;
  static constexpr int kColumnsEach = columns_each;
  static constexpr int kBlock = rows / rows_each * (columns / columns_each);
};

/// Thread (x, y) owns groups of kV rows and kV columns, side by side with those of its neighbours.
template <class T, class S>
struct OrdinaryUnits {
  static constexpr int kV = kPack<T>;
  static constexpr int kAcross = S::kColumns / S::kColumnsEach;
  static constexpr int kRowGroups = S::kRowsEach / kV, kColumnGroups = S::kColumnsEach / kV;
  static constexpr int kRowStep = S::kRows / kRowGroups, kColumnStep = S::kColumns / kColumnGroups;
  T sums[S::kRowsEach][S::kColumnsEach] = {};

  __device__ __forceinline__ static int row() { return static_cast<int>(threadIdx.x) / kAcross * kV; }
  __device__ __forceinline__ static int column() { return static_cast<int>(threadIdx.x) % kAcross * kV; }

  template <int kDepth, int kPitchA, int kPitchB>
  __device__ __forceinline__ void multiply(const T* a, const T* b) {
#pragma unroll
    for (int k = 0; k < kDepth; k++) {
      Pack<T, kV> va[kRowGroups], vb[kColumnGroups];
#pragma unroll
      for (int g = 0; g < kRowGroups; g++) va[g] = load_pack(a + k * kPitchA + g * kRowStep + row());
#pragma unroll
      for (int g = 0; g < kColumnGroups; g++) vb[g] = load_pack(b + k * kPitchB + g * kColumnStep + column());
#pragma unroll
      for (int r = 0; r < S::kRowsEach; r++)
#pragma unroll
        for (int c = 0; c < S::kColumnsEach; c++)
          sums[r][c] = mul_add(va[r / kV].v[r % kV], vb[c / kV].v[c % kV], sums[r][c]);
    }
  }

  /// body(row, column, values) for every group of this thread.
  template <class Body>
  __device__ __forceinline__ void results(Body body) const {
#pragma unroll
    for (int r = 0; r < S::kRowsEach; r++)
#pragma unroll
      for (int g = 0; g < kColumnGroups; g++) {
        Pack<T, kV> values;
#pragma unroll
        for (int e = 0; e < kV; e++) values.v[e] = sums[r][g * kV + e];
        body(r / kV * kRowStep + row() + r % kV, g * kColumnStep + column(), values);
      }
  }
};

/// A warp owns blocks of 16 x 8; with g = lane / 4, t = lane % 4 a lane has of each (g, 2 t + {0, 1}) and
/// (g + 8, 2 t + {0, 1}).
template <class S>
struct DoubleTensorUnits {
  static constexpr int kWarps = S::kBlock / kWarp;
  static constexpr int kAcross = S::kColumns == 64 ? 4 : S::kColumns / 32;
  static constexpr int kWarpRows = S::kRows * kAcross / kWarps, kWarpColumns = S::kColumns / kAcross;
  static constexpr int kRowBlocks = kWarpRows / 16, kColumnBlocks = kWarpColumns / 8;
  static_assert(kRowBlocks * 16 * (kWarps / kAcross) == S::kRows &&
                kColumnBlocks * 8 * kAcross == S::kColumns);
  double sums[kRowBlocks][kColumnBlocks][4] = {};

  __device__ __forceinline__ static int row() {
    return static_cast<int>(threadIdx.x) / kWarp / kAcross * kWarpRows;
  }
  __device__ __forceinline__ static int column() {
    return static_cast<int>(threadIdx.x) / kWarp % kAcross * kWarpColumns;
  }

  template <int kDepth, int kPitchA, int kPitchB>
  __device__ __forceinline__ void multiply(const double* a, const double* b) {
    const int g = threadIdx.x % kWarp / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int k = 0; k < kDepth; k += 4) {
      double va[kRowBlocks][2], vb[kColumnBlocks];
#pragma unroll
      for (int i = 0; i < kRowBlocks; i++)
#pragma unroll
        for (int half = 0; half < 2; half++)
          va[i][half] = a[(k + t) * kPitchA + row() + i * 16 + half * 8 + g];
#pragma unroll
      for (int j = 0; j < kColumnBlocks; j++) vb[j] = b[(k + t) * kPitchB + column() + j * 8 + g];
#pragma unroll
      for (int i = 0; i < kRowBlocks; i++)
#pragma unroll
        for (int j = 0; j < kColumnBlocks; j++) multiply_add(sums[i][j], va[i], vb[j]);
    }
  }

  template <class Body>
  __device__ __forceinline__ void results(Body body) const {
    const int g = threadIdx.x % kWarp / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < kRowBlocks; i++)
#pragma unroll
      for (int half = 0; half < 2; half++)
#pragma unroll
        for (int j = 0; j < kColumnBlocks; j++)
          body(row() + i * 16 + half * 8 + g, column() + j * 8 + t * 2,
               Pack<double, 2>{{sums[i][j][half * 2], sums[i][j][half * 2 + 1]}});
  }
};

template <class T, class S>
struct UnitsOf {
  using type = OrdinaryUnits<T, S>;
};
template <class S>
struct UnitsOf<double, S> {
  using type = DoubleTensorUnits<S>;
};

}  // namespace qm::cuda
