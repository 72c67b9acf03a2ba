// Boost.DLL uses std::filesystem here, so that Boost.Filesystem is not linked.
#define BOOST_DLL_USE_STD_FS
#include "engine/abi/load.h"

#include <algorithm>
#include <boost/dll/shared_library.hpp>
#include <exception>
#include <system_error>

#include "engine/abi/describe.h"
#include "engine/abi/host.h"
#include "engine/abi/judge.h"
#include "engine/growth.hpp"

namespace engine::abi {
namespace {

constexpr uint32_t kMostKinds = 1024;
constexpr size_t kMostStruct = 64 * 1024;

// Every library ever opened; leaked, so that none is unloaded at exit.
std::vector<boost::dll::shared_library>& Libraries() {
  static auto* libraries = new std::vector<boost::dll::shared_library>;
  return *libraries;
}

// What the loader said, without the words that Boost puts around it and without the path.
std::string LoaderWords(std::string words, const std::string& path) {
  constexpr std::string_view kBefore = "dlerror system message: ";
  if (const size_t at = words.find(kBefore); at != std::string::npos) {
    words.erase(0, at + kBefore.size());
    if (const size_t end = words.rfind("): "); end != std::string::npos) words.erase(end);
  }
  if (words.rfind(path + ": ", 0) == 0) words.erase(0, path.size() + 2);
  return words;
}

Status RefuseLoader(const std::string& words, Refusal* refusal) {
  std::string fix = "see that what it needs is there: ldd on the file tells";
  if (words.find("undefined symbol") != std::string::npos) {
    fix = "link what defines the symbol into it; with LibTorch's own, it needs another LibTorch";
  } else if (words.find("cannot open shared object file") != std::string::npos) {
    fix = "install the library named, add its folder to LD_LIBRARY_PATH, or link it statically";
  } else if (words.find("' not found") != std::string::npos) {
    fix = "build it on a system as old as this one, or link the library named statically";
  }
  return Refuse(refusal, "it cannot be loaded: " + words, fix);
}

// Runs code of the plugin; an exception becomes a refusal that names the place.
template <typename F>
Status Guarded(const char* place, Refusal* refusal, F run) {
  constexpr char kFix[] = "catch it there: an exception must not leave the library";
  try {
    return run();
  } catch (const std::exception& e) {
    return Refuse(refusal, std::string("an exception left ") + place + ": " + e.what(), kFix);
  } catch (...) {
    return Refuse(refusal, std::string("an exception left ") + place, kFix);
  }
}

Status Map(const std::string& path, Candidate* out, Refusal* refusal) {
  const std::set<std::string> before = LoadedLibraries();
  try {
    using boost::dll::load_mode::rtld_local;
    using boost::dll::load_mode::rtld_now;
    boost::dll::shared_library library(path, rtld_now | rtld_local);
    Libraries().push_back(std::move(library));
  } catch (const std::system_error& e) {
    const std::string_view words = e.what();
    if (words.rfind("boost::dll", 0) != 0) throw;  // a static constructor's own
    return RefuseLoader(LoaderWords(std::string(words), path), refusal);
  }
  ENGINE_RETURN_IF_ERROR(JudgeLoadedLibraries(before, LoadedLibraries(), refusal));
  boost::dll::shared_library& library = Libraries().back();
  if (!library.has("engine_plugin_v1")) {
    return Refuse(refusal, "it exports no symbol engine_plugin_v1",
                  "build it with engine_plugin() of the SDK's CMake package");
  }
  out->manifest = &library.get<const engine_plugin>("engine_plugin_v1");
  return Status();
}

// The extension's table, or null.
template <typename T>
Status Find(const engine_plugin* p, void* self, const char* id, Refusal* refusal, const T** out) {
  *out = static_cast<const T*>(p->extension(self, id));
  if (*out == nullptr) return Status();
  const T& table = **out;
  const std::string name = std::string("its table ") + id;
  constexpr char kFix[] = "fill it in as the SDK's headers say";
  if (!Complete(&table) || table.struct_size > kMostStruct) {
    return Refuse(refusal,
                  name + " has a struct_size of " + std::to_string(table.struct_size) +
                      "; the least is " + std::to_string(kFirstSize<T>),
                  kFix);
  }
  if (table.describe == nullptr || table.create == nullptr) {
    return Refuse(
        refusal,
        name + " has a null pointer for " + (table.describe == nullptr ? "describe()" : "create()"),
        kFix);
  }
  if (table.count > kMostKinds) {
    return Refuse(refusal,
                  name + " says it has " + std::to_string(table.count) + " kinds; the most is " +
                      std::to_string(kMostKinds),
                  kFix);
  }
  return Status();
}

Status FindTables(Loaded* loaded, Refusal* refusal) {
  const auto find = [&](const char* id, auto* table) {
    return Find(loaded->plugin, loaded->self, id, refusal, table);
  };
  ENGINE_RETURN_IF_ERROR(find(ENGINE_EXT_NODES, &loaded->nodes));
  ENGINE_RETURN_IF_ERROR(find(ENGINE_EXT_TRANSFORMS, &loaded->transforms));
  return find(ENGINE_EXT_RESOURCES, &loaded->resources);
}

Status Describe(Candidate* out, Refusal* refusal) {
  const auto describe = [&](const auto* table, engine_role role) -> Status {
    if (table == nullptr) return Status();
    for (uint32_t i = 0; i < table->count; ++i) {
      Kind kind;
      Status status =
          DescribeKind(table->describe(out->loaded->self, i), out->plugin.id, role, &kind);
      if (!status.ok()) {
        return Refuse(refusal, std::string(status.message()), "correct what describe() gives");
      }
      const bool twice = std::any_of(out->kinds.begin(), out->kinds.end(),
                                     [&](const Kind& other) { return other.name == kind.name; });
      if (twice) {
        return Refuse(refusal, "it has two kinds '" + kind.name + "'",
                      "give one of them another name");
      }
      out->plugin.kinds.push_back(kind.name);
      refusal->kinds.push_back(kind.name);
      out->kinds.push_back(std::move(kind));
      out->sources.push_back({out->loaded.get(), i});
    }
    return Status();
  };
  ENGINE_RETURN_IF_ERROR(describe(out->loaded->nodes, ENGINE_ROLE_NODE));
  ENGINE_RETURN_IF_ERROR(describe(out->loaded->transforms, ENGINE_ROLE_TRANSFORM));
  return describe(out->loaded->resources, ENGINE_ROLE_RESOURCE);
}

}  // namespace

const char* StepText(Step step) {
  switch (step) {
    case Step::kLoad:
      return "while it was loaded (static constructor)";
    case Step::kJudge:
      return "while its manifest was read";
    case Step::kOpen:
      return "in open()";
    case Step::kDescribe:
      return "in describe()";
    case Step::kSchema:
      return "while its schemas were read";
    case Step::kClose:
      return "in close()";
    case Step::kLearn:
      return "while it was asked for its kinds";
  }
  return "";
}

Status LoadCandidate(const std::string& path, const ElfFacts& facts, const Watch& watch,
                     Candidate* out, Refusal* refusal) {
  const auto at = [&](Step step) {
    if (watch) watch(step);
  };
  at(Step::kLoad);
  ENGINE_RETURN_IF_ERROR(
      Guarded("a static constructor", refusal, [&] { return Map(path, out, refusal); }));
  const engine_plugin* p = out->manifest;
  at(Step::kJudge);
  ENGINE_RETURN_IF_ERROR(JudgeManifest(p, refusal));
  ENGINE_RETURN_IF_ERROR(JudgeLinks(path, facts, p->tier, refusal));
  Plugin& plugin = out->plugin;
  plugin.id = p->id;
  plugin.version = refusal->version;
  plugin.path = path;
  plugin.license = p->license;
  plugin.summary = p->summary;
  plugin.url = p->url;
  plugin.tier = TierName(p->tier);
  plugin.schemas.assign(reinterpret_cast<const char*>(p->schemas), p->schemas_size);

  at(Step::kOpen);
  auto loaded = std::make_unique<Loaded>();
  loaded->plugin = p;
  ENGINE_RETURN_IF_ERROR(Guarded("open()", refusal, [&]() -> Status {
    const Status status(p->open(HostTable(), &loaded->self));
    if (status.ok()) return Status();
    const Status refused = Refuse(refusal, "its open() failed: " + std::string(status.message()),
                                  "give it what it asks for");
    return Status(ENGINE_UNAVAILABLE, refused.message());
  }));
  out->loaded = std::move(loaded);
  at(Step::kDescribe);
  Status status =
      Guarded("extension()", refusal, [&] { return FindTables(out->loaded.get(), refusal); });
  if (status.ok()) {
    status = Guarded("describe()", refusal, [&] { return Describe(out, refusal); });
  }
  if (!status.ok()) {
    Refusal ignored;  // it is refused already
    const Status closed = CloseCandidate(out, &ignored);
  }
  return status;
}

std::vector<std::string> LearnKinds(const engine_plugin* plugin) {
  Candidate candidate;
  Refusal ignored;
  candidate.loaded = std::make_unique<Loaded>();
  candidate.loaded->plugin = plugin;
  Status status = Guarded("open()", &ignored, [&] {
    return Status(plugin->open(HostTable(), &candidate.loaded->self));
  });
  if (status.ok()) {
    status = Guarded("describe()", &ignored, [&]() -> Status {
      ENGINE_RETURN_IF_ERROR(FindTables(candidate.loaded.get(), &ignored));
      return Describe(&candidate, &ignored);
    });
  }
  return ignored.kinds;
}

Status CloseCandidate(Candidate* candidate, Refusal* refusal) {
  if (candidate->loaded == nullptr) return Status();
  Status status = Guarded("close()", refusal, [&] {
    candidate->loaded->plugin->close(candidate->loaded->self);
    return Status();
  });
  candidate->loaded.reset();
  return status;
}

}  // namespace engine::abi
