// Thousands of random graphs against a sequential interpreter: the same packets in the same order,
// nothing leaked, nothing hangs, and cancels at any moment.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "engine/runtime/testing/random_plan.h"

namespace engine::runtime::testing {
namespace {

// ENGINE_RANDOM_GRAPHS: how many; ENGINE_RANDOM_SEED: the only one to run.
uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

enum class Ending { kItself, kCancel, kDrain };

// Runs the plan and answers what is wrong, or nothing.
std::string Check(const RandomPlan& plan, uint64_t seed, Ending ending) {
  Arrived arrived;
  std::string wrong;
  {
    Completer completer(2);
    Graph graph;
    BuildGraph(plan, &completer, &arrived, &graph);
    auto journal = graph.journal;
    runtime::Run run(graph.Take(), {});
    SetHangContext("seed " + std::to_string(seed));
    const Status opened = run.Open();
    if (!opened.ok()) return "open: " + std::string(opened.message());
    run.Start();
    if (ending != Ending::kItself) {
      const uint64_t wait = seed * 2654435761u % 400;
      if (wait > 50) std::this_thread::sleep_for(std::chrono::microseconds(wait));
      if (ending == Ending::kDrain) {
        run.Drain();
      } else {
        run.Cancel(Error(ENGINE_CANCELLED, "enough"));
      }
    }
    const Status status = WaitOrDie(&run);
    const RunReport report = run.report();
    const bool cancelled = status.code() == ENGINE_CANCELLED;
    if (status.code() == ENGINE_ABORTED) return std::string(status.message());
    if (ending == Ending::kItself && report.failed_packets != plan.failures) {
      wrong = std::to_string(report.failed_packets) + " failures instead of " +
              std::to_string(plan.failures);
    }
    if (!cancelled && status.ok() != (report.failed_packets == 0)) wrong = "status and failures";
    for (const std::string& line : journal->lines()) {
      if (line.rfind("open ", 0) != 0) continue;
      if (journal->Count("close " + line.substr(5)) != 1) wrong = line + " but not one close";
    }
  }
  if (!wrong.empty()) return wrong;
  if (LivePayloads() != 0) return std::to_string(LivePayloads()) + " payloads leaked";
  // At the end of a drained stream batches are smaller.
  if (ending == Ending::kDrain && plan.batches) return "";
  return Difference(plan, arrived, ending != Ending::kItself);
}

TEST(RandomTest, GraphsAnswerWhatTheInterpreterSays) {
  const uint64_t only = FromEnvironment("ENGINE_RANDOM_SEED", 0);
  const uint64_t count = FromEnvironment("ENGINE_RANDOM_GRAPHS", 3000);
  uint64_t packets = 0;
  for (uint64_t seed = only != 0 ? only : 1; seed <= (only != 0 ? only : count); ++seed) {
    const RandomPlan plan = MakePlan(seed);
    for (const Stream& stream : plan.streams) packets += stream.places.size();
    const Ending ending = seed % 10 < 2    ? Ending::kCancel
                          : seed % 10 == 2 ? Ending::kDrain
                                           : Ending::kItself;
    ASSERT_EQ(Check(plan, seed, ending), "") << "seed " << seed;
  }
  RecordProperty("packets", std::to_string(packets));
}

// The checker itself: a node that loses, alters or reorders packets turns the comparison red.
TEST(RandomTest, TheCheckerNoticesSeededFaults) {
  for (const Sabotage fault : {Sabotage::kLose, Sabotage::kReorder, Sabotage::kAlter}) {
    int tried = 0, noticed = 0;
    for (uint64_t seed = 1; seed < 4000 && tried < 25; ++seed) {
      RandomPlan plan = MakePlan(seed);
      for (Step& step : plan.steps) {
        if (step.op != Op::kMany || step.out.size() != 1) continue;
        const Stream& stream = plan.streams[static_cast<size_t>(step.out[0])];
        const Stream& source = plan.streams[static_cast<size_t>(step.in[0])];
        // The fault must be visible: a sink right behind, in order, with enough packets.
        if (!stream.sink || !stream.ordered || stream.places.size() < 20) continue;
        if (source.places.size() < 12) continue;
        step.sabotage = fault;
        step.max_in_flight = 1;
        break;
      }
      const bool set = std::any_of(plan.steps.begin(), plan.steps.end(), [](const Step& step) {
        return step.sabotage != Sabotage::kNone;
      });
      if (!set) continue;
      ++tried;
      noticed += !Check(plan, seed, Ending::kItself).empty();
    }
    EXPECT_EQ(tried, 25);
    EXPECT_EQ(noticed, tried) << "fault " << static_cast<int>(fault);
  }
}

// One packet that is never freed is noticed, and so is a call that is committed out of order: the
// comparison is told of two neighbours changed in place.
TEST(RandomTest, TheCheckerNoticesALeakAndAnUnorderedCommit) {
  engine_packet* leak = NewNumber(1);
  EXPECT_EQ(Check(MakePlan(4), 4, Ending::kItself), "1 payloads leaked");
  NodesHost()->packet_release(leak);
  for (uint64_t seed = 1; seed < 50; ++seed) {
    const RandomPlan plan = MakePlan(seed);
    Arrived arrived;
    arrived.places.resize(plan.streams.size());
    bool swapped = false;
    for (size_t s = 0; s < plan.streams.size(); ++s) {
      for (const Place& place : plan.streams[s].places) {
        if (place.value || (!place.error.empty() && plan.streams[s].sink_errors)) {
          arrived.places[s].push_back(place);
        }
      }
    }
    EXPECT_EQ(Difference(plan, arrived, false), "");
    for (size_t s = 0; s < plan.streams.size() && !swapped; ++s) {
      if (!plan.streams[s].sink || arrived.places[s].size() < 2) continue;
      std::swap(arrived.places[s][0], arrived.places[s][1]);
      swapped = true;
    }
    if (!swapped) continue;
    EXPECT_NE(Difference(plan, arrived, false), "") << "seed " << seed;
  }
}

}  // namespace
}  // namespace engine::runtime::testing
