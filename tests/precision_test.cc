// Training with products in bf16: near F32, the same to the bit when parts are recomputed, and
// where nothing trains, nothing changes.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support.h"
#include "tests/trained.h"

namespace engine::tests {
namespace {

class Precision : public testing::Test {
 protected:
  Precision() { WriteToyModel(folder_.Path("toy")); }
  std::string Text(const std::string& load = "", const std::string& middle = "") const {
    return Base(folder_.Path("toy"), load) + middle +
           On("tuned", middle.empty() ? "base" : "small", "lora { rank: 4 }") +
           On("lean", "tuned", "checkpoint { }") +
           On("fast", "tuned", "precision { dtype: BF16 }") +
           On("both", "lean", "precision { dtype: BF16 }");
  }
  TempFolder folder_;
};

// Cosine of the angle between all gradients.
double Cosine(const Training& a, const Training& b) {
  double dot = 0, aa = 0, bb = 0;
  for (const auto& [name, grad] : a.grads) {
    const std::vector<double>& other = b.grads.at(name);
    for (size_t i = 0; i < grad.size(); ++i) {
      dot += grad[i] * other[i];
      aa += grad[i] * grad[i];
      bb += other[i] * other[i];
    }
  }
  return dot / std::sqrt(aa * bb);
}

TEST_F(Precision, IsNearF32AndTheSameWhenRecomputed) {
  for (const std::string& middle : {std::string(), On("small", "base", "int8 { }")}) {
    for (const char* load : {"", "sites: PLAIN"}) {
      Chain chain(Text(load, middle));
      ASSERT_TRUE(chain.status().ok()) << chain.status().message();
      MoveAdapters(&chain.At("tuned"));
      const Training wide = Train(&chain.At("tuned")), narrow = Train(&chain.At("fast"));
      EXPECT_EQ(Untrained(narrow, true), "");
      EXPECT_NE(narrow.loss, wide.loss) << "nothing ran in bf16";
      EXPECT_NEAR(narrow.loss, wide.loss, 2e-2);
      EXPECT_GT(Cosine(narrow, wide), 0.995);
      EXPECT_EQ(Difference(Train(&chain.At("both")), narrow), "") << load;
      // The state of the thread is as it was.
      EXPECT_EQ(Difference(Train(&chain.At("tuned")), wide), "");
    }
  }
}

TEST_F(Precision, WeightsThatTrainStayF32) {
  Chain chain(Base(folder_.Path("toy")) + On("tuned", "base", "trainable { }") +
              On("fast", "tuned", "precision { dtype: BF16 }"));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  const Training wide = Train(&chain.At("tuned")), narrow = Train(&chain.At("fast"));
  EXPECT_EQ(narrow.grads.size(), wide.grads.size());
  EXPECT_GT(Cosine(narrow, wide), 0.995);
  for (const model::Param& p : chain.At("fast").params()) {
    EXPECT_EQ(p.dtype, uint32_t{ENGINE_F32}) << p.name;
  }
}

TEST_F(Precision, ServingIsNotTouched) {
  Chain chain(Text());
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  EXPECT_EQ(Generate(&chain.At("fast"), {5, 9, 17}, 2).logits,
            Generate(&chain.At("tuned"), {5, 9, 17}, 2).logits);
}

TEST_F(Precision, WhatCannotBeIsRefused) {
  const auto message = [&](const std::string& load, const std::string& options) {
    Chain chain(Base(folder_.Path("toy"), load) +
                On("fast", "base", "precision { " + options + " }"));
    return std::string(chain.status().message());
  };
  EXPECT_NE(message("", "dtype: F16").find("needs a GPU"), std::string::npos);
  EXPECT_NE(message("dtype: F64", "dtype: BF16").find("loaded in F32"), std::string::npos);
  EXPECT_EQ(message("dtype: F64", ""), "");
  EXPECT_EQ(message("", ""), "");
}

}  // namespace
}  // namespace engine::tests
