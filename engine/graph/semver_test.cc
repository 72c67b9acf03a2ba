#include "engine/graph/semver.h"

#include <gtest/gtest.h>

namespace engine::graph {
namespace {

bool In(const char* version, const char* range) {
  std::string error;
  const bool result = InRange(version, range, &error);
  EXPECT_EQ(error, "");
  return result;
}

TEST(Semver, OrdersAsTheStandardDoes) {
  const char* ordered[] = {"1.0.0-alpha",  "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta",
                           "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1",       "1.0.0",
                           "1.0.1",        "1.10.0"};
  for (size_t i = 0; i + 1 < std::size(ordered); ++i) {
    EXPECT_LT(CompareVersions(ordered[i], ordered[i + 1]), 0) << ordered[i];
    EXPECT_GT(CompareVersions(ordered[i + 1], ordered[i]), 0) << ordered[i];
  }
  EXPECT_EQ(CompareVersions("1.2.3+a", "1.2.3+b"), 0);
  EXPECT_FALSE(IsVersion("1.2.x"));
  EXPECT_FALSE(IsVersion(""));
  EXPECT_FALSE(IsVersion("1.2.3.4"));
}

TEST(Semver, Ranges) {
  EXPECT_TRUE(In("1.5.0", ">=1.2 <2"));
  EXPECT_FALSE(In("2.0.0", ">=1.2 <2"));
  EXPECT_FALSE(In("1.1.9", ">=1.2 <2"));
  EXPECT_TRUE(In("1.9.9", "^1.2"));
  EXPECT_FALSE(In("2.0.0", "^1.2"));
  EXPECT_FALSE(In("2.0.0-rc.1", "^1.2"));
  EXPECT_TRUE(In("0.2.9", "^0.2.3"));
  EXPECT_FALSE(In("0.3.0", "^0.2.3"));
  EXPECT_FALSE(In("0.0.4", "^0.0.3"));
  EXPECT_TRUE(In("1.2.9", "~1.2.3"));
  EXPECT_FALSE(In("1.3.0", "~1.2.3"));
  EXPECT_TRUE(In("1.9.0", "~1"));
  EXPECT_TRUE(In("1.2.3", "1.2.3"));
  EXPECT_TRUE(In("1.2.3", ""));
  EXPECT_TRUE(In("1.2.3", "*"));
  for (const char* bad : {"=>1", "1.x", ">=", "^", ">=1 <a"}) {
    std::string error;
    EXPECT_FALSE(InRange("1.0.0", bad, &error));
    EXPECT_NE(error, "") << bad;
  }
}

}  // namespace
}  // namespace engine::graph
