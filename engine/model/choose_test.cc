// Choosing from made-up logits: each wish against its plain definition, and what rows are kept
// apart.
#include "engine/model/choose.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/growth.hpp"

namespace engine::model {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr size_t kVocab = 100;

// One sequence of a step whose last `rows` tokens have logits.
struct Case {
  std::vector<int32_t> history, fed, known;
  uint32_t prompt = 0;
  size_t rows = 1;
  std::vector<float> data;
  engine_sampling how = Sized<engine_sampling>();
  std::vector<int64_t> ends = {7};

  std::vector<int32_t> ids, top_ids;
  std::vector<float> margins, logprobs, top_logprobs;
  bool tell_step = true;

  Case() { how.top_p = 1; }
  Status Run(uint32_t tops = 0) {
    if (data.empty()) {
      for (size_t i = 0; i < rows * kVocab; ++i)
        data.push_back(static_cast<float>((i * 37) % 89) * 0.1f);
    }
    engine_step_sequence s = Sized<engine_step_sequence>();
    s.tokens = fed.data();
    s.token_count = static_cast<uint32_t>(fed.size());
    s.start = static_cast<uint32_t>(history.size());
    s.history = history.data();
    s.prompt_count = prompt;
    s.logits_count = static_cast<uint32_t>(rows);
    if (!known.empty()) s.known = known.data();
    engine_step step = Sized<engine_step>();
    step.count = 1;
    step.sequences = &s;
    std::vector<uint64_t> requests(rows, 5);
    std::vector<uint32_t> positions, sequences(rows, 0), tokens;
    std::vector<const engine_sampling*> sampling(rows, &how);
    for (size_t r = 0; r < rows; ++r) {
      tokens.push_back(static_cast<uint32_t>(fed.size() - rows + r + 1));
      positions.push_back(s.start + tokens.back());
    }
    engine_logits l = Sized<engine_logits>();
    l.rows = static_cast<uint32_t>(rows);
    l.vocab = kVocab;
    l.data = data.data();
    l.requests = requests.data();
    l.positions = positions.data();
    l.sampling = sampling.data();
    if (tell_step) {
      l.step = &step;
      l.sequences = sequences.data();
      l.tokens = tokens.data();
    }
    ids.assign(rows, -5);
    margins.assign(rows, 0);
    logprobs.assign(rows, 0);
    top_ids.assign(rows * tops, -5);
    top_logprobs.assign(rows * tops, 0);
    engine_choices out = Sized<engine_choices>();
    out.ids = ids.data();
    out.margins = margins.data();
    out.logprobs = logprobs.data();
    out.top_ids = top_ids.data();
    out.top_logprobs = top_logprobs.data();
    out.top_count = tops;
    return Choose(l, how, ends, out);
  }
  int32_t Greatest() const {
    return static_cast<int32_t>(std::max_element(data.begin(), data.begin() + kVocab) -
                                data.begin());
  }
};

TEST(Choose, BiasForcesAndForbids) {
  Case c;
  c.fed = {1};
  ASSERT_TRUE(c.Run().ok());
  const int32_t best = c.Greatest();
  EXPECT_THAT(c.ids, ElementsAre(best));
  const int32_t ids[] = {best, 40};
  const float forbid[] = {-1e9f, 0}, force[] = {0, 1e9f};
  c.how.bias_ids = ids;
  c.how.bias_values = forbid;
  c.how.bias_count = 2;
  ASSERT_TRUE(c.Run().ok());
  EXPECT_NE(c.ids[0], best);
  c.how.bias_values = force;
  ASSERT_TRUE(c.Run().ok());
  EXPECT_THAT(c.ids, ElementsAre(40));
}

TEST(Choose, PenaltiesCountPromptAndAnswerAsTheyShould) {
  Case c;
  c.history = {3, 4, 4};
  c.fed = {5, 6, 6};
  c.prompt = 3;  // the answer is 5, 6, 6
  c.data.assign(kVocab, 0);
  c.data[3] = 2.0f;   // in the prompt alone
  c.data[6] = 1.9f;   // twice in the answer
  c.data[5] = 1.85f;  // once
  c.data[50] = 1.0f;  // nowhere
  ASSERT_TRUE(c.Run().ok());
  EXPECT_THAT(c.ids, ElementsAre(3));
  c.how.presence_penalty = 0.5;  // 6 -> 1.4, 5 -> 1.35; the prompt's stay
  ASSERT_TRUE(c.Run().ok());
  EXPECT_THAT(c.ids, ElementsAre(3));
  c.how.repetition_penalty = 1.3;  // 3 -> 1.54, 6 -> 1.46 - 0.5
  ASSERT_TRUE(c.Run().ok());
  EXPECT_THAT(c.ids, ElementsAre(3));
  c.how.repetition_penalty = 2.5;  // 3 -> 0.8, the rest less
  ASSERT_TRUE(c.Run().ok());
  EXPECT_THAT(c.ids, ElementsAre(50));
  // Frequency: 6 came twice, 5 once.
  c.how.repetition_penalty = 1;
  c.how.presence_penalty = 0;
  c.how.frequency_penalty = 0.3;
  c.data[3] = 0;
  ASSERT_TRUE(c.Run().ok());
  EXPECT_THAT(c.ids, ElementsAre(5));
  // A negative logit is made more so.
  c.how.frequency_penalty = 0;
  c.how.repetition_penalty = 2;
  c.data.assign(kVocab, -3);
  c.data[5] = -1.0f;
  c.data[50] = -1.5f;
  ASSERT_TRUE(c.Run().ok());
  EXPECT_THAT(c.ids, ElementsAre(50));
}

TEST(Choose, NoEndBeforeTheLeastLength) {
  Case c;
  c.history = {1, 2};
  c.fed = {3};
  c.prompt = 2;
  c.data.assign(kVocab, 0);
  c.data[7] = 5;  // the model's end
  c.data[8] = 4;  // the request's
  c.data[9] = 3;
  const int32_t stops[] = {8};
  c.how.stop_ids = stops;
  c.how.stop_count = 1;
  ASSERT_TRUE(c.Run().ok());
  EXPECT_THAT(c.ids, ElementsAre(7));
  c.how.min_tokens = 2;  // one is there
  ASSERT_TRUE(c.Run().ok());
  EXPECT_THAT(c.ids, ElementsAre(9));
  c.how.min_tokens = 1;
  ASSERT_TRUE(c.Run().ok());
  EXPECT_THAT(c.ids, ElementsAre(7));
}

// A guide that allows one token more than the answer is long.
struct Counting {
  std::vector<uint64_t> mask = std::vector<uint64_t>(2);
  std::vector<std::vector<int32_t>> asked;
  static engine_status* Allowed(void* self, uint64_t, const int32_t* tokens, uint64_t count,
                                const uint64_t** allowed) {
    auto* guide = static_cast<Counting*>(self);
    guide->asked.emplace_back(tokens, tokens + count);
    guide->mask.assign(2, 0);
    guide->mask[(count + 60) / 64] = uint64_t{1} << (count + 60) % 64;
    *allowed = count == 9 ? nullptr : guide->mask.data();
    return nullptr;
  }
};

TEST(Choose, GuidesSeeTheAnswerAloneAndBindEachRow) {
  Counting counting;
  const engine_guide guide = {sizeof(engine_guide), 0, &counting, &Counting::Allowed};
  Case c;
  c.history = {1, 2, 3};
  c.fed = {4, 5};  // the last was drafted: two rows
  c.rows = 2;
  c.prompt = 2;
  c.how.guide = &guide;
  ASSERT_TRUE(c.Run().ok());
  EXPECT_THAT(c.ids, ElementsAre(62, 63));
  std::sort(counting.asked.begin(), counting.asked.end());
  EXPECT_THAT(counting.asked, ElementsAre(ElementsAre(3, 4), ElementsAre(3, 4, 5)));
  c.how.temperature = 1;
  c.how.top_k = 3;
  ASSERT_TRUE(c.Run().ok());
  EXPECT_THAT(c.ids, ElementsAre(62, 63));
}

TEST(Choose, KnownTokensAreScoredAndNotChosen) {
  Case c;
  c.fed = {1, 2, 3};
  c.known = {2, 3, -1};
  c.rows = 3;
  c.prompt = 3;
  c.how.logprobs = 3;
  ASSERT_TRUE(c.Run(2).ok());
  EXPECT_EQ(c.ids[0], 2);
  EXPECT_EQ(c.ids[1], 3);
  for (size_t r = 0; r < 3; ++r) {
    const float* row = c.data.data() + r * kVocab;
    double sum = 0;
    for (size_t i = 0; i < kVocab; ++i) sum += std::exp(static_cast<double>(row[i]));
    EXPECT_NEAR(c.logprobs[r], static_cast<double>(row[c.ids[r]]) - std::log(sum), 1e-5);
    EXPECT_EQ(row[c.top_ids[r * 2]], *std::max_element(row, row + kVocab));
    EXPECT_GE(c.top_logprobs[r * 2], c.top_logprobs[r * 2 + 1]);
  }
}

TEST(Choose, LogProbabilitiesAreThoseOfTheModel) {
  Case c;
  c.fed = {1};
  c.how.logprobs = 1;
  ASSERT_TRUE(c.Run().ok());
  const float plain = c.logprobs[0];
  const int32_t best = c.ids[0];
  // Bias, temperature and cuts change the choice, not what the model thought of it.
  const int32_t ids[] = {best};
  const float bias[] = {3.0f};
  c.how.bias_ids = ids;
  c.how.bias_values = bias;
  c.how.bias_count = 1;
  c.how.temperature = 0.5;
  c.how.top_k = 1;
  ASSERT_TRUE(c.Run().ok());
  EXPECT_EQ(c.ids[0], best);
  EXPECT_EQ(c.logprobs[0], plain);
  c.how.logprobs = 0;
  ASSERT_TRUE(c.Run(3).ok());
  EXPECT_TRUE(std::isnan(c.logprobs[0]));
  EXPECT_EQ(c.top_ids[0], -1);
}

TEST(Choose, OwnDrawsDoNotDependOnTheRequest) {
  Case c;
  c.fed = {1};
  c.how.temperature = 1.5;
  c.how.seed = 3;
  c.how.flags = ENGINE_SAMPLING_OWN_DRAWS;
  ASSERT_TRUE(c.Run().ok());
  const int32_t own = c.ids[0];
  int different = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    c.how.seed = seed;
    c.how.flags = ENGINE_SAMPLING_OWN_DRAWS;
    ASSERT_TRUE(c.Run().ok());
    if (seed == 3) {
      EXPECT_EQ(c.ids[0], own);
    }
    const int32_t with_own = c.ids[0];
    c.how.flags = 0;
    ASSERT_TRUE(c.Run().ok());
    different += with_own != c.ids[0];
  }
  EXPECT_GT(different, 5);
}

TEST(Choose, WhatNeedsTheTokensBeforeSaysSo) {
  Case c;
  c.fed = {1};
  c.prompt = 1;
  c.how.frequency_penalty = 1;
  EXPECT_TRUE(c.Run().ok());
  c.prompt = 0;  // which tokens are the prompt is not told
  EXPECT_EQ(c.Run().code(), ENGINE_FAILED_PRECONDITION);
  c.tell_step = false;
  const Status status = c.Run();
  EXPECT_EQ(status.code(), ENGINE_FAILED_PRECONDITION);
  EXPECT_THAT(std::string(status.message()), HasSubstr("does not tell"));
  c.how.frequency_penalty = 0;
  EXPECT_TRUE(c.Run().ok());
}

TEST(Choose, HostilePlacesAreRefused) {
  Case c;
  c.fed = {1};
  c.known = {1000};
  EXPECT_EQ(c.Run().code(), ENGINE_OUT_OF_RANGE);
  c.known.clear();
  const int32_t ids[] = {-4, 1 << 30};
  const float bias[] = {1, 1};
  c.how.bias_ids = ids;
  c.how.bias_values = bias;
  c.how.bias_count = 2;
  EXPECT_TRUE(c.Run().ok());  // of no token: nothing to add
  c.data.assign(kVocab, NAN);
  EXPECT_EQ(c.Run().code(), ENGINE_DATA_LOSS);
}

}  // namespace
}  // namespace engine::model
