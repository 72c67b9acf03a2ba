// The worked samples compute what they say: gradients are slopes, recomputation keeps every bit,
// fused MLPs are MLPs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/support.h"
#include "tests/trained.h"

namespace engine::tests {
namespace {

class Samples : public testing::Test {
 protected:
  Samples() {
    WriteToyModel(folder_.Path("toy"));
    BuiltPlugins().LoadFolder(ENGINE_BINARY_DIR "/tests/samples");
  }
  std::unique_ptr<Chain> Made(const std::string& rest, const std::string& dtype = "F64") const {
    auto chain = std::make_unique<Chain>(Base(folder_.Path("toy"), "dtype: " + dtype) + rest);
    EXPECT_TRUE(chain->status().ok()) << chain->status().message();
    return chain;
  }

 private:
  TempFolder folder_;
};

constexpr char kDora[] = "dora { rank: 4 target: \"v_proj\" target: \"up_proj\" seed: 3 }";

TEST_F(Samples, DoraBeginsAtTheBaseModel) {
  const auto chain = Made(On("tuned", "base", kDora));
  EXPECT_LT(Distance(Logits(&chain->At("tuned")), Logits(&chain->At("base"))), 1e-12);
}

TEST_F(Samples, DorasGradientIsTheSlopeWithTheLengthHeldFixed) {
  const auto chain = Made(On("tuned", "base", kDora));
  // Along m the length does not change, so there the gradient is the slope of the whole.
  const Slopes slopes = CompareSlopes(&chain->At("tuned"), ".dora_m", 5);
  EXPECT_EQ(slopes.count, 8);
  EXPECT_LT(slopes.error, 1e-5);
}

TEST_F(Samples, AllOfDorasTensorsTrain) {
  const auto chain = Made(On("tuned", "base", kDora));
  int moved = 0;
  for (const auto& [name, gradient] : Train(&chain->At("tuned")).grads) {
    ASSERT_FALSE(gradient.empty()) << name;
    double most = 0;
    for (double g : gradient) most = std::max(most, std::abs(g));
    // While B is zero nothing reaches A.
    EXPECT_EQ(most > 0, !name.ends_with(".dora_A")) << name;
    moved += most > 0;
  }
  EXPECT_EQ(moved, 16);
}

TEST_F(Samples, RecomputingDeepBlocksKeepsEveryBit) {
  const auto chain = Made(
      On("tuned", "base", "lora { rank: 4 }") + On("lean", "tuned", "deep_blocks { from: 0.5 }"),
      "F32");
  MoveAdapters(&chain->At("tuned"));
  EXPECT_EQ(Difference(Train(&chain->At("tuned")), Train(&chain->At("lean"))), "");
  EXPECT_EQ(ServedLogits(&chain->At("tuned")), ServedLogits(&chain->At("lean")));
}

TEST_F(Samples, FusedMlpsAreMlps) {
  for (const char* dtype : {"F32", "F64"}) {
    const auto chain = Made(On("fused", "base", "fused_mlp { }") +
                                On("tuned", "fused", "lora { rank: 4 targets: \"q_proj\" }") +
                                On("plain", "base", "lora { rank: 4 targets: \"q_proj\" }"),
                            dtype);
    const double near = dtype == std::string("F64") ? 1e-12 : 2e-5;
    EXPECT_LT(Distance(Logits(&chain->At("fused")), Logits(&chain->At("base"))), near) << dtype;
    EXPECT_LT(Distance(Train(&chain->At("tuned")), Train(&chain->At("plain"))), near * 10) << dtype;
  }
}

}  // namespace
}  // namespace engine::tests
