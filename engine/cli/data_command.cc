// engine data check: what is in a file to train on. The work is done by the node data_check; this
// is the pipeline around it, which runs as any other does.
#include "engine/cli/commands.h"

namespace engine::cli {
namespace {

constexpr const char* kPipeline = R"(
name: "data-check"
param { name: "file" positional: true sets: "check.dataset.path" }
param { name: "model" sets: "model.path" }
param { name: "sequence" sets: "check.dataset.sequence" }
param { name: "train_on" sets: "check.dataset.train_on" }
param { name: "shape" sets: "check.dataset.shape" }
param { name: "columns" sets: "check.dataset.columns" }
param { name: "show" sets: "check.show" }
param { name: "format" sets: "check.format" }
resource { name: "model"  load { path: "smollm2-135m-instruct" } }
node { name: "check"  data_check { dataset { } }  use: "model" }
)";

}  // namespace

int DataCheckCommand(const DataCheckArgs& args) {
  RunArgs run;
  run.pipeline.file = "data check";
  run.pipeline.text = kPipeline;
  run.pipeline.positional = {args.file};
  run.pipeline.sets = args.sets;
  std::string columns;
  for (const std::string& pair : args.columns) columns += (columns.empty() ? "" : ",") + pair;
  const auto set = [&](const char* param, const std::string& value) {
    if (!value.empty()) run.pipeline.sets.push_back(std::string(param) + "=" + value);
  };
  set("model", args.model);
  set("sequence", args.sequence);
  set("train_on", args.train_on);
  set("shape", args.shape);
  set("columns", columns);
  set("show", args.show);
  if (args.json) set("format", "JSON");
  return RunCommand(run);
}

}  // namespace engine::cli
