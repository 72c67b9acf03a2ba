#include "engine/abi/scan_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/abi/host.h"
#include "engine/abi/judge.h"

namespace engine::abi {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kFormat = 1;
constexpr size_t kMostEntries = 4096;
constexpr size_t kMostOfFile = 4;
constexpr uintmax_t kMostBytes = 16 << 20;

// Size and time of a file or folder; "-" when it is not there.
std::string State(const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) return "-";
  return std::to_string(info.st_size) + "@" + std::to_string(info.st_mtim.tv_sec) + "." +
         std::to_string(info.st_mtim.tv_nsec);
}

std::string EnvText(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// The engine (also one that was built again under the same version) and the loader's environment.
std::string Surroundings(std::chrono::milliseconds limit) {
  std::string text = std::string("engine ") + kEngineVersion + " " + State("/proc/self/exe") +
                     " abi " + std::to_string(ENGINE_ABI_MAJOR) + "." +
                     std::to_string(ENGINE_ABI_MINOR) + " torch " + std::to_string(TorchVersion()) +
                     " " + Fingerprint();
  text += "\nlimit " + std::to_string(limit.count());
  text += "\nld.so.cache " + State("/etc/ld.so.cache");
  text += "\nLD_PRELOAD " + EnvText("LD_PRELOAD") + "\nLD_LIBRARY_PATH";
  std::stringstream folders(EnvText("LD_LIBRARY_PATH"));
  for (std::string folder; std::getline(folders, folder, ':');) {
    text += " " + folder + " " + State(folder.empty() ? "." : folder);
  }
  return text;
}

std::string FileState(const std::string& file, const ElfFacts& facts) {
  std::string text = State(file);
  for (const std::string& folder : facts.search) {
    const std::string expanded = ExpandOrigin(folder, file);
    text += " " + expanded + " " + State(expanded);
  }
  return text;
}

}  // namespace

std::string ScanCachePath() {
  if (const char* path = std::getenv("ENGINE_PLUGIN_CACHE")) return path;
  const std::string cache = EnvText("XDG_CACHE_HOME");
  if (!cache.empty() && cache[0] == '/') return cache + "/engine/plugins.json";
  const std::string home = EnvText("HOME");
  return home.empty() || home[0] != '/' ? "" : home + "/.cache/engine/plugins.json";
}

ScanCache::ScanCache(std::string path, std::chrono::milliseconds limit)
    : path_(std::move(path)), surroundings_(Surroundings(limit)) {
  std::error_code error;
  if (path_.empty() || !fs::is_regular_file(path_, error) ||
      fs::file_size(path_, error) > kMostBytes) {
    return;
  }
  std::ifstream in(path_, std::ios::binary);
  const json root = json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object() || root.value("format", json()) != json(kFormat)) return;
  const auto files = root.find("files");
  if (files == root.end() || !files->is_object()) return;
  for (const auto& [key, each] : files->items()) {
    if (!each.is_object() || entries_.size() >= kMostEntries) continue;
    const auto state = each.find("state");
    if (state == each.end() || !state->is_string()) continue;
    Entry entry;
    entry.state = state->get<std::string>();
    if (const auto at = each.find("put_at"); at != each.end() && at->is_number_integer()) {
      entry.put_at = at->get<int64_t>();
    }
    entry.verdict.kind = Verdict::Kind::kHarmless;
    if (const auto refused = each.find("refused"); refused != each.end()) {
      entry.verdict.kind = Verdict::Kind::kRefused;
      if (!RefusalFromJson(*refused, &entry.verdict.refusal)) continue;
    }
    entries_.emplace(key, std::move(entry));
  }
}

Verdict ScanCache::Find(const std::string& file, const ElfFacts& facts) const {
  const auto it = entries_.find(Key(file));
  if (it == entries_.end() || it->second.state != FileState(file, facts)) return Verdict();
  Verdict verdict = it->second.verdict;
  verdict.refusal.path = file;
  return verdict;
}

void ScanCache::Put(const std::string& file, const ElfFacts& facts, const Verdict& verdict) {
  if (verdict.kind == Verdict::Kind::kUnknown) return;
  entries_[Key(file)] = {FileState(file, facts), std::time(nullptr), verdict};
  changed_ = true;
}

void ScanCache::Save() {
  if (path_.empty() || !changed_) return;
  changed_ = false;
  std::vector<std::pair<std::string, const Entry*>> newest;  // with their keys
  for (const auto& [key, entry] : entries_) newest.emplace_back(key, &entry);
  std::stable_sort(newest.begin(), newest.end(), [](const auto& a, const auto& b) {
    return a.second->put_at > b.second->put_at;
  });
  std::map<std::string, size_t> of_file;
  json files = json::object();
  for (const auto& [key, entry] : newest) {
    const std::string file = key.substr(key.rfind('\n') + 1);
    const std::string now = State(file);
    if (now == "-" || entry->state.substr(0, entry->state.find(' ')) != now ||
        ++of_file[file] > kMostOfFile || files.size() >= kMostEntries) {
      continue;
    }
    json each = {{"state", entry->state}, {"put_at", entry->put_at}};
    if (entry->verdict.kind == Verdict::Kind::kRefused) {
      each["refused"] = RefusalToJson(entry->verdict.refusal);
    }
    files[key] = std::move(each);
  }
  const std::string text = JsonLine(json{{"format", kFormat}, {"files", std::move(files)}});
  // To a file of its own and then over the old one: another engine may be reading, or writing.
  std::error_code ignored;
  fs::create_directories(fs::path(path_).parent_path(), ignored);
  std::string made = path_ + ".XXXXXX";
  const int fd = mkostemp(made.data(), O_CLOEXEC);
  if (fd < 0) return;
  const bool written = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const bool closed = close(fd) == 0;
  if (!written || !closed || rename(made.c_str(), path_.c_str()) != 0) unlink(made.c_str());
}

}  // namespace engine::abi
