// The stored plugin of the STABLE tier, built with the SDK of 1.0 for LibTorch 2.13, on whatever
// LibTorch this host has: three ways to one loss and one gradient, and the gradient is the slope.
#include <gtest/gtest.h>

#include "tests/support.h"
#include "tests/trained.h"

namespace engine::tests {
namespace {

class StableReplay : public testing::Test {
 protected:
  StableReplay() {
    WriteToyModel(folder_.Path("toy"));
    static const Status loaded =
        BuiltPlugins().LoadFile(ENGINE_SOURCE_DIR "/tests/replay/1.0/replay_stable.so");
    EXPECT_TRUE(loaded.ok()) << loaded.message();
  }
  std::unique_ptr<Chain> Scaled(const std::string& how) const {
    auto chain = std::make_unique<Chain>(
        Base(folder_.Path("toy"), "dtype: F64") +
        On("scaled", "base",
           "replay_scale { how: " + how +
               " start: 0.25 targets: \"v_proj\" targets: \"model.layers.*.mlp.down_proj\" }"));
    EXPECT_TRUE(chain->status().ok()) << chain->status().message();
    return chain;
  }

 private:
  TempFolder folder_;
};

TEST_F(StableReplay, ThreeWaysGiveOneLossAndOneGradient) {
  const auto composed = Scaled("COMPOSED"), custom = Scaled("CUSTOM"),
             recomputed = Scaled("RECOMPUTED");
  const Training one = Train(&composed->At("scaled"));
  EXPECT_EQ(one.grads.size(), 8u);  // two linears in each of four blocks
  EXPECT_LT(Distance(one, Train(&custom->At("scaled"))), 1e-12);
  EXPECT_EQ(Difference(one, Train(&recomputed->At("scaled"))), "");
  // They differ from what is not scaled, or nothing was compared.
  EXPECT_NE(Logits(&composed->At("scaled")), Logits(&composed->At("base")));
}

TEST_F(StableReplay, TheGradientIsTheSlopeOfTheLoss) {
  const auto chain = Scaled("CUSTOM");
  const Slopes slopes = CompareSlopes(&chain->At("scaled"), ".scale", 3);
  EXPECT_EQ(slopes.count, 8);
  EXPECT_LT(slopes.error, 1e-5);
}

TEST_F(StableReplay, TheNamesThatItGaveAreTheModels) {
  const auto chain = Scaled("COMPOSED");
  for (const auto& [name, grads] : Train(&chain->At("scaled")).grads) {
    EXPECT_TRUE(name.ends_with(".scale")) << name;
    EXPECT_FALSE(grads.empty()) << name;
  }
}

}  // namespace
}  // namespace engine::tests
