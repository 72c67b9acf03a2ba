// Pipeline files: any text gives a plan, or errors that each have a place.
#include "engine/graph/graph.h"
#include "engine/graph/testing/fake_kinds.h"

using namespace engine::graph;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Plan plan;
  std::vector<Diagnostic> diagnostics;
  const bool good = LoadPipeline({.path = "fuzz.pbtxt",
                                  .text = std::string(reinterpret_cast<const char*>(data), size),
                                  .check_paths = false},
                                 testing::FakeKinds(), {}, &plan, &diagnostics);
  if (good == HasErrors(diagnostics)) __builtin_trap();
  for (const Diagnostic& d : diagnostics) {
    if (d.line < 1 || d.column < 1 || d.file.empty() || d.message.empty()) __builtin_trap();
  }
  Render(diagnostics);
  return 0;
}
