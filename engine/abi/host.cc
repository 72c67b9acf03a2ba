#include "engine/abi/host.h"

#include <map>
#include <mutex>

namespace engine::abi {
namespace {

// Leaked on purpose: plugins may ask until the very end of the process.
struct State {
  std::mutex mutex;
  std::map<std::string, const void*> services;  // guarded by mutex
  uint64_t torch = 0;
  std::string fingerprint = "torch=none";
};
State& TheState() {
  static auto* state = new State;
  return *state;
}

const void* Find(const engine_host*, const char* id) {
  State& state = TheState();
  std::lock_guard lock(state.mutex);
  auto it = state.services.find(id == nullptr ? "" : id);
  return it == state.services.end() ? nullptr : it->second;
}

}  // namespace

void AddService(const std::string& id, const void* table) {
  State& state = TheState();
  std::lock_guard lock(state.mutex);
  state.services.emplace(id, table);
}

const engine_host* HostTable() {
  static const engine_host host = {sizeof(engine_host),
                                   ENGINE_ABI_MAJOR,
                                   ENGINE_ABI_MINOR,
                                   {kEngineVersion, sizeof kEngineVersion - 1},
                                   &Find};
  return &host;
}

void SetTorchVersion(uint64_t encoded, const std::string& fingerprint) {
  TheState().torch = encoded;
  TheState().fingerprint = fingerprint;
}
uint64_t TorchVersion() { return TheState().torch; }
const std::string& Fingerprint() { return TheState().fingerprint; }

}  // namespace engine::abi
