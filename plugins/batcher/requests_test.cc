// What single requests ask of the scheduler beyond text: their own stops, enough, scores, forms.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduler.h"
#include "world.h"

namespace engine::batcher {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

Prompt Numbers(int from, size_t count, uint32_t max_tokens) {
  Prompt p;
  for (size_t i = 0; i < count; ++i) p.ids.push_back(1 + (from + static_cast<int>(i)) % 60);
  p.request.max_tokens = max_tokens;
  return p;
}

TEST(Requests, TheirOwnStopTokensEndThem) {
  World world(Small());
  Prompt plain;
  std::vector<int32_t> alone;
  for (int from = 0; alone.size() < 7; ++from) {
    plain = Numbers(from, 7, 30);
    alone = world.Alone(plain.ids, 30);
  }
  Prompt stops = plain;
  stops.stop_ids = {59, alone[5]};
  const size_t first = static_cast<size_t>(
      std::find_first_of(alone.begin(), alone.end(), stops.stop_ids.begin(), stops.stop_ids.end()) -
      alone.begin());
  world.Send(1, stops);
  world.Send(2, plain);
  world.RunAll();
  EXPECT_EQ(world.At(1).ids, std::vector<int32_t>(alone.begin(), alone.begin() + first + 1));
  EXPECT_EQ(world.At(1).finish, ENGINE_FINISH_STOP);
  EXPECT_EQ(world.At(2).ids, alone);
}

TEST(Requests, EndTokensAreIgnoredWhereThatIsAskedFor) {
  World world(Small());
  // Some prompt whose answer stops by itself.
  int from = 0;
  Prompt p;
  do p = Numbers(from++, 5, 100);
  while (world.Alone(p.ids, 100).size() == 100);
  const size_t stops_after = world.Alone(p.ids, 100).size();
  p.sampling.flags = ENGINE_SAMPLING_IGNORE_END;
  p.logprobs = 1;
  p.request.max_tokens = static_cast<uint32_t>(stops_after) + 5;
  world.Send(1, p);
  world.RunAll();
  EXPECT_THAT(world.At(1).ids, SizeIs(stops_after + 5));
  EXPECT_EQ(world.At(1).finish, ENGINE_FINISH_LENGTH);
}

TEST(Requests, EnoughEndsOneAnswerAndKeepsItsSession) {
  World world(Small());
  Prompt p = Numbers(9, 6, 40);
  p.session = "s";
  world.Send(1, p);
  world.Send(2, Numbers(20, 6, 12));
  while (world.At(1).ids.size() < 3) ASSERT_TRUE(world.Step());
  world.scheduler.Enough(1, 0);  // between two steps
  world.RunAll();
  EXPECT_EQ(world.At(1).ends, 1);
  EXPECT_EQ(world.At(1).finish, ENGINE_FINISH_STOP);
  EXPECT_THAT(world.At(1).ids, SizeIs(3));
  EXPECT_EQ(world.At(1).usage.generated_tokens, 3u);
  EXPECT_EQ(world.At(2).ids, world.Alone(world.prompts[2].ids, 12));
  // The session holds the prompt and all that was generated.
  Prompt next = Numbers(30, 4, 5);
  next.session = "s";
  world.Send(3, next);
  world.RunAll();
  EXPECT_EQ(world.At(3).usage.prompt_tokens, 6u + 3u + 4u);
  EXPECT_EQ(world.pool.open(), 0u);
}

TEST(Requests, EnoughDuringAStepDropsWhatTheStepBrings) {
  World world(Small());
  world.Send(1, Numbers(9, 6, 40));
  while (world.At(1).ids.size() < 3) ASSERT_TRUE(world.Step());
  world.parts = {};
  ASSERT_EQ(world.scheduler.Plan(world.now, &world.parts, &world.wait_ns), Scheduler::Next::kStep);
  world.scheduler.Enough(1, 0);
  EXPECT_EQ(world.At(1).ends, 0);
  world.Run();
  EXPECT_EQ(world.At(1).ends, 1);
  EXPECT_EQ(world.At(1).finish, ENGINE_FINISH_STOP);
  EXPECT_THAT(world.At(1).ids, SizeIs(3));
  world.RunAll();
  EXPECT_EQ(world.pool.open(), 0u);
}

TEST(Requests, EnoughOfOneChoiceLeavesTheOthers) {
  World world(Small());
  Prompt p = Numbers(9, 6, 20);
  p.request.n = 3;
  p.sampling.temperature = 1;
  world.Send(1, p);
  while (world.At(1, 1).ids.size() < 2) ASSERT_TRUE(world.Step());
  world.scheduler.Enough(1, 1);
  world.scheduler.Enough(7, 0);  // nobody
  world.RunAll();
  EXPECT_THAT(world.At(1, 1).ids, SizeIs(2));
  for (const uint32_t c : {0u, 2u}) {
    EXPECT_EQ(world.At(1, c).ids, world.Alone(p.ids, 20, 1 | uint64_t{c} << 48, true));
  }
}

// A prompt is scored in pieces, beside others, with and without a pool, with several answers.
TEST(Requests, PromptsAreScoredPlaceByPlace) {
  for (const bool pool : {true, false}) {
    for (const uint32_t n : {1u, 2u}) {
      World world(Small());
      if (!pool) world.view.pool = nullptr;
      Prompt p = Numbers(2, 37, 4);
      p.flags = ENGINE_REQUEST_SCORE_PROMPT;
      p.logprobs = 2;
      p.request.n = n;
      world.Send(1, Numbers(40, 5, 20));
      world.Send(2, p);
      world.RunAll();
      const Answered& a = world.At(2);
      EXPECT_EQ(a.ids, world.Alone(p.ids, 4)) << pool << n;
      ASSERT_NE(a.scores, nullptr);
      ASSERT_THAT(a.scores->logprobs, SizeIs(37));
      EXPECT_TRUE(std::isnan(a.scores->logprobs[0]));
      for (uint32_t i = 1; i < 37; ++i) {
        EXPECT_EQ(a.scores->logprobs[i], FakeLogprob(p.ids[i], i)) << i << pool << n;
        EXPECT_EQ(a.scores->top_ids[i], p.ids[i] + 1);
        EXPECT_EQ(a.scores->top_logprobs[i], FakeLogprob(p.ids[i] + 1, i));
      }
      for (uint32_t i = 0; i < a.ids.size(); ++i) {
        EXPECT_EQ(a.logprobs[i], FakeLogprob(a.ids[i], 37 + i));
      }
      EXPECT_EQ(world.At(1).ids, world.Alone(world.prompts[1].ids, 20));
    }
  }
}

TEST(Requests, AScoredPromptTakesNothingFromThePrefixCache) {
  World world(Small());
  Prompt p = Numbers(2, 30, 2);
  world.Send(1, p);
  world.RunAll();
  p.flags = ENGINE_REQUEST_SCORE_PROMPT;
  p.logprobs = 1;
  world.Send(2, p);
  world.RunAll();
  EXPECT_EQ(world.At(2).usage.cached_tokens, 0u);
  ASSERT_NE(world.At(2).scores, nullptr);
  EXPECT_TRUE(world.At(2).scores->complete());
}

TEST(Requests, AScoredPromptThatLosesItsPagesIsScoredWhole) {
  World world(Small(), /*pages=*/14, /*page_tokens=*/4);
  Prompt urgent = Numbers(5, 20, 20);
  urgent.request.priority = 1;
  Prompt p = Numbers(2, 24, 8);
  p.request.priority = 3;
  p.flags = ENGINE_REQUEST_SCORE_PROMPT;
  p.logprobs = 1;
  world.Send(1, p);
  world.Step();
  world.Send(2, urgent);
  world.RunAll();
  ASSERT_NE(world.At(1).scores, nullptr);
  EXPECT_TRUE(world.At(1).scores->complete());
  for (uint32_t i = 1; i < 24; ++i) {
    EXPECT_EQ(world.At(1).scores->logprobs[i], FakeLogprob(p.ids[i], i)) << i;
  }
  EXPECT_EQ(world.At(1).ids, world.Alone(p.ids, 8));
}

TEST(Requests, SessionsAreNotScored) {
  World world(Small());
  Prompt p = Numbers(2, 30, 2);
  p.session = "s";
  p.flags = ENGINE_REQUEST_SCORE_PROMPT;
  world.Send(1, p);
  EXPECT_EQ(world.At(1).code, ENGINE_INVALID_ARGUMENT);
  EXPECT_THAT(world.At(1).error, HasSubstr("leave the session out"));
}

TEST(Requests, AFormWithoutAGuideIsRefused) {
  World world(Small());
  Prompt p = Numbers(2, 5, 2);
  p.request.form = ENGINE_FORM_JSON;
  world.Send(1, p);
  EXPECT_EQ(world.At(1).code, ENGINE_FAILED_PRECONDITION);
  EXPECT_THAT(world.At(1).error, HasSubstr("`constrain`"));
}

}  // namespace
}  // namespace engine::batcher
