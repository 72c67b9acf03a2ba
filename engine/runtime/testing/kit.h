// Nodes as C++ lambdas behind the SDK's table, payloads that are counted, and a builder of graphs:
// what tests of the runtime are written with.
#ifndef ENGINE_RUNTIME_TESTING_KIT_H_
#define ENGINE_RUNTIME_TESTING_KIT_H_

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/runtime/run.h"

namespace engine::runtime::testing {

// Payloads that exist now; 0 after a run, or something leaked.
int64_t LivePayloads();
// A packet that carries a number; freed payloads are counted.
engine_packet* NewNumber(int64_t value);
int64_t NumberOf(const engine_packet* packet);

// One call, as a lambda sees it. Copyable; valid as long as the call.
class Call {
 public:
  explicit Call(engine_call* call) : call_(call) {}
  engine_call* get() const { return call_; }
  uint32_t count(uint32_t port) const { return Host()->input_count(call_, port); }
  bool has(uint32_t port) const { return count(port) != 0; }
  const engine_packet* packet(uint32_t port, uint32_t i = 0) const {
    return Host()->input(call_, port, i);
  }
  int64_t in(uint32_t port = 0, uint32_t i = 0) const { return NumberOf(packet(port, i)); }
  uint64_t key(uint32_t port = 0) const { return Host()->packet_key(packet(port)); }
  uint64_t group(uint32_t port = 0) const { return Host()->packet_group(packet(port)); }
  // The failure that arrived on an ENGINE_PORT_ERRORS port, or null.
  const engine_error_payload* error(uint32_t port) const;
  Status Emit(uint32_t port, int64_t value, uint64_t group = UINT64_MAX) const {
    return Status(Host()->emit(call_, port, NewNumber(value), group));
  }
  // Emits the packet of an input again.
  Status Pass(uint32_t from, uint32_t port) const;
  bool cancelled() const { return Host()->cancelled(call_) != 0; }
  void finish() const { Host()->finish(call_); }
  void Fail(engine_scope scope, Status status) const {
    Host()->fail(call_, scope, status.release());
  }
  engine_completion* Defer() const;
  // The object of the resource in a slot, which must be a test.Number/1; null: not given.
  int64_t* number(uint32_t slot) const;

  static const engine_nodes_host* Host() { return NodesHost(); }

 private:
  engine_call* call_;
};

using Body = std::function<Status(Call)>;

// What nodes of a graph went through, in order: "open a", "close a", "destroy a".
class Journal {
 public:
  void Add(std::string line);
  std::vector<std::string> lines() const;
  size_t Count(const std::string& line) const;

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

class Graph {
 public:
  Graph();
  ~Graph();
  Graph(const Graph&) = delete;

  // Adds a node; the answer stays valid until Take and may be adjusted (policy, emission, …).
  NodeSpec& Add(const std::string& name, uint32_t inputs, uint32_t outputs, Body process);
  NodeSpec& AddSource(const std::string& name, int64_t count);  // 0, 1, … count-1
  // Stores values that arrive.
  NodeSpec& AddSink(const std::string& name, std::vector<int64_t>* values);
  void SetOpen(const std::string& node, Body open);
  void SetClose(const std::string& node, Body close);
  // "a" or "a:1" to "b" or "b:0"; an input that is connected again gets another producer.
  InputSpec& Connect(const std::string& from, const std::string& to, uint32_t capacity = 2);
  uint32_t Index(const std::string& name) const;
  NodeSpec& node(const std::string& name) { return nodes_[Index(name)]; }

  std::vector<ExecutorSpec> executors = {{"default", 2, false}};
  uint32_t max_in_flight = 0;
  std::shared_ptr<Journal> journal;
  RunSpec Take();

 private:
  std::deque<NodeSpec> nodes_;
};

ResourceSlot NumberResource(std::string name, int64_t value);

// Opens, starts and waits; ends the process with the state of all nodes when that takes longer than
// a test ever should.
Status RunAll(Run* run, uint64_t seconds = 60);
Status RunGraph(Graph* graph, RunReport* report, RunOptions options = {});
// Said when a run hangs.
void SetHangContext(std::string text);
Status WaitOrDie(Run* run, uint64_t seconds = 60);

// Threads that complete deferred calls, at once or a little later.
class Completer {
 public:
  explicit Completer(int threads = 2);
  ~Completer();  // after all that was posted
  void Post(std::function<void()> body);

 private:
  void Loop();
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> bodies_;  // guarded by mutex_
  bool stop_ = false;                         // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace engine::runtime::testing

#endif  // ENGINE_RUNTIME_TESTING_KIT_H_
