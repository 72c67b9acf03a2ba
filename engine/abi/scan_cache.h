// Verdicts of the scanner, kept in a file from one start to the next, so that a warm start runs no
// child. A verdict holds as long as nothing that it may depend on has changed: the file itself, the
// host, and where the loader looks for libraries.
// Invariant: a file that is damaged, or cannot be read or written, costs scans and nothing else.
#ifndef ENGINE_ABI_SCAN_CACHE_H_
#define ENGINE_ABI_SCAN_CACHE_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "engine/abi/elf.h"
#include "engine/abi/verdict.h"

namespace engine::abi {

// ENGINE_PLUGIN_CACHE (set but empty: none), else engine/plugins.json in XDG_CACHE_HOME or
// ~/.cache; empty when there is no such place.
std::string ScanCachePath();

class ScanCache {
 public:
  // Reads it; an empty path keeps nothing. `limit`: of a scan's steps, which decides what hangs.
  ScanCache(std::string path, std::chrono::milliseconds limit);

  // The verdict of a file that is as it was; else kUnknown.
  Verdict Find(const std::string& file, const ElfFacts& facts) const;
  void Put(const std::string& file, const ElfFacts& facts, const Verdict& verdict);
  // Writes it when something was put. Entries of files that are gone are dropped, and so are all
  // but the newest few of a file: each engine and environment that met it made one.
  void Save();

 private:
  struct Entry {
    std::string state;   // of the file and of the folders that its own RUNPATH names
    int64_t put_at = 0;  // seconds of the system's clock
    Verdict verdict;
  };
  std::string Key(const std::string& file) const { return surroundings_ + "\n" + file; }

  std::string path_;
  std::string surroundings_;  // the host, and where the loader looks
  std::map<std::string, Entry> entries_;
  bool changed_ = false;
};

}  // namespace engine::abi

#endif  // ENGINE_ABI_SCAN_CACHE_H_
