// The checked, expanded graph as plain data: what the runtime builds, and all that it needs to know
// of a pipeline's text. Invariant: a Plan comes from LoadPipeline without errors, so every index is
// in range, nodes stand in topological order (feedback edges aside), resources after those they
// need, and all types fit.
#ifndef ENGINE_GRAPH_PLAN_H_
#define ENGINE_GRAPH_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/abi/kind.h"

namespace engine::graph {

enum class Overflow { kBlock = 0, kDropOldest = 1, kReject = 2 };  // as Queue.Overflow

inline constexpr uint32_t kDefaultQueue = 2;

struct Location {
  std::string file;
  int line = 0, column = 0;
};

struct PlanInput {
  uint32_t port = 0;  // index into kind->inputs
  uint32_t edge = 0;
  bool feedback = false;
  uint32_t capacity = kDefaultQueue;
  Overflow overflow = Overflow::kBlock;
};

struct PlanNode {
  std::string name;                            // "outer/inner" inside of a subgraph
  const abi::Kind* kind = nullptr;             // as the file says
  const abi::Kind* runs = nullptr;             // the same, or its plain stand-in when bypassed
  std::string options;                         // wire bytes of runs->options_message; of a
                                               // stand-in: what it shares with the kind
  std::vector<PlanInput> inputs;               // in the order of the file
  std::vector<std::vector<uint32_t>> outputs;  // by port of kind->outputs: its edges
  std::vector<int> uses;                       // by slot of kind->uses: a resource, or -1
  uint32_t executor = 0;
  abi::Policy policy = abi::Policy::kJoin;
  uint32_t batch_max = 16, batch_wait_us = 1000;
  uint32_t max_in_flight = 1;
  bool bypassed = false;
  Location location;
};

struct PlanConsumer {
  uint32_t node = 0, input = 0;  // input: index into PlanNode::inputs
};

struct PlanEdge {
  std::string name;
  uint32_t producer = 0, producer_port = 0;
  std::vector<PlanConsumer> consumers;
  bool feedback = false;           // for at least one of its consumers
  std::string type, shape, dtype;  // the shape with the numbers that unification found
};

struct PlanResource {
  std::string name;
  const abi::Kind* kind = nullptr;
  std::string options;
  int from = -1;          // transforms: the resource before it
  std::vector<int> uses;  // by slot of kind->uses: a resource, or -1
  bool bypassed = false;  // stands for `from` itself
  Location location;
};

struct PlanExecutor {
  std::string name;
  bool io = false;
  uint32_t threads = 0;  // 0: as many as the machine gives
};

struct PlanParam {
  std::string name, doc;
  std::string value;   // after the command line
  bool given = false;  // has a value at all
  bool from_command_line = false;
  bool positional = false;
};

struct PlanRequirement {
  std::string plugin, version;  // version: the range
};

struct PlanLimits {
  uint32_t max_in_flight = 0;  // 0: what the queues hold
  uint32_t drain_ms = 30000;
};

struct PlanTrace {
  std::string file;  // empty: no trace
  uint32_t events = 1000000;
};

struct Plan {
  std::string name;
  std::string path;
  std::vector<PlanParam> params;
  std::vector<PlanNode> nodes;
  std::vector<PlanEdge> edges;
  std::vector<PlanResource> resources;
  std::vector<PlanExecutor> executors;  // "default", "compute", "io", then those of the file
  std::vector<PlanRequirement> requirements;
  PlanLimits limits;
  PlanTrace trace;
};

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_PLAN_H_
