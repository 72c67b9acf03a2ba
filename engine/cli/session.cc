#include "engine/cli/session.h"

#include <cstdio>

#include "engine/abi/scan_cache.h"
#include "engine/graph/schema_guard.h"
#include "engine/model/host_services.h"
#include "engine/model/maker.h"

namespace engine::cli {

abi::Registry& TheRegistry() {
  // Leaked on purpose, as plugins are never unloaded.
  static abi::Registry* registry = [] {
    model::RegisterServices();
    auto* made = new abi::Registry;
    abi::Scanning scanning;
    scanning.options.command = {"/proc/self/exe", "plugin", "scan", "--"};
    scanning.options.limit = abi::ScanLimit();
    scanning.cache = abi::ScanCachePath();
    made->SetScanning(std::move(scanning));
    made->SetSchemaCheck(NewSchemaCheck());
    model::AddBuiltinKinds(made);
    made->LoadFolders(abi::PluginFolders());
    return made;
  }();
  return *registry;
}

abi::SchemaCheck NewSchemaCheck() {
  auto guard = std::make_shared<graph::SchemaGuard>();
  return [guard](const abi::Plugin& plugin, const std::vector<abi::Kind>& kinds) {
    return guard->Add(plugin, kinds);
  };
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
