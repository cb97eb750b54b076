#include "binding/execute.h"

#include <string>

#include "binding/convert.h"
#include "core/op_table.h"

namespace qm::binding {

namespace {

/// Walks the record; every read is bounds-checked.
class Reader {
 public:
  Reader(double* data, int64_t size) : data_(data), size_(size) {}
  double* take(int64_t n) {
    if (n < 0 || n > size_ - at_) throw Error(ErrorKind::argument, "call record is cut short");
    double* p = data_ + at_;
    at_ += n;
    return p;
  }
  int64_t count(int64_t limit) {
    const double value = *take(1);
    if (!(value >= 0 && value <= static_cast<double>(limit)) ||
        value != static_cast<double>(static_cast<int64_t>(value)))
      throw Error(ErrorKind::argument, "call record holds a bad count");
    return static_cast<int64_t>(value);
  }
  int64_t left() const { return size_ - at_; }

 private:
  double* data_;
  int64_t size_;
  int64_t at_ = 0;
};

/// Outputs allocated for a call; given back unless the kernel succeeds.
class NewHandles {
 public:
  /// @param places of the handles in the record; room that is kept from call to call
  NewHandles(Engine& engine, std::vector<double*>& places, int64_t most) : engine_(engine), places_(places) {
    places_.clear();
    places_.reserve(static_cast<size_t>(most));
  }
  ~NewHandles() {
    for (double* place : places_) {
      engine_.release(*place);
      *place = -1;
    }
  }
  void add(double* place, double handle) {
    places_.push_back(place);
    *place = handle;
  }
  /// The call has succeeded: its handles go to the front of the record, in order.
  void keep(double* record) {
    for (size_t k = 0; k < places_.size(); k++) record[k] = *places_[k];
    places_.clear();
  }

 private:
  Engine& engine_;
  std::vector<double*>& places_;
};

}  // namespace

void Executor::run(double* record, int64_t size) {
  Reader reader(record, size);
  const int op = static_cast<int>(reader.count(kOpCount - 1));
  const OpInfo& info = kOps[op];

  const int64_t n_in = reader.count(1 << 20);
  if (info.n_in >= 0 && n_in != info.n_in)
    throw Error(ErrorKind::argument, std::string(info.name) + ": wrong number of inputs");
  Device device = Device::cpu;
  bool device_known = false;
  const auto join = [&](Device d) {
    if (device_known && d != device)
      throw Error(ErrorKind::device, std::string(info.name) + ": tensors are on different devices");
    device = d;
    device_known = true;
  };

  in_.assign(static_cast<size_t>(n_in), TensorView{});
  const double* ids = reader.take(n_in);
  for (int64_t k = 0; k < n_in; k++) {
    if (ids[k] == -1) continue;
    in_[k] = engine_.get(ids[k]);
    join(engine_.device_of(ids[k]));
  }

  const int64_t n_out = reader.count(1 << 20);
  if (info.n_out >= 0 && n_out != info.n_out)
    throw Error(ErrorKind::argument, std::string(info.name) + ": wrong number of outputs");
  out_.resize(static_cast<size_t>(n_out));
  NewHandles made(engine_, made_, n_out);
  for (int64_t k = 0; k < n_out; k++) {
    double* place = reader.take(1);
    if (*place == -1) {
      const double* spec = reader.take(2);
      const DType type = dtype(spec[0]);
      join(qm::binding::device(spec[1]));
      const int64_t rank = reader.count(kMaxRank);
      made.add(place, engine_.create(type, shape(reader.take(rank), rank), device, op));
    } else {
      join(engine_.device_of(*place));
    }
    out_[k] = engine_.get(*place);
  }

  const int64_t n_attrs = reader.left();
  const Attrs attrs(info.attrs, reader.take(n_attrs), n_attrs);
  backend(device).run(
      Call{info.name, in_.data(), static_cast<int>(n_in), out_.data(), static_cast<int>(n_out), attrs, op});
  made.keep(record);
}

}  // namespace qm::binding
