// The run's rules: when a node is ready, what a call takes, how its results are committed, when
// nodes close. Everything here is called with the run's mutex held.
#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/strong_components.hpp>

#include "engine/runtime/io_pool.h"
#include "engine/runtime/run_state.h"

namespace engine::runtime {

using abi::Emission;
using abi::Policy;

void Run::BuildComponents() {
  boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS> graph(nodes_.size());
  for (const auto& node : nodes_) {
    for (const OutputSpec& output : spec_.nodes[node->index].outputs) {
      for (const Target& target : output.targets) {
        boost::add_edge(node->index, target.node, graph);
        nodes_[target.node]->inputs[target.port].producers.push_back(node->index);
        nodes_[target.node]->inputs[target.port].open_producers++;
      }
    }
  }
  std::vector<uint32_t> component(nodes_.size());
  const auto count = nodes_.empty() ? 0u
                                    : boost::strong_components(
                                          graph, boost::make_iterator_property_map(
                                                     component.begin(),
                                                     boost::get(boost::vertex_index, graph)));
  components_.resize(static_cast<size_t>(count));
  for (const auto& node : nodes_) {
    node->component = component[node->index];
    components_[node->component].nodes.push_back(node->index);
  }
}

bool Run::HasRoom(const NodeState& node) const {
  if (!node.OutboxEmpty()) return false;
  for (const OutputSpec& output : spec_.nodes[node.index].outputs) {
    for (const Target& target : output.targets) {
      const InputSpec& spec = spec_.nodes[target.node].inputs[target.port];
      if (spec.overflow != Overflow::kBlock || nodes_[target.node]->closed) continue;
      const Input& input = nodes_[target.node]->inputs[target.port];
      if (input.queue.size() + input.reserved >= spec.capacity) return false;
    }
  }
  return true;
}

bool Run::IsGenerator(const NodeState& node) const {
  const bool may_admit = spec_.max_in_flight == 0 || admitted_ < spec_.max_in_flight;
  return node.generator && !node.finished && node.generating == 0 && may_admit &&
         state_ == RunState::kRunning;
}

bool Run::InputsReady(const NodeState& node) const {
  const NodeSpec& spec = spec_.nodes[node.index];
  if (spec.inputs.empty()) return false;
  switch (spec.policy) {
    case Policy::kAny:
      return std::any_of(node.inputs.begin(), node.inputs.end(),
                         [](const Input& input) { return !input.queue.empty(); });
    case Policy::kBatch: {
      const Input& input = node.inputs[0];
      return !input.queue.empty() && (input.queue.size() >= spec.batch_max || node.batch_due ||
                                      input.open_producers == 0 || spec.batch_wait_ns == 0);
    }
    case Policy::kLatest:
      return !node.inputs[0].queue.empty();
    case Policy::kJoin:
      break;
  }
  bool any = false;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (!spec.inputs[i].connected) continue;
    if (!node.inputs[i].queue.empty()) {
      any = true;
    } else if (node.inputs[i].open_producers != 0) {
      return false;
    }
  }
  return any;
}

bool Run::Ready(const NodeState& node) const {
  const NodeSpec& spec = spec_.nodes[node.index];
  if (node.closed || node.in_flight >= spec.max_in_flight || state_ == RunState::kCancelled) {
    return false;
  }
  return (InputsReady(node) || IsGenerator(node)) && HasRoom(node);
}

void Run::Touch(uint32_t index) {
  NodeState& node = *nodes_[index];
  if (node.listed || !Ready(node)) return;
  node.listed = true;
  lanes_[spec_.nodes[index].executor]->ready.push_back(index);
}

// Room was freed in the node's queues.
void Run::TouchProducers(const NodeState& node) {
  for (const Input& input : node.inputs) {
    for (uint32_t producer : input.producers) {
      if (!nodes_[producer]->OutboxEmpty()) {
        FlushOutbox(*nodes_[producer]);
        if (nodes_[producer]->OutboxEmpty()) CloseComponents(nodes_[producer]->component);
      }
      Touch(producer);
    }
  }
}

void Run::TakeJoin(NodeState& node, engine_call* call) {
  const NodeSpec& spec = spec_.nodes[node.index];
  uint64_t key = UINT64_MAX;
  for (const Input& input : node.inputs) {
    if (!input.queue.empty()) key = std::min(key, input.queue.front().key);
  }
  call->key = key;
  bool missing = false;
  bool first = true;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    Input& input = node.inputs[i];
    PacketRef packet;
    // A queue that dropped this key stands at a later one: absent.
    if (!input.queue.empty() && input.queue.front().key == key) packet = input.queue.pop().packet;
    if (!packet) {
      missing |= spec.inputs[i].connected && !spec.inputs[i].optional;
      continue;
    }
    if (first) {
      call->group = packet.get()->group;
      call->admission = packet.get()->admission;
      first = false;
    }
    call->inputs[i].push_back(std::move(packet));
  }
  call->skip = missing;
}

void Run::TakeBatch(NodeState& node, engine_call* call) {
  const NodeSpec& spec = spec_.nodes[node.index];
  Input& input = node.inputs[0];
  while (!input.queue.empty() && call->inputs[0].size() < spec.batch_max) {
    Item item = input.queue.pop();
    if (item.packet) call->inputs[0].push_back(std::move(item.packet));
  }
  node.batch_due = false;
  call->skip = call->inputs[0].empty();
  if (!call->skip) {
    call->group = call->inputs[0][0].get()->group;
    call->admission = call->inputs[0][0].get()->admission;
  }
  call->key = node.next_key++;
}

engine_call* Run::Begin(uint32_t index) {
  NodeState& node = *nodes_[index];
  const NodeSpec& spec = spec_.nodes[index];
  engine_call* call;
  if (node.free_calls.empty()) {
    node.calls.push_back(std::make_unique<engine_call>());
    call = node.calls.back().get();
    call->run = this;
    call->node = index;
    call->inputs.resize(spec.inputs.size());
  } else {
    call = node.free_calls.back();
    node.free_calls.pop_back();
  }
  call->ticket = node.next_ticket++;
  call->resources = spec.resources;
  ++node.in_flight;
  ++running_;
  // Room for one packet on each output is held until the commit.
  for (const OutputSpec& output : spec.outputs) {
    for (const Target& target : output.targets) ++nodes_[target.node]->inputs[target.port].reserved;
  }
  if (!InputsReady(node)) {
    call->generator = true;
    call->group = node.next_key;
    call->key = node.next_key++;
    ++node.generating;
    return call;
  }
  switch (spec.policy) {
    case Policy::kJoin:
      TakeJoin(node, call);
      break;
    case Policy::kLatest:
      for (size_t i = 1; i < node.inputs.size(); ++i) {
        while (!node.inputs[i].queue.empty()) {
          Item item = node.inputs[i].queue.pop();
          garbage_.push_back(std::move(node.inputs[i].latest));
          node.inputs[i].latest = std::move(item.packet);
        }
        if (node.inputs[i].latest) {
          call->inputs[i].push_back(node.inputs[i].latest);
        } else {
          call->skip |= spec.inputs[i].connected && !spec.inputs[i].optional;
        }
      }
      {
        Item item = node.inputs[0].queue.pop();
        call->key = item.key;
        if (item.packet) {
          call->group = item.packet.get()->group;
          call->admission = item.packet.get()->admission;
          call->inputs[0].push_back(std::move(item.packet));
        } else {
          call->skip = true;
        }
      }
      break;
    case Policy::kBatch:
      TakeBatch(node, call);
      break;
    case Policy::kAny:
      // Ports take turns, so that a busy one cannot starve the others.
      while (node.inputs[node.next_port % node.inputs.size()].queue.empty()) ++node.next_port;
      {
        const uint32_t port = node.next_port++ % static_cast<uint32_t>(node.inputs.size());
        Item item = node.inputs[port].queue.pop();
        call->key = node.next_key++;
        call->group = item.packet.get()->group;
        call->admission = item.packet.get()->admission;
        call->inputs[port].push_back(std::move(item.packet));
      }
      break;
  }
  // A failure that this node does not want to see goes on to its outputs instead.
  for (size_t i = 0; i < call->inputs.size() && !call->skip; ++i) {
    if (spec.inputs[i].errors) continue;
    for (const PacketRef& packet : call->inputs[i]) {
      const engine_error_payload* error = ErrorOf(packet.get());
      if (error == nullptr) continue;
      call->skip = true;
      call->status = Status(internal::NewStatus(static_cast<engine_code>(error->code),
                                                View(error->message), View(error->plugin),
                                                View(error->node)));
      break;
    }
  }
  if (!node.failed.ok() && !call->skip) {
    call->skip = true;
    call->status = node.failed;
  }
  TouchProducers(node);
  return call;
}

void Run::RecordFailure(const Status& status) {
  ++totals_.failed_packets;
  if (totals_.failures.size() < 16) totals_.failures.push_back(status);
}

void Run::Push(const Target& target, Item item) {
  NodeState& node = *nodes_[target.node];
  const NodeSpec& node_spec = spec_.nodes[target.node];
  const InputSpec& spec = node_spec.inputs[target.port];
  Input& input = node.inputs[target.port];
  if (node.closed || (!item.packet && node_spec.policy == Policy::kAny)) {
    garbage_.push_back(std::move(item.packet));
    return;
  }
  if (input.queue.size() >= spec.capacity) {
    if (spec.overflow == Overflow::kDropOldest) {
      garbage_.push_back(input.queue.pop().packet);
      ++totals_.dropped_packets;
    } else if (spec.overflow == Overflow::kReject) {
      if (item.packet) RecordFailure(Error(ENGINE_RESOURCE_EXHAUSTED, "queue ", spec.name,
                                           " of node '", node_spec.name, "' is full (",
                                           spec.capacity, " packets)")
                                         .At(node_spec.plugin, node_spec.name));
      garbage_.push_back(std::move(item.packet));
      ++totals_.dropped_packets;
      return;
    }
  }
  input.queue.push(std::move(item));
  input.high_water = std::max(input.high_water, static_cast<uint32_t>(input.queue.size()));
  if (options_.trace != nullptr) {
    options_.trace->Depth(target.node, target.port, static_cast<uint32_t>(input.queue.size()),
                          NowNs());
  }
  if (node_spec.policy == Policy::kBatch && node_spec.batch_wait_ns != 0 && !node.batch_timer) {
    node.batch_timer = true;
    ++timers_;
    AfterOnIo(node_spec.batch_wait_ns, [handle = handle_, index = target.node] {
      std::lock_guard guard(handle->mutex);
      if (handle->run == nullptr) return;
      std::unique_lock lock(handle->run->mutex_);
      Run& run = *handle->run;
      ++run.visitors_;
      NodeState& waiting = *run.nodes_[index];
      waiting.batch_timer = false;
      waiting.batch_due = true;
      --run.timers_;
      run.Touch(index);
      run.Leave(lock, &run.visitors_);
    });
  }
  Touch(target.node);
}

// Sends an item to all targets of an output; `reserved` says that room is still held from Begin.
void Run::PushOutput(NodeState& node, uint32_t port, Item item, bool* reserved) {
  const OutputSpec& spec = spec_.nodes[node.index].outputs[port];
  if (spec.targets.empty()) {
    garbage_.push_back(std::move(item.packet));
    return;
  }
  if (*reserved) {
    for (const Target& target : spec.targets) --nodes_[target.node]->inputs[target.port].reserved;
    *reserved = false;
  } else {
    const bool full = std::any_of(spec.targets.begin(), spec.targets.end(), [&](const Target& t) {
      const InputSpec& input = spec_.nodes[t.node].inputs[t.port];
      const Input& state = nodes_[t.node]->inputs[t.port];
      return input.overflow == Overflow::kBlock && !nodes_[t.node]->closed &&
             state.queue.size() + state.reserved >= input.capacity;
    });
    if (full || !node.outputs[port].outbox.empty()) {
      node.outputs[port].outbox.push_back(std::move(item));
      return;
    }
  }
  for (size_t i = 0; i < spec.targets.size(); ++i) {
    // The last target takes the reference itself.
    Push(spec.targets[i], i + 1 == spec.targets.size() ? std::move(item) : item);
  }
}

void Run::FlushOutbox(NodeState& node) {
  for (uint32_t port = 0; port < node.outputs.size(); ++port) {
    auto& outbox = node.outputs[port].outbox;
    while (!outbox.empty()) {
      std::deque<Item> rest;
      rest.swap(outbox);
      Item item = std::move(rest.front());
      rest.pop_front();
      bool reserved = false;
      PushOutput(node, port, std::move(item), &reserved);
      const bool stuck = !outbox.empty();
      for (Item& later : rest) outbox.push_back(std::move(later));
      if (stuck) break;
    }
  }
}

void Run::Commit(engine_call* call) {
  NodeState& node = *nodes_[call->node];
  const NodeSpec& spec = spec_.nodes[call->node];
  if (spec.emission == Emission::kOne && call->status.ok()) {
    std::vector<uint32_t> count(spec.outputs.size());
    for (const Emitted& e : call->emitted) {
      if (++count[e.port] == 2) {
        call->status = Error(ENGINE_INTERNAL, "emitted several packets on ",
                             spec.outputs[e.port].name, " in one call; its contract says one")
                           .At(spec.plugin, spec.name);
      }
    }
  }
  const bool failed = !call->status.ok();
  if (failed && !call->skip) ++node.stats.failed;
  if (failed && spec.outputs.empty()) RecordFailure(call->status);
  if (failed) {
    for (Emitted& e : call->emitted) garbage_.push_back(std::move(e.packet));
    call->emitted.clear();
  }
  if (call->finish) node.finished = true;
  const PacketRef error = failed ? ErrorPacket(call->status) : PacketRef();
  for (uint32_t port = 0; port < node.outputs.size(); ++port) {
    bool reserved = true;
    Output& output = node.outputs[port];
    bool any = false;
    const auto send = [&](PacketRef packet, uint64_t group) {
      const uint64_t key = spec.emission == Emission::kOne ? call->key : output.next_key++;
      std::shared_ptr<Admission> admission = call->admission;
      if (admission == nullptr && call->generator && packet) {
        ++admitted_;
        admission = std::make_shared<Admission>([handle = handle_] {
          std::lock_guard guard(handle->mutex);
          if (handle->run != nullptr) handle->run->AdmissionDone();
        });
      }
      if (packet) {
        ++node.stats.emitted;
        packet = Stamp(std::move(packet), key, group == UINT64_MAX ? call->group : group,
                       admission);
      }
      PushOutput(node, port, Item{std::move(packet), key}, &reserved);
      any = true;
    };
    if (failed) {
      if (spec.outputs[port].targets.empty()) RecordFailure(call->status);
      send(error, call->group);
    }
    for (Emitted& e : call->emitted) {
      if (e.port == port) send(std::move(e.packet), e.group);
    }
    // A key without a packet is settled as absent; a generator that made none begins no key.
    if (!any && spec.emission == Emission::kOne && !call->generator) send(PacketRef(), call->group);
    if (reserved) {
      for (const Target& target : spec.outputs[port].targets) {
        --nodes_[target.node]->inputs[target.port].reserved;
        TouchProducers(*nodes_[target.node]);
      }
    }
  }
  if (call->generator) --node.generating;
  call->emitted.clear();
  --node.in_flight;
  --running_;
  // What the call held is released outside the mutex.
  for (auto& port : call->inputs) {
    for (PacketRef& packet : port) garbage_.push_back(std::move(packet));
    port.clear();
  }
  if (call->admission != nullptr) {
    auto* carrier = new engine_packet;
    carrier->admission = std::move(call->admission);
    garbage_.push_back(PacketRef(carrier));
  }
  call->admission = nullptr;
  call->resources.clear();
  call->status = Status();
  call->skip = call->generator = call->finish = call->returned = call->completed = false;
  call->deferred.store(false);
  node.free_calls.push_back(call);
}

void Run::Finish(engine_call* call) {
  NodeState& node = *nodes_[call->node];
  const NodeSpec& spec = spec_.nodes[call->node];
  const uint32_t index = call->node;
  call->status = call->status.At(spec.plugin, spec.name);
  if (call->fail_scope != 0) {
    Status wide = call->wide_failure.At(spec.plugin, spec.name);
    if (wide.ok()) wide = Error(ENGINE_UNKNOWN, "failed without a message").At(spec.plugin, spec.name);
    if (call->fail_scope == ENGINE_SCOPE_RUN) {
      StartCancel(std::move(wide));
    } else if (node.failed.ok()) {
      node.failed = wide;
      if (call->status.ok()) call->status = std::move(wide);
    }
    call->fail_scope = 0;
    call->wide_failure = Status();
  }
  if (state_ == RunState::kCancelled) {
    for (Emitted& e : call->emitted) garbage_.push_back(std::move(e.packet));
    call->emitted.clear();
    call->status = Status();
  }
  node.done.emplace(call->ticket, call);
  while (!node.done.empty() && node.done.begin()->first == node.commit_ticket) {
    engine_call* next = node.done.begin()->second;
    node.done.erase(node.done.begin());
    ++node.commit_ticket;
    Commit(next);
  }
  Touch(index);
  CloseComponents(node.component);
}

bool Run::ComponentIdle(const Component& component) const {
  for (uint32_t index : component.nodes) {
    const NodeState& node = *nodes_[index];
    if (node.in_flight != 0 || !node.OutboxEmpty() || !node.done.empty()) return false;
    if (node.generator && !node.finished && state_ == RunState::kRunning) return false;
    for (const Input& input : node.inputs) {
      if (!input.queue.empty()) return false;
      uint32_t inside = 0;
      for (uint32_t producer : input.producers) {
        inside += nodes_[producer]->component == node.component;
      }
      if (input.open_producers > inside) return false;
    }
  }
  return true;
}

void Run::CloseComponents(uint32_t first) {
  std::vector<uint32_t> pending = {first};
  while (!pending.empty()) {
    Component& component = components_[pending.back()];
    pending.pop_back();
    if (component.closed || !ComponentIdle(component)) continue;
    component.closed = true;
    for (uint32_t index : component.nodes) {
      nodes_[index]->closed = true;
      --open_nodes_;
    }
    for (uint32_t index : component.nodes) {
      for (const OutputSpec& output : spec_.nodes[index].outputs) {
        for (const Target& target : output.targets) {
          --nodes_[target.node]->inputs[target.port].open_producers;
          Touch(target.node);
          pending.push_back(nodes_[target.node]->component);
        }
      }
    }
  }
}

std::string Run::DeadlockReport() const {
  std::string text = "deadlock: nothing can run and work remains";
  for (const auto& node : nodes_) {
    if (node->closed) continue;
    const NodeSpec& spec = spec_.nodes[node->index];
    std::string waits;
    for (uint32_t i = 0; i < node->outputs.size(); ++i) {
      for (const Target& t : spec.outputs[i].targets) {
        const InputSpec& input = spec_.nodes[t.node].inputs[t.port];
        const Input& state = nodes_[t.node]->inputs[t.port];
        if (state.queue.size() + state.reserved < input.capacity) continue;
        waits += "; waits for room on " + spec.outputs[i].name + " (queue " + input.name +
                 " of '" + spec_.nodes[t.node].name + "' holds " +
                 std::to_string(state.queue.size()) + " of " + std::to_string(input.capacity) + ")";
      }
    }
    for (uint32_t i = 0; i < node->inputs.size(); ++i) {
      if (!spec.inputs[i].connected) continue;
      const Input& input = node->inputs[i];
      if (!input.queue.empty()) {
        waits += "; holds " + std::to_string(input.queue.size()) + " on " + spec.inputs[i].name;
      } else if (input.open_producers != 0) {
        waits += "; waits for a packet on " + spec.inputs[i].name;
      }
    }
    if (node->generator && !node->finished && spec_.max_in_flight != 0 &&
        admitted_ >= spec_.max_in_flight) {
      waits += "; waits for admission (" + std::to_string(admitted_) + " of " +
               std::to_string(spec_.max_in_flight) + " in flight)";
    }
    if (!waits.empty()) text += "\n  '" + spec.name + "' " + waits.substr(2);
  }
  return text;
}

}  // namespace engine::runtime
