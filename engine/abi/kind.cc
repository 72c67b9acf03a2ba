#include "engine/abi/kind.h"

namespace engine::abi {

std::string_view PhaseName(Phase phase) {
  switch (phase) {
    case Phase::kImport:
      return "import";
    case Phase::kArchitecture:
      return "architecture";
    case Phase::kCodec:
      return "codec";
    case Phase::kAdapter:
      return "adapters";
    case Phase::kKvStorage:
      return "KV storage";
    case Phase::kPlacement:
      return "placement";
    case Phase::kCut:
      return "cut";
    case Phase::kRecompute:
      return "recompute";
    case Phase::kLowering:
      return "lowering";
  }
  return "unknown";
}

const Kind* KindIndex::Find(std::string_view name) const {
  auto it = kinds.find(name);
  return it == kinds.end() ? nullptr : &it->second;
}

const Plugin* KindIndex::FindPlugin(std::string_view id) const {
  for (const Plugin& plugin : plugins) {
    if (plugin.id == id) return &plugin;
  }
  return nullptr;
}

}  // namespace engine::abi
