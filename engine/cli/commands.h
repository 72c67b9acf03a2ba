// The commands of the binary. Each answers the process's exit code.
#ifndef ENGINE_CLI_COMMANDS_H_
#define ENGINE_CLI_COMMANDS_H_

#include <string>

#include "engine/cli/session.h"

namespace engine::cli {

struct RunArgs {
  PipelineArgs pipeline;
  std::string trace;          // overrides the file's setting
  std::string control;        // HOST:PORT of the control endpoint; empty: none
  std::string report;         // file for the figures of the run, as JSON
  double hang_warning = 120;  // seconds in one call after which a node is named; 0: never
  double hang_limit = 0;      // seconds after which the run fails; 0: never
  bool stats = false;
  bool verbose = false;
};
int RunCommand(const RunArgs& args);

int CheckCommand(const PipelineArgs& args);
int ExplainCommand(const PipelineArgs& args);
int GraphCommand(const PipelineArgs& args, const std::string& format);
int SchemaCommand(const std::string& file);
int InspectCommand(const std::string& what);
// The manual as pages of Markdown, one a plugin, written to `folder`; pages there that are no
// longer made are removed. Empty: all on standard output.
int InspectMarkdownCommand(const std::string& what, const std::string& folder);
int PluginListCommand(bool why, bool as_json);

struct PluginNewArgs {
  std::string name;
  std::string kind = "node";
  std::string tier;  // empty: by the kind
  std::string dir;   // empty: the name
};
int PluginNewCommand(const PluginNewArgs& args);
struct PluginTestArgs {
  std::string plugin, cases;
  std::string only;  // cases whose names hold it
};
int PluginTestCommand(const PluginTestArgs& args);
struct PluginCheckArgs {
  std::string plugin;
  uint64_t seed = 1;
  int messages = 1000;
  int limit_s = 60;
  bool json = false;
};
int PluginCheckCommand(const PluginCheckArgs& args);
// The scanner's child: see engine/abi/scan_child.h. Does not return.
int PluginScanCommand(int fd, const std::vector<std::string>& files);

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

struct QuantizeArgs {
  std::string model;   // name, GGUF file or Hugging Face folder
  std::string out;     // NAME.gguf, or a folder
  std::string format;  // Q8_0 or INT8; empty: as `out` has it
  std::string text;    // perplexity before and after on this file; empty: none
  int64_t window = 512;
  bool force = false;
};
int QuantizeCommand(const QuantizeArgs& args);

struct ConvertArgs {
  std::string model;         // name, GGUF file or Hugging Face folder
  std::string out;           // NAME.gguf, or a folder
  std::string adapter;       // PEFT's folder, merged into the weights; empty: none
  std::string adapter_kind;  // the transform that reads it; empty: the only one there is
  std::string type = "F32";
  bool force = false;
};
int ConvertCommand(const ConvertArgs& args);
// The exit code for a model that could not be written: wrong input, or a failure.
int ExportExitCode(const Status& status);

struct DataCheckArgs {
  std::string file;
  std::string model, sequence, train_on, shape, show;  // values of options; empty: their defaults
  std::vector<std::string> columns;                    // "ours=theirs"
  std::vector<std::string> sets;                       // PATH=VALUE of the pipeline behind
  bool json = false;
};
int DataCheckCommand(const DataCheckArgs& args);

struct BenchArgs {
  PipelineArgs pipeline;
  bool ablate = false;
  std::string load;     // see plugins/load; goes to the pipeline's param of that name
  std::string sweep;    // WORD=V1,V2,...: a word of the load at several values
  std::string figure;   // which one is compared; empty: chosen by whether there is a load
  std::string against;  // llama.cpp=FOLDER
  std::vector<std::string> compare;  // settings, each a variant of its own
  std::string json, svg;
  std::vector<std::string> ceilings;  // NAME=VALUE, drawn into the chart
  int repeats = 5;
};
int BenchCommand(BenchArgs args);

}  // namespace engine::cli

#endif  // ENGINE_CLI_COMMANDS_H_
