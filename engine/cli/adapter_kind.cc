#include "engine/cli/adapter_kind.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "engine/graph/schema.h"
#include "engine/graph/suggest.h"

namespace engine::cli {

Status AdapterKind(const abi::KindIndex& index, std::string_view wanted, std::string* kind) {
  std::unique_ptr<graph::Schema> schema;
  ENGINE_RETURN_IF_ERROR(graph::Schema::Build(index, {}, &schema));
  std::vector<std::string> kinds;
  for (const auto& [name, entry] : index.kinds) {
    if (entry.role != abi::Role::kTransform || entry.phase != abi::Phase::kAdapter) continue;
    if (graph::HasTextOption(*schema, entry, "adapter")) kinds.push_back(name);
  }
  if (kinds.empty()) {
    return Error(ENGINE_NOT_FOUND,
                 "no plugin reads adapters: a transform of the phase of adapters with an option "
                 "`adapter` is needed; `engine plugin list --why` tells what was found");
  }
  if (wanted.empty() && kinds.size() > 1) {
    std::string all;
    for (const std::string& name : kinds) all += (all.empty() ? "" : ", ") + name;
    return Error(ENGINE_INVALID_ARGUMENT, "there are ", kinds.size(),
                 " kinds that read adapters: ", all, "; choose one with --adapter-kind");
  }
  const std::string chosen = wanted.empty() ? kinds[0] : std::string(wanted);
  if (std::find(kinds.begin(), kinds.end(), chosen) == kinds.end()) {
    return Error(ENGINE_INVALID_ARGUMENT, "--adapter-kind ", graph::Quote(chosen),
                 " names no kind that reads adapters; ",
                 graph::DidYouMean(chosen, kinds, "kinds that do"));
  }
  *kind = chosen;
  return Status();
}

}  // namespace engine::cli
