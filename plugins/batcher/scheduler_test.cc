// The scheduler's rules one by one, and a soak of all of them together.
#include "scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "world.h"

namespace engine::batcher {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

TEST(Batcher, AnswersAreThoseOfServingAlone) {
  World world(Small());
  for (uint64_t g = 0; g < 12; ++g) world.Send(g, 3 + g * 5, 10 + static_cast<uint32_t>(g));
  world.RunAll();
  for (uint64_t g = 0; g < 12; ++g) {
    EXPECT_EQ(world.At(g).ids, world.Alone(world.prompts[g].ids, 10 + static_cast<uint32_t>(g)));
    EXPECT_EQ(world.At(g).ends, 1);
    EXPECT_TRUE(world.At(g).indexes);
    EXPECT_EQ(world.At(g).usage.prompt_tokens, 3 + g * 5);
    EXPECT_EQ(world.At(g).usage.generated_tokens, world.At(g).ids.size());
  }
  EXPECT_EQ(world.largest_batch, 4u);
  EXPECT_LE(world.most_rows, 16u);
  EXPECT_EQ(world.pool.open(), 0u);
  EXPECT_FALSE(world.pool.wrong());
}

TEST(Batcher, WithoutAPoolWholeSequencesAreFed) {
  World world(Small());
  world.view.pool = nullptr;
  for (uint64_t g = 0; g < 6; ++g) world.Send(g, 5 + g, 8);
  Prompt many;
  many.ids = {3, 4, 5};
  many.request.n = 3;
  many.request.max_tokens = 5;
  many.sampling.temperature = 1;
  world.Send(6, many);
  world.RunAll();
  for (uint64_t g = 0; g < 6; ++g) {
    EXPECT_EQ(world.At(g).ids, world.Alone(world.prompts[g].ids, 8));
  }
  for (uint32_t c = 0; c < 3; ++c) {
    EXPECT_EQ(world.At(6, c).ids, world.Alone({3, 4, 5}, 5, 6 | uint64_t{c} << 48, true));
  }
}

TEST(Batcher, ALongPromptDoesNotStopTheOthers) {
  World world(Small());
  world.Send(0, 4, 60);
  world.Step();
  world.Send(1, 90, 2);
  int steps = 0;
  while (world.At(1).ids.empty()) {
    const size_t before = world.At(0).ids.size();
    ASSERT_TRUE(world.Step());
    ++steps;
    if (world.At(0).ends == 0) {
      EXPECT_EQ(world.At(0).ids.size(), before + 1);
    }
  }
  EXPECT_GE(steps, 6);  // 90 tokens, 15 a step beside the other's one
}

TEST(Batcher, ARequestThatCanNeverFitIsRefusedWithBothNumbers) {
  World world(Small(), /*pages=*/10, /*page_tokens=*/4);
  world.Send(1, 30, 20);
  EXPECT_EQ(world.At(1).code, ENGINE_OUT_OF_RANGE);
  EXPECT_THAT(world.At(1).error, HasSubstr("50 tokens"));
  EXPECT_THAT(world.At(1).error, HasSubstr("13 pages; the whole KV cache has 10 pages"));
  world.Send(2, 200, 1);
  EXPECT_THAT(world.At(2).error, HasSubstr("the prompt has 200 tokens"));
  world.Send(3, 0, 1);
  EXPECT_THAT(world.At(3).error, HasSubstr("empty"));
  Prompt many;
  many.ids = {1};
  many.request.n = 1000000;
  world.Send(4, many);
  EXPECT_THAT(world.At(4).error, HasSubstr("1000000 answers were asked for; at most 4"));
  EXPECT_EQ(world.At(4).choices, 1u);
  EXPECT_EQ(world.scheduler.counts().refused, 4u);
}

TEST(Batcher, AFullQueueRefusesAndSaysWhenToComeAgain) {
  Limits limits = Small();
  limits.max_queue = 3;
  World world(limits);
  world.Send(100, 8, 4);
  world.RunAll();  // measures: a step takes a millisecond
  for (uint64_t g = 0; g < 9; ++g) world.Send(g, 8, 30);
  for (uint64_t g = 0; g < 7; ++g) EXPECT_EQ(world.At(g).ends, 0) << g;
  for (uint64_t g = 7; g < 9; ++g) {
    EXPECT_EQ(world.At(g).code, ENGINE_RESOURCE_EXHAUSTED);
    EXPECT_THAT(world.At(g).error, HasSubstr("max_queue_size 3"));
    EXPECT_GE(world.At(g).retry_after_us, 1000u);
  }
  // Told is about what it takes.
  const uint64_t told = world.At(8).retry_after_us * 1000, began = world.now;
  world.RunAll();
  EXPECT_LT(told, 8 * (world.now - began));
  EXPECT_GT(told, (world.now - began) / 8);
}

TEST(Batcher, PriorityGoesFirstAndWaitingRises) {
  Limits limits = Small();
  limits.max_batch = 1;
  limits.raise_after_ns = 50'000'000;
  World world(limits);
  world.Send(0, 2, 5, 2);
  world.Step();
  world.Send(1, 2, 5, 3);
  world.Send(2, 2, 5, 2);
  world.Send(3, 2, 5, 1);
  world.RunAll();
  EXPECT_LT(world.At(3).order, world.At(2).order);
  EXPECT_LT(world.At(2).order, world.At(1).order);
  // Level 1 comes without end; the one at level 3 gets its turn all the same.
  uint64_t g = 10;
  world.Send(g++, 2, 5, 1);
  world.Send(9, 2, 5, 3);
  for (; world.At(9).ends == 0; ++g) {
    ASSERT_LT(g, 200u);
    // More than can be served in the time.
    for (uint64_t more = 0; more < 3; ++more) world.Send(1000 + 3 * g + more, 2, 5, 1);
    for (int i = 0; i < 5; ++i) world.Step();
  }
  EXPECT_GT(g, 15u);
}

TEST(Batcher, AKeyWithManyRequestsDoesNotHoldUpAnother) {
  Limits limits = Small();
  limits.max_batch = 2;
  World world(limits);
  for (uint64_t g = 0; g < 40; ++g) world.Send(g, 4, 8, 0, "greedy");
  for (uint64_t g = 50; g < 54; ++g) world.Send(g, 4, 8, 0, "modest");
  world.RunAll();
  Limits wide = Small();
  wide.max_batch = 8;
  World first(wide);
  for (uint64_t g = 0; g < 40; ++g) first.Send(g, 4, 8, 0, "greedy");
  for (uint64_t g = 50; g < 54; ++g) first.Send(g, 4, 8, 0, "modest");
  first.Step();  // places are taken in turn, too
  first.RunAll();
  for (uint64_t g = 50; g < 54; ++g) EXPECT_LT(first.At(g).order, 9) << g;
  // Both take turns: the four are done when about as many of the forty are.
  for (uint64_t g = 50; g < 54; ++g) EXPECT_LT(world.At(g).order, 12) << g;
}

TEST(Batcher, PagesRunOutAndTheAnswersStayTheSame) {
  World world(Small(), /*pages=*/14, /*page_tokens=*/4);
  for (uint64_t g = 0; g < 8; ++g) world.Send(g, 6, 36);
  world.RunAll();
  uint32_t preemptions = 0;
  for (uint64_t g = 0; g < 8; ++g) {
    EXPECT_EQ(world.At(g).ids, world.Alone(world.prompts[g].ids, 36)) << g;
    preemptions += world.At(g).usage.preemptions;
  }
  EXPECT_GT(preemptions, 0u);
  EXPECT_EQ(world.scheduler.counts().preemptions, preemptions);
  EXPECT_EQ(world.At(0).usage.preemptions, 0u);  // who came first is never thrown out
  EXPECT_EQ(world.pool.used(), 0u);
  EXPECT_FALSE(world.pool.wrong());
}

TEST(Batcher, DeadlinesEndWhatWaitsAndWhatRuns) {
  Limits limits = Small();
  limits.max_batch = 1;
  limits.timeout_ns = 20'000'000;
  World world(limits);
  world.Send(0, 4, 100);
  world.Send(1, 4, 100);
  Prompt patient;
  patient.ids = {1, 2, 3};
  patient.request.max_tokens = 3;
  patient.request.timeout_us = 1'000'000;
  world.Send(2, patient);
  world.RunAll();
  EXPECT_EQ(world.At(0).finish, ENGINE_FINISH_TIMEOUT);
  EXPECT_EQ(world.At(0).code, ENGINE_DEADLINE_EXCEEDED);
  EXPECT_EQ(world.At(0).usage.generated_tokens, world.At(0).ids.size());
  EXPECT_GT(world.At(0).ids.size(), 5u);
  EXPECT_EQ(world.At(1).finish, ENGINE_FINISH_TIMEOUT);
  EXPECT_THAT(world.At(1).error, HasSubstr("waiting"));
  EXPECT_THAT(world.At(1).ids, SizeIs(0));
  EXPECT_NE(world.At(2).finish, ENGINE_FINISH_TIMEOUT);
  EXPECT_EQ(world.pool.used(), 0u);
}

TEST(Batcher, CancelFreesWithinOneStep) {
  Limits limits = Small();
  limits.max_batch = 2;
  limits.ignore_eos = true;
  World world(limits);
  for (uint64_t g = 0; g < 3; ++g) world.Send(g, 4, 100);
  world.Step();
  world.scheduler.Cancel(2, world.now);  // waits
  EXPECT_EQ(world.At(2).finish, ENGINE_FINISH_CANCELLED);
  ASSERT_EQ(world.scheduler.Plan(world.now, &(world.parts = {}), &world.wait_ns),
            Scheduler::Next::kStep);
  world.scheduler.Cancel(0, world.now);  // runs, and its step is under way
  EXPECT_EQ(world.At(0).ends, 0);
  world.Run();
  world.Step();
  EXPECT_EQ(world.At(0).finish, ENGINE_FINISH_CANCELLED);
  EXPECT_EQ(world.pool.open(), 1u);
  // A cancel that overtook its prompt.
  world.scheduler.Cancel(77, world.now);
  world.Send(77, 4, 5);
  EXPECT_EQ(world.At(77).finish, ENGINE_FINISH_CANCELLED);
  world.RunAll();
  EXPECT_EQ(world.At(1).ends, 1);
}

TEST(Batcher, SeveralAnswersShareThePromptAndDrawForThemselves) {
  World world(Small());
  Prompt p;
  p.ids.assign(25, 9);
  p.request.n = 4;
  p.request.max_tokens = 12;
  p.sampling.temperature = 1;
  world.Send(5, p);
  world.RunAll();
  std::set<std::vector<int32_t>> different;
  for (uint32_t c = 0; c < 4; ++c) {
    EXPECT_EQ(world.At(5, c).ids, world.Alone(p.ids, 12, 5 | uint64_t{c} << 48, true));
    EXPECT_EQ(world.At(5, c).ends, 1);
    EXPECT_EQ(world.At(5, c).choices, 4u);
    different.insert(world.At(5, c).ids);
  }
  EXPECT_THAT(different, SizeIs(4));
  EXPECT_LT(world.scheduler.counts().prompt_tokens, 2 * p.ids.size());
  EXPECT_FALSE(world.pool.wrong());
}

TEST(Batcher, AnEndBeforeTheAnswersPartedIsTheEndOfAll) {
  World world(Small());
  Prompt p;
  p.ids.assign(60, 9);
  p.request.n = 3;
  world.Send(5, p);
  world.Step();
  world.scheduler.Cancel(5, world.now);
  for (uint32_t c = 0; c < 3; ++c) EXPECT_EQ(world.At(5, c).finish, ENGINE_FINISH_CANCELLED);
  world.RunAll();
  EXPECT_EQ(world.pool.open(), 0u);
}

TEST(Batcher, ASessionGoesOnWhereItEnded) {
  World world(Small());
  const auto turn = [&](uint64_t group, std::vector<int32_t> ids, std::vector<int32_t> continued) {
    Prompt p;
    p.ids = std::move(ids);
    p.continued = std::move(continued);
    p.session = "s";
    p.request.max_tokens = 5;
    p.request.priority =
        group == 1 ? 3 : 1;  // the later one is more urgent, and waits all the same
    world.Send(group, p);
  };
  turn(1, {11, 12, 13}, {21, 12, 13});
  turn(2, {14, 15}, {22, 14, 15});
  world.RunAll();
  std::vector<int32_t> history = {11, 12, 13};
  const auto add = [&](const std::vector<int32_t>& ids) {
    for (int32_t id : ids) {
      if (id != kStop) history.push_back(id);
    }
  };
  EXPECT_EQ(world.At(1).ids, world.Alone(history, 5));
  add(world.At(1).ids);
  history.insert(history.end(), {22, 14, 15});
  EXPECT_EQ(world.At(2).ids, world.Alone(history, 5));
  EXPECT_EQ(world.At(2).usage.prompt_tokens, history.size());
  add(world.At(2).ids);
  EXPECT_EQ(world.pool.history("s"), history);
  EXPECT_FALSE(world.pool.IsBusy("s"));
  EXPECT_LT(world.At(1).order, world.At(2).order);
}

TEST(Batcher, AnUnknownAdapterIsRefusedAndTheOthersServed) {
  World world({});
  const std::vector<std::string> names = {"tone", "nobody", "", "law"};
  for (uint64_t g = 0; g < names.size(); ++g) {
    Prompt p;
    p.ids = {5, 6, 7, 8, 9, 10, 11};  // alike: pages could be shared
    p.request.max_tokens = 9;
    p.adapter = names[g];
    world.Send(g, p);
  }
  world.RunAll();
  EXPECT_EQ(world.At(1).code, ENGINE_NOT_FOUND);
  EXPECT_EQ(world.At(1).error, "there are: tone, law");
  EXPECT_EQ(world.largest_batch, 3u);
  for (uint64_t g : {0, 2, 3}) {
    EXPECT_EQ(world.At(g).ids, world.Alone(world.prompts[g].ids, 9, 0, false, names[g])) << g;
  }
  EXPECT_FALSE(world.pool.wrong());
}

TEST(Batcher, ASessionIsOfOneAdapter) {
  World world({});
  for (uint64_t g = 0; g < 2; ++g) {
    Prompt p;
    p.ids = {1, 2, 3};
    p.request.max_tokens = 5;
    p.session = "s";
    p.adapter = g == 0 ? "tone" : "law";
    world.Send(g, p);
  }
  world.RunAll();
  EXPECT_EQ(world.largest_batch, 2u) << "neither waits for the other";
  for (uint64_t g = 0; g < 2; ++g) {
    EXPECT_EQ(world.At(g).ids, world.Alone({1, 2, 3}, 5, 0, false, g == 0 ? "tone" : "law"));
  }
}

TEST(Batcher, AnAdapterIsLookedUpAgainInAnotherModel) {
  World world({});
  Prompt p;
  p.ids = {1, 2, 3};
  p.request.max_tokens = 20;
  p.adapter = "tone";
  world.Send(0, p);
  ASSERT_TRUE(world.Step());
  EXPECT_EQ(world.parts.sequences[0].adapter, 1u);
  FakePool other(100, 4);
  world.view.identity = &other;
  world.view.pool = other.table();
  world.view.adapter = [](const void*, engine_str, uint32_t* number) {
    *number = 7;
    return Status();
  };
  world.scheduler.Use(world.view);
  StepParts parts;
  ASSERT_EQ(world.scheduler.Plan(world.now, &parts, &world.wait_ns), Scheduler::Next::kStep);
  EXPECT_EQ(parts.sequences[0].adapter, 7u);
}

TEST(Batcher, ASessionThatIsBusyElsewhereIsWaitedFor) {
  World world(Small());
  world.pool.MakeBusy("s", true);
  Prompt p;
  p.ids = {1, 2};
  p.session = "s";
  p.request.max_tokens = 2;
  world.Send(1, p);
  world.Send(2, 4, 3);
  for (int i = 0; i < 20; ++i) {
    if (!world.Step()) world.now += world.wait_ns;
  }
  EXPECT_EQ(world.At(2).ends, 1);
  EXPECT_EQ(world.At(1).ends, 0);
  EXPECT_EQ(world.last, Scheduler::Next::kWait);
  world.pool.MakeBusy("s", false);
  world.RunAll();
  EXPECT_EQ(world.At(1).code, ENGINE_OK);
}

TEST(Batcher, OneBadRequestFailsAlone) {
  World world(Small());
  for (uint64_t g = 0; g < 4; ++g) world.Send(g, 6, 10);
  world.poison = {2};
  world.RunAll();
  EXPECT_EQ(world.At(2).finish, ENGINE_FINISH_ERROR);
  EXPECT_EQ(world.At(2).code, ENGINE_DATA_LOSS);
  for (uint64_t g : {0u, 1u, 3u}) {
    EXPECT_EQ(world.At(g).ids, world.Alone(world.prompts[g].ids, 10)) << g;
  }
  EXPECT_EQ(world.scheduler.counts().failed_steps, 2u);
}

TEST(Batcher, AStepThatComesBackWithOtherRowsFails) {
  World world(Small());
  world.Send(0, 6, 10);
  ASSERT_EQ(world.scheduler.Plan(world.now, &world.parts, &world.wait_ns), Scheduler::Next::kStep);
  const uint64_t other = 99;
  const int32_t id = 1;
  const uint32_t position = 6;
  engine_sampled sampled = {};
  sampled.rows = 1;
  sampled.requests = &other;
  sampled.ids = &id;
  sampled.positions = &position;
  world.scheduler.Finished(sampled, world.now);
  EXPECT_EQ(world.At(0).code, ENGINE_INTERNAL);
}

TEST(Batcher, DraftsChangeNothingButTheNumberOfSteps) {
  Limits limits = Small();
  limits.draft_room = 3;
  World with(limits), without(limits);
  with.draft = true;
  for (World* world : {&with, &without}) {
    for (uint64_t g = 0; g < 6; ++g) {
      Prompt p;
      p.ids.assign(3 + g, static_cast<int32_t>(g + 1));
      p.request.max_tokens = 40;
      p.sampling.temperature = g % 2 == 0 ? 0 : 1;
      world->Send(g, p);
    }
    world->RunAll();
  }
  for (uint64_t g = 0; g < 6; ++g) EXPECT_EQ(with.At(g).ids, without.At(g).ids) << g;
  EXPECT_LT(with.scheduler.counts().steps, without.scheduler.counts().steps);
  EXPECT_GT(with.scheduler.counts().accepted_tokens, 0u);
  EXPECT_LT(with.scheduler.counts().accepted_tokens, with.scheduler.counts().drafted_tokens);
  // Nothing is computed twice: a row for each token but the first of an answer, and for each draft
  // that was wrong.
  uint64_t rows = 0;
  for (uint64_t g = 0; g < 6; ++g) rows += with.prompts[g].ids.size() + with.At(g).ids.size() - 1;
  const Counts& counts = with.scheduler.counts();
  EXPECT_EQ(with.fed, rows + counts.drafted_tokens - counts.accepted_tokens);
  EXPECT_LE(with.most_rows, limits.max_step_tokens);
}

TEST(Batcher, AnIdleBatcherWaitsForAFullerBatch) {
  Limits limits = Small();
  limits.gather_ns = 5'000'000;
  World world(limits);
  world.Send(0, 2, 3);
  EXPECT_FALSE(world.Step());
  EXPECT_EQ(world.last, Scheduler::Next::kWait);
  EXPECT_EQ(world.wait_ns, 5'000'000u);
  world.now += 2'000'000;
  for (uint64_t g = 1; g < 4; ++g) world.Send(g, 2, 3);
  EXPECT_TRUE(world.Step());  // full: no reason to wait
  EXPECT_EQ(world.largest_batch, 4u);
  world.RunAll();
  world.Send(9, 2, 3);
  EXPECT_FALSE(world.Step());
  world.now += 5'000'000;
  EXPECT_TRUE(world.Step());
}

TEST(Batcher, AnotherModelComputesAllAgain) {
  World world(Small());
  for (uint64_t g = 0; g < 3; ++g) world.Send(g, 6, 20);
  for (int i = 0; i < 4; ++i) world.Step();
  ASSERT_EQ(world.scheduler.Plan(world.now, &(world.parts = {}), &world.wait_ns),
            Scheduler::Next::kStep);
  FakePool other(100, 8);
  world.view.pool = other.table();
  world.scheduler.Use(world.view);
  engine_sampled late = {};
  world.scheduler.Finished(late, world.now);  // of the old model
  EXPECT_FALSE(world.scheduler.under_way());
  world.view.pool = nullptr;  // and a third, without a pool, so that World need not follow
  world.RunAll();
  for (uint64_t g = 0; g < 3; ++g) {
    EXPECT_EQ(world.At(g).ids, world.Alone(world.prompts[g].ids, 20));
  }
  EXPECT_EQ(other.open(), 0u);
}

TEST(Accounts, WhoeverWasAwaySavesUpNothingAndNamesAreBounded) {
  Accounts accounts;
  Account* a = accounts.Enter("a");
  a->served += 1000;
  Account* b = accounts.Enter("b");
  EXPECT_EQ(b->served, 1000u);
  accounts.Leave(b);
  a->served += 500;
  b = accounts.Enter("b");
  EXPECT_EQ(b->served, 1500u);
  for (int i = 0; i < 5000; ++i) accounts.Leave(accounts.Enter(std::to_string(i)));
  EXPECT_LE(accounts.size(), 1100u);
}

// Everything at once, at random: each answer ends once, tokens are those of serving alone, and no
// page is lost.
class BatcherSoak : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Seeds, BatcherSoak, testing::Range(0, 40));

TEST_P(BatcherSoak, EachAnswerEndsOnceAndNothingIsLost) {
  std::mt19937 random(static_cast<uint32_t>(GetParam()));
  const auto pick = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  Limits limits;
  limits.max_batch = 1 + pick(8);
  limits.max_step_tokens = limits.max_batch + pick(30);
  limits.max_queue = 3 + pick(40);
  limits.draft_room = pick(2) * 3;
  limits.raise_after_ns = pick(2) * 20'000'000;
  limits.gather_ns = pick(2) * 3'000'000;
  limits.share_prefixes = pick(4) != 0;
  World world(limits, 12 + pick(40), 4);
  world.draft = limits.draft_room != 0;
  uint64_t sent = 0;
  std::set<uint64_t> disturbed;  // cancelled or poisoned: they may end early
  for (int turn = 0; turn < 400 || world.scheduler.running() + world.scheduler.waiting() != 0;
       ++turn) {
    ASSERT_LT(turn, 20000);
    if (turn < 400 && pick(3) == 0) {
      Prompt p;
      const uint32_t length = 1 + pick(30);
      const uint32_t family = pick(3);  // common beginnings
      for (uint32_t i = 0; i < length; ++i) {
        p.ids.push_back(static_cast<int32_t>(i < 10 ? 1 + family : 1 + pick(60)));
      }
      p.request.max_tokens = 1 + pick(20);
      p.request.n = pick(5) == 0 ? 1 + pick(std::min(3u, limits.max_batch)) : 1;
      p.request.priority = pick(4);
      p.request.timeout_us = pick(10) == 0 ? 1000 + pick(40000) : 0;
      p.sampling.temperature = pick(2);
      p.key = std::to_string(pick(3));
      p.salt = pick(4) == 0 ? "salt" : "";
      if (pick(2) == 0) p.adapter = pick(2) == 0 ? "tone" : "law";
      if (p.request.n == 1 && pick(6) == 0) p.session = "session" + std::to_string(pick(3));
      if (pick(20) == 0) world.poison.insert(sent);
      world.Send(sent++, p);
    }
    if (sent != 0 && pick(25) == 0) {
      disturbed.insert(sent - 1);
      world.scheduler.Cancel(sent - 1, world.now);
    }
    if (!world.Step()) world.now += std::max<uint64_t>(world.wait_ns, 100'000);
    ASSERT_LE(world.scheduler.running(), limits.max_batch);
    ASSERT_LE(world.most_rows, limits.max_step_tokens);
  }
  EXPECT_EQ(world.pool.open(), 0u);
  EXPECT_EQ(world.pool.used(), 0u);
  EXPECT_FALSE(world.pool.wrong());
  for (uint64_t g = 0; g < sent; ++g) {
    const Prompt& p = world.prompts[g];
    const uint32_t choices = world.At(g).choices;
    ASSERT_GE(choices, 1u) << g;
    for (uint32_t c = 0; c < choices; ++c) {
      const Answered& a = world.At(g, c);
      ASSERT_EQ(a.ends, 1) << g << "." << c;
      EXPECT_TRUE(a.indexes);
      if (!p.session.empty()) continue;  // what stands before it depends on the others
      std::vector<int32_t> alone = world.Alone(p.ids, p.request.max_tokens, g | uint64_t{c} << 48,
                                               p.sampling.temperature > 0, p.adapter);
      const bool normal = a.finish == ENGINE_FINISH_STOP || a.finish == ENGINE_FINISH_LENGTH;
      if (!normal) alone.resize(std::min(alone.size(), a.ids.size()));
      EXPECT_EQ(a.ids, alone) << g << "." << c;
      if (a.finish == ENGINE_FINISH_ERROR) {
        EXPECT_TRUE(world.poison.count(g) != 0 || a.code == ENGINE_RESOURCE_EXHAUSTED ||
                    a.code == ENGINE_OUT_OF_RANGE)
            << a.error;
      }
      if (a.finish == ENGINE_FINISH_CANCELLED) {
        EXPECT_TRUE(disturbed.count(g) != 0);
      }
    }
  }
}

}  // namespace
}  // namespace engine::batcher
