// The commands about plugins: list, and the child of the scanner.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/abi/scan_cache.h"
#include "engine/abi/scan_child.h"
#include "engine/cli/commands.h"
#include "engine/model/host_services.h"

namespace engine::cli {
namespace {

using nlohmann::json;

void PrintJson(const abi::Registry& registry) {
  json plugins = json::array(), refused = json::array();
  for (const abi::Plugin& plugin : registry.index().plugins) {
    plugins.push_back({{"id", plugin.id},
                       {"version", plugin.version},
                       {"tier", plugin.tier},
                       {"license", plugin.license},
                       {"summary", plugin.summary},
                       {"url", plugin.url},
                       {"path", plugin.path},
                       {"kinds", plugin.kinds}});
  }
  for (const abi::Refusal& refusal : registry.index().refused) {
    json each = abi::RefusalToJson(refusal);
    each["path"] = refusal.path;
    refused.push_back(std::move(each));
  }
  json all = {{"plugins", std::move(plugins)},
              {"refused", std::move(refused)},
              {"searched", abi::PluginFolders()},
              {"cache", abi::ScanCachePath()}};
  if (!registry.scan_trouble().empty()) all["scan_trouble"] = registry.scan_trouble();
  std::fputs(abi::JsonLine(all).c_str(), stdout);
}

}  // namespace

int PluginListCommand(bool why, bool as_json) {
  const abi::Registry& registry = TheRegistry();
  const abi::KindIndex& index = registry.index();
  if (as_json) {
    PrintJson(registry);
    return kOk;
  }
  for (const abi::Plugin& plugin : index.plugins) {
    std::string kinds;
    for (const std::string& kind : plugin.kinds) kinds += (kinds.empty() ? "" : ", ") + kind;
    std::printf("%-20s %-8s %-7s %s\n%20s kinds: %s\n", plugin.id.c_str(), plugin.version.c_str(),
                plugin.tier.c_str(), plugin.summary.c_str(), "", kinds.c_str());
    if (why && !plugin.path.empty()) std::printf("%20s from: %s\n", "", plugin.path.c_str());
  }
  if (why) {
    std::printf("searched:\n");
    for (const std::string& folder : abi::PluginFolders()) std::printf("  %s\n", folder.c_str());
    for (const abi::Refusal& refusal : index.refused) {
      std::fputs(abi::RefusalText(refusal).c_str(), stdout);
    }
    if (!registry.scan_trouble().empty()) {
      std::printf("not scanned, and loaded all the same: %s\n", registry.scan_trouble().c_str());
    }
  } else if (!index.refused.empty()) {
    std::printf("%zu file%s refused; `engine plugin list --why` tells the reasons\n",
                index.refused.size(), index.refused.size() == 1 ? " was" : "s were");
  }
  return kOk;
}

int PluginScanCommand(int fd, const std::vector<std::string>& files) {
  model::RegisterServices();
  abi::RunScanChild(fd, files, &NewSchemaCheck);
}

}  // namespace engine::cli
