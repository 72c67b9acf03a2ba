#include "geometry.h"

#include <set>

#include "test_pool.h"

namespace engine::kv_cache {
namespace {

TEST(Geometry, PagesHaveTheDocumentedSizes) {
  // SmolLM2-135M: 30 blocks, 3 heads of 64; 16 positions of keys and values.
  Geometry g{.format = ENGINE_KV_F32, .blocks = 30, .kv_heads = 3, .head_dim = 64};
  ASSERT_TRUE(g.Complete().ok());
  EXPECT_EQ(g.block_bytes, 2u * 3 * 64 * 16 * 4);
  EXPECT_EQ(g.page_bytes, 30 * g.block_bytes);
  g.format = ENGINE_KV_F16;
  ASSERT_TRUE(g.Complete().ok());
  EXPECT_EQ(g.block_bytes, 2u * 3 * 64 * 16 * 2);
  g.format = ENGINE_KV_INT8;
  ASSERT_TRUE(g.Complete().ok());
  EXPECT_EQ(g.block_bytes, 2u * 3 * 64 * 16 + 2u * 3 * 16 * 4);
}

TEST(Geometry, EveryByteBelongsToOnePosition) {
  for (uint32_t format : {ENGINE_KV_F32, ENGINE_KV_F16, ENGINE_KV_INT8}) {
    const Geometry g = SmallGeometry(format);
    std::set<uint64_t> seen;
    size_t count = 0;
    for (uint32_t p = 0; p < g.page_tokens; ++p) {
      for (uint64_t byte : BytesOf(g, p)) {
        EXPECT_LT(byte, g.block_bytes);
        seen.insert(byte);
        ++count;
      }
    }
    EXPECT_EQ(seen.size(), count);
    EXPECT_EQ(count, g.block_bytes);
  }
}

TEST(Geometry, ClearingLeavesEarlierPositionsAlone) {
  for (uint32_t format : {ENGINE_KV_F32, ENGINE_KV_F16, ENGINE_KV_INT8}) {
    const Geometry g = SmallGeometry(format);
    for (uint32_t from : {0u, 1u, 7u, 15u, 16u}) {
      std::string piece(g.block_bytes, 'x');
      g.ClearPositions(piece.data(), from);
      for (uint32_t p = 0; p < g.page_tokens; ++p) {
        for (uint64_t byte : BytesOf(g, p)) ASSERT_EQ(piece[byte], p < from ? 'x' : '\0');
      }
    }
  }
}

TEST(Geometry, NonsenseIsRefused) {
  const Geometry good = SmallGeometry();
  const auto refused = [](Geometry g) { return g.Complete().code(); };
  Geometry g = good;
  g.format = 4;
  EXPECT_EQ(refused(g), ENGINE_INVALID_ARGUMENT);
  for (uint32_t tokens : {0u, 8u, 17u, 8192u}) {
    g = good;
    g.page_tokens = tokens;
    EXPECT_EQ(refused(g), ENGINE_INVALID_ARGUMENT) << tokens;
  }
  for (int64_t number : {int64_t{0}, int64_t{-1}}) {
    g = good;
    g.kv_heads = number;
    EXPECT_EQ(refused(g), ENGINE_INVALID_ARGUMENT);
    g = good;
    g.head_dim = number;
    EXPECT_EQ(refused(g), ENGINE_INVALID_ARGUMENT);
  }
  g = good;
  g.head_dim = 6;
  EXPECT_EQ(refused(g), ENGINE_OK);
  g.format = ENGINE_KV_INT8;
  EXPECT_EQ(refused(g), ENGINE_UNIMPLEMENTED);
  g = good;
  g.kv_heads = INT64_MAX;
  EXPECT_EQ(refused(g), ENGINE_OUT_OF_RANGE);
  g = good;
  g.head_dim = INT64_MAX / 4;
  EXPECT_EQ(refused(g), ENGINE_OUT_OF_RANGE);
}

}  // namespace
}  // namespace engine::kv_cache
