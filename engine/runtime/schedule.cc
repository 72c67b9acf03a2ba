// The run's rules, first part: when a node is ready and what a call takes. Everything here is
// called with the run's mutex held.
#include <algorithm>

#include "engine/runtime/io_pool.h"
#include "engine/runtime/run_state.h"

namespace engine::runtime {

using abi::Emission;
using abi::Policy;

bool Run::Fits(const std::vector<Room>& rooms) const {
  for (const Room& room : rooms) {
    const InputSpec& spec = spec_.nodes[room.target.node].inputs[room.target.port];
    if (spec.overflow != Overflow::kBlock || nodes_[room.target.node]->closed) continue;
    const Input& input = nodes_[room.target.node]->inputs[room.target.port];
    if (input.queue.size() + input.reserved + room.packets > spec.capacity) return false;
  }
  return true;
}

bool Run::HasRoom(const NodeState& node) const { return node.OutboxEmpty() && Fits(node.rooms); }

bool Run::IsGenerator(const NodeState& node) const {
  const bool may_admit = spec_.max_in_flight == 0 || admitted_ < spec_.max_in_flight;
  const bool last = node.hears && !node.last_call && state_ == RunState::kDraining;
  return node.generator && !node.finished && node.generating == 0 && may_admit &&
         (state_ == RunState::kRunning || last);
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
      // A full queue cannot grow into a larger batch.
      const uint32_t enough = std::min(spec.batch_max, spec.inputs[0].capacity);
      return !input.queue.empty() && (input.queue.size() >= enough || node.batch_due ||
                                      input.open_producers == 0 || spec.batch_wait_ns == 0);
    }
    case Policy::kLatest:
      // A side port that must be there is waited for until it has said something.
      for (size_t i = 1; i < node.inputs.size(); ++i) {
        const bool needed = spec.inputs[i].connected && !spec.inputs[i].optional;
        if (needed && !node.inputs[i].said && node.inputs[i].open_producers != 0) return false;
      }
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
  const uint32_t open = node.hears ? node.generating : 0;
  if (node.closed || node.in_flight - open >= spec.max_in_flight ||
      state_ == RunState::kCancelled) {
    return false;
  }
  // Packets of several streams come into a node in the order in which they were taken.
  if (spec.policy == Policy::kAny && node.inside != 0) return false;
  if (InputsReady(node)) return node.hears || HasRoom(node);
  return IsGenerator(node) && HasRoom(node);
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
  call->skip = missing || first;
}

void Run::TakeBatch(NodeState& node, engine_call* call) {
  const NodeSpec& spec = spec_.nodes[node.index];
  Input& input = node.inputs[0];
  while (!input.queue.empty() && call->inputs[0].size() < spec.batch_max) {
    // A failed packet is a batch of its own, so that it fails none of its neighbours.
    const bool alone =
        !spec.inputs[0].errors && ErrorOf(input.queue.front().packet.get()) != nullptr;
    if (alone && !call->inputs[0].empty()) break;
    call->inputs[0].push_back(input.queue.pop().packet);
    if (alone) break;
  }
  node.batch_due = false;
  ArmBatch(node);
  call->group = call->inputs[0][0].get()->group;
  call->admission = call->inputs[0][0].get()->admission;
  call->key = node.next_key++;
}

// Sees to it that the oldest packet of a batch waits no longer than it should.
void Run::ArmBatch(NodeState& node) {
  const NodeSpec& spec = spec_.nodes[node.index];
  const bool idle = node.batch_timer || node.batch_due || node.inputs[0].queue.empty();
  if (idle || state_ == RunState::kCancelled) return;
  const uint64_t due = node.inputs[0].queue.front().at_ns + spec.batch_wait_ns;
  const uint64_t now = NowNs();
  if (due <= now) {
    node.batch_due = true;
    Touch(node.index);
    return;
  }
  node.batch_timer = true;
  ++timers_;
  AfterOnIo(due - now, [handle = handle_, index = node.index] {
    Visit(handle, [index](Run& run) {
      --run.timers_;
      run.nodes_[index]->batch_timer = false;
      run.ArmBatch(*run.nodes_[index]);
    });
  });
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
  call->line = node.hears && !InputsReady(node) ? 1 : 0;
  call->ticket = node.lines[call->line].next_ticket++;
  call->group = 0;
  call->resources = spec.resources;
  ++node.in_flight;
  ++node.inside;
  ++running_;
  // Room for one packet on each output is held until the commit.
  for (const OutputSpec& output : spec.outputs) {
    for (const Target& target : output.targets) ++nodes_[target.node]->inputs[target.port].reserved;
  }
  if (!InputsReady(node)) {
    call->generator = true;
    node.last_call = state_ == RunState::kDraining;
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
        call->by_feedback = spec.inputs[port].feedback;
        call->group = item.packet.get()->group;
        call->admission = item.packet.get()->admission;
        call->inputs[port].push_back(std::move(item.packet));
      }
      break;
  }
  // A failure that this node does not want to see goes on to its outputs instead.
  for (size_t i = 0; i < call->inputs.size() && call->status.ok(); ++i) {
    if (spec.inputs[i].errors) continue;
    for (const PacketRef& packet : call->inputs[i]) {
      const engine_error_payload* error = ErrorOf(packet.get());
      if (error == nullptr) continue;
      call->skip = true;
      call->status =
          Status(internal::NewStatus(static_cast<engine_code>(error->code), View(error->message),
                                     View(error->plugin), View(error->node)));
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

}  // namespace engine::runtime
