// Training a model's own weights, and models that begin with random ones.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/model/autograd.h"
#include "engine/torch_ops.h"
#include "tests/support.h"
#include "tests/trained.h"

namespace engine::tests {
namespace {

class Full : public testing::Test {
 protected:
  Full() { WriteToyModel(folder_.Path("toy")); }
  std::string Toy(const std::string& load, const std::string& trainable = "") const {
    return Base(folder_.Path("toy"), load) + On("tuned", "base", "trainable { " + trainable + " }");
  }
  TempFolder folder_;
};

TEST_F(Full, EveryWeightGetsAGradientThatIsTheSitesOwn) {
  Chain fused(Toy("dtype: F64")), plain(Toy("dtype: F64 sites: PLAIN"));
  ASSERT_TRUE(fused.status().ok()) << fused.status().message();
  ASSERT_TRUE(plain.status().ok()) << plain.status().message();
  const Training a = Train(&fused.At("tuned"));
  EXPECT_EQ(a.grads.size(), 4u * 9 + (fused.At("tuned").config().tied_embedding ? 2 : 3));
  for (const auto& [name, grad] : a.grads) {
    double most = 0;
    for (double g : grad) most = std::max(most, std::abs(g));
    EXPECT_GT(most, 0) << name;
  }
  EXPECT_LT(Distance(a, Train(&plain.At("tuned"))), 1e-10);
}

TEST_F(Full, InF32AsInF64AndRecomputedToTheBit) {
  Chain narrow(Toy("") + On("lean", "tuned", "checkpoint { }")), wide(Toy("dtype: F64"));
  ASSERT_TRUE(narrow.status().ok()) << narrow.status().message();
  ASSERT_TRUE(wide.status().ok()) << wide.status().message();
  const Training a = Train(&narrow.At("tuned"));
  EXPECT_LT(Distance(a, Train(&wide.At("tuned"))), 5e-5);
  EXPECT_EQ(Difference(Train(&narrow.At("lean")), a), "");
}

TEST_F(Full, OnlyWhatWasNamedTrainsAndTheBaseStays) {
  Chain chain(Toy("", "targets: \"model.layers.*.mlp.*\" targets: \"norm\""));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  const Training t = Train(&chain.At("tuned"));
  EXPECT_EQ(t.grads.size(), 4u * 3 + 1);
  const std::vector<int32_t> ids = {5, 9, 17};
  const Greedy before = Generate(&chain.At("base"), ids, 2);
  EXPECT_EQ(Generate(&chain.At("tuned"), ids, 2).logits, before.logits);
  for (const model::Param& p : chain.At("tuned").params()) {
    if (!p.trainable) continue;
    ops::Tensor into = ops::Detach(*p.tensor);
    ops::CopyInto(into, ops::Scale(into, 1.5));
  }
  chain.At("tuned").ParamsChanged();
  EXPECT_NE(Generate(&chain.At("tuned"), ids, 2).logits, before.logits)
      << "serving did not notice that weights changed";
  EXPECT_EQ(Generate(&chain.At("base"), ids, 2).logits, before.logits);
}

TEST_F(Full, WhatCannotTrainIsRefused) {
  Chain integers(Base(folder_.Path("toy")) + On("small", "base", "int8 { }") +
                 On("tuned", "small", "trainable { }"));
  EXPECT_NE(integers.status().message().find("held as integers"), std::string_view::npos)
      << integers.status().message();
  Chain nothing(Toy("", "targets: \"q_prj\""));
  EXPECT_NE(nothing.status().message().find("matches no site that has a weight"),
            std::string_view::npos);
  Chain narrow(Toy("dtype: BF16"));
  EXPECT_NE(narrow.status().message().find("F32 or F64"), std::string_view::npos);
}

TEST_F(Full, RandomWeightsLearn) {
  const std::string load =
      "random { hidden: 48 blocks: 2 heads: 3 kv_heads: 1 mlp: 64 seed: 5 deviation: 0.05 }";
  Chain one(Base(folder_.Path("toy"), load)), same(Base(folder_.Path("toy"), load)),
      other(Base(folder_.Path("toy"),
                 "random { hidden: 48 blocks: 2 heads: 3 kv_heads: 1 mlp: 64 "
                 "seed: 6 deviation: 0.05 }"));
  ASSERT_TRUE(one.status().ok()) << one.status().message();
  EXPECT_EQ(one.At("base").config().hidden, 48);
  EXPECT_EQ(one.At("base").config().head_dim, 16);
  const std::vector<int32_t> ids = {5, 9, 17};
  const auto logits = Generate(&one.At("base"), ids, 1).logits;
  EXPECT_EQ(Generate(&same.At("base"), ids, 1).logits, logits);
  EXPECT_NE(Generate(&other.At("base"), ids, 1).logits, logits);

  const Status status =
      RunPipeline(Base(folder_.Path("toy"), load) + On("tuned", "base", "trainable { }") +
                  "node { name: \"data\" dataset { path: \"" ENGINE_SOURCE_DIR
                  "/LICENSE\" shape: TEXT epochs: 0 sequence: 32 batch: 4 } use: \"tuned\" out: "
                  "\"batches\" }\n"
                  "node { name: \"train\" trainer { steps: 30 lr: 0.01 } in: \"batches\" use: "
                  "\"tuned\" out: \"steps\" }\n"
                  "node { name: \"log\" train_log { path: \"" +
                  folder_.Path("log.jsonl") + "\" } in: \"steps\" }\n" +
                  "node { name: \"whole\" export_model { path: \"" + folder_.Path("out") +
                  "\" } use: \"tuned\" in: \"steps\" }\n");
  ASSERT_TRUE(status.ok()) << status.message();
  std::istringstream lines(ReadFile(folder_.Path("log.jsonl")));
  std::vector<double> losses;
  for (std::string line; std::getline(lines, line);) {
    losses.push_back(nlohmann::json::parse(line)["loss"]);
  }
  ASSERT_EQ(losses.size(), 30u);
  EXPECT_LT(losses.back(), losses.front() - 1);
  // What was written is a model of that size, and no longer a random one.
  Chain written(Base(folder_.Path("out")));
  ASSERT_TRUE(written.status().ok()) << written.status().message();
  EXPECT_EQ(written.At("base").config().hidden, 48);
  EXPECT_NE(Generate(&written.At("base"), ids, 1).logits, logits);
}

TEST_F(Full, RandomShapesThatDoNotFitAreRefused) {
  Chain chain(Base(folder_.Path("toy"), "random { hidden: 50 heads: 3 }"));
  EXPECT_NE(chain.status().message().find("no multiple of 3 heads"), std::string_view::npos)
      << chain.status().message();
}

}  // namespace
}  // namespace engine::tests
