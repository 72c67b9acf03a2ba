// Nodes that break their contract or do not come back, as the run sees them. What becomes of the
// process is in tests/misbehave.
#include <gmock/gmock.h>

#include <atomic>
#include <vector>

#include "engine/runtime/testing/fixture.h"

namespace engine::runtime {
namespace {

using testing::Call;
using ::testing::ElementsAre;
using testing::Graph;
using testing::NewNumber;
using testing::RunGraph;
using testing::Sleep;
using testing::WaitOrDie;

class MisuseTest : public testing::GraphTest {};

TEST_F(MisuseTest, ASecondAnswerIsDropped) {
  Graph g;
  std::vector<int64_t> got;
  int refused = 0;
  g.AddSource("s", 3);
  g.Add("twice", 1, 1, [&](Call c) {
    engine_completion* completion = c.Defer();
    const engine_nodes_host* host = Call::Host();
    Status first(host->completion_emit(completion, 0, NewNumber(c.in()), UINT64_MAX));
    host->completion_done(completion, first.release());
    host->completion_finish(completion);
    const Status late(host->completion_emit(completion, 0, NewNumber(99), UINT64_MAX));
    refused += late.code() == ENGINE_FAILED_PRECONDITION;
    host->completion_done(completion, Status(ENGINE_INTERNAL, "again").release());
    return Status();
  });
  g.AddSink("sink", &got);
  g.Connect("s", "twice");
  g.Connect("twice", "sink");
  EXPECT_TRUE(RunGraph(&g, &report_).ok());
  EXPECT_THAT(got, ElementsAre(0, 1, 2));
  EXPECT_EQ(refused, 3);
}

TEST_F(MisuseTest, CallsThatDoNotComeBackAreNamed) {
  Graph g;
  std::atomic<bool> inside{false}, leave{false};
  g.AddSource("s", 1);
  g.Add("slow", 1, 0, [&](Call) {
    inside = true;
    while (!leave) Sleep(100);
    return Status();
  });
  g.Connect("s", "slow");
  runtime::Run run(g.Take(), {});
  ASSERT_TRUE(run.Open().ok());
  run.Start();
  while (!inside) Sleep(100);
  const std::vector<LongCall> calls = run.Inside(0);
  ASSERT_EQ(calls.size(), 1u);
  EXPECT_EQ(calls[0].node, "slow");
  EXPECT_TRUE(run.Inside(uint64_t{3600} * 1'000'000'000).empty());
  leave = true;
  EXPECT_TRUE(WaitOrDie(&run).ok());
  EXPECT_TRUE(run.Inside(0).empty());
}

}  // namespace
}  // namespace engine::runtime
