#include "engine/abi/judge.h"

#include <link.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "engine/abi/host.h"
#include "engine/growth.hpp"

namespace engine::abi {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLeastManifest = kFirstSize<engine_plugin>;
constexpr size_t kMostStruct = 64 * 1024;
constexpr size_t kMostText = 64 * 1024;
constexpr size_t kMostSchema = 64 << 20;

constexpr char kUseHelper[] = "build it with engine_plugin() of the SDK's CMake package";
constexpr char kAskAuthor[] = "build it with the SDK's headers, which fill it in";

std::string TorchText(uint64_t encoded) {
  if (encoded == 0) return "none";
  return std::to_string(encoded >> 56) + "." + std::to_string((encoded >> 48) & 0xff) + "." +
         std::to_string((encoded >> 40) & 0xff);
}

std::string AbiText(unsigned major, unsigned minor) {
  return "ABI " + std::to_string(major) + "." + std::to_string(minor);
}

bool IsPluginId(std::string_view id) {
  if (id.empty() || id.size() > 128) return false;
  return std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

bool IsText(const char* text) { return text != nullptr && strnlen(text, kMostText) < kMostText; }

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

bool IsTorch(std::string_view name) {
  return name.rfind("libtorch", 0) == 0 || name.rfind("libc10", 0) == 0;
}
bool IsProtobuf(std::string_view name) { return name.rfind("libproto", 0) == 0; }

std::string WithName(const std::set<std::string>& paths, const std::string& name) {
  for (const std::string& path : paths) {
    if (BaseName(path) == name) return path;
  }
  return "";
}

Status ProtobufLinked(const std::string& name, Refusal* refusal) {
  return Refuse(
      refusal, "it brings " + name + ", and two copies of protobuf abort the process they share",
      "do not link protobuf: engine_plugin(... OPTIONS options.proto) makes a reader that "
      "needs none");
}

// `loaded`: that of this host, or empty.
Status SecondTorch(const std::string& found, const std::string& loaded, Refusal* refusal) {
  refusal->built_for = found;
  refusal->this_host = loaded;
  return Refuse(refusal, "it brings a second LibTorch",
                "build it without RPATH and RUNPATH, as engine_plugin() does: the host brings "
                "LibTorch");
}

// What must hold before anything but these numbers is looked at.
Status JudgeLayout(const StaticManifest& m, Refusal* refusal) {
  if (m.magic != ENGINE_PLUGIN_MAGIC) {
    return Refuse(refusal, "its engine_plugin_v1 is no manifest: the magic number is missing",
                  kAskAuthor);
  }
  if (m.abi_major != ENGINE_ABI_MAJOR) {
    refusal->built_for = AbiText(m.abi_major, m.abi_min);
    refusal->this_host = AbiText(ENGINE_ABI_MAJOR, ENGINE_ABI_MINOR);
    refusal->differs = "ABI major";
    return Refuse(refusal, "it was built for another major version of the plugin ABI",
                  m.abi_major > ENGINE_ABI_MAJOR ? "use a newer engine"
                                                 : "build it again with this engine's SDK");
  }
  if (m.struct_size < kLeastManifest || m.struct_size > kMostStruct) {
    return Refuse(refusal,
                  "its manifest has a struct_size of " + std::to_string(m.struct_size) +
                      "; the least is " + std::to_string(kLeastManifest),
                  kAskAuthor);
  }
  return Status();
}

}  // namespace

Status Refuse(Refusal* refusal, std::string because, std::string fix) {
  refusal->reason = Printable(because);
  refusal->fix = std::move(fix);
  return Status(ENGINE_FAILED_PRECONDITION, refusal->reason);
}

Status RefuseSchema(Refusal* refusal, const Status& why) {
  const char* fix = why.code() == ENGINE_NOT_FOUND ? "name a message of its options.proto"
                    : why.code() == ENGINE_ALREADY_EXISTS
                        ? "give the kind another name"
                        : "make the schema with engine_plugin(... OPTIONS "
                          "options.proto), in a package of the plugin's own";
  return Refuse(refusal, std::string(why.message()), fix);
}

std::string ExpandOrigin(std::string folder, const std::string& library) {
  std::error_code ignored;
  const std::string origin = fs::weakly_canonical(library, ignored).parent_path().string();
  for (const std::string_view word : {"${ORIGIN}", "$ORIGIN"}) {
    for (size_t at; (at = folder.find(word)) != std::string::npos;) {
      folder.replace(at, word.size(), origin);
    }
  }
  return folder;
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

std::set<std::string> LoadedLibraries() {
  std::set<std::string> paths;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        if (info->dlpi_name != nullptr && info->dlpi_name[0] != '\0') {
          static_cast<std::set<std::string>*>(out)->insert(info->dlpi_name);
        }
        return 0;
      },
      &paths);
  return paths;
}

Status JudgeLoadedLibraries(const std::set<std::string>& before, const std::set<std::string>& after,
                            Refusal* refusal) {
  for (const std::string& path : after) {
    if (before.count(path) != 0) continue;
    const std::string name = BaseName(path);
    if (IsProtobuf(name)) return ProtobufLinked(path, refusal);
    if (IsTorch(name)) return SecondTorch(path, WithName(before, name), refusal);
  }
  return Status();
}

Status JudgeLinks(const std::string& path, const ElfFacts& facts, uint32_t tier, Refusal* refusal) {
  for (const std::string& name : facts.needed) {
    if (IsProtobuf(name)) return ProtobufLinked(name, refusal);
    if (!IsTorch(name)) continue;
    for (const std::string& folder : facts.search) {
      const std::string found = ExpandOrigin(folder, path) + "/" + name;
      std::error_code ignored;
      if (!fs::exists(found, ignored)) continue;
      const std::string loaded = WithName(LoadedLibraries(), name);
      if (loaded.empty() || !fs::equivalent(found, loaded, ignored)) {
        return SecondTorch(found, loaded, refusal);
      }
    }
    if (tier != ENGINE_TIER_NATIVE) {
      return Refuse(refusal,
                    "it links " + name + ", which a plugin of tier " + TierName(tier) + " must not",
                    "link nothing of LibTorch, as engine_plugin() does: the host brings it");
    }
  }
  return Status();
}

Status JudgeFile(const std::string& path, ElfFacts* facts, Refusal* refusal) {
  ElfProblem problem;
  if (!ReadElf(path, facts, &problem)) {
    refusal->built_for = problem.built_for;
    refusal->this_host = problem.this_host;
    if (!problem.built_for.empty()) refusal->differs = "architecture";
    return Refuse(refusal, problem.because, problem.fix);
  }
  if (!facts->has_manifest) {
    return Refuse(refusal, "it exports no symbol engine_plugin_v1", kUseHelper);
  }
  if (facts->manifest) {
    ENGINE_RETURN_IF_ERROR(JudgeLayout(*facts->manifest, refusal));
    ENGINE_RETURN_IF_ERROR(JudgeLinks(path, *facts, facts->manifest->tier, refusal));
  }
  if (facts->exports.size() > 1) {
    std::string names;
    size_t listed = 0;
    for (const std::string& name : facts->exports) {
      if (name == "engine_plugin_v1") continue;
      if (++listed > 3) break;
      names += (names.empty() ? "" : ", ") + name;
    }
    const size_t others = facts->exports.size() - 1;
    return Refuse(refusal,
                  "it exports " + std::to_string(others) + " symbol" + (others == 1 ? "" : "s") +
                      " besides engine_plugin_v1: " + names + (others > 3 ? ", ..." : ""),
                  std::string(kUseHelper) + ", or link it with -Wl,--version-script=plugin.map");
  }
  return Status();
}

bool SameLayout(const engine_plugin* p) {
  return p->magic == ENGINE_PLUGIN_MAGIC && p->abi_major == ENGINE_ABI_MAJOR &&
         p->struct_size >= kLeastManifest && p->struct_size <= kMostStruct && p->open != nullptr &&
         p->extension != nullptr && p->close != nullptr;
}

Status JudgeManifest(const engine_plugin* p, Refusal* refusal) {
  ENGINE_RETURN_IF_ERROR(JudgeLayout(
      {p->struct_size, p->magic, p->abi_major, p->abi_built, p->abi_min, p->tier}, refusal));
  if (!IsText(p->id) || !IsPluginId(p->id)) {
    return Refuse(refusal, "its manifest has no id of letters, digits, '.', '_' and '-'",
                  kAskAuthor);
  }
  refusal->id = p->id;
  if (!IsText(p->version)) {
    return Refuse(refusal, "its manifest has no version", kAskAuthor);
  }
  refusal->version = Printable(p->version);
  const std::pair<const char*, const char*> texts[] = {{"license", p->license},
                                                       {"summary", p->summary},
                                                       {"url", p->url},
                                                       {"fingerprint", p->fingerprint}};
  for (const auto& [name, text] : texts) {
    if (!IsText(text)) {
      return Refuse(refusal, std::string("its manifest has no ") + name + " (a text, maybe empty)",
                    kAskAuthor);
    }
  }
  if (p->open == nullptr || p->close == nullptr || p->extension == nullptr) {
    const char* missing = p->open == nullptr ? "open" : p->close == nullptr ? "close" : "extension";
    return Refuse(refusal, std::string("its manifest has a null pointer for ") + missing + "()",
                  kAskAuthor);
  }
  if ((p->schemas == nullptr && p->schemas_size != 0) || p->schemas_size > kMostSchema) {
    return Refuse(refusal,
                  "its manifest has " + std::to_string(p->schemas_size) + " bytes of schemas" +
                      (p->schemas == nullptr ? " at a null pointer" : ""),
                  kAskAuthor);
  }
  if (p->abi_min > ENGINE_ABI_MINOR) {
    refusal->built_for = AbiText(p->abi_major, p->abi_min);
    refusal->this_host = AbiText(ENGINE_ABI_MAJOR, ENGINE_ABI_MINOR);
    refusal->differs = "abi_min";
    return Refuse(refusal, "it needs a newer plugin ABI",
                  "use a newer engine, or build it with ENGINE_ABI_TARGET " +
                      std::to_string(ENGINE_ABI_MAJOR) + "." + std::to_string(ENGINE_ABI_MINOR));
  }
  if (p->tier > ENGINE_TIER_NATIVE) {
    return Refuse(refusal, "its tensor tier " + std::to_string(p->tier) + " is unknown",
                  "use a newer engine");
  }
  if (p->tier == ENGINE_TIER_STABLE && p->torch_target > TorchVersion()) {
    refusal->built_for = "LibTorch " + TorchText(p->torch_target);
    refusal->this_host = "LibTorch " + TorchText(TorchVersion());
    refusal->differs = "torch";
    return Refuse(
        refusal, "it needs a newer LibTorch",
        "use an engine with that LibTorch, or build it with a lower TORCH_TARGET_VERSION");
  }
  if (p->tier == ENGINE_TIER_NATIVE && Fingerprint() != p->fingerprint) {
    refusal->built_for = Printable(p->fingerprint);
    refusal->this_host = Fingerprint();
    refusal->differs = DifferingParts(p->fingerprint, Fingerprint());
    return Refuse(refusal, "native tensor tier was built for another LibTorch",
                  "build it again with this LibTorch, or build it with TIER STABLE");
  }
  return Status();
}

}  // namespace engine::abi
