// Recording of work as CUDA graphs. Memory that a graph uses stays its own: it comes from a pool that nothing
// else draws from, so that a replay finds every buffer where the recording left it.
#include <map>

#include "cuda/context.h"

namespace qm::cuda {

namespace {

struct Graphs {
  std::map<int64_t, cudaGraphExec_t> all;
  int64_t last = 0;
  bool capturing = false;
};
Graphs& graphs() {
  static Graphs* instance = new Graphs;
  return *instance;
}

}  // namespace

bool capturing() { return graphs().capturing; }

void begin_capture() {
  Graphs& g = graphs();
  if (g.capturing) throw Error(ErrorKind::argument, "capture: another capture is under way");
  forget_weights();
  check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed), "beginning a capture");
  g.capturing = true;
  begin_pool(++g.last);
}

int64_t end_capture() {
  Graphs& g = graphs();
  if (!g.capturing) throw Error(ErrorKind::argument, "capture: no capture is under way");
  g.capturing = false;
  forget_weights();
  end_pool();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream(), &graph);
  const cudaError_t made = ended == cudaSuccess ? cudaGraphInstantiate(&exec, graph, 0) : ended;
  if (graph) cudaGraphDestroy(graph);
  if (made != cudaSuccess) drop_pool(g.last);
  check(made, "making a graph of the capture");
  g.all[g.last] = exec;
  return g.last;
}

void abort_capture() {
  Graphs& g = graphs();
  if (!g.capturing) return;
  g.capturing = false;
  forget_weights();
  end_pool();
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream(), &graph);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();
  drop_pool(g.last);
}

void replay(int64_t graph, uint64_t draw_offset) {
  const auto it = graphs().all.find(graph);
  if (it == graphs().all.end()) throw Error(ErrorKind::argument, "capture: no such graph");
  forget_weights();
  set_draw_offset(draw_offset);
  check(cudaGraphLaunch(it->second, stream()), "launching a graph");
  set_draw_offset(0);
}

void drop_graph(int64_t graph) {
  const auto it = graphs().all.find(graph);
  if (it == graphs().all.end()) return;
  cudaStreamSynchronize(stream());
  cudaGraphExecDestroy(it->second);
  graphs().all.erase(it);
  drop_pool(graph);
}

}  // namespace qm::cuda
