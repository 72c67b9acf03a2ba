// The plugins of this process: found on the search path, judged by their manifest, opened, never
// unloaded. A file that is not taken is kept as a refusal with its reason; it never takes the
// engine down with an error of its own.
// Invariant: an index entry always has a live plugin behind it; the registry is leaked on purpose,
// since unloading and exit order are where hosts of plugins crash.
#ifndef ENGINE_ABI_REGISTRY_H_
#define ENGINE_ABI_REGISTRY_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/abi/kind.h"
#include "engine/abi/load.h"
#include "engine/abi/scanner.h"
#include "engine/status.hpp"

namespace engine::abi {

// How files are judged before they are loaded into this process.
struct Scanning {
  ScanOptions options;
  std::string cache;  // file; empty: none
};

class Registry {
 public:
  Registry();
  ~Registry();

  // Before the first file: without it, files are loaded here at once.
  void SetScanning(Scanning scanning);
  // Before the first kind: without it, schemas are taken as they are.
  void SetSchemaCheck(SchemaCheck check);

  // Takes every *.so of the folders, in order of the folders and then of names; all that need a
  // scan are scanned together. A folder that does not exist has no files.
  void LoadFolders(const std::vector<std::string>& folders);
  void LoadFolder(const std::string& folder) { LoadFolders({folder}); }
  // One file; the refusal is recorded as well as answered.
  Status LoadFile(const std::string& path);
  // A kind of the host itself: its factory is known to the host by name.
  void AddBuiltin(Kind kind, const std::string& schemas);

  const KindIndex& index() const { return index_; }
  // The table entry of a plugin's kind; null for built-in ones.
  const KindSource* Source(std::string_view kind) const;

  // Why files could not be scanned and were loaded all the same; empty: they could.
  const std::string& scan_trouble() const { return scan_trouble_; }

 private:
  struct File {
    std::string path;
    ElfFacts facts;
    Verdict verdict;
  };
  // Adds files that were not seen before and look like plugins; records the others.
  void Consider(const std::string& path, std::vector<File>* files);
  void ScanFiles(std::vector<File>* files);
  Status Load(const File& file);
  Status Take(const std::string& path, Candidate* candidate, Refusal* refusal);
  void Record(Refusal refusal);

  KindIndex index_;
  std::map<std::string, KindSource, std::less<>> sources_;
  std::vector<std::unique_ptr<Loaded>> loaded_;
  std::vector<std::string> real_paths_;  // files already seen
  std::optional<Scanning> scanning_;
  SchemaCheck schema_check_;
  std::string scan_trouble_;
};

// Folders to search: ENGINE_PLUGIN_PATH (colon-separated), then the folder of shipped plugins
// beside the running binary (../lib/engine/plugins).
std::vector<std::string> PluginFolders();
// The folder above the running binary's: the prefix of a build or an installation.
std::string InstallPrefix();

}  // namespace engine::abi

#endif  // ENGINE_ABI_REGISTRY_H_
