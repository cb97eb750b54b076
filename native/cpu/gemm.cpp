// Blocking: a panel of B [kDepth, vectors] stays in the first-level cache while the rows of A of one task pass it,
// kRowBlock x kDepth of them in the second level. Each element of C is summed over k in ascending order within
// blocks of at most kDepth, and the blocks are added in order.
#include "cpu/gemm.h"

#include "cpu/gemm_kernel.h"
#include "cpu/transpose.h"

namespace qm::cpu::QM_ISA {

namespace {

constexpr int64_t kLineBytes = 64;
constexpr int64_t kDepth = 256;
constexpr int64_t kRowBlock = 96;      // a multiple of the tallest register block of every instruction set
constexpr int64_t kColumnBlock = 528;  // of C, of one task: whole panels of 2 or 3 vectors
constexpr int64_t kFewTasks = 16;      // below that k is cut too, if it is long
constexpr int64_t kPieceDepth = 768;   // of k, at least, of one piece
constexpr int64_t kMaxPieces = 32;
constexpr int64_t kStreamBytes = 8 << 20;  // of C: from here on it leaves the caches before it is read again
static_assert(kRowBlock % kHeights[0] == 0 && kColumnBlock % kPanel<float> == 0 &&
              kColumnBlock % kPanel<double> == 0);

int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
int64_t blocks_of(int64_t n, int64_t block) { return (n + block - 1) / block; }

/// k is cut into equal blocks of at most kDepth.
int64_t block_depth(int64_t k) { return blocks_of(k, blocks_of(k, kDepth)); }

/// Stretches of memory that will be read soon, asked for line by line in the course of the products before: the skinny
/// products of a model read their operands once, from memory.
class Soon {
 public:
  void add(const void* data, int64_t bytes) {
    if (bytes > 0) stretches_[count_++] = {static_cast<const char*>(data), bytes};
  }
  /// The next `lines` lines; `otherwise` when there are none.
  Ahead next(int64_t lines, const void* otherwise) {
    if (first_ == count_) return {static_cast<const char*>(otherwise), 0};
    Stretch& s = stretches_[first_];
    const char* at = s.at;
    s.at += lines * kLineBytes;
    s.bytes -= lines * kLineBytes;
    if (s.bytes <= 0) first_++;
    return {at, kLineBytes};
  }

 private:
  struct Stretch {
    const char* at;
    int64_t bytes;
  };
  Stretch stretches_[2];
  int first_ = 0, count_ = 0;
};

/// A as the register block reads it: one of its strides is 1.
template <class T>
struct Operand {
  explicit Operand(const Matrix<T>& a) : data(a.data), in_rows(a.col == 1), step(in_rows ? a.row : a.col) {}
  const T* row(int64_t i) const { return data + (in_rows ? i * step : i); }

  const T* data;
  bool in_rows;
  int64_t step;
};

/// Rows [i, rows) of A [rows, depth] times a panel, in the tallest register blocks that fit.
template <class T, int V, int kHeight = 0>
void multiply_panel(int64_t i, int64_t rows, int64_t depth, const Operand<T>& a, const T* panel,
                    const Target<T>& to, int64_t width, Soon& soon) {
  constexpr int R = kHeights[kHeight];
  for (; i + R <= rows; i += R) {
    const Target<T> block{to.c + i * to.ldc, to.ldc, to.bias, to.accumulate, to.stream};
    const Ahead ahead = soon.next(depth, panel);
    if (a.in_rows)
      micro_kernel<T, R, V, true>(depth, a.row(i), a.step, panel, block, width, ahead);
    else
      micro_kernel<T, R, V, false>(depth, a.row(i), a.step, panel, block, width, ahead);
  }
  if constexpr (R > 1)
    if (i < rows) multiply_panel<T, V, kHeight + 1>(i, rows, depth, a, panel, to, width, soon);
}

/// Block of A [m, depth] times one packed block of B [depth, n].
template <class T>
void multiply_block(int64_t m, int64_t n, int64_t depth, const Matrix<T>& a, const T* packed,
                    const Target<T>& to, Soon soon) {
  const Operand<T> operand(a);
  for (int64_t j = 0; j < n; j += kPanel<T>) {
    const int64_t width = std::min(kPanel<T>, n - j);
    const T* panel = packed + j * depth;
    const Target<T> part{to.c + j, to.ldc, to.bias ? to.bias + j : nullptr, to.accumulate, to.stream};
    if (width > 2 * kLanes<T>)
      multiply_panel<T, kVectors>(0, m, depth, operand, panel, part, width, soon);
    else if (width > kLanes<T>)
      multiply_panel<T, 2>(0, m, depth, operand, panel, part, width, soon);
    else
      multiply_panel<T, 1>(0, m, depth, operand, panel, part, width, soon);
  }
}

/// Columns of B, each a run of memory, into one vector of every row of a panel. `count` of them exist.
template <class T>
void pack_columns(int64_t depth, int64_t count, const T* b, int64_t step, T* out) {
  constexpr int64_t lanes = kLanes<T>;
  int64_t p = 0;
  if (count >= lanes)
    for (; p + lanes <= depth; p += lanes) {
      Vec<T> square[lanes];
      for (int64_t l = 0; l < lanes; l++) square[l] = load(b + l * step + p);
      transpose_lanes<T>(square);
      for (int64_t l = 0; l < lanes; l++) store(out + (p + l) * kPanel<T>, square[l]);
    }
  for (; p < depth; p++)
    for (int64_t l = 0; l < lanes; l++) out[p * kPanel<T> + l] = l < count ? b[l * step + p] : T{0};
}

/// B [depth, n] into panels [n / panel][depth][panel], the last one padded with zeros.
template <class T>
void pack_block(int64_t depth, int64_t n, Matrix<T> b, T* packed) {
  for (int64_t j = 0; j < n; j += kPanel<T>) {
    const int64_t width = std::min(kPanel<T>, n - j);
    T* out = packed + j * depth;
    if (b.col == 1) {
      const T* from = b.data + j;
      if (width == kPanel<T>)
        for (int64_t p = 0; p < depth; p++, from += b.row, out += kPanel<T>)
          for (int v = 0; v < kVectors; v++) store(out + v * kLanes<T>, load(from + v * kLanes<T>));
      else
        for (int64_t p = 0; p < depth; p++, from += b.row, out += kPanel<T>)
          for (int v = 0; v < kVectors; v++) {
            const int64_t count = width - v * kLanes<T>;
            store(out + v * kLanes<T>, count > 0 ? load_n(from + v * kLanes<T>, count) : Vec<T>{});
          }
      continue;
    }
    for (int64_t l = 0; l < kPanel<T>; l += kLanes<T>)
      pack_columns(depth, width - l, b.data + (j + l) * b.col, b.col, out + l);
  }
}

/// The same of map(B), whose rows are runs of memory. map null: B itself.
template <class T>
void pack_mapped(int64_t depth, int64_t n, const Matrix<T>& b, RowMap<T> map, T* packed) {
  if (!map) return pack_block(depth, n, b, packed);
  const Scratch<T> rows(static_cast<size_t>(depth * n));
  for (int64_t p = 0; p < depth; p++) map(b.data + p * b.row, n, rows.get() + p * n);
  pack_block(depth, n, Matrix<T>{rows.get(), n, 1}, packed);
}

template <class T>
Matrix<T> part_of(const Matrix<T>& a, int64_t row, int64_t col) {
  return {a.data + row * a.row + col * a.col, a.row, a.col};
}

/// Columns [j, j + n) of A times a packed B [k, packed_n], to C at column j.
template <class T>
void multiply(int64_t m, int64_t j, int64_t n, int64_t packed_n, int64_t k, const Matrix<T>& a,
              const T* packed, Target<T> to, const Soon& soon) {
  const int64_t stride = round_up(packed_n, kPanel<T>), depth = block_depth(k);
  for (int64_t p = 0; p < k; p += depth) {
    const int64_t d = std::min(depth, k - p);
    multiply_block(m, n, d, part_of(a, 0, p), packed + p * stride + j * d, to, soon);
    to.bias = nullptr;
    to.accumulate = true;
  }
}

/// Where rows are few and k is long: pieces of k, each of which packs its own blocks of B and sums into a C of its own.
/// The pieces are added in order.
template <class T>
void gemm_pieces(int64_t pieces, int64_t m, int64_t n, int64_t k, const Matrix<T>& a, const Matrix<T>& b,
                 T* c, int64_t ldc, const T* bias, RowMap<T> map_b) {
  const int64_t length = blocks_of(k, pieces);
  const Scratch<T> partial(static_cast<size_t>(pieces * m * n));
  parallel_tasks(pieces, [&](int64_t piece) {
    T* own = partial.get() + piece * m * n;
    const int64_t from = piece * length, to = std::min(k, from + length);
    if (from >= to) return std::fill(own, own + m * n, T{0});
    const int64_t depth = block_depth(to - from);
    const Scratch<T> packed(static_cast<size_t>(packed_size<T>(depth, n)));
    for (int64_t p = from; p < to; p += depth) {
      const int64_t d = std::min(depth, to - p), next = std::min(depth, to - p - d);
      pack_mapped(d, n, part_of(b, p, 0), map_b, packed.get());
      for (int64_t i = 0; i < m; i += kRowBlock) {
        Soon soon;
        if (i == 0 && b.row == n)
          soon.add(part_of(b, p + d, 0).data, next * n * static_cast<int64_t>(sizeof(T)));
        if (i == 0 && a.col == m)
          soon.add(part_of(a, 0, p + d).data, next * m * static_cast<int64_t>(sizeof(T)));
        multiply_block(std::min(kRowBlock, m - i), n, d, part_of(a, i, p), packed.get(),
                       Target<T>{own + i * n, n, nullptr, p > from, false}, soon);
      }
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

}  // namespace

template <class T>
int64_t packed_size(int64_t k, int64_t n) {
  return k * round_up(n, kPanel<T>);
}

template <class T>
void pack_b(int64_t k, int64_t n, Matrix<T> b, T* packed, RowMap<T> map) {
  if (k == 0) return;
  const int64_t stride = round_up(n, kPanel<T>), depth = block_depth(k);
  const int64_t column_blocks = blocks_of(n, kColumnBlock);
  parallel_tasks(blocks_of(k, depth) * column_blocks, [&](int64_t task) {
    const int64_t p = task / column_blocks * depth, j = task % column_blocks * kColumnBlock;
    const int64_t d = std::min(depth, k - p);
    pack_mapped(d, std::min(kColumnBlock, n - j), part_of(b, p, j), map, packed + p * stride + j * d);
  });
}

template <class T>
void gemm_packed(int64_t m, int64_t n, int64_t k, Matrix<T> a, const T* packed, T* c, int64_t ldc,
                 const T* bias, bool accumulate) {
  if (k == 0 && !accumulate)
    for (int64_t i = 0; i < m; i++)
      for (int64_t j = 0; j < n; j++) c[i * ldc + j] = bias ? bias[j] : T{0};
  if (k > 0) multiply(m, int64_t{0}, n, n, k, a, packed, Target<T>{c, ldc, bias, accumulate, false}, Soon{});
}

template <class T>
void gemm(int64_t m, int64_t n, int64_t k, Matrix<T> a, Matrix<T> b, T* c, int64_t ldc, const T* bias,
          RowMap<T> map_b) {
  if (m == 0 || n == 0) return;
  if (k == 0) return gemm_packed(m, n, k, a, static_cast<const T*>(nullptr), c, ldc, bias, false);
  const int64_t rows = round_up(blocks_of(m, blocks_of(m, kRowBlock)), kHeights[0]);
  const int64_t column_blocks = blocks_of(n, kColumnBlock), tasks = blocks_of(m, rows) * column_blocks;
  int64_t pieces = 1;
  if (tasks < kFewTasks)
    while (pieces < kMaxPieces && k / (2 * pieces) >= kPieceDepth) pieces *= 2;
  if (pieces > 1) return gemm_pieces(pieces, m, n, k, a, b, c, ldc, bias, map_b);

  const Scratch<T> packed(static_cast<size_t>(packed_size<T>(k, n)));
  pack_b(k, n, b, packed.get(), map_b);
  const bool stream = k <= kDepth && n % kPanel<T> == 0 && ldc % kLanes<T> == 0 &&
                      reinterpret_cast<uintptr_t>(c) % kVecBytes == 0 &&
                      m * n * static_cast<int64_t>(sizeof(T)) >= kStreamBytes;
  parallel_tasks(tasks, [&](int64_t task) {
    const int64_t i = task / column_blocks * rows, j = task % column_blocks * kColumnBlock;
    const int64_t mine = std::min(rows, m - i);
    Soon soon;
    if (a.row == k && k <= kDepth)  // what follows the rows of the first register block
      soon.add(part_of(a, i + kHeights[0], 0).data, mine * k * static_cast<int64_t>(sizeof(T)));
    multiply(mine, j, std::min(kColumnBlock, n - j), n, k, part_of(a, i, 0), packed.get(),
             Target<T>{c + i * ldc + j, ldc, bias ? bias + j : nullptr, false, stream}, soon);
    if (stream) finish_streams();
  });
}

#define QM_INSTANTIATE(T)                                                                                    \
  template int64_t packed_size<T>(int64_t, int64_t);                                                         \
  template void pack_b<T>(int64_t, int64_t, Matrix<T>, T*, RowMap<T>);                                       \
  template void gemm_packed<T>(int64_t, int64_t, int64_t, Matrix<T>, const T*, T*, int64_t, const T*, bool); \
  template void gemm<T>(int64_t, int64_t, int64_t, Matrix<T>, Matrix<T>, T*, int64_t, const T*, RowMap<T>);
QM_INSTANTIATE(float)
QM_INSTANTIATE(double)
#undef QM_INSTANTIATE

}  // namespace qm::cpu::QM_ISA
