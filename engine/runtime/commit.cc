// The run's rules, second part: how results reach queues, in the order in which calls began.
// Everything here is called with the run's mutex held.
#include <algorithm>

#include "engine/runtime/run_state.h"

namespace engine::runtime {

using abi::Emission;
using abi::Policy;

void Run::RecordFailure(const Status& status) {
  ++totals_.failed_packets;
  if (totals_.failures.size() < 16) totals_.failures.push_back(status);
}

// Answers whether the item took no room, so that what was held for it is free again.
bool Run::Push(const Target& target, Item item) {
  NodeState& node = *nodes_[target.node];
  const NodeSpec& node_spec = spec_.nodes[target.node];
  const InputSpec& spec = node_spec.inputs[target.port];
  Input& input = node.inputs[target.port];
  if (node.closed) {
    garbage_.Add(std::move(item.packet));
    return false;
  }
  input.said = true;
  if (node_spec.policy == Policy::kLatest && target.port != 0) {
    // The newest packet replaces the one before, so a side port never blocks. Kept like this it is
    // no piece of work under way: it lets go of its admission.
    if (item.packet) {
      garbage_.Add(std::exchange(input.latest, WithoutAdmission(item.packet)));
      garbage_.Add(std::move(item.packet));
    }
    Touch(target.node);
    return true;
  }
  if (!item.packet && node_spec.policy != Policy::kJoin && node_spec.policy != Policy::kLatest) {
    return true;
  }
  if (input.queue.size() >= spec.capacity) {
    if (spec.overflow == Overflow::kDropOldest) {
      PacketRef oldest = input.queue.pop().packet;
      if (oldest) ++totals_.dropped_packets;
      garbage_.Add(std::move(oldest));
    } else if (spec.overflow == Overflow::kReject) {
      if (item.packet) {
        ++totals_.dropped_packets;
        RecordFailure(Error(ENGINE_RESOURCE_EXHAUSTED, "queue ", spec.name, " of node '",
                            node_spec.name, "' is full (", spec.capacity, " packets)")
                          .At(node_spec.plugin, node_spec.name));
      }
      garbage_.Add(std::move(item.packet));
      return false;
    }
  }
  const bool timed = node_spec.policy == Policy::kBatch && node_spec.batch_wait_ns != 0;
  if (timed) item.at_ns = NowNs();
  input.queue.push(std::move(item));
  input.high_water = std::max(input.high_water, static_cast<uint32_t>(input.queue.size()));
  if (options_.trace != nullptr) {
    options_.trace->Depth(target.node, target.port, static_cast<uint32_t>(input.queue.size()),
                          NowNs());
  }
  if (timed) ArmBatch(node);
  Touch(target.node);
  return false;
}

// Sends an item to all targets of an output, behind what waits there already; `reserved` says that
// room is still held from Begin.
void Run::PushOutput(NodeState& node, uint32_t port, Item item, bool* reserved) {
  const OutputSpec& spec = spec_.nodes[node.index].outputs[port];
  Output& output = node.outputs[port];
  if (spec.targets.empty()) {
    garbage_.Add(std::move(item.packet));
    return;
  }
  if (*reserved) {
    for (const Target& target : spec.targets) --nodes_[target.node]->inputs[target.port].reserved;
    *reserved = false;
  }
  if (!output.outbox.empty() || !Fits(output.rooms)) {
    output.outbox.push_back(std::move(item));
    FlushOutbox(node);
    return;
  }
  Deliver(spec, std::move(item));
}

void Run::Deliver(const OutputSpec& spec, Item item) {
  bool freed = false;
  for (size_t i = 0; i < spec.targets.size(); ++i) {
    // The last target takes the reference itself.
    freed |= Push(spec.targets[i], i + 1 == spec.targets.size() ? std::move(item) : item);
  }
  if (!freed) return;
  // Only now: a producer that sends more must not overtake this item.
  for (const Target& target : spec.targets) TouchProducers(*nodes_[target.node]);
}

void Run::FlushOutbox(NodeState& node) {
  for (uint32_t port = 0; port < node.outputs.size(); ++port) {
    Output& output = node.outputs[port];
    while (!output.outbox.empty() && Fits(output.rooms)) {
      Item item = std::move(output.outbox.front());
      output.outbox.pop_front();
      Deliver(spec_.nodes[node.index].outputs[port], std::move(item));
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
  bool leaves = false;  // a failure leaves a loop by its head, or it would go round for ever
  if (failed) {
    bool heard = false, exits = false;
    for (uint32_t port = 0; port < node.outputs.size(); ++port) {
      if (spec.outputs[port].targets.empty()) continue;
      heard = true;
      exits |= !node.outputs[port].inside;
    }
    leaves = node.head && (exits || call->by_feedback);
    // Nobody downstream hears of it: the run itself remembers.
    if (!heard || (leaves && !exits)) RecordFailure(call->status);
    for (Emitted& e : call->emitted) garbage_.Add(std::move(e.packet));
    call->emitted.clear();
  }
  // Every key of a ONE output is settled; a generator that made nothing at all begins no key.
  const bool settles =
      spec.emission == Emission::kOne && (!call->generator || failed || !call->emitted.empty());
  if (call->finish && node.generator) node.finished = true;
  const PacketRef error = failed ? ErrorPacket(call->status) : PacketRef();
  for (uint32_t port = 0; port < node.outputs.size(); ++port) {
    bool reserved = true;
    Output& output = node.outputs[port];
    bool any = false;
    const auto send = [&](PacketRef packet, uint64_t group) {
      const uint64_t key = spec.emission == Emission::kOne ? call->key : output.next_key++;
      std::shared_ptr<Admission> admission = call->admission;
      if (spec_.max_in_flight != 0 && call->generator && packet) {
        ++admitted_;
        admission = std::make_shared<Admission>(
            [handle = handle_] { Visit(handle, [](Run& run) { run.AdmissionDone(); }); });
      }
      if (packet) {
        ++node.stats.emitted;
        packet =
            Stamp(std::move(packet), key, group == UINT64_MAX ? call->group : group, admission);
      }
      PushOutput(node, port, Item{std::move(packet), key}, &reserved);
      any = true;
    };
    if (failed && !(leaves && output.inside)) send(error, call->group);
    for (Emitted& e : call->emitted) {
      if (e.port == port) send(std::move(e.packet), e.group);
    }
    if (!any && settles) send(PacketRef(), call->group);
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
  ++commits_;
  // What the call held is released outside the mutex.
  for (auto& port : call->inputs) {
    for (PacketRef& packet : port) garbage_.Add(std::move(packet));
    port.clear();
  }
  garbage_.Add(std::exchange(call->admission, nullptr));
  for (ResourceSlot& slot : call->resources) garbage_.Add(std::exchange(slot, nullptr));
  call->resources.clear();
  call->status = Status();
  call->skip = call->generator = call->finish = call->by_feedback = false;
  call->returned = call->completed = false;
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
    if (wide.ok()) {
      wide = Error(ENGINE_UNKNOWN, "failed without a message").At(spec.plugin, spec.name);
    }
    if (call->fail_scope == ENGINE_SCOPE_RUN) {
      StartCancel(std::move(wide));
    } else if (node.failed.ok()) {
      node.failed = wide;
      node.finished = true;  // a source has nothing more to give
      if (call->status.ok()) call->status = std::move(wide);
    }
    call->fail_scope = 0;
    call->wide_failure = Status();
  }
  if (state_ == RunState::kCancelled) {
    for (Emitted& e : call->emitted) garbage_.Add(std::move(e.packet));
    call->emitted.clear();
    call->status = Status();
  }
  bool enough = false;  // the run has what it is for
  const auto commit = [&](engine_call* done) {
    enough |= done->finish && !node.generator;
    Commit(done);
  };
  Line& line = node.lines[call->line];
  if (spec.unordered) {
    commit(call);
  } else {
    line.done.emplace(call->ticket, call);
  }
  while (!line.done.empty() && line.done.begin()->first == line.commit_ticket) {
    engine_call* next = line.done.begin()->second;
    line.done.erase(line.done.begin());
    ++line.commit_ticket;
    commit(next);
  }
  Touch(index);
  if (enough && state_ == RunState::kRunning) StartDrain();
  CloseComponents(node.component);
}

}  // namespace engine::runtime
