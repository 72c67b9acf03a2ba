// Facts of an ELF file, read without loading it: for which machine it is, what it exports and what
// it needs. The file is hostile until proved otherwise.
// Invariant: nothing is read outside the file, and no allocation exceeds what the file holds.
#ifndef ENGINE_ABI_ELF_H_
#define ENGINE_ABI_ELF_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.hpp"

namespace engine::abi {

// The numbers of a plugin's manifest that stand in the file as constants. A manifest that is filled
// in at run time, or whose pointers are asked for, can only be read after loading.
struct StaticManifest {
  uint32_t struct_size = 0, magic = 0;
  uint16_t abi_major = 0, abi_built = 0, abi_min = 0, tier = 0;
};

struct ElfFacts {
  std::vector<std::string> exports;  // defined names that other libraries can bind to
  std::vector<std::string> needed;   // DT_NEEDED
  std::vector<std::string> search;   // folders of DT_RPATH and DT_RUNPATH, $ORIGIN not yet replaced
  bool has_manifest = false;         // exports engine_plugin_v1
  std::optional<StaticManifest> manifest;
};

// What kept a file from being read as a library of this machine.
struct ElfProblem {
  std::string because, built_for, this_host, fix;
};

// `bytes` as a shared library of this machine; else false and why.
bool ParseElf(std::string_view bytes, ElfFacts* facts, ElfProblem* problem);
// The file at `path`; also false when it cannot be opened, is no regular file or is empty.
bool ReadElf(const std::string& path, ElfFacts* facts, ElfProblem* problem);

}  // namespace engine::abi

#endif  // ENGINE_ABI_ELF_H_
