// The commands of the binary. Each answers the process's exit code.
#ifndef ENGINE_CLI_COMMANDS_H_
#define ENGINE_CLI_COMMANDS_H_

#include <string>

#include "engine/cli/session.h"

namespace engine::cli {

struct RunArgs {
  PipelineArgs pipeline;
  std::string trace;    // overrides the file's setting
  std::string control;  // HOST:PORT of the control endpoint; empty: none
  std::string report;   // file for the figures of the run, as JSON
  bool stats = false;
  bool verbose = false;
};
int RunCommand(const RunArgs& args);

int CheckCommand(const PipelineArgs& args);
int ExplainCommand(const PipelineArgs& args);
int GraphCommand(const PipelineArgs& args, const std::string& format);
int SchemaCommand(const std::string& file);
int InspectCommand(const std::string& what);
int PluginListCommand(bool why);

struct PerplexityArgs {
  PipelineArgs pipeline;
  std::string text;      // file to score
  std::string resource;  // model of the pipeline; empty: the last one
  int64_t window = 512;
  bool json = false;
};
int PerplexityCommand(const PerplexityArgs& args);
// The whole of a file, or NOT_FOUND.
Status ReadTextFile(const std::string& path, std::string* out);

struct BenchArgs {
  PipelineArgs pipeline;
  bool ablate = false;
  std::string json;
  int repeats = 5;
};
int BenchCommand(const BenchArgs& args);

}  // namespace engine::cli

#endif  // ENGINE_CLI_COMMANDS_H_
