// Independent plugins on one model: INT8, LoRA, recomputation and the KV cache, in training and in
// serving, exactly. Each comparison is shown to notice a seeded bug.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/model/autograd.h"
#include "engine/model/extensions.h"
#include "engine/torch_ops.h"
#include "tests/support.h"
#include "tests/trained.h"

namespace engine::tests {
namespace {

// --- training: recomputation changes no bit ------------------------------------------------------

struct Case {
  const char* name;
  bool real;
  const char* load;
  bool int8;
  int every;
};
class Recompute : public testing::TestWithParam<Case> {};

TEST_P(Recompute, LossAndGradientsKeepTheirBits) {
  const Case& c = GetParam();
  TempFolder folder;
  if (!c.real) WriteToyModel(folder.Path("toy"));
  std::string text = Base(c.real ? RealModel() : folder.Path("toy"), c.load);
  if (c.int8) text += On("small", "base", "int8 { }");
  text += On("tuned", c.int8 ? "small" : "base", "lora { rank: 4 alpha: 8 seed: 3 }");
  text += On("lean", "tuned", "checkpoint { every: " + std::to_string(c.every) + " }");
  Chain chain(text);
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  MoveAdapters(&chain.At("tuned"));
  const Training plain = Train(&chain.At("tuned"));
  EXPECT_EQ(Untrained(plain, true), "");
  EXPECT_EQ(Difference(Train(&chain.At("lean")), plain), "");
  EXPECT_EQ(Difference(Train(&chain.At("tuned")), plain), "")
      << "training itself is not repeatable";
}

INSTANTIATE_TEST_SUITE_P(All, Recompute,
                         testing::Values(Case{"ToyF64Dense", false, "dtype: F64", false, 1},
                                         Case{"ToyF64Int8", false, "dtype: F64", true, 1},
                                         Case{"ToyF64EverySecond", false, "dtype: F64", true, 2},
                                         Case{"ToyF32Int8", false, "", true, 1},
                                         Case{"RealDense", true, "", false, 1},
                                         Case{"RealInt8", true, "", true, 1}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Recompute, SeededBugsAreNoticed) {
  TempFolder folder;
  WriteToyModel(folder.Path("toy"));
  const std::string text = Base(folder.Path("toy"), "dtype: F64") +
                           On("tuned", "base", "lora { rank: 4 alpha: 8 }") +
                           On("lean", "tuned", "checkpoint { }");
  Chain chain(text);
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  MoveAdapters(&chain.At("tuned"));
  const Training plain = Train(&chain.At("tuned"));

  // A site is skipped: one linear has no branch.
  Chain skipped(Base(folder.Path("toy"), "dtype: F64") +
                On("tuned", "base",
                   "lora { rank: 4 alpha: 8 targets: \"q_proj\" targets: \"k_proj\" "
                   "targets: \"v_proj\" targets: \"o_proj\" targets: \"gate_proj\" "
                   "targets: \"up_proj\" targets: \"model.layers.*[^3].mlp.down_proj\" }"));
  EXPECT_NE(skipped.status().message().find("matches no linear"), std::string_view::npos)
      << skipped.status().message();
  Chain without(Base(folder.Path("toy"), "dtype: F64") +
                On("tuned", "base",
                   "lora { rank: 4 alpha: 8 targets: \"*.*.*.self_attn.*\" targets: \"gate_proj\" "
                   "targets: \"up_proj\" }"));
  ASSERT_TRUE(without.status().ok()) << without.status().message();
  MoveAdapters(&without.At("tuned"));
  EXPECT_NE(Difference(Train(&without.At("tuned")), plain), "");

  // A scale is dropped from one branch.
  const uint32_t site = chain.At("tuned").FindSite("model.layers.2.mlp.up_proj");
  auto* low = const_cast<engine_low_rank*>(
      model::Ask<engine_low_rank>(chain.At("tuned").impl(site), ENGINE_EXT_LOW_RANK));
  ASSERT_NE(low, nullptr);
  const double scale = low->scale;
  low->scale = 1;
  EXPECT_NE(Difference(Train(&chain.At("lean")), plain), "");
  low->scale = scale;
  EXPECT_EQ(Difference(Train(&chain.At("lean")), plain), "");

  // A branch that does not take part in the loss.
  Training broken = plain;
  broken.grads.begin()->second.clear();
  EXPECT_NE(Untrained(broken, true), "");
}

// --- LoRA trains, and the base stays -------------------------------------------------------------

TEST(Training, EveryAdapterTrainsAndTheBaseStaysAsItWas) {
  Chain chain(Base(RealModel()) + On("small", "base", "int8 { }") +
              On("tuned", "small", "lora { }") + On("lean", "tuned", "checkpoint { }"));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  model::Model& model = chain.At("lean");
  const auto base_values = [&] {
    std::vector<float> values;
    for (const model::Param& p : model.params()) {
      if (p.trainable) continue;
      std::vector<float> row(static_cast<size_t>(p.columns()));
      EXPECT_TRUE(model.ReadRows(p, p.rows() - 1, p.rows(), row.data()).ok());
      values.insert(values.end(), row.begin(), row.end());
    }
    // What is computed with is the packed matrix: its logits change when any of it does.
    const Greedy g = Generate(&chain.At("small"), {504, 3575, 282}, 2);
    for (const auto& l : g.logits) values.insert(values.end(), l.begin(), l.end());
    return values;
  };
  const std::vector<float> before = base_values();
  const Training first = Train(&model, 24, 1);
  EXPECT_EQ(first.grads.size(), 420u);  // 7 linears of 30 blocks, two halves
  EXPECT_EQ(Untrained(first, false), "");
  // One step of plain gradient descent moves B; then A has a gradient too.
  for (const model::Param& p : model.params()) {
    if (!p.trainable) continue;
    AtenTensorHandle handle = nullptr;
    ASSERT_EQ(model::AutogradHost()->grad_of(p.tensor->get(), &handle), nullptr);
    ops::Tensor target = ops::Detach(*p.tensor);
    ops::CopyInto(target, ops::AddScaled(target, ops::Tensor(handle), -1e-3));
  }
  model.ParamsChanged();
  EXPECT_EQ(Untrained(Train(&model, 24, 1), true), "");
  EXPECT_EQ(base_values(), before);
}

TEST(Training, TwentyStepsAreTheSameWithAndWithoutRecomputation) {
  TempFolder folder;
  WriteToyModel(folder.Path("toy"));
  const auto run = [&](const std::string& lean, const std::string& out) {
    const Status status = RunPipeline(
        Base(folder.Path("toy")) + On("small", "base", "int8 { }") +
        On("tuned", "small", "lora { rank: 4 }") + lean +
        "node { name: \"data\" dataset { path: \"" ENGINE_SOURCE_DIR
        "/LICENSE\" shape: TEXT shuffle: false epochs: 0 sequence: 64 batch: 2 } "
        "use: \"tuned\" out: \"batches\" }\n"
        "node { name: \"train\" trainer { steps: 20 lr: 1e-3 out: \"" +
        folder.Path(out) + "\" } in: \"batches\" use: \"" + (lean.empty() ? "tuned" : "lean") +
        "\" out: \"steps\" }\n"
        "node { name: \"log\" train_log { path: \"" +
        folder.Path(out + ".jsonl") + "\" } in: \"steps\" }\n");
    EXPECT_TRUE(status.ok()) << status.message();
    std::vector<double> losses;
    std::istringstream lines(ReadFile(folder.Path(out + ".jsonl")));
    for (std::string line; std::getline(lines, line);) {
      losses.push_back(nlohmann::json::parse(line)["loss"]);
    }
    return losses;
  };
  const std::vector<double> plain = run("", "a");
  const std::vector<double> lean = run(On("lean", "tuned", "checkpoint { }"), "b");
  ASSERT_EQ(plain.size(), 20u);
  EXPECT_EQ(plain, lean);
  EXPECT_LT(plain.back(), plain.front()) << "the loss did not fall";
  EXPECT_EQ(ReadFile(folder.Path("a/adapter_model.safetensors")),
            ReadFile(folder.Path("b/adapter_model.safetensors")));
  // What was saved is what a later run loads.
  Chain loaded(Base(folder.Path("toy")) +
               On("tuned", "base", "lora { adapter: \"" + folder.Path("a") + "\" }"));
  ASSERT_TRUE(loaded.status().ok()) << loaded.status().message();
  EXPECT_EQ(Untrained(Train(&loaded.At("tuned")), true), "");
}

// In F64: the order of float sums, which differs between processors, would show in the curve.
TEST(Training, LoraOverDenseFollowsTheLossCurveOfPeft) {
  const nlohmann::json peft =
      nlohmann::json::parse(ReadFile(ENGINE_SOURCE_DIR "/tests/data/lora_curve.json"));
  TempFolder folder;
  const auto number = [&](const char* key) { return peft[key].dump(); };
  const Status status =
      RunPipeline(Base(RealModel(), "dtype: F64") +
                  On("tuned", "base",
                     "lora { rank: " + number("rank") + " alpha: " + number("alpha") +
                         " seed: " + number("seed") + " }") +
                  "node { name: \"data\" dataset { path: \"" ENGINE_SOURCE_DIR "/" +
                  peft["text"].get<std::string>() +
                  "\" shape: TEXT shuffle: false epochs: 0 sequence: " + number("sequence") +
                  " batch: " + number("batch") +
                  " } use: \"tuned\" out: \"batches\" }\n"
                  "node { name: \"train\" trainer { steps: " +
                  number("steps") + " lr: " + number("lr") +
                  " } use: \"tuned\" in: \"batches\" out: \"steps\" }\n"
                  "node { name: \"log\" train_log { path: \"" +
                  folder.Path("log") + "\" } in: \"steps\" }\n");
  ASSERT_TRUE(status.ok()) << status.message();
  std::istringstream lines(ReadFile(folder.Path("log")));
  size_t step = 0;
  for (std::string line; std::getline(lines, line); ++step) {
    ASSERT_LT(step, peft["losses"].size());
    EXPECT_NEAR(nlohmann::json::parse(line)["loss"].get<double>(),
                peft["losses"][step].get<double>(), 1e-6)
        << "step " << step + 1;
  }
  EXPECT_EQ(step, peft["losses"].size());
}

// --- int8 chosen by a text
// ------------------------------------------------------------------------

// One scale a row is too coarse for this model's outlier channels; a text shows where they are.
TEST(Calibration, EvensOutWhatOneScaleARowLoses) {
  const std::vector<int32_t> ids = {504, 3575, 282, 4649, 314, 260, 2240, 28, 281, 253, 1837, 365};
  const auto logits = [&](const std::string& text, const std::string& last) {
    Chain chain(text);
    EXPECT_TRUE(chain.status().ok()) << chain.status().message();
    return Generate(&chain.At(last), ids, 1).logits.at(0);
  };
  const auto squares = [&](const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += std::pow(double{a[i]} - double{b[i]}, 2);
    return sum;
  };
  const std::string decoded = Base(RealModel()),
                    text = "calibrate: \"" ENGINE_SOURCE_DIR "/LICENSE\" calibrate_tokens: 512";
  const std::vector<float> exact = logits(decoded, "base");
  const double plain = squares(
      exact, logits(decoded + On("small", "base", "int8 { scheme: PER_CHANNEL }"), "small"));
  const double even = squares(
      exact,
      logits(decoded + On("small", "base", "int8 { scheme: PER_CHANNEL " + text + " }"), "small"));
  EXPECT_LT(even, plain / 3);
  EXPECT_GT(even, 0);
}

TEST(Calibration, IsPartOfWhatTheModelIs) {
  TempFolder folder;
  WriteToyModel(folder.Path("toy"));
  const auto fingerprint = [&](const std::string& options) {
    Chain chain(Base(folder.Path("toy")) + On("small", "base", "int8 { " + options + " }"));
    EXPECT_TRUE(chain.status().ok()) << chain.status().message();
    return chain.At("small").fingerprint();
  };
  const std::string by = "calibrate: \"" ENGINE_SOURCE_DIR;
  const uint64_t plain = fingerprint(""), licence = fingerprint(by + "/LICENSE\"");
  EXPECT_NE(plain, licence);
  EXPECT_EQ(licence, fingerprint(by + "/LICENSE\""));
  EXPECT_NE(licence, fingerprint(by + "/README.md\""));
  EXPECT_NE(licence, fingerprint(by + "/LICENSE\" calibrate_tokens: 16"));
}

TEST(Calibration, RefusesWhatItCannotLookAt) {
  TempFolder folder;
  WriteToyModel(folder.Path("toy"));
  std::ofstream(folder.Path("short.txt")) << "no";
  const auto refused = [&](const std::string& options) {
    Chain chain(Base(folder.Path("toy")) + On("small", "base", "int8 { " + options + " }"));
    EXPECT_FALSE(chain.status().ok());
    return std::string(chain.status().message());
  };
  EXPECT_NE(refused("calibrate: \"" + folder.Path("none.txt") + "\"").find("none.txt"),
            std::string::npos);
  EXPECT_NE(refused("calibrate: \"" + folder.Path("short.txt") + "\"").find("at least 16"),
            std::string::npos);
  EXPECT_NE(refused("calibrate_tokens: 64").find("name one with calibrate"), std::string::npos);
}

// --- serving: the whole chain, with and without the KV cache -------------------------------------

TEST(Serving, Int8LoraAndTheCacheGiveTheSameTokensAsWithoutTheCache) {
  Chain chain(Base(RealModel()) + On("small", "base", "int8 { }") +
              On("tuned", "small", "lora { rank: 4 alpha: 8 }") +
              On("kv", "tuned", "kv_cache { }"));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  MoveAdapters(&chain.At("tuned"));
  chain.At("kv").ParamsChanged();
  for (const std::vector<int32_t>& prompt :
       {std::vector<int32_t>{504, 3575, 282, 4649, 314},
        {9},
        {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}}) {
    const Greedy with = Generate(&chain.At("kv"), prompt, 12);
    const Greedy without = Generate(&chain.At("tuned"), prompt, 12);
    EXPECT_EQ(with.ids, without.ids);
    EXPECT_EQ(with.logits, without.logits);
  }
  // The adapter matters: without it the logits are others.
  const Greedy adapted = Generate(&chain.At("tuned"), {504, 3575}, 1);
  EXPECT_NE(adapted.logits, Generate(&chain.At("small"), {504, 3575}, 1).logits);
}

TEST(Serving, AStaleCacheAndADroppedScaleAreNoticed) {
  TempFolder folder;
  WriteToyModel(folder.Path("toy"));
  Chain chain(Base(folder.Path("toy")) + On("tuned", "base", "lora { rank: 4 }") +
              On("kv", "tuned", "kv_cache { }"));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  MoveAdapters(&chain.At("tuned"));
  model::Model& model = chain.At("kv");
  const engine_kv_view* kv = model::Ask<engine_kv_view>(
      model.impl(model.FindSite("model.layers.1.self_attn.kv")), ENGINE_EXT_KV_VIEW);
  ASSERT_NE(kv, nullptr);
  const engine_kv_pool* pool = model::PoolOf(model);
  ASSERT_NE(pool, nullptr);
  const uint64_t sequence = OpenSequence(pool);
  ASSERT_EQ(pool->sequence_reserve(pool->self, sequence, 20), nullptr);
  engine_step_sequence s = Sized<engine_step_sequence>();
  ASSERT_EQ(pool->sequence_blocks(pool->self, sequence, &s.blocks, &s.block_count), nullptr);
  s.logits_count = 1;
  std::vector<int32_t> ids = {5, 9, 17, 33, 65, 129, 257, 11, 12};
  std::vector<float> fresh(320), stale(320);
  const auto step = [&](uint32_t start, uint32_t count, std::vector<float>* logits) {
    s.tokens = ids.data() + start;
    s.start = start;
    s.token_count = count;
    const engine_step one = {sizeof(engine_step), 1, &s};
    ASSERT_TRUE(model.Step(one, logits->data()).ok());
  };
  step(0, 8, &fresh);
  step(8, 1, &fresh);
  // One block keeps the values of an older token at one position.
  auto* page = reinterpret_cast<float*>(static_cast<char*>(kv->base) +
                                        static_cast<uint64_t>(s.blocks[0]) * kv->stride);
  const float kept = page[2 * 16 * 16 + 3 * 16];
  page[2 * 16 * 16 + 3 * 16] = kept + 0.5f;
  step(8, 1, &stale);
  EXPECT_NE(stale, fresh);
  page[2 * 16 * 16 + 3 * 16] = kept;
  step(8, 1, &stale);
  EXPECT_EQ(stale, fresh);
  ASSERT_EQ(pool->sequence_close(pool->self, sequence, 0), nullptr);

  const Greedy want = Generate(&chain.At("tuned"), {5, 9, 17}, 4);
  auto* low = const_cast<engine_low_rank*>(model::Ask<engine_low_rank>(
      model.impl(model.FindSite("model.layers.0.mlp.down_proj")), ENGINE_EXT_LOW_RANK));
  low->scale *= 0.5;
  model.ParamsChanged();
  EXPECT_NE(Generate(&model, {5, 9, 17}, 4).logits, want.logits);
}

// --- order, matches, budgets ---------------------------------------------------------------------

TEST(Order, AWrongOrderNamesBothLines) {
  Chain chain(Base(RealModel()) + On("tuned", "base", "lora { }") +
              On("small", "tuned", "int8 { }"));
  const std::string text = chain.diagnostics();
  EXPECT_NE(text.find("test.pbtxt:3:"), std::string::npos) << text;
  EXPECT_NE(text.find("test.pbtxt:2:"), std::string::npos) << text;
  EXPECT_NE(text.find("codec"), std::string::npos) << text;
}

TEST(Plan, ATransformThatMatchesNothingIsRefused) {
  Chain chain(Base(RealModel()) + On("small", "base", "int8 { targets: \"q_prj\" }"));
  EXPECT_NE(chain.status().message().find("matches no site"), std::string_view::npos)
      << chain.status().message();
}

TEST(KvCache, TheBudgetIsHard) {
  TempFolder folder;
  WriteToyModel(folder.Path("toy"));
  Chain chain(Base(folder.Path("toy")) + On("kv", "base", "kv_cache { budget: \"200kB\" }"));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  model::Model& model = chain.At("kv");
  const engine_kv_pool* kv = model::PoolOf(model);
  const uint64_t a = OpenSequence(kv), b = OpenSequence(kv);
  ASSERT_EQ(kv->sequence_reserve(kv->self, a, 100), nullptr);
  const Status full(kv->sequence_reserve(kv->self, b, 200));
  EXPECT_EQ(full.code(), ENGINE_RESOURCE_EXHAUSTED);
  engine_kv_stats stats = Sized<engine_kv_stats>();
  kv->stats(kv->self, &stats);
  EXPECT_LE(stats.held_bytes, stats.budget_bytes);
  EXPECT_EQ(stats.pages_used, 7u);
  // A refusal takes nothing, and what is closed comes back.
  ASSERT_EQ(kv->sequence_close(kv->self, a, 0), nullptr);
  const Status fits(kv->sequence_reserve(kv->self, b, 96));
  EXPECT_TRUE(fits.ok()) << fits.message();
  ASSERT_EQ(kv->sequence_close(kv->self, b, 0), nullptr);
  kv->stats(kv->self, &stats);
  EXPECT_EQ(stats.pages_used, 0u);
  EXPECT_EQ(stats.sequences, 0u);
  const Status twice(kv->sequence_close(kv->self, b, 0));
  EXPECT_EQ(twice.code(), ENGINE_NOT_FOUND);
}

}  // namespace
}  // namespace engine::tests
