// What keeps its order and what may be dropped: calls at once, packets beyond the room, full
// queues.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "engine/runtime/testing/fixture.h"

namespace engine::runtime {
namespace {

using abi::Emission;
using abi::Policy;
using testing::Call;
using testing::Graph;
using ::testing::HasSubstr;
using testing::Numbers;
using testing::Sleep;

class OrderTest : public testing::GraphTest {
 protected:
  Status Go(Graph* graph, RunOptions options = {}) {
    return testing::RunGraph(graph, &report_, options);
  }
};

Status PassOn(Call call) { return call.Emit(0, call.in()); }

// Calls overlap and end in any order; a stream keeps the order of its keys.
TEST_F(OrderTest, CallsAtOnceKeepTheOrderOfTheStream) {
  Graph g;
  std::vector<int64_t> got;
  std::atomic<int> inside{0}, most{0};
  g.executors = {{"default", 4, true}};
  g.AddSource("s", 200);
  NodeSpec& slow = g.Add("slow", 1, 1, [&](Call c) {
    const int now = ++inside;
    int seen = most.load();
    while (seen < now && !most.compare_exchange_weak(seen, now)) {
    }
    Sleep(static_cast<int>((c.in() * 7919) % 300));
    --inside;
    return c.Emit(0, c.in());
  });
  slow.max_in_flight = 3;
  g.AddSink("t", &got);
  g.Connect("s", "slow", 4);
  g.Connect("slow", "t", 4);
  EXPECT_TRUE(Go(&g).ok());
  EXPECT_EQ(got, Numbers(0, 200));
  EXPECT_GT(most.load(), 1);
  EXPECT_LE(most.load(), 3);
}

// A node that puts calls off sees the packets of its streams in the order in which they were taken:
// one call enters after the other, even where several may be under way.
TEST_F(OrderTest, CallsOfAnyEnterOneAfterTheOther) {
  for (int round = 0; round < 20; ++round) {
    Graph g;
    g.executors = {{"default", 3, true}};
    std::atomic<int> inside = 0;
    std::vector<int64_t> seen, got;
    g.AddSource("s", 100);
    NodeSpec& any = g.Add("any", 1, 1, [&](Call c) {
      EXPECT_EQ(++inside, 1);
      Sleep(static_cast<int>((c.in() * 7919) % 50));
      seen.push_back(c.in());
      --inside;
      return c.Emit(0, c.in());
    });
    any.policy = Policy::kAny;
    any.emission = Emission::kMany;
    any.max_in_flight = 3;
    g.AddSink("t", &got);
    g.Connect("s", "any", 4);
    g.Connect("any", "t", 4);
    EXPECT_TRUE(Go(&g).ok());
    EXPECT_EQ(seen, Numbers(0, 100));
    EXPECT_EQ(got.size(), 100u);
  }
}

// What one call emitted beyond the room goes out before what the next call emits.
TEST_F(OrderTest, TheOutboxOfOneCallGoesBeforeTheNextCall) {
  for (int round = 0; round < 50; ++round) {
    Graph g;
    std::vector<int64_t> got;
    g.executors = {{"default", 3, true}};
    g.AddSource("s", 20);
    NodeSpec& many = g.Add("many", 1, 1, [](Call c) -> Status {
      Sleep(static_cast<int>((c.in() * 31) % 50));
      for (int64_t i = 0; i < 5; ++i) ENGINE_RETURN_IF_ERROR(c.Emit(0, c.in() * 5 + i));
      return Status();
    });
    many.emission = Emission::kMany;
    many.max_in_flight = 3;
    g.Add("t", 1, 0, [&](Call c) {
      EXPECT_EQ(c.key(), got.size());
      Sleep(10);
      got.push_back(c.in());
      return Status();
    });
    g.Connect("s", "many", 3);
    g.Connect("many", "t", 3);
    ASSERT_TRUE(Go(&g).ok());
    ASSERT_EQ(got, Numbers(0, 100));
    EXPECT_LE(report_.nodes[2].queue_high_water, 3u);
  }
}

TEST_F(OrderTest, AManyNodeMayEmitFarBeyondTheRoom) {
  Graph g;
  std::vector<int64_t> left, right;
  g.Add("s", 0, 1, [](Call c) -> Status {
     for (int64_t i = 0; i < 100'000; ++i) ENGINE_RETURN_IF_ERROR(c.Emit(0, i));
     c.finish();
     return Status();
   }).emission = Emission::kMany;
  g.AddSink("t1", &left);
  g.AddSink("t2", &right);
  g.Connect("s", "t1", 1);
  g.Connect("s", "t2", 3);
  EXPECT_TRUE(Go(&g).ok());
  EXPECT_EQ(left, Numbers(0, 100'000));
  EXPECT_EQ(right, left);
  EXPECT_EQ(report_.nodes[1].queue_high_water, 1u);
}

TEST_F(OrderTest, DropOldestKeepsTheNewestAndCounts) {
  Graph g;
  std::vector<int64_t> got;
  std::atomic<bool> sent_all{false};
  g.executors = {{"a", 1, true}, {"b", 1, true}};
  g.Add("s", 0, 1, [&, n = int64_t{0}](Call c) mutable -> Status {
    if (n == 49) {
      c.finish();
      sent_all = true;
    }
    return c.Emit(0, n++);
  });
  g.Add("t", 1, 0, [&](Call c) {
     while (!sent_all) Sleep(50);
     Sleep(2000);  // the last one is committed after its call
     got.push_back(c.in());
     return Status();
   }).executor = 1;
  g.Connect("s", "t", 3).overflow = Overflow::kDropOldest;
  EXPECT_TRUE(Go(&g).ok());
  ASSERT_GE(got.size(), 3u);
  EXPECT_LE(got.size(), 4u);  // one may have been taken at once
  EXPECT_EQ(std::vector<int64_t>(got.end() - 3, got.end()), Numbers(47, 50));
  EXPECT_EQ(report_.dropped_packets, 50 - got.size());
  EXPECT_EQ(report_.failed_packets, 0u);
}

TEST_F(OrderTest, RejectRefusesTheNewestAndRecordsAFailure) {
  Graph g;
  std::vector<int64_t> got;
  std::atomic<bool> sent_all{false};
  g.executors = {{"a", 1, true}, {"b", 1, true}};
  g.Add("s", 0, 1, [&, n = int64_t{0}](Call c) mutable -> Status {
    if (n == 49) {
      c.finish();
      sent_all = true;
    }
    return c.Emit(0, n++);
  });
  g.Add("t", 1, 0, [&](Call c) {
     while (!sent_all) Sleep(50);
     Sleep(2000);
     got.push_back(c.in());
     return Status();
   }).executor = 1;
  g.Connect("s", "t", 3).overflow = Overflow::kReject;
  const Status status = Go(&g);
  EXPECT_EQ(status.code(), ENGINE_RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.node(), "t");
  EXPECT_THAT(status.message(), HasSubstr("queue IN0 of node 't' is full (3 packets)"));
  EXPECT_EQ(got.front(), 0);
  EXPECT_EQ(report_.dropped_packets, 50 - got.size());
  EXPECT_EQ(report_.failed_packets, report_.dropped_packets);
}

// A join behind an edge that drops goes on: a dropped key is an absent one.
TEST_F(OrderTest, AJoinSurvivesAnEdgeThatDrops) {
  Graph g;
  std::vector<int64_t> got;
  g.AddSource("s", 500);
  g.Add("slow", 1, 1, PassOn);
  g.Add("join", 2, 1, [](Call c) -> Status {
    EXPECT_EQ(c.in(0), c.in(1));
    return c.Emit(0, c.in(0));
  });
  g.AddSink("t", &got);
  g.Connect("s", "slow", 1).overflow = Overflow::kDropOldest;
  g.Connect("s", "join:0", 2);
  g.Connect("slow", "join:1", 2);
  g.Connect("join", "t");
  const Status status = Go(&g);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(got.size() + report_.dropped_packets, 500u);
  EXPECT_TRUE(std::is_sorted(got.begin(), got.end()));
}

// A call that is put off does not hold up those behind it, where the contract says so.
TEST_F(OrderTest, UnorderedCallsOvertakeOneAnother) {
  for (const bool unordered : {true, false}) {
    Graph g;
    std::vector<int64_t> got;
    std::mutex mutex;
    engine_completion* first = nullptr;
    int64_t behind = 0;
    const engine_nodes_host* host = NodesHost();
    g.AddSource("s", 5);
    NodeSpec& node = g.Add("n", 1, 1, [&](Call c) -> Status {
      std::unique_lock lock(mutex);
      if (c.in() == 0) return Status(host->defer(c.get(), &first));
      const Status status = c.Emit(0, c.in());
      if (++behind < 4) return status;
      engine_completion* done = std::exchange(first, nullptr);
      lock.unlock();
      const Status late(host->completion_emit(done, 0, testing::NewNumber(0), UINT64_MAX));
      EXPECT_TRUE(late.ok()) << late.message();
      host->completion_done(done, nullptr);
      return status;
    });
    node.emission = Emission::kMany;
    node.max_in_flight = 8;
    node.unordered = unordered;
    g.AddSink("t", &got);
    g.Connect("s", "n", 8);
    g.Connect("n", "t", 8);
    EXPECT_TRUE(RunGraph(&g, &report_).ok());
    ASSERT_THAT(got, ::testing::SizeIs(5));
    EXPECT_EQ(got.front() == 0, !unordered);
  }
}

}  // namespace
}  // namespace engine::runtime
