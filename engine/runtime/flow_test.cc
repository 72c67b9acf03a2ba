// What graphs do as a whole: loops that close, back-pressure up to the source, deadlocks that are
// told instead of hanging, executors side by side, trace and statistics.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
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
using testing::LivePayloads;
using testing::NewNumber;
using testing::Numbers;
using testing::RunGraph;
using ::testing::SizeIs;
using testing::Sleep;
using testing::WaitOrDie;

class FlowTest : public testing::GraphTest {
 protected:
  static void HearFeedback(uint32_t room);
};

Status PassOn(Call call) { return call.Emit(0, call.in()); }

// --- Loops

// Continuous batching: requests (id * 100 + tokens left) join and leave at each turn of the loop.
struct Decode {
  explicit Decode(Graph* g, int64_t requests, uint32_t loop_room, bool fail_step = false) {
    g->Add("s", 0, 1, [requests, n = int64_t{0}](Call c) mutable -> Status {
      if (n + 1 >= requests) c.finish();
      const int64_t length = 1 + (n * 7919 + 13) % 17;
      return c.Emit(0, n++ * 100 + length);
    });
    NodeSpec& batcher = g->Add("batcher", 2, 2, [this](Call c) -> Status {
      const uint32_t port = c.has(1) ? 1 : 0;
      EXPECT_EQ(c.group(port), static_cast<uint64_t>(c.in(port) / 100));
      if (c.in(port) % 100 == 0) return c.Emit(1, c.in(port) / 100);
      return c.Emit(0, c.in(port));
    });
    batcher.policy = Policy::kAny;
    batcher.emission = Emission::kMany;
    g->Add("step", 1, 1, [this, fail_step](Call c) -> Status {
      ++steps;
      if (fail_step && c.in() / 100 == 3 && c.in() % 100 == 2) {
        return Error(ENGINE_DATA_LOSS, "request 3");
      }
      return c.Emit(0, c.in() - 1);
    });
    g->AddSink("done", &finished);
    g->Connect("s", "batcher:0", 2);
    g->Connect("step", "batcher:1", loop_room).feedback = true;
    g->Connect("batcher:0", "step", 2);
    g->Connect("batcher:1", "done", 2);
  }
  std::vector<int64_t> finished;
  int64_t steps = 0;
};

TEST_F(FlowTest, ADecodeLoopFinishesEachRequestAndCloses) {
  for (uint32_t limit : {0u, 1u, 4u}) {
    Graph g;
    Decode decode(&g, 60, limit == 0 ? 64 : limit);
    g.max_in_flight = limit;
    const Status status = RunGraph(&g, &report_);
    ASSERT_TRUE(status.ok()) << status.message();
    std::sort(decode.finished.begin(), decode.finished.end());
    EXPECT_EQ(decode.finished, Numbers(0, 60));
    int64_t steps = 0;
    for (int64_t n = 0; n < 60; ++n) steps += 1 + (n * 7919 + 13) % 17;
    EXPECT_EQ(decode.steps, steps);
  }
}

// A failure within a loop leaves it once, by the loop's head, and the others go on.
TEST_F(FlowTest, AFailureInALoopLeavesItOnce) {
  Graph g;
  Decode decode(&g, 10, 64, true);
  const Status status = RunGraph(&g, &report_);
  EXPECT_EQ(status.message(), "request 3");
  EXPECT_EQ(status.node(), "step");
  EXPECT_EQ(report_.failed_packets, 1u);
  EXPECT_THAT(decode.finished, SizeIs(9));
}

TEST_F(FlowTest, AFailureInALoopWithoutAnExitIsRecorded) {
  Graph g;
  g.AddSource("s", 3);
  g.Add("head", 2, 1, [](Call c) {
     return c.has(1) ? (c.in(1) > 3 ? Status() : c.Emit(0, c.in(1))) : c.Emit(0, c.in(0));
   }).policy = Policy::kAny;
  g.Add("body", 1, 1, [](Call c) {
    return c.in() == 2 ? Error(ENGINE_DATA_LOSS, "two") : c.Emit(0, c.in() + 2);
  });
  g.Connect("s", "head:0");
  g.Connect("head", "body");
  g.Connect("body", "head:1", 8).feedback = true;
  EXPECT_EQ(RunGraph(&g, &report_).message(), "two");
  EXPECT_EQ(report_.failed_packets, 2u);  // 2 itself, and 0 when it had become 2
}

// A source whose only input is feedback: it makes work by itself and hears of what is done.
TEST_F(FlowTest, AGeneratorHearsItsFeedback) {
  Graph g;
  int64_t made = 0, heard = 0, most = 0;
  NodeSpec& gen = g.Add("gen", 1, 1, [&](Call c) -> Status {
    if (c.has(0)) {
      ++heard;
      return Status();
    }
    if (++made == 50) c.finish();
    most = std::max(most, made - heard);
    return c.Emit(0, made);
  });
  gen.policy = Policy::kAny;
  g.Add("work", 1, 1, PassOn);
  g.Connect("gen", "work", 2);
  g.Connect("work", "gen", 2).feedback = true;
  const Status status = RunGraph(&g, &report_);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(made, 50);
  EXPECT_EQ(heard, 50);
}

void FlowTest::HearFeedback(uint32_t room) {
  Graph g;
  RunReport report;
  std::mutex mutex;
  engine_completion* open = nullptr;
  int64_t made = 0, heard = 0, heard_while_open = 0;
  uint32_t phase_seen = 99;
  const engine_nodes_host* host = NodesHost();
  NodeSpec& gen = g.Add("gen", 1, 1, [&](Call c) -> Status {
    std::lock_guard lock(mutex);
    if (!c.has(0)) return Status(host->defer(c.get(), &open));
    ++heard;
    heard_while_open += open != nullptr ? 1 : 0;
    return Status();
  });
  gen.policy = Policy::kAny;
  gen.emission = Emission::kMany;
  gen.hears = true;
  g.Add("work", 1, 1, [&](Call c) {
    // With room for all of a round, a new call is open before the first is back.
    for (int i = 0; i < 100000 && room > 10; ++i) {
      if (std::lock_guard lock(mutex); open != nullptr) break;
      Sleep(50);
    }
    return PassOn(c);
  });
  g.Connect("gen", "work", room);
  g.Connect("work", "gen", 1).feedback = true;
  // Rounds come from outside, as a socket would bring them, each when the one before is back.
  std::thread outside([&] {
    for (bool last = false; !last;) {
      Sleep(500);
      std::lock_guard lock(mutex);
      if (open == nullptr || heard != made) continue;
      engine_completion* done = std::exchange(open, nullptr);
      phase_seen = host->completion_phase(done);
      last = made == 50;
      for (int i = 0; i < 10 && !last; ++i) {
        const Status status(host->completion_emit(done, 0, NewNumber(made++), 7));
        EXPECT_TRUE(status.ok()) << status.message();
      }
      if (last) host->completion_finish(done);
      host->completion_done(done, nullptr);
    }
  });
  const Status status = RunGraph(&g, &report);
  outside.join();
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(heard, 50);
  // With little room a new call waits until what was emitted is on its way.
  if (room > 10) {
    EXPECT_GT(heard_while_open, 0);
  }
  EXPECT_EQ(phase_seen, static_cast<uint32_t>(ENGINE_RUN_RUNNING));
}

// A source that keeps a call open for what may come still hears its feedback; also in a loop with
// less room than it has under way, where it would else wait for itself.
TEST_F(FlowTest, ASourceHearsItsFeedbackWhileItWaitsForWork) {
  for (const uint32_t room : {1u, 16u}) HearFeedback(room);
}

// In a drain such a source is called once more: it sees the drain, and gives what it has left.
TEST_F(FlowTest, ASourceThatHearsHasALastCallInADrain) {
  Graph g;
  std::mutex mutex;
  engine_completion* open = nullptr;
  std::vector<uint32_t> phases;
  int64_t heard = 0;
  const engine_nodes_host* host = NodesHost();
  NodeSpec& gen = g.Add("gen", 1, 1, [&](Call c) -> Status {
    std::lock_guard lock(mutex);
    if (c.has(0)) {
      ++heard;
      return Status();
    }
    phases.push_back(host->call_phase(c.get()));
    if (phases.back() == ENGINE_RUN_DRAINING) return c.Emit(0, 7);
    return Status(host->defer(c.get(), &open));
  });
  gen.policy = Policy::kAny;
  gen.emission = Emission::kMany;
  gen.hears = true;
  g.Add("work", 1, 1, PassOn);
  g.Connect("gen", "work", 1);
  g.Connect("work", "gen", 1).feedback = true;
  runtime::Run run(g.Take(), {});
  ASSERT_TRUE(run.Open().ok());
  run.Start();
  const auto is_open = [&] {
    std::lock_guard lock(mutex);
    return open != nullptr;
  };
  while (!is_open()) Sleep(100);
  run.Drain();
  EXPECT_EQ(host->completion_phase(open), static_cast<uint32_t>(ENGINE_RUN_DRAINING));
  host->completion_done(open, nullptr);
  const Status status = run.Wait();
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_THAT(phases, ElementsAre(ENGINE_RUN_RUNNING, ENGINE_RUN_DRAINING));
  EXPECT_EQ(heard, 1);
}

// --- Back-pressure

TEST_F(FlowTest, NoQueueGrowsBeyondItsCapacity) {
  Graph g;
  std::vector<int64_t> got;
  std::atomic<int64_t> sent{0}, taken{0};
  int64_t ahead = 0;
  g.executors = {{"a", 2, true}, {"b", 1, true}};
  g.Add("s", 0, 1, [&](Call c) {
    if (sent == 199) c.finish();
    return c.Emit(0, sent++);
  });
  g.Add("a", 1, 1, PassOn);
  g.Add("t", 1, 0, [&](Call) {
     ahead = std::max(ahead, sent - taken++);
     Sleep(20);
     return Status();
   }).executor = 1;
  g.Connect("s", "a", 1);
  g.Connect("a", "t", 2);
  EXPECT_TRUE(RunGraph(&g, &report_).ok());
  EXPECT_EQ(taken, 200);
  EXPECT_LE(ahead, 6);  // two queues, and one in each of three nodes
  EXPECT_LE(report_.nodes[1].queue_high_water, 1u);
  EXPECT_LE(report_.nodes[2].queue_high_water, 2u);
}

TEST_F(FlowTest, AdmissionBoundsWhatIsUnderWay) {
  for (uint32_t limit : {1u, 3u}) {
    Graph g;
    std::atomic<int64_t> under_way{0};
    int64_t most = 0;
    g.Add("s", 0, 1, [&, n = 0](Call c) mutable {
      if (++n == 100) c.finish();
      most = std::max<int64_t>(most, ++under_way);
      return c.Emit(0, n);
    });
    g.Add("a", 1, 1, [](Call c) { return c.Pass(0, 0); }).max_in_flight = 2;
    g.Add("t", 1, 0, [&](Call) {
      Sleep(20);
      --under_way;
      return Status();
    });
    g.Connect("s", "a", 50);
    g.Connect("a", "t", 50);
    g.max_in_flight = limit;
    EXPECT_TRUE(RunGraph(&g, &report_).ok());
    EXPECT_LE(most, limit);
    EXPECT_EQ(under_way, 0);
  }
}

// --- Deadlocks

TEST_F(FlowTest, ADeadlockIsToldWithWhatEachNodeWaitsFor) {
  Graph g;
  g.AddSource("new", 100);
  NodeSpec& head = g.Add("merge", 2, 1, [](Call c) { return c.Emit(0, 1); });
  head.policy = Policy::kAny;
  g.Add("step", 1, 1, PassOn);
  g.Connect("new", "merge:0", 2);
  g.Connect("merge", "step", 2);
  g.Connect("step", "merge:1", 2).feedback = true;  // nothing ever leaves
  const Status status = RunGraph(&g, &report_);
  EXPECT_EQ(status.code(), ENGINE_ABORTED);
  const std::string text(status.message());
  EXPECT_THAT(text, HasSubstr("deadlock: nothing can run and work remains"));
  EXPECT_THAT(text, HasSubstr("'new' waits for room on OUT0 (queue IN0 of 'merge' holds 2 of 2)"));
  EXPECT_THAT(text, HasSubstr("'merge' waits for room on OUT0 (queue IN0 of 'step' holds 2 of 2)"));
  EXPECT_THAT(text, HasSubstr("'step' waits for room on OUT0 (queue IN1 of 'merge' holds 2 of 2)"));
  for (const NodeStats& node : report_.nodes) EXPECT_LE(node.queue_high_water, 2u);
}

// The deadlock is found by the last timer, while packets hold admissions.
TEST_F(FlowTest, ADeadlockBehindATimerIsTold) {
  Graph g;
  g.AddSource("new", 100);
  NodeSpec& head = g.Add("merge", 2, 1, [](Call c) { return c.Emit(0, 1); });
  head.policy = Policy::kAny;
  NodeSpec& batch = g.Add("batch", 1, 1, [](Call c) -> Status {
    for (uint32_t i = 0; i < c.count(0); ++i) ENGINE_RETURN_IF_ERROR(c.Emit(0, 1));
    return Status();
  });
  batch.policy = Policy::kBatch;
  batch.emission = Emission::kMany;
  batch.batch_max = 3;
  batch.batch_wait_ns = 1'000'000;
  g.Connect("new", "merge:0", 2);
  g.Connect("merge", "batch", 2);
  g.Connect("batch", "merge:1", 2).feedback = true;
  g.max_in_flight = 50;
  const Status status = RunGraph(&g, &report_);
  EXPECT_EQ(status.code(), ENGINE_ABORTED);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'batch' waits for room on OUT0"));
}

TEST_F(FlowTest, ASourceThatWaitsForPacketsThatANodeKeepsIsADeadlock) {
  Graph g;
  std::vector<engine_packet*> kept;
  g.AddSource("s", 10);
  g.Add("keep", 1, 0, [&](Call c) {
    kept.push_back(const_cast<engine_packet*>(c.packet(0)));
    Call::Host()->packet_retain(kept.back());
    return Status();
  });
  g.SetClose("keep", [&](Call) {
    for (engine_packet* packet : kept) Call::Host()->packet_release(packet);
    return Status();
  });
  g.Connect("s", "keep");
  g.max_in_flight = 2;
  const Status status = RunGraph(&g, &report_);
  EXPECT_EQ(status.code(), ENGINE_ABORTED);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("'s' waits for admission (2 of 2 in flight)"));
}

// A thread answers a deferred call and lets go of its packet a little later: no deadlock, though
// for a moment nothing runs.
TEST_F(FlowTest, APacketThatIsLetGoLateIsNoDeadlock) {
  Graph g;
  int64_t seen = 0;
  Completer completer(1);
  g.AddSource("s", 10);
  g.Add("a", 1, 0, [&](Call c) {
    auto* packet = const_cast<engine_packet*>(c.packet(0));
    Call::Host()->packet_retain(packet);
    engine_completion* d = c.Defer();
    ++seen;
    completer.Post([packet, d] {
      Call::Host()->completion_done(d, nullptr);
      Sleep(2000);
      Call::Host()->packet_release(packet);
    });
    return Status();
  });
  g.Connect("s", "a");
  g.max_in_flight = 1;
  const Status status = RunGraph(&g, &report_);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(seen, 10);
}

// --- Executors

// Nodes of one executor with two lanes run at once, and so do nodes of two executors, however few
// cores there are: each call waits until the other is there.
TEST_F(FlowTest, LanesRunSideBySide) {
  for (const auto& executors :
       {std::vector<ExecutorSpec>{{"arena", 2, false}}, std::vector<ExecutorSpec>{{"own", 2, true}},
        std::vector<ExecutorSpec>{{"one", 1, false}, {"two", 1, false}},
        std::vector<ExecutorSpec>{{"one", 1, true}, {"two", 1, false}}}) {
    Graph g;
    g.executors = executors;
    std::atomic<int> there{0};
    const auto meet = [&](Call c) {
      ++there;
      for (int i = 0; i < 200'000 && there < 2; ++i) Sleep(50);
      c.finish();
      return Status();
    };
    g.Add("a", 0, 0, meet);
    g.Add("b", 0, 0, meet).executor = static_cast<uint32_t>(executors.size() - 1);
    EXPECT_TRUE(RunGraph(&g, &report_).ok());
    EXPECT_EQ(there, 2);
  }
}

TEST_F(FlowTest, ANodeIsNeverEnteredTwiceAtOnceUnlessItSaysSo) {
  Graph g;
  g.executors = {{"own", 4, true}, {"arena", 3, false}};
  std::atomic<int> inside{0};
  std::vector<int64_t> got;
  g.AddSource("s", 300);
  g.Add("a", 1, 1, [&](Call c) {
     EXPECT_EQ(++inside, 1);
     Sleep(5);
     --inside;
     return c.Emit(0, c.in());
   }).executor = 1;
  g.AddSink("t", &got);
  g.Connect("s", "a", 8);
  g.Connect("a", "t", 8);
  EXPECT_TRUE(RunGraph(&g, &report_).ok());
  EXPECT_EQ(got, Numbers(0, 300));
}

class CountingState : public ThreadState {
 public:
  void Around(const std::function<void()>& body) const override {
    ++around;
    body();
  }
  mutable std::atomic<int> around{0};
};

TEST_F(FlowTest, ThreadStateGoesAroundNodesWithResourcesOnly) {
  Graph g;
  CountingState state;
  std::vector<int64_t> got;
  g.AddSource("s", 5);
  g.Add("a", 1, 1, PassOn).resources = {testing::NumberResource("r", 1)};
  g.AddSink("t", &got);
  g.Connect("s", "a");
  g.Connect("a", "t");
  EXPECT_TRUE(RunGraph(&g, &report_, {&state, nullptr}).ok());
  EXPECT_EQ(state.around, 5);
}

// --- What is told afterwards

TEST_F(FlowTest, StatisticsCountCallsPacketsAndTimes) {
  Graph g;
  std::vector<int64_t> got;
  g.AddSource("s", 8);
  g.Add("a", 1, 2, [](Call c) -> Status {
    Sleep(200);
    if (c.in() == 5) return Error(ENGINE_DATA_LOSS, "five");
    if (c.in() % 2 == 0) ENGINE_RETURN_IF_ERROR(c.Emit(1, c.in()));
    return c.Emit(0, c.in());
  });
  g.AddSink("t", &got);
  g.Connect("s", "a");
  g.Connect("a", "t");
  EXPECT_EQ(RunGraph(&g, &report_).message(), "five");
  ASSERT_THAT(report_.nodes, SizeIs(3));
  const NodeStats& a = report_.nodes[1];
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.kind, "lambda");
  EXPECT_EQ(a.calls, 8u);
  EXPECT_EQ(a.failed, 1u);
  EXPECT_GE(a.total_ns, 8u * 200'000u);
  EXPECT_GE(a.max_ns, 200'000u);
  EXPECT_LE(a.max_ns, a.total_ns);
  EXPECT_GE(a.queue_high_water, 1u);
  EXPECT_EQ(report_.nodes[2].calls, 7u);
  ASSERT_THAT(report_.failures, SizeIs(1));
}

TEST_F(FlowTest, TheTraceIsJsonWithEachCallAndQueueDepths) {
  Graph g;
  Trace trace;
  std::vector<int64_t> got;
  g.AddSource("s", 5);
  g.Add("a", 1, 1, PassOn);
  g.AddSink("t", &got);
  g.Connect("s", "a");
  g.Connect("a", "t");
  EXPECT_TRUE(RunGraph(&g, &report_, {nullptr, &trace}).ok());
  const std::string path = ::testing::TempDir() + "/trace_test.json";
  ASSERT_TRUE(trace.Write(path, {"s", "a \"quoted\"", "t"}).ok());
  std::ifstream in(path);
  const nlohmann::json all = nlohmann::json::parse(in);
  std::map<std::string, int> calls, depths;
  for (const auto& event : all.at("traceEvents")) {
    const std::string phase = event.at("ph");
    if (phase == "X") {
      ++calls[event.at("name")];
      EXPECT_GE(event.at("dur").get<double>(), 0);
      EXPECT_GE(event.at("ts").get<double>(), 0);
      EXPECT_TRUE(event.at("tid").is_number());
      EXPECT_LT(event.at("args").at("key").get<int>(), 5);
    } else if (phase == "C") {
      ++depths[event.at("name")];
      EXPECT_GE(event.at("args").at("packets").get<int>(), 1);
    }
  }
  EXPECT_EQ(calls["s"], 5);
  EXPECT_EQ(calls["a \"quoted\""], 5);
  EXPECT_EQ(calls["t"], 5);
  EXPECT_EQ(depths["a \"quoted\" queue 0"], 5);
  EXPECT_EQ(all.at("otherData").at("dropped_events"), 0);
  std::remove(path.c_str());
  EXPECT_FALSE(trace.Write("/nonexistent/trace.json", {"s", "a", "t"}).ok());
}

TEST_F(FlowTest, ATraceKeepsToItsBound) {
  Trace trace(10);
  for (uint64_t i = 0; i < 25; ++i) trace.Call(0, i, i, i + 1);
  const std::string path = ::testing::TempDir() + "/trace_bound_test.json";
  ASSERT_TRUE(trace.Write(path, {"n"}).ok());
  std::ifstream in(path);
  const nlohmann::json all = nlohmann::json::parse(in);
  EXPECT_EQ(all.at("otherData").at("dropped_events"), 15);
  EXPECT_THAT(all.at("traceEvents"), SizeIs(11));
  std::remove(path.c_str());
}

}  // namespace
}  // namespace engine::runtime
