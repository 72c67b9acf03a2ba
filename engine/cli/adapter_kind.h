// Which kind reads a folder of an adapter, found by what it is: the engine knows no kind by name.
#ifndef ENGINE_CLI_ADAPTER_KIND_H_
#define ENGINE_CLI_ADAPTER_KIND_H_

#include <string>
#include <string_view>

#include "engine/abi/kind.h"
#include "engine/status.hpp"

namespace engine::cli {

// The transform of the adapters' phase that has an option `adapter` of one text. Where there are
// several, the one that `wanted` names; it may be empty where there is one.
Status AdapterKind(const abi::KindIndex& index, std::string_view wanted, std::string* kind);

}  // namespace engine::cli

#endif  // ENGINE_CLI_ADAPTER_KIND_H_
