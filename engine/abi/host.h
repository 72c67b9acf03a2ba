// The host table that plugins receive: a registry of service tables by id. Parts of the engine add
// theirs before the first plugin is opened.
// Invariant: a table that was added lives as long as the process.
#ifndef ENGINE_ABI_HOST_H_
#define ENGINE_ABI_HOST_H_

#include <string>

#include "engine/plugin.h"

namespace engine::abi {

// Adds the service `id`; adding one twice keeps the first.
void AddService(const std::string& id, const void* table);
// The table that is handed to every plugin's open().
const engine_host* HostTable();

inline constexpr char kEngineVersion[] = "0.1.0";

// LibTorch that this process runs with, as TORCH_ABI_VERSION encodes it; 0 without LibTorch. Set by
// the part that links it.
void SetTorchVersion(uint64_t encoded, const std::string& fingerprint);
uint64_t TorchVersion();
const std::string& Fingerprint();

}  // namespace engine::abi

#endif  // ENGINE_ABI_HOST_H_
