#include "engine/runtime/testing/kit.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace engine::runtime::testing {
namespace {

std::atomic<int64_t> g_live{0};

struct Lambda {
  std::string name;
  Body open, process, close;
  std::shared_ptr<Journal> journal;
};

// Lambdas of tests may throw; a plugin's skin guards in the same way.
engine_status* Invoke(const Body& body, engine_call* call) {
  return Guard([&] { return body ? body(Call(call)) : Status(); });
}

engine_status* OpenNode(void* self, engine_call* call) {
  auto* node = static_cast<Lambda*>(self);
  engine_status* status = Invoke(node->open, call);
  if (status == nullptr) node->journal->Add("open " + node->name);
  return status;
}
engine_status* ProcessNode(void* self, engine_call* call) {
  return Invoke(static_cast<Lambda*>(self)->process, call);
}
engine_status* CloseNode(void* self, engine_call* call) {
  auto* node = static_cast<Lambda*>(self);
  node->journal->Add("close " + node->name);
  return Invoke(node->close, call);
}
void DestroyNode(void* self) {
  auto* node = static_cast<Lambda*>(self);
  node->journal->Add("destroy " + node->name);
  delete node;
}

const engine_node_vtable kTable = {sizeof(engine_node_vtable), &OpenNode, &ProcessNode, &CloseNode,
                                   &DestroyNode};

std::pair<std::string, uint32_t> SplitPort(const std::string& text) {
  const size_t colon = text.find(':');
  if (colon == std::string::npos) return {text, 0};
  return {text.substr(0, colon), static_cast<uint32_t>(std::stoul(text.substr(colon + 1)))};
}

}  // namespace

int64_t LivePayloads() { return g_live.load(); }

engine_packet* NewNumber(int64_t value) {
  ++g_live;
  engine_packet* packet = nullptr;
  const Status status(NodesHost()->packet_new(
      Str("test.Number/1"), new int64_t(value),
      [](void* p) {
        delete static_cast<int64_t*>(p);
        --g_live;
      },
      &packet));
  return status.ok() ? packet : nullptr;
}

int64_t NumberOf(const engine_packet* packet) {
  return *static_cast<const int64_t*>(NodesHost()->packet_payload(packet));
}

const engine_error_payload* Call::error(uint32_t port) const {
  const engine_packet* p = packet(port);
  if (p == nullptr || View(Host()->packet_type(p)) != ENGINE_TYPE_ERROR) return nullptr;
  return static_cast<const engine_error_payload*>(Host()->packet_payload(p));
}

Status Call::Pass(uint32_t from, uint32_t port) const {
  auto* p = const_cast<engine_packet*>(packet(from));
  Host()->packet_retain(p);
  return Status(Host()->emit(call_, port, p, UINT64_MAX));
}

engine_completion* Call::Defer() const {
  engine_completion* completion = nullptr;
  const Status status(Host()->defer(call_, &completion));
  return status.ok() ? completion : nullptr;
}

int64_t* Call::number(uint32_t slot) const {
  return static_cast<int64_t*>(
      Host()->resource_object(Host()->resource(call_, slot), Str("test.Number/1")));
}

void Journal::Add(std::string line) {
  std::lock_guard lock(mutex_);
  lines_.push_back(std::move(line));
}
std::vector<std::string> Journal::lines() const {
  std::lock_guard lock(mutex_);
  return lines_;
}
size_t Journal::Count(const std::string& line) const {
  std::lock_guard lock(mutex_);
  return static_cast<size_t>(std::count(lines_.begin(), lines_.end(), line));
}

Graph::Graph() : journal(std::make_shared<Journal>()) {}
Graph::~Graph() {
  for (NodeSpec& node : nodes_) {
    if (node.self != nullptr) DestroyNode(node.self);
  }
}

NodeSpec& Graph::Add(const std::string& name, uint32_t inputs, uint32_t outputs, Body process) {
  NodeSpec& node = nodes_.emplace_back();
  node.name = name;
  node.kind = "lambda";
  node.plugin = "test.plugin";
  node.vtable = &kTable;
  node.self = new Lambda{name, {}, std::move(process), {}, journal};
  for (uint32_t i = 0; i < inputs; ++i) {
    InputSpec& input = node.inputs.emplace_back();
    input.name = "IN" + std::to_string(i);
    input.connected = false;
    input.producers = 0;
  }
  for (uint32_t i = 0; i < outputs; ++i)
    node.outputs.push_back({"OUT" + std::to_string(i), "", {}});
  if (outputs == 0) node.emission = abi::Emission::kNone;
  return node;
}

NodeSpec& Graph::AddSource(const std::string& name, int64_t count) {
  return Add(name, 0, 1, [count, next = int64_t{0}](Call call) mutable -> Status {
    if (next >= count) {
      call.finish();
      return Status();
    }
    if (next + 1 == count) call.finish();
    return call.Emit(0, next++);
  });
}

NodeSpec& Graph::AddSink(const std::string& name, std::vector<int64_t>* values) {
  return Add(name, 1, 0, [values](Call call) {
    for (uint32_t i = 0; i < call.count(0); ++i) values->push_back(call.in(0, i));
    return Status();
  });
}

void Graph::SetOpen(const std::string& name, Body open) {
  static_cast<Lambda*>(node(name).self)->open = std::move(open);
}
void Graph::SetClose(const std::string& name, Body close) {
  static_cast<Lambda*>(node(name).self)->close = std::move(close);
}

uint32_t Graph::Index(const std::string& name) const {
  for (uint32_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].name == name) return i;
  }
  std::fprintf(stderr, "the test names an unknown node '%s'\n", name.c_str());
  std::abort();
}

InputSpec& Graph::Connect(const std::string& from, const std::string& to, uint32_t capacity) {
  const auto [producer, out] = SplitPort(from);
  const auto [consumer, in] = SplitPort(to);
  node(producer).outputs[out].targets.push_back({Index(consumer), in});
  InputSpec& input = node(consumer).inputs[in];
  input.connected = true;
  ++input.producers;
  input.capacity = capacity;
  return input;
}

RunSpec Graph::Take() {
  RunSpec spec;
  spec.executors = executors;
  spec.max_in_flight = max_in_flight;
  for (NodeSpec& node : nodes_) spec.nodes.push_back(std::move(node));
  nodes_.clear();
  return spec;
}

ResourceSlot NumberResource(std::string name, int64_t value) {
  auto resource = std::make_shared<engine_resource>();
  auto number = std::make_shared<int64_t>(value);
  resource->name = std::move(name);
  resource->type = "test.Number/1";
  resource->object = number.get();
  resource->keep = number;
  return resource;
}

namespace {
std::string g_context;
}
void SetHangContext(std::string text) { g_context = std::move(text); }

Status WaitOrDie(Run* run, uint64_t seconds) {
  if (!run->WaitFor(seconds * 1'000'000'000)) {
    std::fprintf(stderr, "the run hangs (state %d) %s\n", static_cast<int>(run->state()),
                 g_context.c_str());
    for (const NodeStats& node : run->report().nodes) {
      std::fprintf(stderr, "  %s: %llu calls, %llu emitted\n", node.name.c_str(),
                   static_cast<unsigned long long>(node.calls),
                   static_cast<unsigned long long>(node.emitted));
    }
    std::abort();
  }
  return run->Wait();
}

Status RunAll(Run* run, uint64_t seconds) {
  ENGINE_RETURN_IF_ERROR(run->Open());
  run->Start();
  return WaitOrDie(run, seconds);
}

Status RunGraph(Graph* graph, RunReport* report, RunOptions options) {
  Run run(graph->Take(), options);
  Status status = RunAll(&run);
  *report = run.report();
  return status;
}

Completer::Completer(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Loop(); });
}
Completer::~Completer() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}
void Completer::Post(std::function<void()> body) {
  {
    std::lock_guard lock(mutex_);
    bodies_.push_back(std::move(body));
  }
  wake_.notify_one();
}
void Completer::Loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return stop_ || !bodies_.empty(); });
    if (bodies_.empty()) return;
    std::function<void()> body = std::move(bodies_.front());
    bodies_.pop_front();
    lock.unlock();
    body();
    body = nullptr;
    lock.lock();
  }
}

}  // namespace engine::runtime::testing
