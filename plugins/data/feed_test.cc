// A run and the runs that go on from its places; examples are lists of their own number.
#include "feed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

namespace engine::data {
namespace {

using ::testing::HasSubstr;

bool Never() { return false; }

// Example i has 2 + i % 5 tokens, all i. Those of i % 7 == 3 are too short, i % 11 == 5 are bad.
Status Make(uint64_t i, Tokens* out, Fate* fate, bool*) {
  if (i % 11 == 5) return Error(ENGINE_INVALID_ARGUMENT, "f:", i, ": bad");
  *fate = i % 7 == 3 ? Fate::kShort : Fate::kGood;
  out->ids.assign(2 + i % 5, static_cast<int32_t>(i));
  out->labels = Shift(out->ids, std::vector<bool>(out->ids.size(), true));
  return Status();
}

FeedSettings Settings() {
  FeedSettings s;
  s.examples = 40;
  s.rows = 3;
  s.sequence = 9;
  s.skip_bad = true;
  s.epochs = 2;
  return s;
}

std::vector<Batch> Rest(const FeedSettings& s) {
  Feed feed(s, Make);
  std::vector<Batch> all;
  for (bool there = true; there;) {
    Batch b;
    const Status status = feed.Next(Never, &b, &there);
    EXPECT_TRUE(status.ok()) << status.message();
    if (!status.ok()) break;
    if (there) all.push_back(b);
  }
  return all;
}

TEST(Feed, ARunGoesOnFromEveryBatch) {
  for (const bool fill : {false, true}) {
    FeedSettings s = Settings();
    s.fill = fill;
    const std::vector<Batch> all = Rest(s);
    ASSERT_GT(all.size(), 4u);
    for (size_t k = 0; k < all.size(); ++k) {
      FeedSettings later = s;
      later.start = all[k].next;
      const std::vector<Batch> rest = Rest(later);
      ASSERT_EQ(rest.size(), all.size() - k - 1) << "fill " << fill << " from batch " << k;
      for (size_t i = 0; i < rest.size(); ++i) {
        EXPECT_EQ(rest[i].ids, all[k + 1 + i].ids);
        EXPECT_EQ(rest[i].labels, all[k + 1 + i].labels);
        EXPECT_EQ(rest[i].example, all[k + 1 + i].example);
        EXPECT_EQ(rest[i].next, all[k + 1 + i].next);
      }
    }
  }
}

TEST(Feed, AnEpochHoldsEachGoodExampleOnce) {
  for (const bool fill : {false, true}) {
    FeedSettings s = Settings();
    s.fill = fill;
    s.epochs = 1;
    std::map<int32_t, size_t> tokens;
    for (const Batch& b : Rest(s)) {
      for (size_t i = 0; i < b.ids.size(); ++i) {
        // Example 0 cannot be told from what is filled up, but by `example`.
        if (b.ids[i] != 0) ++tokens[b.ids[i]];
      }
    }
    for (int32_t i = 1; i < 40; ++i) {
      const bool good = i % 7 != 3 && i % 11 != 5;
      EXPECT_EQ(tokens.count(i), good ? 1u : 0u) << i;
      EXPECT_EQ(tokens[i], good ? static_cast<size_t>(2 + i % 5) : 0u) << i;
    }
  }
}

TEST(Feed, WithoutShuffleTheFilesOrderStands) {
  FeedSettings s = Settings();
  s.shuffle = false;
  const std::vector<Batch> all = Rest(s);
  EXPECT_EQ(all[0].ids[0], 0);
  EXPECT_EQ(all[0].ids[all[0].length], 1);
  EXPECT_EQ(all[0].ids[2 * all[0].length], 2);
  EXPECT_EQ(all[0].next, 3u);
  EXPECT_EQ(all[1].next, 8u);  // 3 is short, 5 bad: 4, 6, 7
}

TEST(Feed, LimitEndsTheStream) {
  FeedSettings s = Settings();
  s.epochs = 0;
  s.limit = 77;
  EXPECT_EQ(Rest(s).size(), 77u);
}

TEST(Feed, WhatWasLeftOutIsCounted) {
  FeedSettings s = Settings();
  s.epochs = 1;
  s.shuffle = false;
  Feed feed(s, Make);
  Batch b;
  for (bool there = true; there;) ASSERT_TRUE(feed.Next(Never, &b, &there).ok());
  EXPECT_EQ(feed.Told(),
            "left out of 40 examples: 5 shorter than min_tokens, 4 that are no examples (the "
            "first: f:5: bad)");
}

TEST(Feed, ABadExampleFailsUnlessItIsToBeSkipped) {
  FeedSettings s = Settings();
  s.shuffle = s.skip_bad = false;
  Feed feed(s, Make);
  Batch b;
  bool there = false;
  ASSERT_TRUE(feed.Next(Never, &b, &there).ok());
  EXPECT_EQ(feed.Next(Never, &b, &there).message(), "f:5: bad");
}

TEST(Feed, WhatIsFatalIsNeverSkipped) {
  FeedSettings s = Settings();
  Feed feed(s, [](uint64_t, Tokens*, Fate*, bool* fatal) {
    *fatal = true;
    return Error(ENGINE_FAILED_PRECONDITION, "no chat format");
  });
  Batch b;
  bool there = false;
  EXPECT_EQ(feed.Next(Never, &b, &there).message(), "no chat format");
}

TEST(Feed, AFileWithoutUseEndsAndDoesNotSpin) {
  FeedSettings s = Settings();
  s.epochs = 0;
  Feed feed(s, [](uint64_t, Tokens*, Fate* fate, bool*) {
    *fate = Fate::kUnlabelled;
    return Status();
  });
  Batch b;
  bool there = true;
  EXPECT_THAT(std::string(feed.Next(Never, &b, &there).message()),
              HasSubstr("none of 40 examples is of use: left out of 40 examples: 40 without"));
}

// The last of one epoch and the first of the next are of no use, as many as there are examples.
TEST(Feed, AFewGoodExamplesAreEnough) {
  FeedSettings s = Settings();
  s.examples = 4;
  s.rows = 1;
  s.epochs = 50;
  Feed sparse(s, [](uint64_t i, Tokens* out, Fate* fate, bool*) {
    if (i != 2) {
      *fate = Fate::kShort;
      return Status();
    }
    return Make(2, out, fate, nullptr);
  });
  int batches = 0;
  Batch b;
  for (bool there = true; there;) {
    const Status status = sparse.Next(Never, &b, &there);
    ASSERT_TRUE(status.ok()) << status.message();
    batches += there ? 1 : 0;
  }
  EXPECT_EQ(batches, 50);
}

TEST(Feed, CancellingEndsALongSearch) {
  int asked = 0;
  Feed feed(Settings(), [](uint64_t, Tokens*, Fate* fate, bool*) {
    *fate = Fate::kShort;
    return Status();
  });
  Batch b;
  bool there = true;
  EXPECT_TRUE(feed.Next([&] { return ++asked > 5; }, &b, &there).ok());
  EXPECT_FALSE(there);
  EXPECT_EQ(asked, 6);
}

}  // namespace
}  // namespace engine::data
