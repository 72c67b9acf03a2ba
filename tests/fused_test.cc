// The fused parts of training against every site by itself: in F64, where only the order of sums
// may differ, and in F32 against F64.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/model/autograd.h"
#include "engine/model/extensions.h"
#include "engine/model/train_ops.h"
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

// --- over int8 (T-15) ----------------------------------------------------------------------------

// What an int8 linear is worth: its rows differ from the dense ones by at most half a step, and
// gradients through it are those through its dequantized weight.
TEST(OverInt8, GradientsAreThoseOfTheDequantizedWeight) {
  TempFolder folder;
  WriteToyModel(folder.Path("toy"));
  for (const char* scheme : {"", "scheme: PER_CHANNEL"}) {
    Chain chain(Base(folder.Path("toy")) +
                On("small", "base", std::string("int8 { ") + scheme + " }"));
    ASSERT_TRUE(chain.status().ok()) << chain.status().message();
    const std::string name = "model.layers.1.mlp.up_proj.weight";
    const model::Param& small = *chain.At("small").FindParam(name);
    ASSERT_NE(small.packed, nullptr);
    const int64_t out = small.rows(), in = small.columns();
    std::vector<float> dense(static_cast<size_t>(in)), rounded(dense);
    for (int64_t r = 0; r < out; ++r) {
      ASSERT_TRUE(chain.At("base")
                      .ReadRows(*chain.At("base").FindParam(name), r, r + 1, dense.data())
                      .ok());
      small.packed->GetRow(r, rounded.data());
      const int64_t group = small.packed->group_size();
      for (int64_t first = 0; first < in; first += group) {
        float top = 0;
        const int64_t last = std::min(in, first + group);
        for (int64_t k = first; k < last; ++k) {
          top = std::max(top, std::abs(dense[static_cast<size_t>(k)]));
        }
        // Half a step, and what the scale itself loses in half precision.
        const float bound = top / 127.0f * (0.5f + 127.0f / 2048.0f);
        for (int64_t k = first; k < last; ++k) {
          const auto at = static_cast<size_t>(k);
          ASSERT_LE(std::abs(dense[at] - rounded[at]), bound) << r << ", " << k;
        }
      }
    }
    const auto waves = [](const ops::Ints& sizes, double phase) {
      const ops::Tensor t = ops::Empty(sizes, ENGINE_F32);
      for (int64_t i = 0; i < t.numel(); ++i) {
        ops::Data<float>(t)[i] = static_cast<float>(std::sin(0.7 * static_cast<double>(i) + phase));
      }
      return t;
    };
    // Gradients of x, A and B for a fixed gradient of y.
    const auto gradients = [&](bool packed) {
      const ops::Tensor x = waves({7, in}, 0), a = waves({3, in}, 1), b = waves({out, 3}, 2);
      for (const ops::Tensor& leaf : {x, a, b}) ops::SetRequiresGrad(leaf, true);
      model::LinearParts parts;
      if (packed) {
        parts.packed = small.packed;
      } else {
        std::optional<ops::Tensor> weight;
        EXPECT_TRUE(chain.At("small").DenseTensor(small, &weight).ok());
        parts.weight = *weight;
      }
      parts.a = a;
      parts.b = b;
      parts.scale = 2;
      const ops::Tensor y = model::FusedLinears(x, {parts})[0];
      const ops::Tensor sum = ops::Sum(ops::Mul(y, waves({7, out}, 3)));
      EXPECT_EQ(model::AutogradHost()->backward(sum.get(), nullptr), nullptr);
      std::vector<float> all;
      for (const ops::Tensor& leaf : {x, a, b}) {
        AtenTensorHandle handle = nullptr;
        EXPECT_EQ(model::AutogradHost()->grad_of(leaf.get(), &handle), nullptr);
        const ops::Tensor grad = ops::Contiguous(ops::Tensor(handle));
        all.insert(all.end(), ops::Data<float>(grad), ops::Data<float>(grad) + grad.numel());
      }
      return all;
    };
    EXPECT_EQ(gradients(true), gradients(false));
  }
}

}  // namespace
}  // namespace engine::tests
