// What every command begins with: services registered, plugins found, a pipeline read and checked.
#ifndef ENGINE_CLI_SESSION_H_
#define ENGINE_CLI_SESSION_H_

#include <optional>
#include <string>
#include <vector>

#include "engine/abi/registry.h"
#include "engine/graph/graph.h"

namespace engine::cli {

// Exit codes of every command; documented in docs/pipelines.md.
enum ExitCode { kOk = 0, kFailed = 1, kBadInput = 2, kInterrupted = 130 };

// The registry of this process, filled at the first call; a child process loads each file first.
abi::Registry& TheRegistry();

// A check of plugins' schemas that has seen none yet.
abi::SchemaCheck NewSchemaCheck();

struct PipelineArgs {
  std::string file;
  std::vector<std::string> positional;
  std::vector<std::string> sets;
  std::optional<std::string> text = {};  // the pipeline itself; `file` is then its name in messages
};

// Reads and checks; prints all diagnostics on stderr. False when there are errors. Without
// `need_nodes` resources alone will do.
bool LoadPlan(const PipelineArgs& args, graph::Plan* plan, bool need_nodes = true);

// Prints "engine: message" with where it happened.
void PrintStatus(const Status& status);

}  // namespace engine::cli

#endif  // ENGINE_CLI_SESSION_H_
