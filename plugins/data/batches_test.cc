// How examples lie in rows, written as text: ids by row, then labels, then examples.
#include "batches.h"

#include <gtest/gtest.h>

#include <string>

namespace engine::data {
namespace {

// n tokens base, base + 1, ..., all of which count.
Tokens Ramp(int32_t base, int32_t n) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < n; ++i) ids.push_back(base + i);
  const std::vector<bool> counts(ids.size(), true);
  Tokens t{ids, Shift(ids, counts)};
  return t;
}

std::string Show(const std::vector<int32_t>& values, uint32_t length) {
  std::string out;
  for (size_t i = 0; i < values.size(); ++i) {
    if (i != 0) out += i % length == 0 ? " | " : " ";
    out += values[i] == kNoLabel ? "x" : std::to_string(values[i]);
  }
  return out;
}

TEST(Packer, OneExampleARowIsFilledUpToTheLongest) {
  Packer packer(2, 10, false);
  EXPECT_TRUE(packer.empty());
  EXPECT_TRUE(packer.Add(Ramp(10, 2)));
  EXPECT_FALSE(packer.full());
  EXPECT_TRUE(packer.Add(Ramp(20, 4)));
  EXPECT_TRUE(packer.full());
  EXPECT_FALSE(packer.Add(Ramp(30, 2)));
  const Batch b = packer.Take();
  EXPECT_EQ(b.rows, 2u);
  EXPECT_EQ(b.length, 4u);
  EXPECT_EQ(b.valid, 4u);
  EXPECT_EQ(Show(b.ids, b.length), "10 11 0 0 | 20 21 22 23");
  EXPECT_EQ(Show(b.labels, b.length), "11 x x x | 21 22 23 x");
  EXPECT_TRUE(b.example.empty());
  EXPECT_TRUE(packer.empty());
}

TEST(Packer, SharedRowsNeverAskForANeighboursToken) {
  Packer packer(2, 6, true);
  EXPECT_TRUE(packer.Add(Ramp(10, 4)));
  EXPECT_TRUE(packer.Add(Ramp(20, 3)));  // does not fit into the first
  EXPECT_TRUE(packer.Add(Ramp(30, 2)));  // does
  EXPECT_FALSE(packer.full());
  EXPECT_TRUE(packer.Add(Ramp(40, 2)));
  EXPECT_TRUE(packer.full());
  EXPECT_FALSE(packer.Add(Ramp(50, 2)));
  const Batch b = packer.Take();
  EXPECT_EQ(Show(b.ids, b.length), "10 11 12 13 30 31 | 20 21 22 40 41 0");
  EXPECT_EQ(Show(b.labels, b.length), "11 12 13 x 31 x | 21 22 x 41 x x");
  EXPECT_EQ(Show(b.example, b.length), "0 0 0 0 1 1 | 0 0 0 1 1 -1");
  EXPECT_EQ(b.valid, 7u);
}

TEST(Packer, ARowOfExactlyTheSequenceIsTaken) {
  Packer packer(1, 5, true);
  EXPECT_TRUE(packer.Add(Ramp(1, 5)));
  EXPECT_TRUE(packer.full());
  EXPECT_EQ(packer.Take().length, 5u);
}

}  // namespace
}  // namespace engine::data
