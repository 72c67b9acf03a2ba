// Boost.DLL uses std::filesystem here, so that Boost.Filesystem is not linked.
#define BOOST_DLL_USE_STD_FS
#include "engine/abi/registry.h"

#include <algorithm>
#include <boost/dll/runtime_symbol_info.hpp>
#include <cstdlib>
#include <filesystem>

#include "engine/abi/host.h"
#include "engine/abi/judge.h"
#include "engine/abi/scan_cache.h"

namespace engine::abi {

namespace fs = std::filesystem;

Registry::Registry() = default;
Registry::~Registry() = default;

const KindSource* Registry::Source(std::string_view kind) const {
  auto it = sources_.find(kind);
  return it == sources_.end() ? nullptr : &it->second;
}

void Registry::AddBuiltin(Kind kind, const std::string& schemas) {
  if (index_.FindPlugin("engine") == nullptr) {
    Plugin self;
    self.id = "engine";
    self.version = kEngineVersion;
    self.license = "Apache-2.0";
    self.summary = "Kinds of the engine itself.";
    self.tier = "NATIVE";
    self.schemas = schemas;
    // Remembered, so that no plugin's schema takes its names.
    if (schema_check_) const Status fits = schema_check_(self, {});
    index_.plugins.push_back(std::move(self));
  }
  kind.plugin = "engine";
  for (Plugin& plugin : index_.plugins) {
    if (plugin.id == "engine") plugin.kinds.push_back(kind.name);
  }
  index_.kinds.emplace(kind.name, std::move(kind));
}

void Registry::SetScanning(Scanning scanning) { scanning_ = std::move(scanning); }
void Registry::SetSchemaCheck(SchemaCheck check) { schema_check_ = std::move(check); }

void Registry::LoadFolders(const std::vector<std::string>& folders) {
  std::vector<File> files;
  for (const std::string& folder : folders) {
    std::error_code ignored;
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder, ignored)) {
      if (entry.path().extension() == ".so") names.push_back(entry.path().string());
    }
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) Consider(name, &files);
  }
  ScanFiles(&files);
  for (const File& file : files) const Status recorded = Load(file);
}

Status Registry::LoadFile(const std::string& path) {
  std::vector<File> files;
  const size_t refused = index_.refused.size();
  Consider(path, &files);
  if (index_.refused.size() > refused) {
    return Status(ENGINE_FAILED_PRECONDITION, index_.refused.back().reason);
  }
  if (files.empty()) return Status();  // the same file, by another folder of the path
  ScanFiles(&files);
  return Load(files[0]);
}

void Registry::Consider(const std::string& path, std::vector<File>* files) {
  std::error_code error;
  const std::string real = fs::weakly_canonical(path, error).string();
  if (std::find(real_paths_.begin(), real_paths_.end(), real) != real_paths_.end()) return;
  real_paths_.push_back(real);
  File file;
  file.path = path;
  Refusal refusal;
  refusal.path = path;
  if (JudgeFile(path, &file.facts, &refusal).ok()) {
    files->push_back(std::move(file));
  } else {
    Record(std::move(refusal));
  }
}

void Registry::ScanFiles(std::vector<File>* files) {
  if (!scanning_ || files->empty()) return;
  ScanCache cache(scanning_->cache, scanning_->options.limit);
  std::vector<File*> unknown;
  std::vector<std::string> paths;
  for (File& file : *files) {
    file.verdict = cache.Find(file.path, file.facts);
    if (file.verdict.kind != Verdict::Kind::kUnknown) continue;
    unknown.push_back(&file);
    paths.push_back(file.path);
  }
  if (unknown.empty()) return;
  const std::vector<Verdict> verdicts = Scan(scanning_->options, paths, &scan_trouble_);
  for (size_t i = 0; i < unknown.size(); ++i) {
    unknown[i]->verdict = verdicts[i];
    cache.Put(paths[i], unknown[i]->facts, verdicts[i]);
  }
  cache.Save();
}

void Registry::Record(Refusal refusal) { index_.refused.push_back(std::move(refusal)); }

Status Registry::Load(const File& file) {
  if (file.verdict.kind == Verdict::Kind::kRefused) {
    Record(file.verdict.refusal);
    return Status(ENGINE_FAILED_PRECONDITION, file.verdict.refusal.reason);
  }
  Refusal refusal;
  refusal.path = file.path;
  Candidate candidate;
  Status status = LoadCandidate(file.path, file.facts, Watch(), &candidate, &refusal);
  if (status.ok()) status = Take(file.path, &candidate, &refusal);
  if (!status.ok()) {
    Refusal ignored;  // it is refused already
    const Status closed = CloseCandidate(&candidate, &ignored);
    Record(std::move(refusal));
  }
  return status;
}

Status Registry::Take(const std::string& path, Candidate* candidate, Refusal* refusal) {
  Plugin& plugin = candidate->plugin;
  if (const Plugin* same = index_.FindPlugin(plugin.id)) {
    refusal->built_for = plugin.version + " (" + path + ")";
    refusal->this_host =
        same->version + " (" + (same->path.empty() ? "built in" : same->path) + ")";
    return Refuse(refusal, "plugin " + plugin.id + " is already loaded from another file",
                  "take one of the two files off the search path");
  }
  for (const Kind& kind : candidate->kinds) {
    const Kind* same = index_.Find(kind.name);
    if (same == nullptr) continue;
    const Plugin* owner = index_.FindPlugin(same->plugin);
    return Refuse(refusal,
                  "its kind '" + kind.name + "' is already that of plugin " + same->plugin +
                      (owner == nullptr || owner->path.empty() ? "" : " (" + owner->path + ")"),
                  "take one of the two files off the search path, or give the kind another name");
  }
  if (schema_check_) {
    const Status status = schema_check_(plugin, candidate->kinds);
    if (!status.ok()) return RefuseSchema(refusal, status);
  }
  for (size_t i = 0; i < candidate->kinds.size(); ++i) {
    Kind& kind = candidate->kinds[i];
    sources_[kind.name] = candidate->sources[i];
    index_.kinds.emplace(kind.name, std::move(kind));
  }
  index_.plugins.push_back(std::move(plugin));
  loaded_.push_back(std::move(candidate->loaded));
  return Status();
}

std::vector<std::string> PluginFolders() {
  std::vector<std::string> folders;
  if (const char* path = std::getenv("ENGINE_PLUGIN_PATH")) {
    std::string_view rest = path;
    while (!rest.empty()) {
      const size_t colon = rest.find(':');
      if (colon != 0) folders.emplace_back(rest.substr(0, colon));
      if (colon == std::string_view::npos) break;
      rest.remove_prefix(colon + 1);
    }
  }
  folders.push_back(InstallPrefix() + "/lib/engine/plugins");
  return folders;
}

std::string InstallPrefix() {
  const fs::path binary = boost::dll::program_location();
  return binary.parent_path().parent_path().string();
}

}  // namespace engine::abi
