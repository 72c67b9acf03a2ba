// One plugin brought into this process: mapped, judged, opened and described. The same steps run in
// the scanner's child and, once that has found them harmless, in the host.
// Invariant: a library that was mapped stays mapped to the end of the process, taken or not, since
// unloading and exit order are where hosts of plugins crash.
#ifndef ENGINE_ABI_LOAD_H_
#define ENGINE_ABI_LOAD_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/abi/elf.h"
#include "engine/abi/kind.h"
#include "engine/ext/nodes.h"
#include "engine/ext/resources.h"
#include "engine/ext/transforms.h"
#include "engine/plugin.h"
#include "engine/status.hpp"

namespace engine::abi {

// An opened plugin.
struct Loaded {
  const engine_plugin* plugin = nullptr;
  void* self = nullptr;
  const engine_nodes_plugin* nodes = nullptr;            // may be null
  const engine_transforms_plugin* transforms = nullptr;  // may be null
  const engine_resources_plugin* resources = nullptr;    // may be null
};

// Where a kind's table entry is.
struct KindSource {
  const Loaded* loaded = nullptr;
  uint32_t number = 0;
};

// Where a plugin is in its loading, so that a crash can be told by its place.
enum class Step { kLoad, kJudge, kOpen, kDescribe, kSchema, kClose, kLearn };
// "while it was loaded (static constructor)", "in open()".
const char* StepText(Step step);
using Watch = std::function<void(Step)>;

// Whether a plugin's schemas and kinds fit to those that were accepted before; remembers them when
// they do. NOT_FOUND: a kind's options message is not there; ALREADY_EXISTS: a kind's name is
// taken; another code: the schema itself is wrong. The one who knows protobuf gives it.
using SchemaCheck = std::function<Status(const Plugin&, const std::vector<Kind>&)>;

struct Candidate {
  const engine_plugin* manifest = nullptr;  // known once it is mapped, also when it was refused
  std::unique_ptr<Loaded> loaded;           // null: not open
  Plugin plugin;
  std::vector<Kind> kinds;
  std::vector<KindSource> sources;  // of kinds, in their order
};

// REQUIRES: JudgeFile gave `facts`. On failure the refusal tells why, and nothing is left open; the
// code is UNAVAILABLE when its own open() said no.
Status LoadCandidate(const std::string& path, const ElfFacts& facts, const Watch& watch,
                     Candidate* out, Refusal* refusal);

// Asks a refused plugin for the names of its kinds, by opening it in spite of all: only for a
// process that may crash.
std::vector<std::string> LearnKinds(const engine_plugin* plugin);

// An error when close() threw; it is closed all the same.
Status CloseCandidate(Candidate* candidate, Refusal* refusal);

}  // namespace engine::abi

#endif  // ENGINE_ABI_LOAD_H_
