#include "drafter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace engine::speculate {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<int32_t> Look(std::vector<int32_t> tokens, uint32_t ngram, uint32_t most,
                          size_t cut = 0) {
  return LookUp(tokens.data(), cut, tokens.data() + cut, tokens.size() - cut, ngram, most);
}

TEST(LookUp, GivesWhatFollowedTheLatestPlace) {
  EXPECT_THAT(Look({1, 2, 3, 4, 5, 1, 2}, 2, 3), ElementsAre(3, 4, 5));
  EXPECT_THAT(Look({1, 2, 3, 1, 2, 9, 1, 2}, 2, 4), ElementsAre(9, 1, 2));
  EXPECT_THAT(Look({1, 2, 3, 4, 5}, 2, 3), IsEmpty());
  EXPECT_THAT(Look({7, 7, 7}, 2, 3), ElementsAre(7));
  EXPECT_THAT(Look({1, 2}, 2, 3), IsEmpty());
  EXPECT_THAT(Look({}, 1, 3), IsEmpty());
  for (size_t cut = 0; cut <= 7; ++cut) {
    EXPECT_THAT(Look({1, 2, 3, 4, 5, 1, 2}, 2, 3, cut), ElementsAre(3, 4, 5)) << cut;
  }
}

// A loop of steps: `says` is the model, a row costs `row_ns` on top of `base_ns`.
struct Loop {
  explicit Loop(const Settings& settings) : drafter(settings) {}
  void Run(int steps, uint64_t base_ns, uint64_t row_ns,
           const std::function<int32_t(size_t)>& says) {
    for (int i = 0; i < steps; ++i) {
      engine_step_sequence s = Sized<engine_step_sequence>();
      s.request = 1;
      s.start = static_cast<uint32_t>(tokens.size() - 1);
      s.tokens = &tokens.back();
      s.history = tokens.data();
      s.token_count = s.logits_count = 1;
      s.room = 8;
      const engine_step step = {sizeof(engine_step), 1, &s};
      std::vector<std::vector<int32_t>> drafts;
      drafter.Draft(step, now, &drafts);
      drafter.Sent(now);
      rows += 1 + drafts[0].size();
      drafted_last += !drafts[0].empty();
      now += base_ns + row_ns * (1 + drafts[0].size());
      const std::vector<int32_t> draft = drafts[0];
      tokens.push_back(says(tokens.size()));
      for (int32_t d : draft) {
        if (d != tokens.back()) break;
        tokens.push_back(says(tokens.size()));
      }
    }
  }
  Drafter drafter;
  std::vector<int32_t> tokens = {1, 2, 3, 4, 1, 2, 3};
  uint64_t now = 1000;
  size_t rows = 0;
  int drafted_last = 0;
};

TEST(Drafter, RepeatedTextComesInFewerSteps) {
  Loop loop({});
  loop.Run(100, 5'000'000, 100'000, [](size_t i) { return static_cast<int32_t>(i % 4) + 1; });
  EXPECT_GT(loop.tokens.size(), 350u);
  EXPECT_GT(loop.drafter.accepted(), 250u);
}

TEST(Drafter, StopsWhereDraftsAreWrongAndTriesAgainNowAndThen) {
  // Places repeat, but what follows them does not.
  const auto says = [](size_t i) { return static_cast<int32_t>(i % 2 == 0 ? 1 : i); };
  Settings settings;
  settings.ngram = 1;
  Loop loop(settings);
  loop.Run(100, 5'000'000, 2'000'000, says);
  loop.drafted_last = 0;
  loop.Run(480, 5'000'000, 2'000'000, says);
  EXPECT_LE(loop.drafted_last, 480 / 48 + 10);
  EXPECT_GE(loop.drafted_last, 2);
}

TEST(Drafter, StopsWhereRowsAreDear) {
  // Right three times of four, and a row costs as much as a step.
  const auto says = [](size_t i) { return static_cast<int32_t>(i % 4 == 3 ? 100 + i % 3 : i % 4); };
  Settings settings;
  settings.ngram = 1;
  Loop cheap(settings), dear(settings);
  cheap.Run(300, 10'000'000, 10'000, says);
  dear.Run(300, 10'000, 10'000'000, says);
  cheap.rows = dear.rows = 0;
  cheap.Run(300, 10'000'000, 10'000, says);
  dear.Run(300, 10'000, 10'000'000, says);
  EXPECT_GT(cheap.rows, 500u);
  EXPECT_LT(dear.rows, 330u);
}

TEST(Drafter, RemembersOnlyTheLastStep) {
  // Without room, or in the middle of a prompt, nothing is drafted.
  Drafter drafter({});
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 1, 2, 3};
  engine_step_sequence s = Sized<engine_step_sequence>();
  s.tokens = &tokens[6];
  s.history = tokens.data();
  s.start = 6;
  s.token_count = s.logits_count = 1;
  std::vector<std::vector<int32_t>> drafts;
  const engine_step step = {sizeof(engine_step), 1, &s};
  drafter.Draft(step, 1, &drafts);
  EXPECT_THAT(drafts[0], IsEmpty());
  s.room = 4;
  s.logits_count = 0;
  drafter.Draft(step, 2, &drafts);
  EXPECT_THAT(drafts[0], IsEmpty());
  s.logits_count = 1;
  s.history = nullptr;
  drafter.Draft(step, 3, &drafts);
  EXPECT_THAT(drafts[0], IsEmpty());
  s.history = tokens.data();
  drafter.Draft(step, 4, &drafts);
  EXPECT_THAT(drafts[0], ElementsAre(4, 1, 2, 3));
}

}  // namespace
}  // namespace engine::speculate
