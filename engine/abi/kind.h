// What the host knows of plugins and their kinds once it has judged them: plain data, no handles
// of any library. The graph checks pipelines against this; the runtime creates instances by it.
// Invariant: kind names are unique within an index, and each kind names a plugin of the index.
#ifndef ENGINE_ABI_KIND_H_
#define ENGINE_ABI_KIND_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/abi/refusal.h"

namespace engine::abi {

enum class Role { kNode, kResource, kTransform };
enum class Policy { kJoin, kAny, kLatest, kBatch };
enum class Emission { kOne, kMany, kNone };

// The order of transforms in a `from` chain (design, section 7). A chain's phases never decrease.
enum class Phase : uint32_t {
  kImport = 0,
  kArchitecture = 10,
  kCodec = 20,
  kAdapter = 30,
  kKvStorage = 40,
  kPlacement = 50,
  kCut = 60,
  kRecompute = 70,
  kLowering = 80,
};
std::string_view PhaseName(Phase phase);

struct Port {
  std::string name;   // upper case, as in `in: "NEW:prompt"`
  std::string type;   // "engine.Tokens/1"; "*" accepts or gives any type
  std::string shape;  // "[rows, vocab]" with symbols or numbers; empty: no shape
  std::string dtype;  // "f32"; empty: any
  std::string doc;
  bool optional = false;
  bool repeated = false;  // the port may be named by several edges
  bool errors = false;    // failed packets are handed to the node instead of passed on
};

struct Slot {
  std::string
      name;  // upper case, as in `use: "MODEL:chat"`; `use: "chat"` fills the first free one
  std::string type;  // "engine.Model/1"
  std::string doc;
  bool mutates = false;
  bool optional = false;
};

struct Kind {
  Role role = Role::kNode;
  std::string name;             // the field of the oneof: an identifier
  std::string plugin;           // id of the plugin that provides it; "engine" for built-in ones
  std::string doc;              // first sentence is its summary
  std::string options_message;  // full name in the plugin's schema; empty: no options
  std::vector<Port> inputs, outputs;               // nodes
  std::vector<Slot> uses;                          // nodes and resources
  std::vector<Policy> policies = {Policy::kJoin};  // allowed ones; the first is the default
  Emission emission = Emission::kOne;
  uint32_t max_in_flight = 1;
  bool unordered = false;  // what a call emits does not wait for earlier calls
  bool hears = false;      // ENGINE_KIND_HEARS
  std::string executor;    // "compute", "io" or empty for the default one
  std::string bypass;      // node: the kind of its plain stand-in, or empty; transforms are skipped
  std::string provides;    // resources and transforms: the type they make, "engine.Model/1"
  std::string accepts;     // transforms: the type that `from` must have
  Phase phase = Phase::kImport;  // transforms
};

struct Plugin {
  std::string id;       // "engine.lora", "com.acme.lora"
  std::string version;  // semver
  std::string path;     // the file; empty for the built-in one
  std::string license, summary, url;
  std::string tier;     // NONE, STABLE, NATIVE
  std::string schemas;  // serialized FileDescriptorSet with source info
  std::vector<std::string> kinds;
};

struct KindIndex {
  std::vector<Plugin> plugins;
  std::vector<Refusal> refused;
  std::map<std::string, Kind, std::less<>> kinds;

  const Kind* Find(std::string_view name) const;
  const Plugin* FindPlugin(std::string_view id) const;
};

}  // namespace engine::abi

#endif  // ENGINE_ABI_KIND_H_
