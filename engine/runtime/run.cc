// The life of a run: opening, lanes that ask for work, waiting, cancel, drain, closing.
#include "engine/runtime/run.h"

#include <algorithm>
#include <chrono>

#include "engine/runtime/run_state.h"

namespace engine::runtime {

Run::Run(RunSpec spec, RunOptions options)
    : spec_(std::move(spec)), options_(options), handle_(std::make_shared<Handle>()) {
  handle_->run = this;
  for (uint32_t i = 0; i < spec_.nodes.size(); ++i) {
    auto node = std::make_unique<NodeState>();
    const NodeSpec& s = spec_.nodes[i];
    node->index = i;
    node->inputs.resize(s.inputs.size());
    node->outputs.resize(s.outputs.size());
    node->generator = true;
    for (const InputSpec& input : s.inputs) {
      if (input.connected && !input.feedback) node->generator = false;
      node->head |= input.connected && input.feedback;
    }
    node->hears = s.hears && node->generator;
    node->uses_resources = !s.resources.empty();
    node->stats.name = s.name;
    node->stats.kind = s.kind;
    nodes_.push_back(std::move(node));
  }
  open_nodes_ = static_cast<uint32_t>(nodes_.size());
  BuildComponents();
  BuildRooms();
  if (spec_.executors.empty()) spec_.executors.push_back({"default", 1, false});
  for (uint32_t i = 0; i < spec_.executors.size(); ++i) {
    auto lanes = std::make_unique<Lanes>();
    lanes->threads = std::max(1u, spec_.executors[i].threads);
    const auto body = [this, i] { Lane(i); };
    lanes->executor = spec_.executors[i].dedicated ? MakeDedicatedExecutor(lanes->threads, body)
                                                   : MakeArenaExecutor(lanes->threads, body);
    lanes_.push_back(std::move(lanes));
  }
}

Run::~Run() {
  if (state() != RunState::kDone && (state() != RunState::kCreated || opened_ != 0)) {
    Cancel(Error(ENGINE_CANCELLED, "the run was given up"));
    Status ignored = Wait();
  }
  {
    std::lock_guard guard(handle_->mutex);
    handle_->run = nullptr;
  }
  {
    // A late timer or packet may be inside still.
    std::unique_lock lock(mutex_);
    leaving_ = true;
    over_.wait(lock, [&] { return visitors_ == 0; });
  }
  for (auto& lanes : lanes_) lanes->executor.reset();
  nodes_.clear();
  for (const NodeSpec& node : spec_.nodes) node.vtable->destroy(node.self);
}

// A call of open or close. What a plugin throws in spite of its contract becomes a failure.
Status Run::Control(const NodeSpec& node, engine_status* (*function)(void*, engine_call*)) {
  engine_call call;
  call.run = this;
  call.control = true;
  call.owner = std::this_thread::get_id();
  {
    std::lock_guard lock(mutex_);
    call.resources = node.resources;
  }
  const Status status(Guard([&] { return Status(function(node.self, &call)); }));
  const bool widened = status.ok() && call.fail_scope != 0;
  return (widened ? call.wide_failure : status).At(node.plugin, node.name);
}

Status Run::Open() {
  Status failure;
  for (const NodeSpec& node : spec_.nodes) {
    failure = Control(node, node.vtable->open);
    if (!failure.ok()) break;
    ++opened_;
  }
  if (failure.ok()) return failure;
  {
    std::lock_guard lock(mutex_);
    state_ = RunState::kCancelled;
    cancelled_.store(true);
    failure_ = failure;
  }
  Status same = Wait();
  return failure;
}

void Run::Start() {
  std::unique_lock lock(mutex_);
  if (state_ != RunState::kCreated) return;
  ++visitors_;
  state_ = drain_early_ ? RunState::kDraining : RunState::kRunning;
  for (uint32_t i = 0; i < nodes_.size(); ++i) Touch(i);
  for (uint32_t i = 0; i < components_.size(); ++i) CloseComponents(i);
  Leave(lock, &visitors_);
}

RunState Run::state() const {
  std::lock_guard lock(mutex_);
  return state_;
}

void Run::Leave(std::unique_lock<std::mutex>& lock, uint32_t* count) {
  for (;;) {
    while (!garbage_.empty()) {
      Garbage garbage;
      garbage.swap(garbage_);
      lock.unlock();
      garbage.clear();
      lock.lock();
    }
    for (uint32_t i = 0; i < lanes_.size(); ++i) WakeLanes(i, 0);
    --*count;
    SettleIdle();
    if (garbage_.empty()) break;
    ++*count;  // a deadlock was told; what it left is freed before the run is over
  }
  if (leaving_ && visitors_ == 0) over_.notify_all();
  lock.unlock();
}

// Wakes lanes for what is ready, keeping `keep` items for the lane that asks.
void Run::WakeLanes(uint32_t executor, size_t keep) {
  Lanes& lanes = *lanes_[executor];
  size_t wanted = lanes.ready.size() > keep ? lanes.ready.size() - keep : 0;
  while (wanted-- != 0 && lanes.active < lanes.threads) {
    ++lanes.active;
    lanes.executor->Wake();
  }
}

void Run::Lane(uint32_t executor) {
  Lanes& lanes = *lanes_[executor];
  std::unique_lock lock(mutex_);
  Garbage garbage;
  while (!lanes.ready.empty() || !garbage_.empty()) {
    if (!garbage_.empty()) {
      garbage.swap(garbage_);
      lock.unlock();
      garbage.clear();
      lock.lock();
      continue;
    }
    const uint32_t index = lanes.ready.front();
    lanes.ready.pop_front();
    NodeState& node = *nodes_[index];
    node.listed = false;
    if (!Ready(node)) continue;
    engine_call* call = Begin(index);
    Touch(index);
    if (call->skip) {
      --nodes_[call->node]->inside;
      Finish(call);
    } else {
      for (uint32_t i = 0; i < lanes_.size(); ++i) WakeLanes(i, 0);
      garbage.swap(garbage_);
      lock.unlock();
      garbage.clear();
      const uint64_t ns = Process(call, index);
      lock.lock();
      ++node.stats.calls;
      node.stats.total_ns += ns;
      node.stats.max_ns = std::max(node.stats.max_ns, ns);
      Returned(call);
    }
  }
  Leave(lock, &lanes.active);
}

uint64_t Run::Process(engine_call* call, uint32_t index) {
  const NodeSpec& spec = spec_.nodes[index];
  const uint64_t key = call->key;
  const uint64_t begin = NowNs();
  call->began_ns.store(begin, std::memory_order_relaxed);
  call->owner = std::this_thread::get_id();
  const auto body = [&] {
    Status status(Guard([&] { return Status(spec.vtable->process(spec.self, call)); }));
    // A deferred call carries its answer itself.
    if (!call->deferred.load()) call->status = std::move(status);
  };
  if (nodes_[index]->uses_resources && options_.thread_state != nullptr) {
    options_.thread_state->Around(body);
  } else {
    body();
  }
  call->owner = std::thread::id();
  call->began_ns.store(0, std::memory_order_relaxed);
  const uint64_t end = NowNs();
  if (options_.trace != nullptr) options_.trace->Call(index, key, begin, end);
  return end - begin;
}

Status Run::failure() const {
  std::lock_guard lock(mutex_);
  return failure_;
}

std::vector<LongCall> Run::Inside(uint64_t nanoseconds) const {
  std::vector<LongCall> calls;
  const uint64_t now = NowNs();
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < nodes_.size(); ++i) {
    for (const auto& call : nodes_[i]->calls) {
      const uint64_t began = call->began_ns.load(std::memory_order_relaxed);
      if (began == 0 || now < began + nanoseconds) continue;
      const NodeSpec& spec = spec_.nodes[i];
      calls.push_back({spec.name, spec.kind, spec.plugin, now - began});
    }
  }
  std::sort(calls.begin(), calls.end(),
            [](const LongCall& a, const LongCall& b) { return a.nanoseconds > b.nanoseconds; });
  return calls;
}

void Run::Returned(engine_call* call) {
  call->returned = true;
  --nodes_[call->node]->inside;
  if (!call->deferred.load() || call->completed) return Finish(call);
  Touch(call->node);
}

void Run::Completed(engine_call* call) {
  std::unique_lock lock(mutex_);
  ++visitors_;
  call->completed = true;
  if (call->returned) Finish(call);
  Leave(lock, &visitors_);
}

void Run::AdmissionDone() {
  --admitted_;
  if (spec_.max_in_flight != 0 && state_ == RunState::kRunning) {
    for (const auto& node : nodes_) {
      if (node->generator) Touch(node->index);
    }
  }
}

// The run is over when every node is closed, or cancelled and nothing runs; it is deadlocked when
// nothing runs or will run by itself.
bool Run::Over() const {
  if (running_ != 0 || visitors_ != 0) return false;
  for (const auto& lanes : lanes_) {
    if (lanes->active != 0) return false;
  }
  return open_nodes_ == 0 || state_ == RunState::kCancelled;
}

void Run::SettleIdle() {
  if (state_ == RunState::kDone || state_ == RunState::kCreated) return;
  if (!Over()) {
    if (running_ != 0 || timers_ != 0 || visitors_ != 0) return;
    for (const auto& lanes : lanes_) {
      if (lanes->active != 0 || !lanes->ready.empty()) return;
    }
    if (state_ == RunState::kRunning && WaitsForNodes()) return;
    StartCancel(Status(ENGINE_ABORTED, DeadlockReport()));
  }
  over_.notify_all();
}

void Run::StartCancel(Status reason) {
  if (state_ == RunState::kCancelled || state_ == RunState::kDone) return;
  state_ = RunState::kCancelled;
  cancelled_.store(true);
  failure_ = std::move(reason);
  for (const auto& node : nodes_) {
    for (Input& input : node->inputs) {
      while (!input.queue.empty()) garbage_.Add(input.queue.pop().packet);
      garbage_.Add(std::move(input.latest));
    }
    for (Output& output : node->outputs) {
      for (Item& item : output.outbox) garbage_.Add(std::move(item.packet));
      output.outbox.clear();
    }
  }
}

void Run::Cancel(Status reason) {
  std::unique_lock lock(mutex_);
  ++visitors_;
  StartCancel(std::move(reason));
  Leave(lock, &visitors_);
}

void Run::Drain() {
  std::unique_lock lock(mutex_);
  drain_early_ = state_ == RunState::kCreated;
  if (state_ != RunState::kRunning) return;
  ++visitors_;
  StartDrain();
  Leave(lock, &visitors_);
}

void Run::StartDrain() {
  state_ = RunState::kDraining;
  for (const auto& node : nodes_) {
    if (node->hears) Touch(node->index);
  }
  for (uint32_t i = 0; i < components_.size(); ++i) CloseComponents(i);
}

bool Run::WaitFor(uint64_t nanoseconds) {
  constexpr uint64_t kYear = 31'536'000'000'000'000;
  const std::chrono::nanoseconds time(static_cast<int64_t>(std::min(nanoseconds, kYear)));
  std::unique_lock lock(mutex_);
  return over_.wait_for(lock, time, [&] { return state_ == RunState::kDone || Over(); });
}

Status Run::Wait() {
  while (!WaitFor(3'600'000'000'000)) {
  }
  if (std::lock_guard lock(mutex_); state_ == RunState::kDone) return failure_;
  Status close_failure;
  while (opened_ != 0) {
    const NodeSpec& node = spec_.nodes[--opened_];
    Status status = Control(node, node.vtable->close);
    if (close_failure.ok()) close_failure = std::move(status);
  }
  std::unique_lock lock(mutex_);
  state_ = RunState::kDone;
  if (failure_.ok()) failure_ = close_failure;
  if (failure_.ok() && !totals_.failures.empty()) failure_ = totals_.failures.front();
  return failure_;
}

RunReport Run::report() const {
  std::lock_guard lock(mutex_);
  RunReport report = totals_;
  for (const auto& node : nodes_) {
    report.nodes.push_back(node->stats);
    for (const Input& input : node->inputs) {
      report.nodes.back().queue_high_water =
          std::max(report.nodes.back().queue_high_water, input.high_water);
    }
  }
  return report;
}

void Run::Swap(uint32_t node, uint32_t slot, ResourceSlot resource) {
  std::lock_guard lock(mutex_);
  spec_.nodes[node].resources[slot].swap(resource);
}

}  // namespace engine::runtime
