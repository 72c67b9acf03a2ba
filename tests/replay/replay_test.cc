// What was built with the SDK of 1.0 runs in the host of today: stored libraries, loaded and used
// to the full. The same program, built against headers of the next minor release, is the proof for
// the host that comes (tests/abi/next_minor).
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "engine/abi/host.h"
#include "engine/abi/registry.h"
#include "engine/ext/tasks.h"
#include "engine/graph/graph.h"
#include "engine/runtime/call.h"
#include "engine/runtime/pipeline.h"
#include "engine/runtime/services.h"
#include "engine/runtime/testing/kit.h"

namespace engine {
namespace {

class NoMaker : public runtime::ResourceMaker {
 public:
  Status Make(const graph::PlanResource& resource, const runtime::ResourceSlot&,
              runtime::ResourceSlot*) override {
    return Error(ENGINE_INTERNAL, "this host makes no '", resource.kind->name, "'");
  }
};

abi::Registry& Registry() {
  // Each test has its own: the plugins here are builds of one. Leaked, as plugins stay mapped.
  static auto& registries = *new std::map<std::string, abi::Registry*>;
  abi::Registry*& registry =
      registries[testing::UnitTest::GetInstance()->current_test_info()->name()];
  if (registry == nullptr) {
    static const engine_tasks tasks = {
        sizeof(engine_tasks), 0, [] { return 1u; },
        [](int64_t count, int64_t, void (*body)(void*, int64_t, int64_t), void* arg) {
          if (count > 0) body(arg, 0, count);
        }};
    abi::AddService(ENGINE_EXT_NODES, runtime::NodesHost());
    abi::AddService(ENGINE_EXT_LOG, runtime::LogHost());
    abi::AddService(ENGINE_EXT_METRICS, runtime::MetricsHost());
    abi::AddService(ENGINE_EXT_ASYNC, runtime::AsyncHost());
    abi::AddService(ENGINE_EXT_TASKS, &tasks);
    registry = new abi::Registry;
  }
  return *registry;
}

// What the pipeline wrote, or what went wrong.
std::string Run(const std::string& text, const std::string& result) {
  graph::Plan plan;
  std::vector<graph::Diagnostic> diagnostics;
  if (!graph::LoadPipeline({.path = "replay.pbtxt", .text = text}, Registry().index(), {}, &plan,
                           &diagnostics)) {
    return graph::Render(diagnostics);
  }
  NoMaker maker;
  std::unique_ptr<runtime::Pipeline> pipeline;
  Status status = runtime::Pipeline::Make(plan, Registry(), &maker, {}, &pipeline);
  if (status.ok()) status = runtime::testing::RunAll(&pipeline->run());
  if (!status.ok()) return std::string(status.message());
  std::ifstream in(result);
  std::string line;
  std::getline(in, line);
  return line;
}

// Numbers squared in three ways and added up, by the plugin in `file`.
void SquaresAddUp(const std::string& file) {
  const Status loaded = Registry().LoadFile(file);
  ASSERT_TRUE(loaded.ok()) << loaded.message();
  const std::string result = testing::TempDir() + "replay." + std::to_string(getpid()) + ".txt";
  const std::string text = R"(
    resource { name: "tally" replay_tally { start: 1000 } }
    node { name: "numbers" replay_numbers { count: 10 } out: "numbers" }
    node { name: "a" replay_square { how: CALL refused: "3" } in: "NUMBER:numbers" out: "SQUARE:a" out: "SAME:same" }
    node { name: "b" replay_square { how: TASKS } in: "NUMBER:numbers" out: "SQUARE:b" }
    node { name: "c" replay_square { how: LATER } in: "NUMBER:numbers" out: "SQUARE:c" }
    node { name: "sum" replay_collect { path: ")" +
                           result + R"(" } use: "TALLY:tally"
           in: "NUMBER:a" in: "NUMBER:b" in: "NUMBER:c" in: "NUMBER:same" }
  )";
  // 0 to 9 squared is 285, three times; the first leaves 9 out, and fails on both of its outputs.
  // The numbers themselves are 45, without 3.
  EXPECT_EQ(Run(text, result), "sum 1888 failures 2");
  EXPECT_NE(runtime::RenderMetrics().find("engine_replay_squares_total "), std::string::npos)
      << runtime::RenderMetrics();
  std::filesystem::remove(result);
}

TEST(Replay, APluginOfRelease10Runs) {
  SquaresAddUp(ENGINE_SOURCE_DIR "/tests/replay/1.0/replay_none.so");
}

TEST(Replay, ANewerPluginThatNeedsNothingNewRuns) {
  SquaresAddUp(ENGINE_BINARY_DIR "/tests/newer_fits.so");
}

// newer_needs targets the release after that of this host.
TEST(Replay, ANewerPluginThatNeedsMoreIsRefused) {
  const std::string file = ENGINE_BINARY_DIR "/tests/newer_needs.so";
  const Status loaded = Registry().LoadFile(file);
  EXPECT_EQ(loaded.code(), ENGINE_FAILED_PRECONDITION);
  ASSERT_EQ(Registry().index().refused.size(), 1u);
  EXPECT_EQ(Registry().index().refused[0].path, file);
}

TEST(Replay, ItsManifestIsRead) {
  ASSERT_TRUE(Registry().LoadFile(ENGINE_SOURCE_DIR "/tests/replay/1.0/replay_none.so").ok());
  const abi::Plugin* plugin = Registry().index().FindPlugin("replay.none");
  ASSERT_NE(plugin, nullptr);
  EXPECT_EQ(plugin->tier, "NONE");
  EXPECT_EQ(plugin->kinds, (std::vector<std::string>{"replay_numbers", "replay_square",
                                                     "replay_collect", "replay_tally"}));
}

}  // namespace
}  // namespace engine
