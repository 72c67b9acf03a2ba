// Tells, where a pipeline misses something, that a refused plugin has it.
#ifndef ENGINE_GRAPH_REFUSED_H_
#define ENGINE_GRAPH_REFUSED_H_

#include <string>

#include "engine/abi/refusal.h"
#include "engine/graph/diagnostic.h"

namespace engine::graph {

// `what`: of the pipeline's text that is affected, such as `node "adapter" (acme_lora)`.
void HintRefused(const abi::Refusal& refusal, const std::string& verb, const std::string& what,
                 Diagnostic* diagnostic);

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_REFUSED_H_
