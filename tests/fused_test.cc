// The fused parts of training against every site by itself: in F64, where only the order of sums
// may differ, and in F32 against F64.
#include <gtest/gtest.h>

#include "engine/model/extensions.h"
#include "engine/torch_ops.h"
#include "tests/support.h"
#include "tests/trained.h"

namespace engine::tests {
namespace {

struct Case {
  const char* name;
  const char* dtype;
  bool int8;
  const char* targets;
};

class Fused : public testing::TestWithParam<Case> {
 protected:
  Fused() { WriteToyModel(folder_.Path("toy")); }
  // The chain of a case, by fused or plain sites.
  std::string Text(const std::string& sites, const std::string& dtype) const {
    const Case& c = GetParam();
    std::string text = Base(folder_.Path("toy"), "dtype: " + dtype + " sites: " + sites);
    if (c.int8) text += On("small", "base", "int8 { }");
    return text + On("tuned", c.int8 ? "small" : "base",
                     std::string("lora { rank: 4 alpha: 8 seed: 3 ") + c.targets + " }");
  }
  Training Run(const std::string& sites, const std::string& dtype, const model::LossHow& how = {}) {
    Chain chain(Text(sites, dtype));
    EXPECT_TRUE(chain.status().ok()) << chain.status().message();
    MoveAdapters(&chain.At("tuned"));
    return Train(&chain.At("tuned"), 48, 2, how);
  }

 private:
  TempFolder folder_;
};

TEST_P(Fused, IsWhatTheSitesCompute) {
  const Case& c = GetParam();
  const Training fused = Run("FUSED", c.dtype);
  EXPECT_EQ(Untrained(fused, true), "");
  const bool wide = std::string(c.dtype) == "F64";
  EXPECT_LT(Distance(fused, Run("PLAIN", c.dtype)), wide ? 1e-11 : 2e-5);
  // Rounding to int8 turns the last bits of a float into whole steps, so that F32 may leave F64.
  if (!c.int8) {
    EXPECT_LT(Distance(fused, Run("PLAIN", "F64")), wide ? 1e-11 : 2e-5);
  }
}

TEST_P(Fused, PackedExamplesAndSmoothedLabels) {
  const ops::Tensor example = ops::Empty({2, 48}, ENGINE_I64);
  for (int64_t i = 0; i < 96; ++i) ops::Data<int64_t>(example)[i] = i % 48 / 20;
  const model::LossHow how = {.example = &example, .label_smoothing = 0.1};
  const bool wide = std::string(GetParam().dtype) == "F64";
  const Training fused = Run("FUSED", GetParam().dtype, how);
  EXPECT_LT(Distance(fused, Run("PLAIN", GetParam().dtype, how)), wide ? 1e-11 : 2e-5);
  EXPECT_GT(Distance(fused, Run("PLAIN", GetParam().dtype)), 1e-3);
}

INSTANTIATE_TEST_SUITE_P(
    All, Fused,
    testing::Values(Case{"F64", "F64", false, ""}, Case{"F64Int8", "F64", true, ""},
                    Case{"F32", "F32", false, ""}, Case{"F32Int8", "F32", true, ""},
                    Case{"SomeLinears", "F64", false, "targets: \"q_proj\" targets: \"up_proj\""}),
    [](const auto& info) { return std::string(info.param.name); });

// What the comparison is worth: one branch scaled otherwise.
TEST(FusedBugs, AScaleThatIsLostIsNoticed) {
  TempFolder folder;
  WriteToyModel(folder.Path("toy"));
  const auto text = [&](const char* sites) {
    return Base(folder.Path("toy"), std::string("dtype: F64 sites: ") + sites) +
           On("tuned", "base", "lora { rank: 4 alpha: 8 }");
  };
  Chain fused(text("FUSED")), plain(text("PLAIN"));
  ASSERT_TRUE(fused.status().ok() && plain.status().ok());
  for (Chain* chain : {&fused, &plain}) MoveAdapters(&chain->At("tuned"));
  const Training want = Train(&plain.At("tuned"));
  ASSERT_LT(Distance(Train(&fused.At("tuned")), want), 1e-11);
  model::Model& model = fused.At("tuned");
  auto* low = const_cast<engine_low_rank*>(model::Ask<engine_low_rank>(
      model.impl(model.FindSite("model.layers.2.mlp.up_proj")), ENGINE_EXT_LOW_RANK));
  low->scale *= 1.01;
  EXPECT_GT(Distance(Train(&model), want), 1e-5);
}

}  // namespace
}  // namespace engine::tests
