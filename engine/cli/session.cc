#include "engine/cli/session.h"

#include <cstdio>

#include "engine/model/host_services.h"
#include "engine/model/maker.h"

namespace engine::cli {

abi::Registry& TheRegistry() {
  // Leaked on purpose, as plugins are never unloaded.
  static abi::Registry* registry = [] {
    model::RegisterServices();
    auto* made = new abi::Registry;
    model::AddBuiltinKinds(made);
    for (const std::string& folder : abi::PluginFolders()) made->LoadFolder(folder);
    return made;
  }();
  return *registry;
}

bool LoadPlan(const PipelineArgs& args, graph::Plan* plan, bool need_nodes) {
  std::vector<graph::Diagnostic> diagnostics;
  const graph::Overrides overrides{args.sets, args.positional};
  const bool good =
      graph::LoadPipeline({.path = args.file, .text = args.text, .need_nodes = need_nodes},
                          TheRegistry().index(), overrides, plan, &diagnostics);
  if (!diagnostics.empty()) std::fputs(graph::Render(diagnostics).c_str(), stderr);
  if (!good) {
    size_t errors = 0;
    for (const graph::Diagnostic& d : diagnostics) {
      errors += d.severity == graph::Severity::kError;
    }
    std::fprintf(stderr, "%s: %zu error%s\n", args.file.c_str(), errors, errors == 1 ? "" : "s");
  }
  return good;
}

void PrintStatus(const Status& status) {
  std::string text = "engine: error: ";
  if (!status.node().empty()) text.append("'").append(status.node()).append("': ");
  text.append(status.message());
  if (!status.plugin().empty() && status.plugin() != "engine") {
    text.append(" (plugin ").append(status.plugin()).append(")");
  }
  std::fprintf(stderr, "%s\n", text.c_str());
}

}  // namespace engine::cli
