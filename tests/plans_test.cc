// Random legal plans on a small model in F64: whatever is composed, loss and gradients are those of
// every site by itself with nothing recomputed (T-24), and the same plan twice gives the same bits
// (T-19). A bug that is put into one plan is seen.
#include <gtest/gtest.h>

#include <random>

#include "engine/model/extensions.h"
#include "engine/torch_ops.h"
#include "tests/support.h"
#include "tests/trained.h"

namespace engine::tests {
namespace {

// A chain of transforms, and how its loss is computed; by `seed` alone.
struct Plan {
  std::string middle, recompute, last;
  ops::Tensor example = ops::Empty({2, 48}, ENGINE_I64);
  model::LossHow how;
  bool adapters = true;

  explicit Plan(uint32_t seed) {
    std::mt19937 random(seed);
    const auto one_of = [&](std::initializer_list<const char*> all) {
      return std::string(all.begin()[random() % all.size()]);
    };
    last = "base";
    const auto add = [&](std::string* to, const std::string& name, const std::string& kind) {
      *to += On(name, last, kind);
      last = name;
    };
    const bool trains = random() % 3 == 0;
    if (!trains && random() % 2 == 0) {
      add(&middle, "small",
          one_of({"int8 { }", "int8 { scheme: PER_CHANNEL }",
                  "int8 { targets: \"model.layers.*.mlp.*\" }"}));
    }
    if (trains) {
      add(&middle, "own",
          "trainable { " +
              one_of({"", "targets: \"norm\"", "targets: \"model.layers.*.mlp.*\"",
                      "targets: \"model.embed_tokens\" targets: \"lm_head\""}) +
              " }");
    }
    adapters = !trains || random() % 2 == 0;
    if (adapters) {
      add(&middle, "tuned",
          "lora { rank: 3 seed: " + std::to_string(seed) + " " +
              one_of({"", "rslora: true", "dropout: 0.2", "dora: true"}) + " " +
              one_of({"", "targets: \"q_proj\" targets: \"down_proj\"",
                      "targets: \"model.layers.*.self_attn.*\"",
                      "rank_pattern: \"up_proj=5\" alpha_pattern: \"k_proj=9\""}) +
              " }");
    }
    const std::string before = last;
    add(&recompute, "lean",
        "checkpoint { " +
            one_of({"", "every: 2", "policy: \"1300kB\"", "policy: \"NONE\"",
                    "regions: \"model.layers.*.mlp\"",
                    "regions: \"self_attn\" regions: \"model.layers.1.mlp\""}) +
            " }");
    last = before;
    for (int64_t i = 0; i < 96; ++i) {
      ops::Data<int64_t>(example)[i] = i % 48 / (5 + static_cast<int64_t>(seed % 20));
    }
    how.dropout = true;
    how.step = seed;
    how.microbatch = seed % 3;
    how.label_smoothing = random() % 3 == 0 ? 0.1 : 0;
    if (random() % 2 == 0) how.example = &example;
  }
};

class Plans : public testing::TestWithParam<uint32_t> {};

TEST_P(Plans, AreTheSitesThemselves) {
  TempFolder folder;
  WriteToyModel(folder.Path("toy"));
  const Plan plan(GetParam());
  SCOPED_TRACE(plan.middle + plan.recompute);
  Chain fused(Base(folder.Path("toy"), "dtype: F64") + plan.middle + plan.recompute);
  Chain plain(Base(folder.Path("toy"), "dtype: F64 sites: PLAIN") + plan.middle);
  ASSERT_TRUE(fused.status().ok()) << fused.status().message();
  ASSERT_TRUE(plain.status().ok()) << plain.status().message();
  for (Chain* chain : {&fused, &plain}) {
    if (plan.adapters) MoveAdapters(&chain->At(plan.last));
  }
  const Training got = Train(&fused.At("lean"), 48, 2, plan.how);
  EXPECT_LT(Distance(got, Train(&plain.At(plan.last), 48, 2, plan.how)), 1e-9);
  EXPECT_EQ(Difference(Train(&fused.At("lean"), 48, 2, plan.how), got), "");
  EXPECT_EQ(Difference(Train(&fused.At(plan.last), 48, 2, plan.how), got), "");
}

INSTANTIATE_TEST_SUITE_P(All, Plans, testing::Range(0u, 40u));

TEST(PlansBugs, AWrongFactorIsSeen) {
  TempFolder folder;
  WriteToyModel(folder.Path("toy"));
  int tried = 0;
  for (uint32_t seed = 0; seed < 40 && tried < 5; ++seed) {
    const Plan plan(seed);
    Chain chain(Base(folder.Path("toy"), "dtype: F64") + plan.middle);
    ASSERT_TRUE(chain.status().ok()) << chain.status().message();
    model::Model& model = chain.At(plan.last);
    const auto* low = model::Ask<engine_low_rank>(
        model.impl(model.FindSite("model.layers.1.self_attn.q_proj")), ENGINE_EXT_LOW_RANK);
    if (low == nullptr) continue;
    ++tried;
    MoveAdapters(&model);
    const Training want = Train(&model, 48, 2, plan.how);
    const_cast<engine_low_rank*>(low)->scale *= 1.001;
    EXPECT_GT(Distance(Train(&model, 48, 2, plan.how), want), 1e-9) << plan.middle;
  }
  EXPECT_EQ(tried, 5);
}

}  // namespace
}  // namespace engine::tests
