// The plugins of this process: found on the search path, judged by their manifest, opened, never
// unloaded. A file that is not taken is kept as a refusal with its reason; it never takes the
// engine down with an error of its own.
// Invariant: an index entry always has a live plugin behind it; the registry is leaked on purpose,
// since unloading and exit order are where hosts of plugins crash.
#ifndef ENGINE_ABI_REGISTRY_H_
#define ENGINE_ABI_REGISTRY_H_

#include <memory>
#include <string>
#include <vector>

#include "engine/abi/kind.h"
#include "engine/ext/draft/transforms.h"
#include "engine/ext/nodes.h"
#include "engine/plugin.h"
#include "engine/status.hpp"

namespace engine::abi {

// An opened plugin.
struct Loaded {
  const engine_plugin* plugin = nullptr;
  void* self = nullptr;
  const engine_nodes_plugin* nodes = nullptr;            // may be null
  const engine_transforms_plugin* transforms = nullptr;  // may be null
};

// Where a kind's table entry is.
struct KindSource {
  const Loaded* loaded = nullptr;
  uint32_t number = 0;
};

class Registry {
 public:
  Registry();
  ~Registry();

  // Takes every *.so of the folders, in order of the folders and then of names. A folder that does
  // not exist is an error of the caller's only when `required`.
  void LoadFolder(const std::string& folder);
  // One file; the refusal is recorded as well as answered.
  Status LoadFile(const std::string& path);
  // A kind of the host itself: its factory is known to the host by name.
  void AddBuiltin(Kind kind, const std::string& schemas);

  const KindIndex& index() const { return index_; }
  // The table entry of a plugin's kind; null for built-in ones.
  const KindSource* Source(std::string_view kind) const;

 private:
  Status Judge(const std::string& path, const engine_plugin* plugin, std::string* details) const;
  Status Take(const std::string& path, const engine_plugin* plugin, Refusal* refusal);

  KindIndex index_;
  std::map<std::string, KindSource, std::less<>> sources_;
  std::vector<std::unique_ptr<Loaded>> loaded_;
  std::vector<std::string> real_paths_;  // files already seen
};

// Folders to search: ENGINE_PLUGIN_PATH (colon-separated), then the folder of shipped plugins
// beside the running binary (../lib/engine/plugins).
std::vector<std::string> PluginFolders();
// The folder above the running binary's: the prefix of a build or an installation.
std::string InstallPrefix();

}  // namespace engine::abi

#endif  // ENGINE_ABI_REGISTRY_H_
