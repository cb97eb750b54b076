// The first convolution of the model in bfloat16: 3 x 3, stride 2, padding 1, from 3 channels. Its 27 terms are
// one step of the tensor cores, padded to 32, so that all the time goes to reading the image and dy or writing
// y, each once.
//
// The 9 values (column, channel) that a kernel row reads are neighbours in memory: for output column j they
// begin at element 6 j - 3 of the image row. The image row lies in shared memory from element kMargin on, with
// zeros before it, so that they are elements 6 j + 5 to 6 j + 13 there.
#pragma once
#include "cuda/conv2d_mma.cuh"

namespace qm::cuda {

constexpr int kStemTerms = 27;
constexpr int kMargin = 8;

/// w is a multiple of 32: rows are whole 16-byte chunks, and 16 output columns never pass the end of one. It is
/// at most 512, so that two stages of the gradient fit shared memory.
struct Stem {
  int64_t batch;
  int h, w, oh, ow;

  __host__ __device__ int row_elements() const { return 3 * w + kMargin; }
};

inline bool stem_fits(const ConvShape& s) {
  const int64_t c = s.cout;
  return s.groups == 1 && s.cin == 3 && s.square(3, 2, 1) && s.w % 32 == 0 && s.w <= 512 && s.h >= 1 &&
         s.h < (1 << 20) && (c == 24 || c == 32 || c == 48 || c == 64);
}

/// Starts copying image rows [first, first + rows) into shared memory; rows outside the image become zeros.
__device__ __forceinline__ void copy_image_rows(const Stem& s, const bf16* image, int first, int rows,
                                                bf16* to) {
  const int chunks = 3 * s.w / kChunk;
  for (int item = threadIdx.x; item < rows * chunks; item += blockDim.x) {
    const int row = item / chunks, chunk = item % chunks, y = first + row;
    const bool inside = y >= 0 && y < s.h;
    copy_async(shared_address(to + row * s.row_elements() + kMargin + chunk * kChunk),
               image + (inside ? static_cast<int64_t>(y) * s.w * 3 + chunk * kChunk : 0), inside);
  }
}
__device__ __forceinline__ void clear_margins(const Stem& s, int rows, bf16* to) {
  for (int item = threadIdx.x; item < rows * kMargin; item += blockDim.x)
    to[item / kMargin * s.row_elements() + item % kMargin] = bf16(0.0f);
}

constexpr int kStemRows = 8;  // output rows of a block
constexpr int kStemWarps = kThreads / kWarp;

/// A block makes kStemRows output rows of an image; a warp 16 pixels of a row at a time, all channels. Terms
/// are taken in pairs that share a 32-bit word: 5 of a kernel row, of which the first has one term only.
template <int kTiles>
__global__ void __launch_bounds__(kThreads)
    stem_fwd_kernel(const Stem s, const bf16* x, const float* weight, const float* bias, bf16* y) {
  constexpr int kColumns = kTiles * 8;
  bf16* rows = reinterpret_cast<bf16*>(dynamic_shared());
  const int strips = (s.oh + kStemRows - 1) / kStemRows;
  const int64_t image = blockIdx.x / strips;
  const int i0 = static_cast<int>(blockIdx.x % strips) * kStemRows;
  copy_image_rows(s, x + image * s.h * s.w * 3, 2 * i0 - 1, 2 * kStemRows + 1, rows);
  commit_copies();
  clear_margins(s, 2 * kStemRows + 1, rows);

  const int l = threadIdx.x % kWarp, g = l / 4, t = l % 4;
  // this lane's pairs of terms, t + 4 v: where they lie, and which halves count
  int word[4];
  uint32_t mask[4], b[kTiles][4];
#pragma unroll
  for (int v = 0; v < 4; v++) {
    const int pair = t + 4 * v, ky = pair / 5, at = pair % 5;
    word[v] = pair < 15 ? (ky * s.row_elements() + 4) / 2 + at : 0;
    mask[v] = pair == 15 ? 0u : at == 0 ? 0xffff0000u : 0xffffffffu;
#pragma unroll
    for (int u = 0; u < kTiles; u++) {
      const float* w = weight + column_of<kTiles>(u, g / 2, g % 2) * kStemTerms;
      const auto term = [&](int e) { return pair < 15 && e >= 0 ? w[e % 3 * 9 + ky * 3 + e / 3] : 0.0f; };
      b[u][v] = pack_bf16(term(2 * at - 1), term(2 * at));
    }
  }
  wait_copies<0>();
  __syncthreads();

  const uint32_t* words = reinterpret_cast<const uint32_t*>(rows);
  const int row_tiles = s.ow / 16;
  for (int tile = threadIdx.x / kWarp; tile < kStemRows * row_tiles; tile += kStemWarps) {
    const int r = tile / row_tiles, j0 = tile % row_tiles * 16, i = i0 + r;
    if (i >= s.oh) break;
    // of 8 output columns on, 24 words on
    const uint32_t* at = words + r * s.row_elements() + 3 * (j0 + g);
    uint32_t a[2][4];
#pragma unroll
    for (int v = 0; v < 4; v++) {
      a[v / 2][v % 2 * 2] = at[word[v]] & mask[v];
      a[v / 2][v % 2 * 2 + 1] = at[word[v] + 24] & mask[v];
    }
    float sum[kTiles][4] = {};
#pragma unroll
    for (int u = 0; u < kTiles; u++)
#pragma unroll
      for (int k = 0; k < 2; k++) multiply_add(sum[u], a[k], b[u][2 * k], b[u][2 * k + 1]);
    bf16* to = y + ((image * s.oh + i) * s.ow + j0 + g) * kColumns;
#pragma unroll
    for (int half = 0; half < 2; half++)
      store_row<kTiles>(to + half * 8 * kColumns, bias, kColumns, sum, half);
  }
}

constexpr int kStemStageRows = 2;  // output rows of a stage

/// Bytes of a stage: image rows, and rows of dy. A pixel of dy takes an odd number of chunks; the last one may
/// be read past its channels, by a chunk.
template <int kTiles>
struct StemStage {
  static constexpr int kPixelBytes = (kTiles | 1) * 16;
  int image_bytes, bytes;
  __host__ __device__ explicit StemStage(const Stem& s)
      : image_bytes((2 * kStemStageRows + 1) * s.row_elements() * 2),
        bytes(image_bytes + kStemStageRows * s.ow * kPixelBytes + 16) {}
};

/// Partial gradients [blocks, cout, 27], terms ordered (tap, channel). Stages are pairs of output rows of an
/// image; block b takes stages b, b + blocks, ... in order, the next one on its way meanwhile. A warp takes 16
/// pixels at a time; the block's warps are added in order.
template <int kTiles>
__global__ void __launch_bounds__(kThreads)
    stem_bwd_w_kernel(const Stem s, const bf16* dy, const bf16* x, float* partial) {
  constexpr int kColumns = kTiles * 8, kTilesM = (kTiles + 1) / 2;
  using Stage = StemStage<kTiles>;
  char* memory = dynamic_shared();
  const Stage layout(s);
  const int pairs = (s.oh + kStemStageRows - 1) / kStemStageRows;
  const int64_t stages = s.batch * pairs;

  const auto copy = [&](int64_t stage, int slot) {
    const int64_t image = stage / pairs;
    const int i0 = static_cast<int>(stage % pairs) * kStemStageRows;
    bf16* rows = reinterpret_cast<bf16*>(memory + slot * layout.bytes);
    copy_image_rows(s, x + image * s.h * s.w * 3, 2 * i0 - 1, 2 * kStemStageRows + 1, rows);
    const uint32_t to = shared_address(memory + slot * layout.bytes + layout.image_bytes);
    for (int item = threadIdx.x; item < kStemStageRows * s.ow * kTiles; item += kThreads) {
      const int pixel = item / kTiles, chunk = item % kTiles;
      const bool inside = i0 + pixel / s.ow < s.oh;
      const int64_t from = ((image * s.oh + i0) * s.ow + pixel) * kColumns + chunk * kChunk;
      copy_async(to + pixel * Stage::kPixelBytes + chunk * 16, dy + (inside ? from : 0), inside);
    }
  };

  const int l = threadIdx.x % kWarp, g = l / 4, t = l % 4, warp = threadIdx.x / kWarp;
  // this lane's terms, 8 u + g: where they lie for output column 2 t of a row's first 16
  int element[4];
#pragma unroll
  for (int u = 0; u < 4; u++) {
    const int term = 8 * u + g;
    element[u] = term < kStemTerms ? term / 9 * s.row_elements() + 5 + term % 9 + 12 * t : -1;
  }
  float sum[kTilesM][4][4] = {};
  for (int slot = 0; slot < 2; slot++)
    clear_margins(s, 2 * kStemStageRows + 1, reinterpret_cast<bf16*>(memory + slot * layout.bytes));
  if (blockIdx.x < stages) copy(blockIdx.x, 0);
  commit_copies();
  int slot = 0;
  for (int64_t stage = blockIdx.x; stage < stages; stage += gridDim.x, slot ^= 1) {
    if (stage + gridDim.x < stages) copy(stage + gridDim.x, slot ^ 1);
    commit_copies();
    wait_copies<1>();
    __syncthreads();
    const uint16_t* rows = reinterpret_cast<const uint16_t*>(memory + slot * layout.bytes);
    const uint32_t pixels = shared_address(memory + slot * layout.bytes + layout.image_bytes) +
                            (l / 16 * 8 + l % 8) * Stage::kPixelBytes + l / 8 % 2 * 16;
    const int i0 = static_cast<int>(stage % pairs) * kStemStageRows;
    const int tiles = (s.oh - i0 < kStemStageRows ? s.oh - i0 : kStemStageRows) * s.ow / 16;
    for (int tile = warp; tile < tiles; tile += kStemWarps) {
      const int r = tile * 16 / s.ow, j0 = tile * 16 % s.ow;
      const uint16_t* at = rows + 2 * r * s.row_elements() + 6 * j0;
      // 16 pixels x 8 terms: pixels 2 t, 2 t + 1, 2 t + 8, 2 t + 9, six elements apart
      uint32_t b[4][2];
#pragma unroll
      for (int u = 0; u < 4; u++)
#pragma unroll
        for (int k = 0; k < 2; k++) {
          const uint16_t* from = at + element[u] + 48 * k;
          b[u][k] = element[u] < 0 ? 0u : from[0] | static_cast<uint32_t>(from[6]) << 16;
        }
#pragma unroll
      for (int m = 0; m < kTilesM; m++) {
        uint32_t a[4];
        load_transposed(a, pixels + tile * 16 * Stage::kPixelBytes + m * 32);
#pragma unroll
        for (int u = 0; u < 4; u++) multiply_add(sum[m][u], a, b[u][0], b[u][1]);
      }
    }
    __syncthreads();
  }
  wait_copies<0>();
  __syncthreads();

  float* room = reinterpret_cast<float*>(memory);  // [warps][16 kTilesM][32]
#pragma unroll
  for (int m = 0; m < kTilesM; m++)
#pragma unroll
    for (int u = 0; u < 4; u++)
#pragma unroll
      for (int e = 0; e < 4; e++)
        room[((warp * kTilesM + m) * 16 + e / 2 * 8 + g) * 32 + u * 8 + t * 2 + e % 2] = sum[m][u][e];
  __syncthreads();
  for (int k = threadIdx.x; k < kColumns * kStemTerms; k += kThreads) {
    const int at = k / kStemTerms * 32 + k % kStemTerms;
    float total = 0;
    for (int w = 0; w < kStemWarps; w++) total += room[w * kTilesM * 16 * 32 + at];
    partial[static_cast<int64_t>(blockIdx.x) * kColumns * kStemTerms + k] = total;
  }
}

/// Shared memory of stem_bwd_w_kernel: two stages, or the sums of the warps.
template <int kTiles>
int stem_bwd_w_shared(const Stem& s) {
  return std::max(2 * StemStage<kTiles>(s).bytes, kStemWarps * ((kTiles + 1) / 2) * 16 * 32 * 4);
}

}  // namespace qm::cuda
