// The rules by which a plugin is taken or refused: first by its file alone, then by its manifest,
// before any of its functions is called. Each answers an error with the reason in one line and
// fills the refusal's other facts.
#ifndef ENGINE_ABI_JUDGE_H_
#define ENGINE_ABI_JUDGE_H_

#include <cstdint>
#include <set>
#include <string>

#include "engine/abi/elf.h"
#include "engine/abi/refusal.h"
#include "engine/plugin.h"
#include "engine/status.hpp"

namespace engine::abi {

// What can be said without loading it. On success `facts` are the file's.
Status JudgeFile(const std::string& path, ElfFacts* facts, Refusal* refusal);

// The libraries that it links, by its tier.
Status JudgeLinks(const std::string& path, const ElfFacts& facts, uint32_t tier, Refusal* refusal);

// Reads the manifest of a library that is loaded, and compares it with this host. Takes the id and
// the version into the refusal as soon as they are known to be text.
Status JudgeManifest(const engine_plugin* plugin, Refusal* refusal);

// Whether a plugin that JudgeManifest refused was laid out as this host knows it, so that one may
// try, in a process that may crash, to ask it for its kinds.
bool SameLayout(const engine_plugin* plugin);

const char* TierName(uint32_t tier);

// The folder that an entry of a library's RUNPATH stands for.
std::string ExpandOrigin(std::string folder, const std::string& library);

// Paths of the libraries in this process.
std::set<std::string> LoadedLibraries();
// What is among `after` and not among `before` and must not come with a plugin.
Status JudgeLoadedLibraries(const std::set<std::string>& before, const std::set<std::string>& after,
                            Refusal* refusal);

// For a plugin whose schemas or kinds a SchemaCheck found not to fit.
Status RefuseSchema(Refusal* refusal, const Status& why);

// Fills the refusal and answers its reason as an error.
Status Refuse(Refusal* refusal, std::string because, std::string fix);

}  // namespace engine::abi

#endif  // ENGINE_ABI_JUDGE_H_
