#include "engine/graph/graph.h"

#include <google/protobuf/message.h>

#include "engine/graph/check.h"
#include "engine/graph/reader.h"

namespace engine::graph {

bool LoadPipeline(const PipelineSource& source, const abi::KindIndex& index,
                  const Overrides& overrides, Plan* plan, std::vector<Diagnostic>* diagnostics) {
  *plan = Plan();
  Reporter reporter;
  FileSource files = DiskFiles();
  if (source.text) {
    // The first read is the main file's; an import of the same path is a cycle and never read.
    files = [&source, disk = DiskFiles()](const std::string& path, std::string* reason) {
      return path == source.path ? source.text : disk(path, reason);
    };
  }
  const SourceFile command_line("command line", CommandLineText(overrides), UINT32_MAX);
  Reading reading;
  Flat flat;
  if (ReadPipeline(source.path, files, index, &reading, &reporter)) {
    Expand(reading, overrides, command_line, &flat, &reporter);
    Check(reading, flat, source.check_paths, source.need_nodes, plan, &reporter);
  }
  *diagnostics = reporter.Take();
  return !HasErrors(*diagnostics);
}

}  // namespace engine::graph
