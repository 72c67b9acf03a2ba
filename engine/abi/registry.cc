// Boost.DLL uses std::filesystem here, so that Boost.Filesystem is not linked.
#define BOOST_DLL_USE_STD_FS
#include "engine/abi/registry.h"

#include <algorithm>
#include <boost/dll/runtime_symbol_info.hpp>
#include <boost/dll/shared_library.hpp>
#include <cstdlib>
#include <filesystem>

#include "engine/abi/describe.h"
#include "engine/abi/host.h"

namespace engine::abi {
namespace {

namespace fs = std::filesystem;

// Every library ever opened; leaked, so that none is unloaded at exit.
std::vector<boost::dll::shared_library>& Libraries() {
  static auto* libraries = new std::vector<boost::dll::shared_library>;
  return *libraries;
}

std::string TorchText(uint64_t encoded) {
  if (encoded == 0) return "none";
  return std::to_string(encoded >> 56) + "." + std::to_string((encoded >> 48) & 0xff) + "." +
         std::to_string((encoded >> 40) & 0xff);
}

const char* TierName(uint32_t tier) {
  switch (tier) {
    case ENGINE_TIER_NONE:
      return "NONE";
    case ENGINE_TIER_STABLE:
      return "STABLE";
    case ENGINE_TIER_NATIVE:
      return "NATIVE";
    default:
      return "unknown";
  }
}

bool IsPluginId(std::string_view id) {
  if (id.empty() || id.size() > 128) return false;
  return std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

// The refusal that a user reads: all facts, one fix.
struct Facts {
  std::string because, built_for, this_host, fix;
};
std::string Message(const std::string& path, std::string_view id, std::string_view version,
                    const Facts& f) {
  std::string text = "plugin refused: " + path + "\n";
  const auto line = [&](const char* label, std::string_view value) {
    if (!value.empty()) text.append("  ").append(label).append(value).append("\n");
  };
  if (!id.empty()) line("id         ", std::string(id) + " " + std::string(version));
  line("because    ", f.because);
  line("built for  ", f.built_for);
  line("this host  ", f.this_host);
  line("fix        ", f.fix);
  return text;
}

}  // namespace

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
    index_.plugins.push_back(std::move(self));
  }
  kind.plugin = "engine";
  for (Plugin& plugin : index_.plugins) {
    if (plugin.id == "engine") plugin.kinds.push_back(kind.name);
  }
  index_.kinds.emplace(kind.name, std::move(kind));
}

void Registry::LoadFolder(const std::string& folder) {
  std::error_code ignored;
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().extension() == ".so") files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  for (const std::string& file : files) Status recorded = LoadFile(file);
}

Status Registry::LoadFile(const std::string& path) {
  std::error_code error;
  const std::string real = fs::weakly_canonical(path, error).string();
  if (std::find(real_paths_.begin(), real_paths_.end(), real) != real_paths_.end()) {
    return Status();  // the same file, by another folder of the path
  }
  real_paths_.push_back(real);

  Refusal refusal;
  refusal.path = path;
  const auto refuse = [&](const std::string& reason, const std::string& fix) {
    refusal.reason = reason;
    refusal.details = Message(path, refusal.id, "", {reason, "", "", fix});
    index_.refused.push_back(refusal);
    return Error(ENGINE_FAILED_PRECONDITION, reason);
  };
  try {
    using boost::dll::load_mode::rtld_local;
    using boost::dll::load_mode::rtld_now;
    boost::dll::shared_library library(path, rtld_now | rtld_local);
    const bool has_symbol = library.has("engine_plugin_v1");
    Libraries().push_back(std::move(library));
    if (!has_symbol) {
      return refuse("it exports no symbol engine_plugin_v1",
                    "build it with engine_plugin() of the SDK's CMake package");
    }
    const auto& plugin = Libraries().back().get<const engine_plugin>("engine_plugin_v1");
    Status status = Judge(path, &plugin, &refusal.details);
    if (status.ok()) status = Take(path, &plugin, &refusal);
    if (!status.ok()) {
      if (plugin.struct_size >= offsetof(engine_plugin, license) && plugin.id != nullptr) {
        refusal.id = plugin.id;
      }
      refusal.reason = std::string(status.message());
      if (refusal.details.empty()) {
        refusal.details = Message(path, refusal.id, "", {refusal.reason, "", "", ""});
      }
      index_.refused.push_back(refusal);
    }
    return status;
  } catch (const std::exception& e) {
    // The loader's own words, without the part that repeats the path.
    std::string words = e.what();
    if (const size_t at = words.find("): "); at != std::string::npos) words.erase(0, at + 3);
    return refuse(
        "it cannot be loaded: " + words,
        "see that it is a shared library for this machine and that what it needs is there");
  }
}

Status Registry::Judge(const std::string& path, const engine_plugin* p,
                       std::string* details) const {
  if (p->struct_size < sizeof(engine_plugin)) {
    return Error(ENGINE_FAILED_PRECONDITION, "its manifest has ", p->struct_size,
                 " bytes; version 1 has at least ", sizeof(engine_plugin));
  }
  if (p->id == nullptr || !IsPluginId(p->id) || p->version == nullptr || p->license == nullptr ||
      p->summary == nullptr || p->url == nullptr || p->fingerprint == nullptr) {
    return Error(ENGINE_FAILED_PRECONDITION, "its manifest lacks an id or a text");
  }
  if (p->open == nullptr || p->close == nullptr || p->extension == nullptr) {
    return Error(ENGINE_FAILED_PRECONDITION, "its manifest lacks open, close or extension");
  }
  if (p->schemas == nullptr && p->schemas_size != 0) {
    return Error(ENGINE_FAILED_PRECONDITION, "its manifest has schemas without bytes");
  }
  Facts facts;
  if (p->abi_major != ENGINE_ABI_MAJOR || p->abi_min > ENGINE_ABI_MINOR) {
    facts.because = "it needs another ABI";
    facts.built_for = "ABI " + std::to_string(p->abi_major) + "." + std::to_string(p->abi_min);
    facts.this_host =
        "ABI " + std::to_string(ENGINE_ABI_MAJOR) + "." + std::to_string(ENGINE_ABI_MINOR);
    facts.fix = p->abi_major > ENGINE_ABI_MAJOR ? "use a newer engine"
                                                : "rebuild it with this engine's SDK";
  } else if (p->tier > ENGINE_TIER_NATIVE) {
    facts.because = "its tensor tier " + std::to_string(p->tier) + " is unknown";
    facts.fix = "use a newer engine";
  } else if (p->tier == ENGINE_TIER_STABLE && p->torch_target > TorchVersion()) {
    facts.because = "it needs a newer LibTorch";
    facts.built_for = "LibTorch " + TorchText(p->torch_target);
    facts.this_host = "LibTorch " + TorchText(TorchVersion());
    facts.fix = "use a newer LibTorch, or build it with a lower TORCH_TARGET_VERSION";
  } else if (p->tier == ENGINE_TIER_NATIVE && Fingerprint() != p->fingerprint) {
    facts.because = "native tensor tier was built for another LibTorch";
    facts.built_for = p->fingerprint;
    facts.this_host = Fingerprint();
    facts.fix = "rebuild it against this LibTorch, or build it with TIER STABLE";
  } else {
    return Status();
  }
  *details = Message(path, p->id, p->version, facts);
  return Status(ENGINE_FAILED_PRECONDITION, facts.because);
}

Status Registry::Take(const std::string& path, const engine_plugin* p, Refusal* refusal) {
  if (const Plugin* same = index_.FindPlugin(p->id)) {
    return Error(ENGINE_ALREADY_EXISTS, "plugin ", p->id, " is already loaded from ", same->path);
  }
  auto loaded = std::make_unique<Loaded>();
  loaded->plugin = p;
  ENGINE_RETURN_IF_ERROR(Status(p->open(HostTable(), &loaded->self)).Prefix("open failed: "));
  const auto find = [&](const char* id) { return p->extension(loaded->self, id); };
  loaded->nodes = static_cast<const engine_nodes_plugin*>(find(ENGINE_EXT_NODES));
  loaded->transforms = static_cast<const engine_transforms_plugin*>(find(ENGINE_EXT_TRANSFORMS));

  Plugin plugin;
  plugin.id = p->id;
  plugin.version = p->version;
  plugin.path = path;
  plugin.license = p->license;
  plugin.summary = p->summary;
  plugin.url = p->url;
  plugin.tier = TierName(p->tier);
  plugin.schemas.assign(reinterpret_cast<const char*>(p->schemas), p->schemas_size);

  std::vector<Kind> kinds;
  std::vector<KindSource> sources;
  const auto describe = [&](auto* table, bool transforms) -> Status {
    if (table == nullptr) return Status();
    for (uint32_t i = 0; i < table->count; ++i) {
      Kind kind;
      ENGINE_RETURN_IF_ERROR(
          DescribeKind(table->describe(loaded->self, i), plugin.id, transforms, &kind));
      plugin.kinds.push_back(kind.name);
      kinds.push_back(std::move(kind));
      sources.push_back({loaded.get(), i});
    }
    return Status();
  };
  Status status = describe(loaded->nodes, false);
  if (status.ok()) status = describe(loaded->transforms, true);
  for (const Kind& kind : kinds) {
    if (!status.ok()) break;
    if (const Kind* same = index_.Find(kind.name)) {
      status = Error(ENGINE_ALREADY_EXISTS, "its kind '", kind.name, "' is already that of plugin ",
                     same->plugin);
    }
  }
  if (!status.ok()) {
    refusal->kinds = plugin.kinds;
    p->close(loaded->self);
    return status;
  }
  for (size_t i = 0; i < kinds.size(); ++i) {
    sources_[kinds[i].name] = sources[i];
    index_.kinds.emplace(kinds[i].name, std::move(kinds[i]));
  }
  index_.plugins.push_back(std::move(plugin));
  loaded_.push_back(std::move(loaded));
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
