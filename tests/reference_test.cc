// Served logits against a plain Llama in double precision, written from the definitions: weights as
// the parameter reads, activations quantized as each format says, keys and values rounded as each
// store says. Nothing is shared with the kernels but the weights.
//
// How near is near: where nothing is rounded to a grid on the way, float sums of 192 terms leave
// about 1e-6 of the greatest logit, in every row. A grid adds ties: a number within a float's error
// of the middle between two codes may go to either, and then logits move by a part of a code. Rows
// that met no tie tell the arithmetic: there are some in every format, and they must agree as
// floats do. The others must agree as well as a few codes allow.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "engine/kernels/packed.h"
#include "engine/model/extensions.h"
#include "engine/util.hpp"
#include "tests/serving.h"
#include "tests/support.h"

namespace engine::tests {
namespace {

using Vector = std::vector<double>;
using Rounding = std::function<void(double* x, int64_t count)>;

// int8 codes by groups of `group` (0: whole), one scale each: absmax / 127.
Rounding Int8By(int64_t group) {
  return [group](double* x, int64_t count) {
    for (int64_t first = 0; first < count; first += group == 0 ? count : group) {
      const int64_t end = group == 0 ? count : std::min(count, first + group);
      double top = 0;
      for (int64_t i = first; i < end; ++i) top = std::max(top, std::fabs(x[i]));
      if (top == 0) continue;
      for (int64_t i = first; i < end; ++i) x[i] = std::nearbyint(x[i] * 127 / top) * (top / 127);
    }
  };
}
void ToBf16(double* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    x[i] = static_cast<double>(kernels::FromBf16(kernels::ToBf16(static_cast<float>(x[i]))));
  }
}
void ToHalf(double* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    x[i] = static_cast<double>(HalfToFloat(FloatToHalf(static_cast<float>(x[i]))));
  }
}
void Exact(double*, int64_t) {}

// What a format does to numbers on their way.
struct Scheme {
  Rounding weights = Exact;      // beyond what the parameter says
  Rounding activations = Exact;  // before a product
  Rounding queries = Exact;      // of one head
  Rounding kept = Exact;         // keys and values of one head
};

class Reference {
 public:
  Reference(model::Model* model, Scheme scheme) : model_(model), scheme_(std::move(scheme)) {}

  // Logits after each token.
  std::vector<Vector> Logits(const std::vector<int32_t>& tokens) {
    const model::ModelConfig& c = model_->config();
    const auto count = tokens.size();
    std::vector<Vector> x;
    for (int32_t token : tokens) x.push_back(Row("model.embed_tokens.weight", token));
    for (int64_t b = 0; b < c.blocks; ++b) {
      const std::string block = "model.layers." + std::to_string(b) + ".";
      std::vector<Vector> q(count), k(count), v(count);
      for (size_t t = 0; t < count; ++t) {
        const Vector n = Norm(x[t], block + "input_layernorm.weight");
        q[t] = Linear(block + "self_attn.q_proj.weight", n);
        k[t] = Linear(block + "self_attn.k_proj.weight", n);
        v[t] = Linear(block + "self_attn.v_proj.weight", n);
        Rotate(&q[t], t);
        Rotate(&k[t], t);
        Heads(&q[t], scheme_.queries);
        Heads(&k[t], scheme_.kept);
        Heads(&v[t], scheme_.kept);
      }
      for (size_t t = 0; t < count; ++t) {
        Add(&x[t], Linear(block + "self_attn.o_proj.weight", Attend(q[t], k, v, t)));
        const Vector n = Norm(x[t], block + "post_attention_layernorm.weight");
        Vector gate = Linear(block + "mlp.gate_proj.weight", n);
        const Vector up = Linear(block + "mlp.up_proj.weight", n);
        for (size_t i = 0; i < gate.size(); ++i)
          gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
        Add(&x[t], Linear(block + "mlp.down_proj.weight", gate));
      }
    }
    std::vector<Vector> logits;
    for (const Vector& row : x) {
      logits.push_back(Linear("model.embed_tokens.weight", Norm(row, "model.norm.weight")));
    }
    return logits;
  }

 private:
  const std::vector<Vector>& Weight(const std::string& name) {
    auto [at, fresh] = weights_.try_emplace(name);
    if (!fresh) return at->second;
    const model::Param* param = model_->FindParam(name);
    for (int64_t r = 0; r < param->rows(); ++r) {
      std::vector<float> row(static_cast<size_t>(param->columns()));
      Must(model_->ReadRows(*param, r, r + 1, row.data()));
      at->second.emplace_back(row.begin(), row.end());
      scheme_.weights(at->second.back().data(), param->columns());
    }
    return at->second;
  }
  Vector Row(const std::string& name, int32_t row) {
    return Weight(name)[static_cast<size_t>(row)];
  }

  Vector Linear(const std::string& name, Vector x) {
    scheme_.activations(x.data(), static_cast<int64_t>(x.size()));
    Vector y;
    for (const Vector& row : Weight(name)) {
      double sum = 0;
      for (size_t i = 0; i < row.size(); ++i) sum += row[i] * x[i];
      y.push_back(sum);
    }
    return y;
  }
  Vector Norm(const Vector& x, const std::string& name) {
    double sum = 0;
    for (double v : x) sum += v * v;
    const double factor =
        1 / std::sqrt(sum / static_cast<double>(x.size()) + model_->config().norm_eps);
    Vector y = Weight(name)[0];
    for (size_t i = 0; i < y.size(); ++i) y[i] *= x[i] * factor;
    return y;
  }
  static void Add(Vector* x, const Vector& y) {
    for (size_t i = 0; i < y.size(); ++i) (*x)[i] += y[i];
  }
  void Heads(Vector* x, const Rounding& rounding) const {
    const int64_t dim = model_->config().head_dim;
    for (size_t at = 0; at < x->size(); at += static_cast<size_t>(dim)) rounding(&(*x)[at], dim);
  }
  // Angles are products in float, as the model was trained with.
  void Rotate(Vector* x, size_t position) const {
    const model::ModelConfig& c = model_->config();
    const auto dim = static_cast<size_t>(c.head_dim), half = dim / 2;
    for (size_t at = 0; at < x->size(); at += dim) {
      for (size_t i = 0; i < half; ++i) {
        const auto frequency = static_cast<float>(
            std::pow(c.rope_theta, -2.0 * static_cast<double>(i) / static_cast<double>(dim)));
        const auto angle = static_cast<double>(static_cast<float>(position) * frequency);
        const double u = (*x)[at + i], v = (*x)[at + half + i];
        (*x)[at + i] = u * std::cos(angle) - v * std::sin(angle);
        (*x)[at + half + i] = v * std::cos(angle) + u * std::sin(angle);
      }
    }
  }
  Vector Attend(const Vector& q, const std::vector<Vector>& k, const std::vector<Vector>& v,
                size_t last) const {
    const model::ModelConfig& c = model_->config();
    const auto dim = static_cast<size_t>(c.head_dim);
    const auto group = static_cast<size_t>(c.heads / c.kv_heads);
    Vector out(q.size());
    for (size_t h = 0; h < static_cast<size_t>(c.heads); ++h) {
      const size_t mine = h * dim, theirs = h / group * dim;
      Vector weight(last + 1);
      for (size_t t = 0; t <= last; ++t) {
        double sum = 0;
        for (size_t d = 0; d < dim; ++d) sum += q[mine + d] * k[t][theirs + d];
        weight[t] = sum / std::sqrt(static_cast<double>(dim));
      }
      const double top = *std::max_element(weight.begin(), weight.end());
      double all = 0;
      for (double& w : weight) all += w = std::exp(w - top);
      for (size_t t = 0; t <= last; ++t) {
        for (size_t d = 0; d < dim; ++d) out[mine + d] += weight[t] / all * v[t][theirs + d];
      }
    }
    return out;
  }

  model::Model* const model_;
  const Scheme scheme_;
  std::map<std::string, std::vector<Vector>> weights_;
};

struct Computed {
  const char* format;
  Rounding weights, activations;
  double worst;  // of rows that met ties; 0: there are none
};
const Computed kComputed[] = {
    {"F32", Exact, Exact, 0},
    {"BF16", ToBf16, ToBf16, 2e-2},
    {"Q8_0", Exact, Int8By(32), 5e-2},
    {"Q4_0", Exact, Int8By(32), 5e-2},
    {"Q4_1", Exact, Int8By(32), 5e-2},
    {"Q4_1_decoded", Exact, Exact, 0},
    {"int8_groups_32", Exact, Int8By(32), 5e-2},
    {"int8_groups_64", Exact, Int8By(64), 5e-2},
    {"int8_groups_128", Exact, Int8By(128), 5e-2},
    {"int8_per_channel", Exact, Int8By(0), 5e-2},
};

std::vector<int32_t> SomeTokens(uint32_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& t : tokens) t = static_cast<int32_t>(random() % SmallModel::kVocab);
  return tokens;
}

struct Errors {
  double clean = 0;  // of a row that met no tie: some of the short ones differ less
  double worst = 0;
};

// Greatest differences of rows, each as a share of the row's greatest logit. Short prompts meet few
// ties; `longest` shows many positions.
Errors Compare(model::Model* model, const Scheme& scheme, uint32_t longest) {
  Reference reference(model, scheme);
  Serving serving(model);
  std::vector<double> few, all;
  for (const uint32_t length : {1u, 1u, 1u, 1u, 2u, 1u, 1u, 2u, 1u, 1u, 2u, 1u, 1u, longest}) {
    const std::vector<int32_t> tokens = SomeTokens(length, 100 + static_cast<uint32_t>(all.size()));
    const std::vector<Vector> want = reference.Logits(tokens);
    const std::vector<float> got = serving.Alone(tokens);
    for (size_t r = 0; r < want.size(); ++r) {
      double most = 0, top = 0;
      for (size_t i = 0; i < want[r].size(); ++i) {
        const auto g = static_cast<double>(got[r * want[r].size() + i]);
        most = std::max(most, std::fabs(want[r][i] - g));
        top = std::max(top, std::fabs(want[r][i]));
      }
      all.push_back(most / top);
      if (length <= 2) few.push_back(most / top);
    }
  }
  std::sort(few.begin(), few.end());
  return {few[few.size() / 5], *std::max_element(all.begin(), all.end())};
}

const Computed& ComputedAs(const std::string& name) {
  return *std::find_if(std::begin(kComputed), std::end(kComputed),
                       [&](const Computed& c) { return name == c.format; });
}

std::string Text(const TempFolder& folder, const std::string& name, const std::string& kv) {
  WriteSmallModel(folder.Path("m.gguf"), FormatNamed(name).stored);
  return ChainText(folder.Path("m.gguf"), FormatNamed(name), "dtype: " + kv + " budget: \"8MiB\"");
}

using Setting = std::tuple<std::string, std::string>;  // format, road
class ReferenceTest : public testing::TestWithParam<Setting> {};

TEST_P(ReferenceTest, ServedLogitsAreThoseOfTheDefinition) {
  const auto& [name, road_name] = GetParam();
  const Road road(road_name);
  if (!road.there()) GTEST_SKIP() << "this machine has no " << road_name;
  const Computed& how = ComputedAs(name);
  TempFolder folder;
  for (const std::string kv : kKvFormats) {
    SCOPED_TRACE(kv);
    Chain chain(Text(folder, name, kv));
    ASSERT_TRUE(chain.status().ok()) << chain.status().message();
    Scheme scheme{how.weights, how.activations, Exact, Exact};
    if (kv == "F16") scheme.kept = ToHalf;
    if (kv == "INT8") scheme.queries = scheme.kept = Int8By(0);
    // Where activations are floats, each long row is held to what keys and values allow.
    const bool floats = how.worst == 0;
    const Errors errors = Compare(&chain.At("kv"), scheme, floats ? 140 : 24);
    EXPECT_LT(errors.clean, 3e-6);
    const double worst = kv == "F32" ? 1e-5 : kv == "F16" ? 1e-3 : 5e-3;
    EXPECT_LT(errors.worst, floats ? worst : how.worst);
  }
}

// The bound on rows without ties tells schemes apart that differ in one thing alone.
TEST(ReferenceTest, AnotherSchemeIsNoticed) {
  struct Wrong {
    const char* name;
    const char* kv;
    Scheme scheme;
  };
  const std::vector<Wrong> wrong = {
      {"BF16", "F32", {ToBf16, Exact, Exact, Exact}},
      {"BF16", "F32", {Exact, ToBf16, Exact, Exact}},
      {"Q8_0", "F32", {Exact, Exact, Exact, Exact}},
      {"Q4_1", "F32", {Exact, Int8By(64), Exact, Exact}},
      {"int8_groups_64", "F32", {Exact, Int8By(32), Exact, Exact}},
      {"int8_per_channel", "F32", {Exact, Int8By(128), Exact, Exact}},
      // With one position alone in its context a value is all that a head gives.
      {"F32", "F16", {Exact, Exact, Exact, Exact}},
      {"F32", "INT8", {Exact, Exact, Exact, Exact}},
      {"F32", "F32", {Exact, Exact, Exact, ToHalf}},
  };
  TempFolder folder;
  for (const Wrong& w : wrong) {
    Chain chain(Text(folder, w.name, w.kv));
    ASSERT_TRUE(chain.status().ok()) << chain.status().message();
    const double clean = Compare(&chain.At("kv"), w.scheme, 24).clean;
    EXPECT_GT(clean, 1e-5) << w.name << " " << w.kv;
  }
}

std::vector<std::string> FormatNames() {
  std::vector<std::string> names;
  for (const WeightFormat& f : WeightFormats()) names.push_back(f.name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Formats, ReferenceTest,
                         testing::Combine(testing::ValuesIn(FormatNames()),
                                          testing::Values("plain", "avx2", "avx512")),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param);
                         });

}  // namespace
}  // namespace engine::tests
