// The checks of an expanded graph. Each step reads the graph as the steps before left it, reports
// all that it finds, and leaves what it could not settle at -1 or null, so that later steps go on
// without telling the same thing twice. Order: options, resources, wiring, types, flow; then, when
// nothing was wrong, the plan is built.
#ifndef ENGINE_GRAPH_CHECK_H_
#define ENGINE_GRAPH_CHECK_H_

#include <map>
#include <string>
#include <vector>

#include "engine/graph/expand.h"
#include "engine/graph/plan.h"
#include "engine/graph/reader.h"

namespace engine::graph {

struct Wire {  // one input or output of a node
  int port = -1;
  int edge = -1;
  const Connection* written = nullptr;
  bool feedback = false;
  uint32_t capacity = kDefaultQueue;
  Overflow overflow = Overflow::kBlock;
};

struct WorkNode {
  const Item* item = nullptr;
  const abi::Kind* kind = nullptr;  // null: unknown, told already
  std::vector<Wire> ins, outs;
  std::vector<int> uses;  // by slot
  abi::Policy policy = abi::Policy::kJoin;
  uint32_t executor = 0;
  bool bypassed = false;
  const abi::Kind* runs = nullptr;
};

struct WorkEdge {
  std::string name;
  int producer = -1, out = -1;                 // the wire that feeds it
  std::vector<std::pair<int, int>> consumers;  // node, index into its ins
  bool loose = false;
  std::string shape;  // with the numbers found
};

struct WorkResource {
  const Item* item = nullptr;
  const abi::Kind* kind = nullptr;
  int from = -1;
  std::vector<int> uses;
  bool bypassed = false;
  std::string type;  // what it provides, with bypassed transforms left out; empty: unknown
};

struct Work {
  const Reading* reading = nullptr;
  const Flat* flat = nullptr;
  Reporter* reporter = nullptr;
  bool check_paths = true;
  std::vector<WorkNode> nodes;
  std::vector<WorkEdge> edges;
  std::vector<WorkResource> resources;
  std::vector<PlanExecutor> executors;
  PlanLimits limits;
  std::vector<int> node_order, resource_order;

  const abi::KindIndex& index() const { return reading->schema->index(); }
};

// check_options.cc: annotations of all options; limits, trace, executors, requirements.
void CheckOptions(Work* work);
// check_resources.cc: from chains, phases, slots of resources and nodes, one owner.
void CheckResources(Work* work);
// check_wiring.cc: ports, policies, queues, edges with a producer and readers.
void CheckWiring(Work* work);
// check_types.cc: types, dtypes and shapes along the edges.
void CheckTypes(Work* work);
// check_flow.cc: cycles, room in loops, key domains, topological order.
void CheckFlow(Work* work);

// All of them. Fills the plan when there is no error.
void Check(const Reading& reading, const Flat& flat, bool check_paths, bool need_nodes, Plan* plan,
           Reporter* reporter);

Location LocationOf(const Span& span);

// Slots of one kind filled with what `use` names; -1 for a free one. Shared by nodes and resources.
std::vector<int> FillSlots(const Work& work, const Item& item, const abi::Kind& kind,
                           const std::map<std::string, int>& resources);

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_CHECK_H_
