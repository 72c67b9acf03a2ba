#include "engine/model/block_cache.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <thread>
#include <vector>

namespace engine::model {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

TEST(BlockCache, GivesABlockAgainToWhatIsNearlyAsLarge) {
  BlockCache cache;
  void* block = cache.Take(8 * kMiB);
  ASSERT_NE(block, nullptr);
  std::memset(block, 1, 8 * kMiB);
  EXPECT_TRUE(cache.Give(block));
  EXPECT_FALSE(cache.Give(block)) << "given twice";
  EXPECT_EQ(cache.Take(8 * kMiB - 5000), block);
  EXPECT_EQ(cache.figures().mappings, 1u);
  EXPECT_TRUE(cache.Give(block));
  // Half of it would be wasted on this one.
  void* small = cache.Take(4 * kMiB);
  EXPECT_NE(small, block);
  EXPECT_TRUE(cache.Give(small));
}

TEST(BlockCache, WhatIsKeptMakesRoomForOtherSizes) {
  BlockCache cache;
  std::vector<void*> blocks;
  for (int i = 0; i < 8; ++i) blocks.push_back(cache.Take(4 * kMiB));
  for (void* b : blocks) cache.Give(b);
  const size_t most = cache.figures().most;
  // As much again, of another size, takes their place.
  blocks.clear();
  for (int i = 0; i < 4; ++i) blocks.push_back(cache.Take(8 * kMiB));
  EXPECT_LE(cache.figures().most, most);
  EXPECT_EQ(cache.figures().kept, 0u);
  for (void* b : blocks) cache.Give(b);
}

TEST(BlockCache, RefusesWhatNoSystemHas) {
  BlockCache cache;
  EXPECT_EQ(cache.Take(SIZE_MAX - 1), nullptr);
  EXPECT_EQ(cache.Take(size_t{1} << 60), nullptr);
  EXPECT_EQ(cache.figures().used, 0u);
}

// Every block belongs to one taker alone, whatever comes and goes beside it.
TEST(BlockCache, ThreadsNeverShareABlock) {
  BlockCache cache;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&cache, t] {
      std::mt19937 random(static_cast<uint32_t>(t));
      std::vector<std::pair<unsigned char*, size_t>> mine;
      for (int i = 0; i < 400; ++i) {
        if (mine.size() < 4 && random() % 2 == 0) {
          const size_t bytes = kMiB * (1 + random() % 4);
          auto* block = static_cast<unsigned char*>(cache.Take(bytes));
          ASSERT_NE(block, nullptr);
          block[0] = block[bytes - 1] = static_cast<unsigned char>(t);
          mine.emplace_back(block, bytes);
        } else if (!mine.empty()) {
          const auto [block, bytes] = mine.back();
          ASSERT_EQ(block[0], t);
          ASSERT_EQ(block[bytes - 1], t);
          mine.pop_back();
          ASSERT_TRUE(cache.Give(block));
        }
      }
      for (const auto& [block, bytes] : mine) cache.Give(block);
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(cache.figures().used, 0u);
}

}  // namespace
}  // namespace engine::model
