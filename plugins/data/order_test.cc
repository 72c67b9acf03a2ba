// Every order holds each example once, and no two epochs or seeds share one.
#include "order.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace engine::data {
namespace {

std::vector<uint64_t> All(uint64_t n, uint64_t seed, uint64_t epoch) {
  const Order order(n, seed, epoch);
  std::vector<uint64_t> all;
  for (uint64_t i = 0; i < n; ++i) all.push_back(order.At(i));
  return all;
}

TEST(Order, HoldsEachOnce) {
  for (uint64_t n = 1; n <= 300; ++n) {
    const std::vector<uint64_t> all = All(n, 7, n);
    const std::set<uint64_t> different(all.begin(), all.end());
    ASSERT_EQ(different.size(), n);
    ASSERT_EQ(*different.rbegin(), n - 1);
  }
  const std::vector<uint64_t> many = All(70000, 1, 2);
  std::vector<bool> seen(70000);
  for (const uint64_t i : many) {
    ASSERT_LT(i, seen.size());
    ASSERT_FALSE(seen[i]);
    seen[i] = true;
  }
}

TEST(Order, DependsOnSeedAndEpochAlone) {
  EXPECT_EQ(All(100, 3, 0), All(100, 3, 0));
  EXPECT_NE(All(100, 3, 0), All(100, 3, 1));
  EXPECT_NE(All(100, 3, 0), All(100, 4, 0));
  EXPECT_NE(All(100, 3, 1), All(100, 4, 0));
}

// Over many seeds each of five examples should come first about equally often: with 2000 draws the
// share of one has a standard deviation of 18, so 100 away is no chance.
TEST(Order, FavoursNoExample) {
  std::vector<int> first(5);
  for (uint64_t seed = 0; seed < 2000; ++seed) ++first[Order(5, seed, 0).At(0)];
  for (const int count : first) EXPECT_NEAR(count, 400, 100);
}

// Neighbours in the file must not stay neighbours: a random order of 10000 has about two.
TEST(Order, SeparatesNeighbours) {
  const std::vector<uint64_t> all = All(10000, 11, 0);
  int adjacent = 0;
  for (size_t i = 1; i < all.size(); ++i) adjacent += all[i] - all[i - 1] == 1 ? 1 : 0;
  EXPECT_LT(adjacent, 20);
}

TEST(Order, ReachesIntoHugeFiles) {
  const uint64_t n = (uint64_t{1} << 40) + 12345;
  const Order order(n, 0, 0);
  std::set<uint64_t> seen;
  for (uint64_t i = n - 100; i < n; ++i) {
    EXPECT_LT(order.At(i), n);
    EXPECT_TRUE(seen.insert(order.At(i)).second);
  }
}

}  // namespace
}  // namespace engine::data
