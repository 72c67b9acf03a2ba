// The choice against all choices there are, on small models.
#include "solver.h"

#include <gtest/gtest.h>

namespace engine::checkpoint {
namespace {

std::vector<BlockCost> Blocks(size_t n) { return std::vector<BlockCost>(n, {10, 100, 40, 50, 30}); }

double Kept(const std::vector<BlockCost>& costs, const Choice& c) {
  double kept = 0;
  for (size_t i = 0; i < costs.size(); ++i) {
    kept +=
        costs[i].input + (c.blocks[i] ? 0 : costs[i].saved - (c.mlps[i] ? costs[i].mlp_saved : 0));
  }
  return kept;
}

TEST(Solver, KeepsAllThatFits) {
  const Choice c = Solve(Blocks(4), 440);
  EXPECT_TRUE(c.fits);
  EXPECT_EQ(c.flops, 0);
  EXPECT_EQ(c.kept, 440);
}

TEST(Solver, IsTheLeastWorkOfAllPrefixesWithOneMlp) {
  const std::vector<BlockCost> costs = Blocks(5);
  for (double budget = 50; budget <= 560; budget += 7) {
    const Choice c = Solve(costs, budget);
    ASSERT_TRUE(c.fits) << budget;
    EXPECT_LE(c.kept, budget);
    EXPECT_EQ(Kept(costs, c), c.kept);
    // Every other such choice that fits costs as much or more.
    for (int whole = 0; whole <= 5; ++whole) {
      for (const bool mlp : {false, true}) {
        if (mlp && whole == 5) continue;
        const double kept = 550 - 100 * whole - (mlp ? 40 : 0), flops = 50 * whole + (mlp ? 30 : 0);
        if (kept <= budget) {
          EXPECT_GE(flops, c.flops) << budget;
        }
      }
    }
  }
}

TEST(Solver, TellsTheLeastWhereNothingFits) {
  const Choice c = Solve(Blocks(3), 29);
  EXPECT_FALSE(c.fits);
  EXPECT_EQ(c.kept, 30);
  EXPECT_EQ(c.blocks, std::vector<bool>(3, true));
}

}  // namespace
}  // namespace engine::checkpoint
