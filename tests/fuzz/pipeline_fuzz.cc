// Pipeline files, up to a first zero byte; what follows are values for the command line, one a
// line. Any text gives a plan, or errors that each have a place.
#include "engine/graph/graph.h"
#include "engine/graph/testing/fake_kinds.h"

using namespace engine::graph;

namespace {

// The tests' kinds, and one with an option of every type, with a plain stand-in that shares some.
const engine::abi::KindIndex& Kinds() {
  static const auto* index = [] {
    auto* made = new engine::abi::KindIndex(testing::FakeKinds());
    engine::abi::Plugin plugin;
    plugin.id = "fuzz.types";
    plugin.version = "1.0.0";
    plugin.kinds = {"types", "plain_types"};
    plugin.schemas = testing::CompileSchema(R"(
      syntax = "proto2";
      package fuzz.types;
      import "engine/annotations.proto";
      enum Word { NONE = 0; SOME = 1; MINUS = -1; }
      message All {
        optional double d = 1 [(engine.min) = 0, (engine.max) = 1];
        optional float f = 2 [(engine.min) = -1];
        optional int32 i = 3 [(engine.min) = -5];
        optional int64 l = 4 [(engine.max) = 9];
        optional uint32 u = 5 [(engine.max) = 9];
        optional uint64 ul = 6 [(engine.min) = 2];
        optional bool b = 7;
        optional Word w = 8;
        optional string s = 9 [(engine.byte_size) = true];
        optional string path = 10 [(engine.existing_path) = true];
        repeated double ds = 11 [(engine.min) = 0];
        repeated float fs = 12 [(engine.min) = 0];
        repeated int32 is = 13 [(engine.min) = 0];
        repeated int64 ls = 14 [(engine.min) = 0];
        repeated uint32 us = 15 [(engine.min) = 1];
        repeated uint64 uls = 16 [(engine.min) = 1];
        repeated bool bs = 17;
        repeated Word ws = 18;
        repeated string ss = 19;
        optional All inner = 20;
        repeated All inners = 21;
        oneof choice { string one = 22; int32 other = 23; }
      }
      message Plain { optional double d = 1; optional int32 i = 2; optional Word w = 3; })");
    made->plugins.push_back(plugin);
    engine::abi::Kind kind;
    kind.plugin = plugin.id;
    kind.role = engine::abi::Role::kNode;
    kind.name = "plain_types";
    kind.options_message = "fuzz.types.Plain";
    made->kinds.emplace(kind.name, kind);
    kind.bypass = kind.name;
    kind.name = "types";
    kind.options_message = "fuzz.types.All";
    made->kinds.emplace(kind.name, kind);
    return made;
  }();
  return *index;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string all(reinterpret_cast<const char*>(data), size);
  const size_t zero = std::min(all.find('\0'), all.size());
  Overrides overrides;
  for (size_t at = zero + 1; at < all.size() && overrides.sets.size() < 8;) {
    const size_t end = std::min(all.find('\n', at), all.size());
    overrides.sets.push_back(all.substr(at, end - at));
    at = end + 1;
  }
  if (overrides.sets.size() > 2) {
    overrides.positional = {overrides.sets.back()};
    overrides.sets.pop_back();
  }
  Plan plan;
  std::vector<Diagnostic> diagnostics;
  // Imports are read from beside the tests' own texts.
  const bool good = LoadPipeline({.path = "engine/graph/testdata/fuzz.pbtxt",
                                  .text = all.substr(0, zero),
                                  .check_paths = size % 2 == 0},
                                 Kinds(), overrides, &plan, &diagnostics);
  if (good == HasErrors(diagnostics)) __builtin_trap();
  for (const Diagnostic& d : diagnostics) {
    if (d.line < 1 || d.column < 1 || d.file.empty() || d.message.empty()) __builtin_trap();
  }
  Render(diagnostics);
  return 0;
}
