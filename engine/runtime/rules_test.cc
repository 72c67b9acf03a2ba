// Each rule of the runtime by itself: what a node is given, what happens to what it emits. The
// order of what it emits, and what full queues drop, are tested in order_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "engine/runtime/testing/fixture.h"

namespace engine::runtime {
namespace {

using abi::Emission;
using abi::Policy;
using testing::Call;
using ::testing::ElementsAre;
using testing::Graph;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Numbers;
using testing::Sleep;
using ::testing::UnorderedElementsAre;

class RulesTest : public testing::GraphTest {
 protected:
  Status Go(Graph* graph, RunOptions options = {}) {
    return testing::RunGraph(graph, &report_, options);
  }
};

Status PassOn(Call call) { return call.Emit(0, call.in()); }
Status OnlyEven(Call call) { return call.in() % 2 == 0 ? call.Emit(0, call.in()) : Status(); }
Status FailOdd(Call call) {
  if (call.in() % 2 == 0) return call.Emit(0, call.in());
  return Error(ENGINE_DATA_LOSS, "odd ", call.in());
}

TEST_F(RulesTest, AChainKeepsOrderAndValues) {
  Graph g;
  std::vector<int64_t> got;
  g.AddSource("s", 100);
  g.Add("a", 1, 1, PassOn);
  g.AddSink("t", &got);
  g.Connect("s", "a");
  g.Connect("a", "t");
  EXPECT_TRUE(Go(&g).ok());
  EXPECT_EQ(got, Numbers(0, 100));
}

TEST_F(RulesTest, JoinSkipsAKeyWhenARequiredPortIsAbsent) {
  Graph g;
  std::vector<int64_t> got;
  g.AddSource("s", 10);
  g.Add("even", 1, 1, OnlyEven);
  g.Add("join", 2, 1, [](Call c) -> Status {
    EXPECT_EQ(c.key(0), c.key(1));
    EXPECT_EQ(c.group(0), c.group(1));
    return c.Emit(0, c.in(0) * 100 + c.in(1));
  });
  g.AddSink("t", &got);
  g.Connect("s", "even", 1);
  g.Connect("s", "join:0", 1);
  g.Connect("even", "join:1", 1);
  g.Connect("join", "t", 1);
  EXPECT_TRUE(Go(&g).ok());
  EXPECT_THAT(got, ElementsAre(0, 202, 404, 606, 808));
}

TEST_F(RulesTest, JoinCallsWithoutAnOptionalPortThatIsAbsent) {
  Graph g;
  std::vector<int64_t> got;
  g.AddSource("s", 5);
  g.Add("even", 1, 1, OnlyEven);
  NodeSpec& join = g.Add("join", 3, 1, [](Call c) -> Status {
    EXPECT_FALSE(c.has(2));  // not connected
    return c.Emit(0, c.has(1) ? c.in(0) : -c.in(0));
  });
  join.inputs[1].optional = join.inputs[2].optional = true;
  g.AddSink("t", &got);
  g.Connect("s", "even");
  g.Connect("s", "join:0");
  g.Connect("even", "join:1");
  g.Connect("join", "t");
  EXPECT_TRUE(Go(&g).ok());
  EXPECT_THAT(got, ElementsAre(0, -1, 2, -3, 4));
}

TEST_F(RulesTest, JoinDoesNotCallForAKeyThatIsAbsentEverywhere) {
  Graph g;
  std::vector<int64_t> got;
  g.AddSource("s", 4);
  g.Add("even", 1, 1, OnlyEven);
  NodeSpec& join = g.Add("join", 1, 1, [](Call c) -> Status {
    EXPECT_TRUE(c.has(0));
    return c.Emit(0, c.in(0));
  });
  join.inputs[0].optional = true;
  g.AddSink("t", &got);
  g.Connect("s", "even");
  g.Connect("even", "join");
  g.Connect("join", "t");
  EXPECT_TRUE(Go(&g).ok());
  EXPECT_THAT(got, ElementsAre(0, 2));
}

// A source with two outputs settles the one that it leaves out; with room for one packet a join
// behind it would else wait for ever.
TEST_F(RulesTest, AGeneratorSettlesTheOutputsThatItLeavesOut) {
  Graph g;
  std::vector<int64_t> got;
  g.Add("s", 0, 2, [n = int64_t{0}](Call c) mutable -> Status {
    if (n == 9) c.finish();
    if (n % 3 == 0) ENGINE_RETURN_IF_ERROR(c.Emit(1, n));
    return c.Emit(0, n++);
  });
  g.Add("join", 2, 1, [](Call c) { return c.Emit(0, c.in(0) + (c.has(1) ? 100 : 0)); })
      .inputs[1]
      .optional = true;
  g.AddSink("t", &got);
  g.Connect("s:0", "join:0", 1);
  g.Connect("s:1", "join:1", 1);
  g.Connect("join", "t");
  EXPECT_TRUE(Go(&g).ok());
  EXPECT_THAT(got, ElementsAre(100, 1, 2, 103, 4, 5, 106, 7, 8, 109));
}

// The failure of one input wins over the absence of another: a failure is never lost.
TEST_F(RulesTest, JoinPassesAFailureOnThoughAnotherPortIsAbsent) {
  Graph g;
  std::vector<int64_t> got;
  g.AddSource("s", 4);
  g.Add("even", 1, 1, OnlyEven);
  g.Add("fail", 1, 1, FailOdd);
  g.Add("join", 2, 1, [](Call c) { return c.Emit(0, c.in(0)); });
  g.AddSink("t", &got);
  g.Connect("s", "even");
  g.Connect("s", "fail");
  g.Connect("even", "join:0");
  g.Connect("fail", "join:1");
  g.Connect("join", "t");
  const Status status = Go(&g);
  EXPECT_EQ(status.code(), ENGINE_DATA_LOSS);
  EXPECT_EQ(report_.failed_packets, 2u);
  EXPECT_THAT(got, ElementsAre(0, 2));
}

TEST_F(RulesTest, AnyTakesPacketsFromAllPortsAndNumbersThemAnew) {
  Graph g;
  std::vector<int64_t> got, keys;
  g.AddSource("a", 20);
  g.AddSource("b", 20);
  g.Add("any", 2, 1, [](Call c) {
     EXPECT_NE(c.has(0), c.has(1));
     return c.Emit(0, c.has(0) ? c.in(0) : 100 + c.in(1));
   }).policy = Policy::kAny;
  g.Add("t", 1, 0, [&](Call c) {
    got.push_back(c.in());
    keys.push_back(static_cast<int64_t>(c.key()));
    return Status();
  });
  g.Connect("a", "any:0", 1);
  g.Connect("b", "any:1", 1);
  g.Connect("any", "t");
  EXPECT_TRUE(Go(&g).ok());
  EXPECT_EQ(keys, Numbers(0, 40));
  std::vector<int64_t> a, b;
  for (int64_t v : got) (v < 100 ? a : b).push_back(v);
  EXPECT_EQ(a, Numbers(0, 20));
  EXPECT_EQ(b, Numbers(100, 120));
}

// An absent key takes no place at an ANY port; a producer that waits for the room must hear of it.
TEST_F(RulesTest, AnAbsentKeyAtAnAnyPortWakesTheOtherProducer) {
  for (int round = 0; round < 200; ++round) {
    Graph g;
    std::vector<int64_t> got;
    g.AddSource("a", 20);
    g.AddSource("b", 20);
    g.Add("none", 1, 1, [](Call) { return Status(); });
    g.Add("any", 1, 1, PassOn).policy = Policy::kAny;
    g.AddSink("t", &got);
    g.Connect("a", "none", 1);
    g.Connect("none", "any", 1);
    g.Connect("b", "any", 1);
    g.Connect("any", "t", 1);
    const Status status = Go(&g);
    ASSERT_TRUE(status.ok()) << status.message();
    ASSERT_EQ(got, Numbers(0, 20));
  }
}

TEST_F(RulesTest, TwoEdgesFromOneNodeIntoOnePortTakeTwoPlaces) {
  Graph g;
  std::vector<int64_t> got;
  g.Add("s", 0, 2, [n = int64_t{0}](Call c) mutable -> Status {
    if (n == 18) c.finish();
    ENGINE_RETURN_IF_ERROR(c.Emit(0, n));
    n += 2;
    return c.Emit(1, n - 1);
  });
  g.Add("any", 1, 1, PassOn).policy = Policy::kAny;
  g.AddSink("t", &got);
  g.Connect("s:0", "any", 1);
  g.Connect("s:1", "any", 1);
  g.Connect("any", "t", 1);
  EXPECT_TRUE(Go(&g).ok());
  EXPECT_EQ(got, Numbers(0, 20));
  EXPECT_LE(report_.nodes[1].queue_high_water, 2u);
}

TEST_F(RulesTest, LatestGivesTheNewestPacketOfTheOtherPorts) {
  Graph g;
  std::vector<int64_t> got;
  std::atomic<bool> told{false};
  g.Add("weights", 0, 1, [&](Call c) -> Status {
     for (int64_t v = 1; v <= 50; ++v) ENGINE_RETURN_IF_ERROR(c.Emit(0, v));
     c.finish();
     told = true;
     return Status();
   }).emission = Emission::kMany;
  g.AddSource("s", 10);
  NodeSpec& latest =
      g.Add("latest", 2, 1, [](Call c) { return c.Emit(0, c.in(0) * 100 + c.in(1)); });
  latest.policy = Policy::kLatest;
  g.AddSink("t", &got);
  g.Connect("s", "latest:0");
  g.Connect("weights", "latest:1", 1);
  g.Connect("latest", "t");
  EXPECT_TRUE(Go(&g).ok());
  // Each main packet came through once, in order; none was dropped while no weights were there.
  ASSERT_EQ(got.size(), 10u);
  int64_t newest = 1;
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i] / 100, static_cast<int64_t>(i));
    EXPECT_GE(got[i] % 100, newest);
    newest = got[i] % 100;
  }
}

// A side port of LATEST holds its packet for ever: it must neither block its producer nor count as
// work under way, and an absent key is no packet.
TEST_F(RulesTest, LatestHoldsNoAdmissionAndNeverBlocks) {
  Graph g;
  std::vector<int64_t> got;
  g.AddSource("s", 30);
  g.Add("even", 1, 1, OnlyEven);
  NodeSpec& latest = g.Add("latest", 2, 1, [](Call c) {
    EXPECT_TRUE(c.has(1));
    return c.Emit(0, c.in(0));
  });
  latest.policy = Policy::kLatest;
  g.AddSink("t", &got);
  g.Connect("s", "even", 1);
  g.Connect("s", "latest:0", 1);
  g.Connect("even", "latest:1", 1);
  g.Connect("latest", "t", 1);
  g.max_in_flight = 1;
  const Status status = Go(&g);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(got, Numbers(0, 30));
}

TEST_F(RulesTest, BatchTakesUpToItsMaximumAndFlushesAtTheEnd) {
  Graph g;
  std::vector<int64_t> sizes, got;
  NodeSpec& source = g.Add("s", 0, 1, [](Call c) -> Status {
    for (int64_t v = 0; v < 10; ++v) ENGINE_RETURN_IF_ERROR(c.Emit(0, v));
    c.finish();
    return Status();
  });
  source.emission = Emission::kMany;
  NodeSpec& batch = g.Add("batch", 1, 1, [&](Call c) {
    sizes.push_back(c.count(0));
    for (uint32_t i = 0; i < c.count(0); ++i) got.push_back(c.in(0, i));
    return c.Emit(0, c.count(0));
  });
  batch.policy = Policy::kBatch;
  batch.batch_max = 4;
  batch.batch_wait_ns = 3'600'000'000'000;
  std::vector<int64_t> sink;
  g.AddSink("t", &sink);
  g.Connect("s", "batch", 5);
  g.Connect("batch", "t");
  EXPECT_TRUE(Go(&g).ok());  // and the timer of an hour does not hold up the end
  EXPECT_THAT(sizes, ElementsAre(4, 4, 2));
  EXPECT_EQ(sink, sizes);
  EXPECT_EQ(got, Numbers(0, 10));
}

TEST_F(RulesTest, ABatchLargerThanItsQueueIsTakenWhenTheQueueIsFull) {
  Graph g;
  std::vector<int64_t> got;
  g.AddSource("s", 6);
  NodeSpec& batch = g.Add("batch", 1, 1, [](Call c) { return c.Emit(0, c.count(0)); });
  batch.policy = Policy::kBatch;
  batch.batch_max = 16;
  batch.batch_wait_ns = 3'600'000'000'000;
  g.AddSink("t", &got);
  g.Connect("s", "batch", 3);
  g.Connect("batch", "t");
  EXPECT_TRUE(Go(&g).ok());
  EXPECT_THAT(got, ElementsAre(3, 3));
}

// The rest of a queue that was longer than a batch gets its timer too: nothing else would wake it,
// since the source waits for these packets to be done.
TEST_F(RulesTest, ABatchTimerRunsForWhatABatchLeftBehind) {
  Graph g;
  std::vector<int64_t> sizes;
  NodeSpec& source = g.Add("s", 0, 1, [n = 0](Call c) mutable -> Status {
    if (n++ == 3) {
      c.finish();
      return Status();
    }
    for (int64_t v = 0; v < 3; ++v) ENGINE_RETURN_IF_ERROR(c.Emit(0, v));
    return Status();
  });
  source.emission = Emission::kMany;
  NodeSpec& batch = g.Add("batch", 1, 0, [&](Call c) {
    sizes.push_back(c.count(0));
    return Status();
  });
  batch.policy = Policy::kBatch;
  batch.batch_max = 2;
  batch.batch_wait_ns = 2'000'000;
  g.Connect("s", "batch", 4);
  g.max_in_flight = 1;
  const Status status = Go(&g);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_THAT(sizes, ElementsAre(2, 1, 2, 1, 2, 1));
}

TEST_F(RulesTest, ABatchWaitsAsLongAsItsTimerSays) {
  Graph g;
  uint64_t sent = 0, taken = 0;
  std::atomic<bool> go_on{false};
  NodeSpec& source = g.Add("s", 0, 1, [&](Call c) -> Status {
    if (sent == 0) {
      sent = NowNs();
      return c.Emit(0, 1);
    }
    while (!go_on) Sleep(100);
    c.finish();
    return Status();
  });
  source.executor = 1;
  NodeSpec& batch = g.Add("batch", 1, 0, [&](Call c) {
    EXPECT_EQ(c.count(0), 1u);
    taken = NowNs();
    go_on = true;
    return Status();
  });
  batch.policy = Policy::kBatch;
  batch.batch_max = 2;
  batch.batch_wait_ns = 20'000'000;
  g.executors.push_back({"own", 1, true});
  g.Connect("s", "batch");
  EXPECT_TRUE(Go(&g).ok());
  EXPECT_GE(taken - sent, 20'000'000u);
}

TEST_F(RulesTest, AFailedPacketFailsNoneOfItsBatch) {
  Graph g;
  std::vector<int64_t> got;
  g.AddSource("s", 6);
  g.Add("fail", 1, 1,
        [](Call c) { return c.in() == 2 ? Error(ENGINE_DATA_LOSS, "two") : c.Emit(0, c.in()); });
  NodeSpec& batch = g.Add("batch", 1, 1, [&](Call c) -> Status {
    for (uint32_t i = 0; i < c.count(0); ++i) got.push_back(c.in(0, i));
    return c.Emit(0, c.count(0));
  });
  batch.policy = Policy::kBatch;
  batch.batch_max = 3;
  std::vector<int64_t> sizes;
  g.AddSink("t", &sizes);
  g.Connect("s", "fail");
  g.Connect("fail", "batch", 6);
  g.Connect("batch", "t");
  EXPECT_EQ(Go(&g).code(), ENGINE_DATA_LOSS);
  EXPECT_THAT(got, ElementsAre(0, 1, 3, 4, 5));
  EXPECT_EQ(report_.failed_packets, 1u);
}

TEST_F(RulesTest, OneIsHeldToItsWordAndManyIsNot) {
  Graph g;
  std::vector<int64_t> one, many;
  const auto twice = [](Call c) -> Status {
    ENGINE_RETURN_IF_ERROR(c.Emit(0, c.in()));
    return c.Emit(0, c.in() + 100);
  };
  g.AddSource("s", 3);
  g.Add("one", 1, 1, twice);
  g.Add("many", 1, 1, twice).emission = Emission::kMany;
  g.AddSink("t1", &one);
  g.AddSink("t2", &many);
  g.Connect("s", "one");
  g.Connect("s", "many");
  g.Connect("one", "t1");
  g.Connect("many", "t2");
  const Status status = Go(&g);
  EXPECT_EQ(status.code(), ENGINE_INTERNAL);
  EXPECT_EQ(status.node(), "one");
  EXPECT_EQ(status.plugin(), "test.plugin");
  EXPECT_THAT(status.message(), HasSubstr("several packets on OUT0"));
  EXPECT_THAT(one, IsEmpty());
  EXPECT_THAT(many, ElementsAre(0, 100, 1, 101, 2, 102));
}

TEST_F(RulesTest, EmittingBeyondTheContractIsRefused) {
  Graph g;
  g.AddSource("s", 1);
  g.Add("a", 1, 1, [](Call c) -> Status {
    EXPECT_EQ(c.Emit(7, 1).code(), ENGINE_OUT_OF_RANGE);
    EXPECT_EQ(Status(Call::Host()->emit(c.get(), 0, nullptr, 0)).code(), ENGINE_INVALID_ARGUMENT);
    EXPECT_EQ(c.count(9), 0u);
    EXPECT_EQ(c.packet(0, 5), nullptr);
    return Status();
  });
  g.SetOpen("a", [](Call c) -> Status {
    EXPECT_EQ(c.Emit(0, 1).code(), ENGINE_FAILED_PRECONDITION);
    EXPECT_EQ(c.Defer(), nullptr);
    return Status();
  });
  g.Connect("s", "a");
  EXPECT_TRUE(Go(&g).ok());
}

}  // namespace
}  // namespace engine::runtime
