// Time as the device sees it: events in the stream, and a profile of ops by the events around each call.
#include <vector>

#include "core/op_table.h"
#include "cuda/context.h"

namespace qm::cuda {

namespace {

struct Timed {
  int row;
  double bytes;
  cudaEvent_t begin, end;
};
struct Clock {
  std::vector<cudaEvent_t> events;
  bool profiling = false;
  std::vector<Timed> timed;
};
Clock& clock() {
  static Clock* instance = new Clock;
  return *instance;
}

cudaEvent_t marked() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "making an event");
  check(cudaEventRecord(event, stream()), "recording an event");
  return event;
}

double milliseconds(cudaEvent_t begin, cudaEvent_t end) {
  float time = 0;
  check(cudaEventSynchronize(end), "waiting for an event");
  check(cudaEventElapsedTime(&time, begin, end), "reading the time between events");
  return time;
}

double bytes_of(const TensorView* tensors, int n) {
  double bytes = 0;
  for (int k = 0; k < n; k++)
    if (tensors[k].present)
      bytes += static_cast<double>(tensors[k].numel()) * static_cast<double>(dtype_size(tensors[k].dtype));
  return bytes;
}

}  // namespace

int64_t record_event() {
  clock().events.push_back(marked());
  return static_cast<int64_t>(clock().events.size()) - 1;
}

double milliseconds_between(int64_t begin, int64_t end) {
  const auto known = [](int64_t k) { return k >= 0 && k < static_cast<int64_t>(clock().events.size()); };
  if (!known(begin) || !known(end)) throw Error(ErrorKind::argument, "not an event");
  return milliseconds(clock().events[static_cast<size_t>(begin)], clock().events[static_cast<size_t>(end)]);
}

void begin_profile() { clock().profiling = true; }

void run_timed(const Call& call, Kernel kernel) {
  Clock& c = clock();
  if (!c.profiling || capturing()) return kernel(call);
  Timed t{call.row, bytes_of(call.in, call.n_in) + bytes_of(call.out, call.n_out), marked(), nullptr};
  kernel(call);
  t.end = marked();
  c.timed.push_back(t);
}

void end_profile(OpCost* costs) {
  Clock& c = clock();
  c.profiling = false;
  for (const Timed& t : c.timed) {
    costs[t.row].calls++;
    costs[t.row].milliseconds += milliseconds(t.begin, t.end);
    costs[t.row].bytes += t.bytes;
    cudaEventDestroy(t.begin);
    cudaEventDestroy(t.end);
  }
  c.timed.clear();
}

}  // namespace qm::cuda
