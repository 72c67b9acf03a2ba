// What a run is made of: nodes with their contracts as the plan settled them, and who feeds whom.
// Plain data; the runtime trusts that the graph was checked.
#ifndef ENGINE_RUNTIME_SPEC_H_
#define ENGINE_RUNTIME_SPEC_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/abi/kind.h"
#include "engine/ext/nodes.h"
#include "engine/runtime/packet.h"

namespace engine::runtime {

enum class Overflow { kBlock, kDropOldest, kReject };

struct InputSpec {
  std::string name;
  bool connected = true;
  bool optional = false;
  bool feedback = false;
  bool errors = false;     // failed packets are handed to the node
  uint32_t producers = 1;  // edges that end here
  uint32_t capacity = 2;
  Overflow overflow = Overflow::kBlock;
};

// Where an output goes: an input of another node.
struct Target {
  uint32_t node = 0;
  uint32_t port = 0;
};

struct OutputSpec {
  std::string name;
  std::string type;  // of its payloads; empty: any
  std::vector<Target> targets;
};

// A resource that may be swapped between two calls.
using ResourceSlot = std::shared_ptr<engine_resource>;

struct NodeSpec {
  std::string name;
  std::string kind;
  std::string plugin;
  const engine_node_vtable* vtable = nullptr;
  void* self = nullptr;  // ended by the run
  abi::Policy policy = abi::Policy::kJoin;
  abi::Emission emission = abi::Emission::kOne;
  uint32_t batch_max = 1;
  uint64_t batch_wait_ns = 0;
  uint32_t max_in_flight = 1;
  bool unordered = false;
  bool hears = false;  // ENGINE_KIND_HEARS
  uint32_t executor = 0;
  std::vector<InputSpec> inputs;
  std::vector<OutputSpec> outputs;
  std::vector<ResourceSlot> resources;  // one a slot; null: not given
};

struct ExecutorSpec {
  std::string name;
  uint32_t threads = 1;
  bool dedicated = false;  // lanes of their own OS threads, for LibTorch work
};

struct RunSpec {
  std::vector<NodeSpec> nodes;  // in topological order, feedback aside
  std::vector<ExecutorSpec> executors;
  uint32_t max_in_flight = 0;  // packets admitted from sources at once; 0: no limit
};

}  // namespace engine::runtime

#endif  // ENGINE_RUNTIME_SPEC_H_
