// The selective scan, channels last: h_j = exp(dt_j A) h_{j-1} + dt_j B_j u_j, y_j = <C_j, h_j> + D u_j, with j
// walking over the tokens in the order given for each batch entry and group.
//
// One task owns a few batch entries and a slice of the vectors of channels of every group, and walks through a sequence
// chunk by chunk: what a chunk needs lies in the first-level cache, and each step is a small loop over tokens.
// Nothing is shared between tasks but the gradients of B, C and the steps, which are summed over slices
// afterwards, in order. States are float32 for float32 data.
#pragma once
#include <string>

#include "cpu/kernel.h"

namespace qm::cpu::QM_ISA {

/// Token of a scan position: lines of the index are picked by batch and group; without an index it is the position.
struct ScanOrder {
  const int32_t* data = nullptr;
  int64_t batch_stride = 0, group_stride = 0;

  /// Checks every line: a token named twice would be written twice, one left out not at all.
  static ScanOrder of(const Call& call, const TensorView& t, int64_t batch, int64_t groups, int64_t length);
  /// The tokens of positions [begin, begin + count).
  void tokens(int64_t batch, int64_t group, int64_t begin, int64_t count, int32_t* to) const {
    const int32_t* line = data ? data + batch * batch_stride + group * group_stride : nullptr;
    for (int64_t j = 0; j < count; j++) to[j] = line ? line[begin + j] : static_cast<int32_t>(begin + j);
  }
};

/// Sizes and inputs of a scan.
template <class T>
struct Scan {
  int64_t batch, length, groups, width, states, chunk;  // width: channels of a group
  bool softplus, merge, shared_u;
  ScanOrder order;
  const T* u;             // [batch, length, groups (or, shared by them, 1), width]
  const T* delta;         // [batch, length, groups, width], or null: then
  const T* steps;         // [batch, length, groups, rank] times the transpose of
  const T* weight;        // [groups, width, rank]
  int64_t rank;           // 0 with delta
  const T *b, *c;         // [batch, length, groups, states]
  int64_t row, step;      // of steps, b and c: elements from token to token, and from group to group
  const T *a, *d, *bias;  // [groups, width, states]; [groups, width] or null

  int64_t channels() const { return groups * width; }
  int64_t chunks() const { return (length + chunk - 1) / chunk; }
  int64_t u_row() const { return shared_u ? width : channels(); }
  int64_t y_row() const { return merge ? width : channels(); }
  /// Vectors of channels of a group.
  int64_t vectors() const { return (width + kLanes<T> - 1) / kLanes<T>; }
  /// Vectors of a slice: as many as leave eight tasks, for sums over channels are cheap within a slice.
  int64_t slice() const {
    return std::max<int64_t>(1, std::min<int64_t>({vectors(), batch * vectors() / 8, 8}));
  }
  int64_t slices() const { return width > 0 ? (vectors() + slice() - 1) / slice() : 0; }
  /// Batch entries of a task: short sequences are taken together, as far as that leaves sixteen tasks.
  int64_t entries() const {
    return std::max<int64_t>(1, std::min(batch * slices() / 16, 1024 / std::max<int64_t>(1, length)));
  }
  int64_t pieces() const { return (batch + entries() - 1) / entries(); }
};

/// Gradients: what they are of, and in which layout, is told by Scan. Those of B, C and the steps are summed over
/// the channels of a slice only, `slice_size` elements apart; those of parameters over the batch entries of a task.
template <class T>
struct ScanGradients {
  T *du, *ddelta;       // ddelta null where steps are projected
  T *dsteps, *db, *dc;  // [slices, ...]
  int64_t slice_size;
  T *dweight, *da, *dd, *dbias;  // [pieces, ...]
};

/// One vector of channels of one group.
template <class T>
struct ScanColumn {
  int64_t channel;   // of all
  int64_t in_group;  // of the group's
  int64_t count;     // lanes in use

  ScanColumn(const Scan<T>& g, int64_t group, int64_t vector)
      : channel(group * g.width + vector * kLanes<T>),
        in_group(vector * kLanes<T>),
        count(std::min<int64_t>(kLanes<T>, g.width - vector * kLanes<T>)) {}

  Vec<T> parameter(const T* p) const { return p ? load_n(p + channel, count) : Vec<T>{}; }
  /// Element k of each channel's n.
  Vec<T> strided(const T* p, int64_t n, int64_t k) const {
    if (n == 1) return load_n(p, count);
    Vec<T> v = {};
    for (int64_t l = 0; l < count; l++) v[l] = p[l * n + k];
    return v;
  }
  void store_strided(T* p, int64_t n, int64_t k, Vec<T> v) const {
    if (n == 1) return store_n(p, v, count);
    for (int64_t l = 0; l < count; l++) p[l * n + k] = v[l];
  }
};

/// Rates and weights of the projection, as vectors of channels: [groups, vectors, states + rank].
template <class T>
class ScanTable {
 public:
  explicit ScanTable(const Scan<T>& g)
      : vectors_(g.vectors()),
        per_vector_(g.states + g.rank),
        data_(static_cast<size_t>(g.groups * vectors_ * per_vector_)) {
    for (int64_t group = 0; group < g.groups; group++)
      for (int64_t v = 0; v < vectors_; v++) {
        const ScanColumn<T> column(g, group, v);
        Vec<T>* at = data_.get() + (group * vectors_ + v) * per_vector_;
        for (int64_t k = 0; k < g.states; k++)
          at[k] = column.strided(g.a + column.channel * g.states, g.states, k);
        for (int64_t r = 0; r < g.rank; r++)
          at[g.states + r] = column.strided(g.weight + column.channel * g.rank, g.rank, r);
      }
  }
  /// The rates of a vector; its weights follow.
  const Vec<T>* rates(int64_t group, int64_t vector) const {
    return data_.get() + (group * vectors_ + vector) * per_vector_;
  }

 private:
  int64_t vectors_, per_vector_;
  Scratch<Vec<T>> data_;
};

/// Step sizes before softplus, without bias, of the tokens of a chunk: as given, or projected.
template <class T>
QM_INLINE void scan_steps(const Scan<T>& g, int64_t batch, int64_t group, const ScanColumn<T>& column,
                          const Vec<T>* weight, const int32_t* token, int64_t n, T* to) {
  if (g.delta) {
    const T* delta = g.delta + batch * g.length * g.channels() + column.channel;
    for (int64_t j = 0; j < n; j++)
      store(to + j * kLanes<T>, load_n(delta + token[j] * g.channels(), column.count));
    return;
  }
  const T* steps = g.steps + batch * g.length * g.row + group * g.step;
  int64_t j = 0;
  for (; j + 4 <= n; j += 4) {
    const T *p0 = steps + token[j] * g.row, *p1 = steps + token[j + 1] * g.row;
    const T *p2 = steps + token[j + 2] * g.row, *p3 = steps + token[j + 3] * g.row;
    Vec<T> x0 = {}, x1 = {}, x2 = {}, x3 = {};
    for (int64_t r = 0; r < g.rank; r++) {
      const Vec<T> w = weight[r];
      x0 = mul_add(splat(p0[r]), w, x0);
      x1 = mul_add(splat(p1[r]), w, x1);
      x2 = mul_add(splat(p2[r]), w, x2);
      x3 = mul_add(splat(p3[r]), w, x3);
    }
    store(to + j * kLanes<T>, x0);
    store(to + (j + 1) * kLanes<T>, x1);
    store(to + (j + 2) * kLanes<T>, x2);
    store(to + (j + 3) * kLanes<T>, x3);
  }
  for (; j < n; j++) {
    Vec<T> x = {};
    for (int64_t r = 0; r < g.rank; r++) x = mul_add(splat(steps[token[j] * g.row + r]), weight[r], x);
    store(to + j * kLanes<T>, x);
  }
}

/// Runs body(number of states as a constant, first state) over blocks of four states, then single ones.
template <class Body>
QM_INLINE void scan_state_blocks(int64_t states, Body&& body) {
  int64_t from = 0;
  for (; from + 4 <= states; from += 4) body(std::integral_constant<int, 4>{}, from);
  for (; from < states; from++) body(std::integral_constant<int, 1>{}, from);
}

/// y, and the states before each chunk, [batch, chunks, channels, states]: all that backward needs.
template <class T>
void scan_forward(const Scan<T>& g, T* y, T* states);
template <class T>
void scan_backward(const Scan<T>& g, const T* dy, const T* states, const ScanGradients<T>& grad);

/// sum over the leading axis of [n, size], in order, in double.
template <class T>
void sum_leading(const T* x, int64_t n, int64_t size, T* y) {
  parallel_for(size, 4096, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kLanes<T>) {
      const int64_t count = std::min<int64_t>(kLanes<T>, end - i);
      double total[kLanes<T>] = {};
      for (int64_t k = 0; k < n; k++) {
        T part[kLanes<T>];
        store(part, load_n(x + k * size + i, count));
        for (int l = 0; l < kLanes<T>; l++) total[l] += static_cast<double>(part[l]);
      }
      for (int64_t l = 0; l < count; l++) y[i + l] = static_cast<T>(total[l]);
    }
  });
}

}  // namespace qm::cpu::QM_ISA
