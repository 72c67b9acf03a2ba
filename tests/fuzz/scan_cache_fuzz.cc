// The file in which the scanner keeps its verdicts, and the form of a refusal in it.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/abi/scan_cache.h"

using namespace engine::abi;

namespace {

bool Same(const Refusal& a, const Refusal& b) {
  return a.path == b.path && a.id == b.id && a.version == b.version && a.reason == b.reason &&
         a.built_for == b.built_for && a.this_host == b.this_host && a.differs == b.differs &&
         a.fix == b.fix && a.kinds == b.kinds && a.output == b.output;
}

// A folder in memory that goes with the process.
const std::string& Folder() {
  static const std::string* folder = [] {
    static std::string path = "/dev/shm/engine_fuzz_XXXXXX";
    if (mkdtemp(path.data()) == nullptr) __builtin_trap();
    std::atexit([] {
      unlink((path + "/plugins.json").c_str());
      rmdir(path.c_str());
    });
    return &path;
  }();
  return *folder;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string path = Folder() + "/plugins.json";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  constexpr std::chrono::milliseconds kLimit(10000);
  // Any file that is there all the time; its verdict is what the bytes say of a refusal.
  const std::string plugin = "/proc/self/exe";
  ElfFacts facts;
  facts.search = {"$ORIGIN", "/"};
  ScanCache cache(path, kLimit);
  ScanCache("", kLimit).Save();
  if (cache.Find(plugin, facts).kind != Verdict::Kind::kUnknown) __builtin_trap();

  Verdict verdict;
  verdict.kind = Verdict::Kind::kHarmless;
  const auto json = nlohmann::json::parse(data, data + size, nullptr, /*allow_exceptions=*/false);
  const bool refused = RefusalFromJson(json, &verdict.refusal);
  if (refused) {
    if (verdict.refusal.reason.empty()) __builtin_trap();
    verdict.kind = Verdict::Kind::kRefused;
    verdict.refusal.path = plugin;
    Refusal again;
    again.path = plugin;
    if (!RefusalFromJson(RefusalToJson(verdict.refusal), &again)) __builtin_trap();
    if (!Same(again, verdict.refusal)) __builtin_trap();
  }
  // What is kept is found again, beside whatever the file held.
  cache.Put(plugin, facts, verdict);
  cache.Save();
  const Verdict found = ScanCache(path, kLimit).Find(plugin, facts);
  if (found.kind != verdict.kind) __builtin_trap();
  if (refused && !Same(found.refusal, verdict.refusal)) __builtin_trap();
  return 0;
}
