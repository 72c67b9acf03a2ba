// The canonical text of a plan: what `engine explain` prints, stable enough to compare in tests.
#ifndef ENGINE_GRAPH_EXPLAIN_H_
#define ENGINE_GRAPH_EXPLAIN_H_

#include <map>
#include <string>

#include "engine/graph/plan.h"

namespace engine::graph {

// `diffs` holds, by the resource's name, what a transform says that it replaces (several lines).
std::string Explain(const Plan& plan, const std::map<std::string, std::string>& diffs = {});

const char* PolicyName(abi::Policy policy);
const char* OverflowName(Overflow overflow);

// Nodes whose longest way through the graph is the critical path, from first to last; each node
// weighs one, or what `weights` says of it (by its index), as measured times do.
std::vector<uint32_t> CriticalPath(const Plan& plan, const std::vector<double>& weights = {});

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_EXPLAIN_H_
