// The register block is kRows x kVectors vectors of C: 12 x 2 with 32 vector registers of 512 bits, 6 x 2
// with 16 of 256. For every k one row of a B panel is loaded and each A element broadcast. Each element of C
// is summed over k in ascending order within blocks of kDepth, and the blocks are added in order.
#include "cpu/gemm.h"

namespace qm::cpu::QM_ISA {

namespace {

#if defined(__AVX512F__)
constexpr int kRows = 12;
#elif defined(__AVX2__)
constexpr int kRows = 6;
#elif defined(__ARM_NEON)
constexpr int kRows = 8;
#else
constexpr int kRows = 4;
#endif
constexpr int kVectors = 2;
constexpr int64_t kDepth = 256;     // a panel of B [kDepth, 2 vectors] stays in the first-level cache
constexpr int64_t kRowBlock = 96;   // rows of A of one task: kRowBlock x kDepth stays in the second level
constexpr int64_t kMaxPieces = 16;  // of k, where rows alone give too few tasks
static_assert(kRowBlock % kRows == 0);

template <class T>
constexpr int64_t kPanel = kVectors * kLanes<T>;

template <class T>
struct Block {
  int64_t depth;
  Matrix<T> a;
  const T* panel;
  T* c;
  int64_t ldc;
  int64_t width;  // columns of this panel that exist
  const T* bias;
  bool accumulate;
};

template <class T, int R, int V>
void micro_kernel(const Block<T>& s) {
  Vec<T> acc[R][V] = {};
  const T* panel = s.panel;
  const T* a = s.a.data;
  for (int64_t p = 0; p < s.depth; p++, panel += kPanel<T>, a += s.a.col) {
    Vec<T> b[V];
    for (int v = 0; v < V; v++) b[v] = load(panel + v * kLanes<T>);
    for (int r = 0; r < R; r++) {
      const Vec<T> ar = splat(a[r * s.a.row]);
      for (int v = 0; v < V; v++) acc[r][v] = mul_add(ar, b[v], acc[r][v]);
    }
  }
  for (int v = 0; v < V; v++) {
    const int64_t count = s.width - v * kLanes<T>;
    const Vec<T> bias = s.bias ? load_n(s.bias + v * kLanes<T>, count) : Vec<T>{};
    for (int r = 0; r < R; r++) {
      T* c = s.c + r * s.ldc + v * kLanes<T>;
      Vec<T> value = acc[r][v] + bias;
      if (s.accumulate) value = load_n(c, count) + acc[r][v];
      store_n(c, value, count);
    }
  }
}

template <class T, int V, int R = kRows>
void rows_kernel(const Block<T>& s, int64_t rows) {
  if constexpr (R > 0) {
    if (rows >= R) return micro_kernel<T, R, V>(s);
    rows_kernel<T, V, R - 1>(s, rows);
  }
}

/// Block of A [m, depth] times one packed block of B [depth, n].
template <class T>
void multiply_block(int64_t m, int64_t n, int64_t depth, Matrix<T> a, const T* packed, T* c, int64_t ldc,
                    const T* bias, bool accumulate) {
  for (int64_t j = 0; j < n; j += kPanel<T>) {
    const int64_t width = std::min(kPanel<T>, n - j);
    for (int64_t i = 0; i < m; i += kRows) {
      const Block<T> block{
          depth, {a.data + i * a.row, a.row, a.col}, packed + j * depth, c + i * ldc + j, ldc,
          width, bias ? bias + j : nullptr,          accumulate};
      if (width > kLanes<T>)
        rows_kernel<T, 2>(block, std::min<int64_t>(kRows, m - i));
      else
        rows_kernel<T, 1>(block, std::min<int64_t>(kRows, m - i));
    }
  }
}

/// B [depth, n] into panels [n / panel][depth][panel], the last one padded with zeros.
template <class T>
void pack_block(int64_t depth, int64_t n, Matrix<T> b, T* packed) {
  for (int64_t j = 0; j < n; j += kPanel<T>) {
    const int64_t width = std::min(kPanel<T>, n - j);
    T* out = packed + j * depth;
    if (b.col == 1) {
      for (int64_t p = 0; p < depth; p++) {
        std::memcpy(out + p * kPanel<T>, b.data + p * b.row + j, static_cast<size_t>(width) * sizeof(T));
        for (int64_t l = width; l < kPanel<T>; l++) out[p * kPanel<T> + l] = 0;
      }
      continue;
    }
    for (int64_t l = 0; l < kPanel<T>; l++) {
      const T* column = b.data + (j + l) * b.col;
      for (int64_t p = 0; p < depth; p++) out[p * kPanel<T> + l] = l < width ? column[p * b.row] : T{0};
    }
  }
}

int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

}  // namespace

template <class T>
int64_t packed_size(int64_t k, int64_t n) {
  return k * round_up(n, kPanel<T>);
}

template <class T>
void pack_b(int64_t k, int64_t n, Matrix<T> b, T* packed) {
  const int64_t stride = round_up(n, kPanel<T>);
  for (int64_t p = 0; p < k; p += kDepth)
    pack_block(std::min(kDepth, k - p), n, Matrix<T>{b.data + p * b.row, b.row, b.col}, packed + p * stride);
}

template <class T>
void gemm_packed(int64_t m, int64_t n, int64_t k, Matrix<T> a, const T* packed, T* c, int64_t ldc,
                 const T* bias, bool accumulate) {
  if (k == 0 && !accumulate)
    for (int64_t i = 0; i < m; i++)
      for (int64_t j = 0; j < n; j++) c[i * ldc + j] = bias ? bias[j] : T{0};
  const int64_t stride = round_up(n, kPanel<T>);
  for (int64_t p = 0; p < k; p += kDepth)
    multiply_block(m, n, std::min(kDepth, k - p), Matrix<T>{a.data + p * a.col, a.row, a.col},
                   packed + p * stride, c, ldc, p == 0 ? bias : nullptr, accumulate || p > 0);
}

template <class T>
void gemm(int64_t m, int64_t n, int64_t k, Matrix<T> a, Matrix<T> b, T* c, int64_t ldc, const T* bias) {
  if (m == 0 || n == 0) return;
  const int64_t row_tasks = (m + kRowBlock - 1) / kRowBlock;
  const int64_t depth_blocks = (k + kDepth - 1) / kDepth;
  const int64_t wanted = row_tasks >= 8 ? 1 : (kMaxPieces + row_tasks - 1) / row_tasks;
  const int64_t pieces = std::min(wanted, depth_blocks / 2);
  if (pieces <= 1) {
    Scratch<T> packed(static_cast<size_t>(packed_size<T>(k, n)));
    const int64_t stride = round_up(n, kPanel<T>);
    parallel_tasks(depth_blocks, [&](int64_t block) {
      const int64_t p = block * kDepth;
      pack_block(std::min(kDepth, k - p), n, Matrix<T>{b.data + p * b.row, b.row, b.col},
                 packed.get() + p * stride);
    });
    return parallel_for(m, kRowBlock, [&](int64_t begin, int64_t end) {
      gemm_packed(end - begin, n, k, Matrix<T>{a.data + begin * a.row, a.row, a.col}, packed.get(),
                  c + begin * ldc, ldc, bias, false);
    });
  }
  // Every piece packs its own blocks of B and sums into its own C.
  const int64_t blocks_per_piece = (depth_blocks + pieces - 1) / pieces;
  const int64_t panel_size = packed_size<T>(kDepth, n);
  Scratch<T> packed(static_cast<size_t>(pieces * panel_size));
  Scratch<T> partial(static_cast<size_t>(pieces * m * n));
  parallel_tasks(pieces, [&](int64_t piece) {
    T* own_packed = packed.get() + piece * panel_size;
    T* own = partial.get() + piece * m * n;
    const int64_t from = piece * blocks_per_piece * kDepth;
    const int64_t to = std::min(k, from + blocks_per_piece * kDepth);
    if (from >= to) std::fill(own, own + m * n, T{0});
    for (int64_t p = from; p < to; p += kDepth) {
      const int64_t depth = std::min(kDepth, k - p);
      pack_block(depth, n, Matrix<T>{b.data + p * b.row, b.row, b.col}, own_packed);
      for (int64_t i = 0; i < m; i += kRowBlock)
        multiply_block(std::min(kRowBlock, m - i), n, depth,
                       Matrix<T>{a.data + i * a.row + p * a.col, a.row, a.col}, own_packed, own + i * n, n,
                       static_cast<const T*>(nullptr), p > from);
    }
  });
  parallel_for(m, std::max<int64_t>(1, kGrain / n), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
      for (int64_t j = 0; j < n; j += kLanes<T>) {
        Vec<T> sum = {};
        for (int64_t piece = 0; piece < pieces; piece++)
          sum += load_n(partial.get() + (piece * m + i) * n + j, n - j);
        if (bias) sum += load_n(bias + j, n - j);
        store_n(c + i * ldc + j, sum, n - j);
      }
  });
}

#define QM_INSTANTIATE(T)                                                                                    \
  template int64_t packed_size<T>(int64_t, int64_t);                                                         \
  template void pack_b<T>(int64_t, int64_t, Matrix<T>, T*);                                                  \
  template void gemm_packed<T>(int64_t, int64_t, int64_t, Matrix<T>, const T*, T*, int64_t, const T*, bool); \
  template void gemm<T>(int64_t, int64_t, int64_t, Matrix<T>, Matrix<T>, T*, int64_t, const T*);
QM_INSTANTIATE(float)
QM_INSTANTIATE(double)
#undef QM_INSTANTIATE

}  // namespace qm::cpu::QM_ISA
