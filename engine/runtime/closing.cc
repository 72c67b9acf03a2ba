// The run's rules, third part: which nodes close together and when, and what is said when nothing
// can run. Everything here is called with the run's mutex held.
#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/strong_components.hpp>

#include "engine/runtime/io_pool.h"
#include "engine/runtime/run_state.h"

namespace engine::runtime {

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
  const auto count =
      nodes_.empty() ? 0u
                     : boost::strong_components(
                           graph, boost::make_iterator_property_map(
                                      component.begin(), boost::get(boost::vertex_index, graph)));
  components_.resize(static_cast<size_t>(count));
  for (const auto& node : nodes_) {
    node->component = component[node->index];
    components_[node->component].nodes.push_back(node->index);
  }
}

// Rooms that calls need, counted once; a queue has at least the room that one call needs.
void Run::BuildRooms() {
  const auto need = [](std::vector<Room>* rooms, const Target& target) {
    for (Room& room : *rooms) {
      if (room.target.node == target.node && room.target.port == target.port) {
        ++room.packets;
        return;
      }
    }
    rooms->push_back({target, 1});
  };
  for (const auto& node : nodes_) {
    const NodeSpec& spec = spec_.nodes[node->index];
    for (size_t port = 0; port < spec.outputs.size(); ++port) {
      for (const Target& target : spec.outputs[port].targets) {
        need(&node->rooms, target);
        need(&node->outputs[port].rooms, target);
        node->outputs[port].inside |= nodes_[target.node]->component == node->component;
      }
    }
    for (const Room& room : node->rooms) {
      InputSpec& input = spec_.nodes[room.target.node].inputs[room.target.port];
      input.capacity = std::max(input.capacity, room.packets);
    }
  }
}

bool Run::ComponentIdle(const Component& component) const {
  for (uint32_t index : component.nodes) {
    const NodeState& node = *nodes_[index];
    // What is done and not committed is in flight.
    if (node.in_flight != 0 || !node.OutboxEmpty()) return false;
    const bool last = node.hears && !node.last_call && state_ == RunState::kDraining;
    if (node.generator && !node.finished && (state_ == RunState::kRunning || last)) return false;
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

// Whether the only thing missing is an admission, and nothing in the run holds one: nodes, or
// threads of theirs that are about to let go, keep packets. They get a while for it.
bool Run::WaitsForNodes() {
  constexpr uint64_t kPatienceNs = 1'000'000'000;
  if (spec_.max_in_flight == 0 || admitted_ < spec_.max_in_flight) return false;
  if (patient_until_ == commits_) return false;
  for (const auto& node : nodes_) {
    if (!node->OutboxEmpty()) return false;
    for (const Input& input : node->inputs) {
      if (!input.queue.empty()) return false;
    }
  }
  ++timers_;
  AfterOnIo(kPatienceNs, [handle = handle_, commits = commits_] {
    Visit(handle, [commits](Run& run) {
      --run.timers_;
      run.patient_until_ = commits;
    });
  });
  return true;
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
        waits += "; waits for room on " + spec.outputs[i].name + " (queue " + input.name + " of '" +
                 spec_.nodes[t.node].name + "' holds " + std::to_string(state.queue.size()) +
                 " of " + std::to_string(input.capacity) + ")";
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
