// The door to this folder: a pipeline's text in, a checked plan or all of its errors out.
//
//   Plan plan;
//   std::vector<Diagnostic> diagnostics;
//   if (!LoadPipeline({.path = "chat.pbtxt"}, index, overrides, &plan, &diagnostics)) {
//     std::cerr << Render(diagnostics);
//   }
#ifndef ENGINE_GRAPH_GRAPH_H_
#define ENGINE_GRAPH_GRAPH_H_

#include <optional>
#include <string>
#include <vector>

#include "engine/abi/kind.h"
#include "engine/graph/diagnostic.h"
#include "engine/graph/expand.h"
#include "engine/graph/plan.h"

namespace engine::graph {

struct PipelineSource {
  std::string path = {};                 // imports are relative to it
  std::optional<std::string> text = {};  // instead of what the path holds
  // Options that name existing files are refused when these do not exist.
  bool check_paths = true;
  // Resources alone will do, for tools that look at models.
  bool need_nodes = true;
};

// True when there is no error; warnings may be there all the same. The plan points into `index`,
// which must outlive it. `diagnostics` are sorted by place; errors of the command line come last,
// with "command line" as their file.
bool LoadPipeline(const PipelineSource& source, const abi::KindIndex& index,
                  const Overrides& overrides, Plan* plan, std::vector<Diagnostic>* diagnostics);

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_GRAPH_H_
