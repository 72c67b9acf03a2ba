// The life of a run: opening and closing, cancel, drain, failures and how far they reach, calls
// that are answered later, resources that are swapped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <thread>

#include "engine/runtime/testing/fixture.h"

namespace engine::runtime {
namespace {

using abi::Emission;
using abi::Policy;
using testing::Call;
using testing::Completer;
using ::testing::ElementsAre;
using testing::Graph;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Journal;
using testing::LivePayloads;
using testing::NewNumber;
using testing::Numbers;
using testing::RunGraph;
using testing::Sleep;
using testing::WaitOrDie;

constexpr auto* kHost = &Call::Host;

class LifeTest : public testing::GraphTest {};

void AwaitTrue(const std::atomic<bool>& flag) {
  while (!flag) Sleep(50);
}

Status PassOn(Call call) { return call.Emit(0, call.in()); }
Status Endless(Call call) { return call.Emit(0, 1); }

// --- Opening and closing

void ThreeNodes(Graph* g, std::vector<int64_t>* got) {
  g->AddSource("a", 3);
  g->Add("b", 1, 1, PassOn);
  g->AddSink("c", got);
  g->Connect("a", "b");
  g->Connect("b", "c");
}

TEST_F(LifeTest, NodesOpenInOrderAndCloseInReverse) {
  Graph g;
  std::vector<int64_t> got;
  ThreeNodes(&g, &got);
  auto journal = g.journal;
  EXPECT_TRUE(RunGraph(&g, &report_).ok());
  EXPECT_THAT(journal->lines(), ElementsAre("open a", "open b", "open c", "close c", "close b",
                                            "close a", "destroy a", "destroy b", "destroy c"));
}

TEST_F(LifeTest, AFailedOpenClosesOnlyWhatWasOpened) {
  Graph g;
  std::vector<int64_t> got;
  ThreeNodes(&g, &got);
  g.SetOpen("c", [](Call) { return Error(ENGINE_NOT_FOUND, "no such file"); });
  auto journal = g.journal;
  const Status status = RunGraph(&g, &report_);
  EXPECT_EQ(status.code(), ENGINE_NOT_FOUND);
  EXPECT_EQ(status.node(), "c");
  EXPECT_EQ(status.plugin(), "test.plugin");
  EXPECT_THAT(journal->lines(), ElementsAre("open a", "open b", "close b", "close a", "destroy a",
                                            "destroy b", "destroy c"));
}

TEST_F(LifeTest, AnOpenThatWidensItsFailureFails) {
  Graph g;
  std::vector<int64_t> got;
  ThreeNodes(&g, &got);
  g.SetOpen("b", [](Call c) {
    c.Fail(ENGINE_SCOPE_RUN, Error(ENGINE_UNAVAILABLE, "not today"));
    return Status();
  });
  EXPECT_EQ(RunGraph(&g, &report_).code(), ENGINE_UNAVAILABLE);
}

TEST_F(LifeTest, ARunThatNeverStartedClosesWhatItOpened) {
  Graph g;
  std::vector<int64_t> got;
  ThreeNodes(&g, &got);
  auto journal = g.journal;
  {
    runtime::Run run(g.Take(), {});
    EXPECT_TRUE(run.Open().ok());
  }
  EXPECT_EQ(journal->Count("close a"), 1u);
  EXPECT_EQ(journal->Count("close c"), 1u);
  Graph never;
  ThreeNodes(&never, &got);
  auto second = never.journal;
  { runtime::Run run(never.Take(), {}); }
  EXPECT_THAT(second->lines(), ElementsAre("destroy a", "destroy b", "destroy c"));
}

TEST_F(LifeTest, AFailedCloseIsToldButClosesTheOthers) {
  Graph g;
  std::vector<int64_t> got;
  ThreeNodes(&g, &got);
  g.SetClose("b", [](Call) { return Error(ENGINE_DATA_LOSS, "disk full"); });
  auto journal = g.journal;
  const Status status = RunGraph(&g, &report_);
  EXPECT_EQ(status.code(), ENGINE_DATA_LOSS);
  EXPECT_EQ(status.node(), "b");
  EXPECT_EQ(journal->Count("close a"), 1u);
  EXPECT_EQ(got, Numbers(0, 3));
}

TEST_F(LifeTest, AGraphWithoutNodesEnds) {
  Graph g;
  EXPECT_TRUE(RunGraph(&g, &report_).ok());
}

// --- Failures and how far they reach

TEST_F(LifeTest, AFailureFailsItsPacketOnly) {
  Graph g;
  std::vector<int64_t> got;
  g.AddSource("s", 6);
  g.Add("a", 1, 1,
        [](Call c) { return c.in() == 3 ? Error(ENGINE_DATA_LOSS, "three") : c.Emit(0, c.in()); });
  g.Add("b", 1, 1, PassOn);
  g.AddSink("t", &got);
  g.Connect("s", "a");
  g.Connect("a", "b");
  g.Connect("b", "t");
  const Status status = RunGraph(&g, &report_);
  EXPECT_EQ(status.code(), ENGINE_DATA_LOSS);
  EXPECT_EQ(status.message(), "three");
  EXPECT_EQ(status.node(), "a");
  EXPECT_THAT(got, ElementsAre(0, 1, 2, 4, 5));
  EXPECT_EQ(report_.failed_packets, 1u);
  EXPECT_EQ(report_.nodes[1].failed, 1u);
  EXPECT_EQ(report_.nodes[2].calls, 5u);
}

TEST_F(LifeTest, AFailedNodeAnswersEveryFurtherKeyWithItsFailure) {
  Graph g;
  std::vector<int64_t> got;
  g.AddSource("s", 6);
  g.Add("a", 1, 1, [](Call c) -> Status {
    if (c.in() == 2) c.Fail(ENGINE_SCOPE_NODE, Error(ENGINE_UNAVAILABLE, "broken"));
    return c.Emit(0, c.in());
  });
  g.AddSink("t", &got);
  g.Connect("s", "a");
  g.Connect("a", "t");
  const Status status = RunGraph(&g, &report_);
  EXPECT_EQ(status.code(), ENGINE_UNAVAILABLE);
  EXPECT_THAT(got, ElementsAre(0, 1));
  EXPECT_EQ(report_.failed_packets, 4u);
  EXPECT_EQ(report_.nodes[1].calls, 3u);
}

TEST_F(LifeTest, ASourceThatFailsAsANodeIsDone) {
  Graph g;
  std::vector<int64_t> got;
  g.Add("s", 0, 1, [n = int64_t{0}](Call c) mutable -> Status {
    if (n == 2) c.Fail(ENGINE_SCOPE_NODE, Error(ENGINE_UNAVAILABLE, "broken"));
    return c.Emit(0, n++);
  });
  g.AddSink("t", &got);
  g.Connect("s", "t");
  EXPECT_EQ(RunGraph(&g, &report_).code(), ENGINE_UNAVAILABLE);
  EXPECT_THAT(got, ElementsAre(0, 1));
  EXPECT_EQ(report_.failed_packets, 1u);
}

TEST_F(LifeTest, AFailureOfTheRunCancelsIt) {
  Graph g;
  std::vector<int64_t> got;
  g.Add("s", 0, 1, Endless);
  g.Add("a", 1, 1, [n = 0](Call c) mutable -> Status {
    if (++n == 5) c.Fail(ENGINE_SCOPE_RUN, Error(ENGINE_UNAVAILABLE, "the model is gone"));
    return c.Emit(0, c.in());
  });
  g.AddSink("t", &got);
  g.Connect("s", "a");
  g.Connect("a", "t");
  auto journal = g.journal;
  const Status status = RunGraph(&g, &report_);
  EXPECT_EQ(status.code(), ENGINE_UNAVAILABLE);
  EXPECT_EQ(status.node(), "a");
  EXPECT_LE(got.size(), 4u);
  EXPECT_EQ(journal->Count("close a"), 1u);
}

TEST_F(LifeTest, AnErrorsPortReceivesFailuresAndSettlesThem) {
  Graph g;
  std::vector<std::string> got;
  g.AddSource("s", 4);
  g.Add("a", 1, 1, [](Call c) {
    return c.in() % 2 == 1 ? Error(ENGINE_DATA_LOSS, "odd ", c.in()) : c.Emit(0, c.in());
  });
  g.Add("b", 1, 1, PassOn);
  NodeSpec& sink = g.Add("t", 1, 0, [&](Call c) {
    const engine_error_payload* e = c.error(0);
    got.push_back(e == nullptr
                      ? std::to_string(c.in())
                      : std::string(View(e->message)) + " at " + std::string(View(e->node)) +
                            " of " + std::string(View(e->plugin)));
    EXPECT_EQ(c.key(), got.size() - 1);
    EXPECT_EQ(c.group(), got.size() - 1);
    return Status();
  });
  sink.inputs[0].errors = true;
  g.Connect("s", "a");
  g.Connect("a", "b");
  g.Connect("b", "t");
  EXPECT_TRUE(RunGraph(&g, &report_).ok());
  EXPECT_THAT(got, ElementsAre("0", "odd 1 at a of test.plugin", "2", "odd 3 at a of test.plugin"));
  EXPECT_EQ(report_.failed_packets, 0u);
}

// An output that leads nowhere does not make a handled failure an unhandled one.
TEST_F(LifeTest, AHandledFailureIsNotCountedForAnOpenOutput) {
  Graph g;
  int errors = 0;
  g.AddSource("s", 2);
  g.Add("a", 1, 2, [](Call) { return Error(ENGINE_DATA_LOSS, "no"); });
  NodeSpec& sink = g.Add("t", 1, 0, [&](Call c) {
    errors += c.error(0) != nullptr;
    return Status();
  });
  sink.inputs[0].errors = true;
  g.Connect("s", "a");
  g.Connect("a:0", "t");
  EXPECT_TRUE(RunGraph(&g, &report_).ok());
  EXPECT_EQ(errors, 2);
}

TEST_F(LifeTest, AFailureThatNobodyCanHearIsRecorded) {
  Graph g;
  g.AddSource("s", 2);
  g.Add("a", 1, 2, [](Call) { return Error(ENGINE_DATA_LOSS, "no"); });
  g.Connect("s", "a");
  EXPECT_EQ(RunGraph(&g, &report_).code(), ENGINE_DATA_LOSS);
  EXPECT_EQ(report_.failed_packets, 2u);
}

engine_status* ThrowRaw(void*, engine_call*) { throw std::runtime_error("thrown raw"); }

TEST_F(LifeTest, ExceptionsBecomeFailures) {
  Graph g;
  std::vector<int64_t> got;
  g.AddSource("s", 3);
  g.Add("a", 1, 1, [](Call c) -> Status {
    if (c.in() == 1) throw std::runtime_error("thrown");
    if (c.in() == 2) throw 7;
    return c.Emit(0, c.in());
  });
  g.AddSink("t", &got);
  g.Connect("s", "a");
  g.Connect("a", "t");
  const Status status = RunGraph(&g, &report_);
  EXPECT_EQ(status.code(), ENGINE_INTERNAL);
  EXPECT_EQ(status.message(), "thrown");
  EXPECT_EQ(report_.failed_packets, 2u);
  EXPECT_THAT(got, ElementsAre(0));
}

// A plugin that breaks its contract and throws over the boundary fails its packet, not the process.
TEST_F(LifeTest, WhatAPluginThrowsOverTheBoundaryIsCaught) {
  static engine_node_vtable table;
  Graph g;
  g.AddSource("s", 1);
  NodeSpec& node = g.Add("a", 1, 0, {});
  table = *node.vtable;
  table.process = &ThrowRaw;
  node.vtable = &table;
  g.Connect("s", "a");
  EXPECT_EQ(RunGraph(&g, &report_).message(), "thrown raw");
  static engine_node_vtable open_table;
  Graph h;
  NodeSpec& opened = h.Add("a", 0, 0, {});
  open_table = *opened.vtable;
  open_table.open = &ThrowRaw;
  opened.vtable = &open_table;
  EXPECT_EQ(RunGraph(&h, &report_).message(), "thrown raw");
}

// --- Cancel and drain

TEST_F(LifeTest, CancelReachesALongCall) {
  Graph g;
  std::atomic<bool> inside{false};
  bool seen = false;
  g.Add("s", 0, 1, Endless);
  g.Add("long", 1, 1, [&](Call c) {
    inside = true;
    while (!c.cancelled()) Sleep(50);
    seen = true;
    return c.Emit(0, 1);
  });
  std::vector<int64_t> got;
  g.AddSink("t", &got);
  g.Connect("s", "long");
  g.Connect("long", "t");
  auto journal = g.journal;
  {
    runtime::Run run(g.Take(), {});
    ASSERT_TRUE(run.Open().ok());
    run.Start();
    AwaitTrue(inside);
    EXPECT_EQ(run.state(), RunState::kRunning);
    EXPECT_FALSE(run.WaitFor(1'000'000));
    run.Cancel(Error(ENGINE_CANCELLED, "enough"));
    const Status status = WaitOrDie(&run);
    EXPECT_EQ(status.code(), ENGINE_CANCELLED);
    EXPECT_EQ(status.message(), "enough");
    EXPECT_EQ(run.state(), RunState::kDone);
    run.Cancel(Error(ENGINE_CANCELLED, "again"));
    EXPECT_EQ(run.Wait().message(), "enough");
  }
  EXPECT_TRUE(seen);
  EXPECT_THAT(got, IsEmpty());
  for (const char* node : {"s", "long", "t"}) {
    EXPECT_EQ(journal->Count(std::string("close ") + node), 1u);
    EXPECT_EQ(journal->Count(std::string("destroy ") + node), 1u);
  }
}

TEST_F(LifeTest, CancelBeforeStartAndDestructionMidRun) {
  {
    Graph g;
    std::vector<int64_t> got;
    ThreeNodes(&g, &got);
    auto journal = g.journal;
    runtime::Run run(g.Take(), {});
    ASSERT_TRUE(run.Open().ok());
    run.Cancel(Error(ENGINE_CANCELLED, "early"));
    run.Start();
    EXPECT_EQ(WaitOrDie(&run).code(), ENGINE_CANCELLED);
    EXPECT_THAT(got, IsEmpty());
    EXPECT_EQ(journal->Count("close a"), 1u);
  }
  for (int round = 0; round < 50; ++round) {
    Graph g;
    std::vector<int64_t> got;
    g.Add("s", 0, 1, Endless);
    g.Add("a", 1, 1, PassOn).max_in_flight = 3;
    g.AddSink("t", &got);
    g.Connect("s", "a");
    g.Connect("a", "t");
    g.max_in_flight = static_cast<uint32_t>(round % 3);
    runtime::Run run(g.Take(), {});
    ASSERT_TRUE(run.Open().ok());
    run.Start();
    Sleep(round * 10);
  }
}

TEST_F(LifeTest, DrainStopsSourcesAndFinishesWhatIsUnderWay) {
  Graph g;
  std::vector<int64_t> got;
  std::atomic<int64_t> sent{0};
  std::atomic<bool> begun{false};
  g.Add("s", 0, 1, [&](Call c) {
    begun = true;
    return c.Emit(0, sent++);
  });
  g.Add("a", 1, 1, PassOn);
  g.AddSink("t", &got);
  g.Connect("s", "a", 8);
  g.Connect("a", "t", 8);
  runtime::Run run(g.Take(), {});
  ASSERT_TRUE(run.Open().ok());
  run.Start();
  AwaitTrue(begun);
  run.Drain();
  EXPECT_TRUE(WaitOrDie(&run).ok());
  EXPECT_EQ(got, Numbers(0, sent));
  run.Drain();
}

// Two sources that never end, in two components, and a sink that has enough after ten packets.
TEST_F(LifeTest, ANodeWithInputsThatHasEnoughEndsTheRun) {
  Graph g;
  std::vector<int64_t> got, others;
  std::atomic<int64_t> sent{0};
  g.Add("s", 0, 1, [&](Call c) { return c.Emit(0, sent++); });
  g.Add("t", 1, 0, [&](Call c) {
    got.push_back(c.in(0, 0));
    if (got.size() == 10) c.finish();
    return Status();
  });
  g.Connect("s", "t", 4);
  g.Add("other", 0, 1, Endless);
  g.AddSink("end", &others);
  g.Connect("other", "end");
  runtime::Run run(g.Take(), {});
  ASSERT_TRUE(run.Open().ok());
  run.Start();
  EXPECT_TRUE(WaitOrDie(&run).ok());
  EXPECT_GE(got.size(), 10u);
  EXPECT_EQ(got, Numbers(0, sent)) << "what was under way is lost";
}

TEST_F(LifeTest, ADrainBeforeTheStartIsNotForgotten) {
  Graph g;
  std::vector<int64_t> got;
  g.Add("s", 0, 1, Endless);
  g.AddSink("t", &got);
  g.Connect("s", "t");
  runtime::Run run(g.Take(), {});
  ASSERT_TRUE(run.Open().ok());
  run.Drain();
  run.Start();
  EXPECT_TRUE(WaitOrDie(&run).ok());
  EXPECT_THAT(got, IsEmpty());
}

// --- Calls that are answered later

TEST_F(LifeTest, DeferredCallsAreAnsweredByOtherThreads) {
  for (int round = 0; round < 20; ++round) {
    Graph g;
    std::vector<int64_t> got;
    Completer completer(3);
    g.AddSource("s", 100);
    NodeSpec& node = g.Add("a", 1, 1, [&](Call c) {
      engine_completion* d = c.Defer();
      const int64_t value = c.in();
      std::atomic<bool> early{false};
      const bool before = value % 3 == 0;
      completer.Post([&early, d, value, before] {
        if (value % 2 == 0) Sleep(20);
        const Status emitted(kHost()->completion_emit(d, 0, NewNumber(value), UINT64_MAX));
        EXPECT_TRUE(emitted.ok());
        kHost()->completion_done(
            d, value == 50 ? Error(ENGINE_DATA_LOSS, "fifty").release() : nullptr);
        if (before) early = true;  // the call is still inside process
      });
      if (before) AwaitTrue(early);
      return Status();
    });
    node.max_in_flight = 1 + static_cast<uint32_t>(round % 3);
    g.AddSink("t", &got);
    g.Connect("s", "a", 3);
    g.Connect("a", "t", 3);
    EXPECT_EQ(RunGraph(&g, &report_).message(), "fifty");
    std::vector<int64_t> expected = Numbers(0, 100);
    expected.erase(expected.begin() + 50);
    ASSERT_EQ(got, expected);
    EXPECT_EQ(report_.failed_packets, 1u);
  }
}

TEST_F(LifeTest, ASourceMayDeferAndFinishLater) {
  Graph g;
  std::vector<int64_t> got;
  Completer completer(1);
  g.Add("s", 0, 1, [&, n = int64_t{0}](Call c) mutable {
    engine_completion* d = c.Defer();
    completer.Post([d, v = n++] {
      if (v == 20) {
        kHost()->completion_finish(d);
      } else {
        const Status emitted(kHost()->completion_emit(d, 0, NewNumber(v), 1000u + v));
        EXPECT_TRUE(emitted.ok());
      }
      kHost()->completion_done(d, nullptr);
    });
    return Status();
  });
  g.Add("t", 1, 0, [&](Call c) {
    EXPECT_EQ(c.group(), 1000u + got.size());
    got.push_back(c.in());
    return Status();
  });
  g.Connect("s", "t");
  EXPECT_TRUE(RunGraph(&g, &report_).ok());
  EXPECT_EQ(got, Numbers(0, 20));
}

TEST_F(LifeTest, ACancelWaitsForDeferredCalls) {
  Graph g;
  std::atomic<engine_completion*> waiting{nullptr};
  g.AddSource("s", 1);
  g.Add("a", 1, 0, [&](Call c) {
    waiting = c.Defer();
    return Status();
  });
  g.Connect("s", "a");
  runtime::Run run(g.Take(), {});
  ASSERT_TRUE(run.Open().ok());
  run.Start();
  while (waiting == nullptr) Sleep(50);
  run.Cancel(Error(ENGINE_CANCELLED, "enough"));
  EXPECT_FALSE(run.WaitFor(2'000'000));
  kHost()->completion_done(waiting, nullptr);
  EXPECT_EQ(WaitOrDie(&run).code(), ENGINE_CANCELLED);
}

// --- Packets

TEST_F(LifeTest, OnePacketMayTravelTwiceAndOutliveTheRun) {
  engine_packet* kept = nullptr;
  std::vector<int64_t> left, right;
  {
    Graph g;
    g.AddSource("s", 5);
    g.Add("twice", 1, 2, [&](Call c) -> Status {
      ENGINE_RETURN_IF_ERROR(c.Pass(0, 0));
      if (c.in() == 3) {
        kept = const_cast<engine_packet*>(c.packet(0));
        kHost()->packet_retain(kept);
      }
      return c.Pass(0, 1);
    });
    g.AddSink("t1", &left);
    g.AddSink("t2", &right);
    g.Connect("s", "twice");
    g.Connect("twice:0", "t1");
    g.Connect("twice:1", "t2");
    g.max_in_flight = 10;
    EXPECT_TRUE(RunGraph(&g, &report_).ok());
  }
  EXPECT_EQ(left, Numbers(0, 5));
  EXPECT_EQ(right, left);
  EXPECT_EQ(LivePayloads(), 1);
  EXPECT_EQ(testing::NumberOf(kept), 3);
  kHost()->packet_release(kept);
}

// --- Resources

TEST_F(LifeTest, AResourceIsSwappedBetweenTwoCalls) {
  Graph g;
  std::vector<int64_t> got;
  std::atomic<bool> inside{false}, swapped{false};
  g.AddSource("s", 6);
  NodeSpec& node = g.Add("a", 1, 1, [&](Call c) {
    const int64_t before = *c.number(0);
    EXPECT_EQ(c.number(1), nullptr);
    if (c.in() == 2) {
      inside = true;
      AwaitTrue(swapped);
    }
    EXPECT_EQ(*c.number(0), before);  // never within a call
    return c.Emit(0, before);
  });
  node.resources = {testing::NumberResource("old", 7), nullptr};
  std::weak_ptr<engine_resource> old = node.resources[0];
  g.AddSink("t", &got);
  g.Connect("s", "a");
  g.Connect("a", "t");
  runtime::Run run(g.Take(), {});
  ASSERT_TRUE(run.Open().ok());
  run.Start();
  AwaitTrue(inside);
  run.Swap(1, 0, testing::NumberResource("new", 8));
  EXPECT_FALSE(old.expired());  // the call under way borrows it
  swapped = true;
  EXPECT_TRUE(WaitOrDie(&run).ok());
  EXPECT_TRUE(old.expired());
  EXPECT_THAT(got, ElementsAre(7, 7, 7, 8, 8, 8));
}

}  // namespace
}  // namespace engine::runtime
