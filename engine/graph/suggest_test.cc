#include "engine/graph/suggest.h"

#include <gtest/gtest.h>

namespace engine::graph {
namespace {

TEST(Suggest, Distance) {
  EXPECT_EQ(EditDistance("kv_cahe", "kv_cache", 3), 1);
  EXPECT_EQ(EditDistance("RIHGT", "RIGHT", 3), 1);  // a swap is one step
  EXPECT_EQ(EditDistance("Load", "load", 3), 0);
  EXPECT_EQ(EditDistance("abc", "xyzuvw", 2), 3);
}

TEST(Suggest, NearestNeedsToBeNear) {
  EXPECT_EQ(Nearest("laod", {"lora", "load"}), "load");
  EXPECT_EQ(Nearest("zzz", {"lora", "load"}), "");
  EXPECT_EQ(Nearest("batch", {"batcher", "lora"}), "batcher");
  EXPECT_EQ(Nearest("a", {"b"}), "");
  EXPECT_EQ(DidYouMean("zzz", {"lora", "load"}, "kinds"), "known kinds: lora, load");
  EXPECT_EQ(DidYouMean("zzz", {}, "kinds"), "");
}

TEST(Suggest, QuoteHidesControlCharacters) {
  EXPECT_EQ(Quote("a\nb"), "\"a?b\"");
  EXPECT_LE(Quote(std::string(5000, 'x')).size(), 130u);
}

}  // namespace
}  // namespace engine::graph
