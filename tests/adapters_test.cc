// Several named adapters over one model: each sequence of a step is computed with the one it chose,
// to the bit as if the model had no other; pages and sessions never pass from one to another; what
// was trained under names is saved, loaded and served under them. How requests choose is tested in
// adapter_requests_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/model/extensions.h"
#include "engine/model/formats/safetensors.h"
#include "engine/model/formats/test_model.h"
#include "engine/torch_ops.h"
#include "tests/adapter_chains.h"
#include "tests/serving.h"
#include "tests/support.h"
#include "tests/trained.h"

namespace engine::tests {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using Sequence = Serving::Sequence;
using Part = Serving::Part;

constexpr char kTone[] = "rank: 4 alpha: 8";
constexpr char kLaw[] =
    "rank: 6 alpha: 9 dora: true targets: \"o_proj\" targets: \"v_proj\" "
    "targets: \"down_proj\" targets: \"gate_proj\"";
constexpr char kCache[] = "kv_cache { budget: \"16MiB\" }";

std::string Unnamed(const std::string& options) { return "lora { " + options + " }"; }

// Numbers of its own for each tensor of a branch.
void Stir(model::Model* model) {
  for (const model::Param& p : model->params()) {
    if (!p.trainable) continue;
    const auto phase = static_cast<double>(std::hash<std::string>()(p.name) % 1000);
    const ops::Tensor wide = ops::Contiguous(ops::To(ops::Detach(*p.tensor), ENGINE_F64));
    const bool magnitude = p.name.find("magnitude") != std::string::npos;
    for (int64_t i = 0; i < wide.numel(); ++i) {
      const double wave = std::sin(static_cast<double>(i) * 1.3 + phase);
      double& value = ops::Data<double>(wide)[i];
      value = magnitude ? value * (1 + 0.2 * wave) : value + 0.03 * wave;
    }
    ops::Tensor target = ops::Detach(*p.tensor);
    ops::CopyInto(target, ops::To(wide, ops::DtypeOf(*p.tensor)));
  }
  model->ParamsChanged();
}

// Gives the model without names the values that `from` has under a name.
void Copy(const model::Model& from, const std::string& name, model::Model* to) {
  size_t copied = 0;
  for (const model::Param& p : from.params()) {
    const size_t at = p.name.find("." + name + ".weight");
    if (at == std::string::npos) continue;
    std::string plain = p.name.substr(0, at);
    if (plain.find("magnitude") == std::string::npos) plain += ".weight";
    const model::Param* mine = to->FindParam(plain);
    ASSERT_NE(mine, nullptr) << plain;
    ops::Tensor target = ops::Detach(*mine->tensor);
    ops::CopyInto(target, ops::Detach(*p.tensor));
    ++copied;
  }
  EXPECT_GT(copied, 0u);
  to->ParamsChanged();
}

std::vector<int32_t> Prompt(uint32_t seed, uint32_t count) {
  std::vector<int32_t> tokens;
  for (uint32_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>(((i + seed) * 7919 + 13) % 300));
  }
  return tokens;
}

// --- one step, many adapters ---------------------------------------------------------------------

class Adapters : public testing::TestWithParam<std::string> {
 protected:
  Adapters() : format_(FormatNamed(GetParam())) {
    WriteSmallModel(folder_.Path("m.gguf"), format_.stored);
  }
  // The base, with `loras` over it, each resource over the one before, and a cache; "kv" is the
  // last.
  std::unique_ptr<Chain> Over(const std::vector<std::string>& loras) const {
    std::string text = ChainText(folder_.Path("m.gguf"), format_, "budget: \"16MiB\"");
    text.resize(text.find("resource { name: \"kv\""));
    std::string from = format_.int8 != nullptr ? "small" : "base";
    for (size_t i = 0; i < loras.size(); ++i) {
      const std::string name = "l" + std::to_string(i);
      text += On(name, from, loras[i]);
      from = name;
    }
    return Made(text + On("kv", from, kCache));
  }
  std::string Path(const std::string& name) const { return folder_.Path(name); }

 private:
  const WeightFormat& format_;
  TempFolder folder_;
};
INSTANTIATE_TEST_SUITE_P(Formats, Adapters,
                         testing::Values("F32", "BF16", "Q8_0", "int8_groups_32",
                                         "int8_per_channel"),
                         [](const auto& info) { return info.param; });

TEST_P(Adapters, EachRowIsTheBitsOfItsAdapterAlone) {
  const auto both = Over({Named(kTone, "tone"), Named(kLaw, "law")});
  model::Model& model = both->At("kv");
  Stir(&model);
  ASSERT_EQ(model.adapters(), (std::vector<std::string>{"tone", "law"}));
  // Each alone: the base as it is, and with one branch that has no name.
  const std::unique_ptr<Chain> alone[] = {Over({}), Over({Unnamed(kTone)}), Over({Unnamed(kLaw)})};
  std::vector<std::unique_ptr<Serving>> want;
  for (uint32_t a = 0; a < 3; ++a) {
    if (a != 0) Copy(model, kNames[a], &alone[a]->At("kv"));
    want.push_back(std::make_unique<Serving>(&alone[a]->At("kv")));
  }

  Serving serving(&model);
  const std::vector<uint32_t> chosen = {0, 1, 2, 1, 0, 2, 2, 0};
  std::vector<Sequence> sequences;
  for (uint32_t i = 0; i < chosen.size(); ++i) {
    sequences.push_back(
        serving.Open(Prompt(i % 3, 20 + 9 * i), {.share = false, .adapter = chosen[i]}));
  }
  std::map<uint32_t, std::vector<float>> logits;
  // In pieces, so that prompts and single tokens share steps.
  const std::vector<uint32_t> pieces = {7, 1, 30, 1, 3, 200};
  for (uint32_t piece : pieces) {
    std::vector<Part> parts;
    std::vector<uint32_t> who;
    for (uint32_t i = 0; i < sequences.size(); ++i) {
      Sequence& s = sequences[i];
      const auto left = static_cast<uint32_t>(s.tokens.size()) - s.done;
      const uint32_t count = std::min(left, piece == 1 ? 1 + i % 2 : piece);
      if (count == 0) continue;
      parts.push_back({&s, count, count});
      who.push_back(i);
    }
    const std::vector<float> all = serving.Step(parts);
    auto from = all.begin();
    for (size_t p = 0; p < parts.size(); ++p) {
      const auto end = from + static_cast<long>(parts[p].logits * serving.vocab());
      logits[who[p]].insert(logits[who[p]].end(), from, end);
      from = end;
    }
  }
  for (uint32_t i = 0; i < sequences.size(); ++i) {
    SCOPED_TRACE("sequence " + std::to_string(i) + " with adapter '" + kNames[chosen[i]] + "'");
    const std::vector<int32_t>& tokens = sequences[i].tokens;
    for (uint32_t a = 0; a < 3; ++a) {
      const std::string apart = FirstDifference(want[a]->Alone(tokens), logits[i], serving.vocab());
      EXPECT_EQ(apart.empty(), a == chosen[i]) << "beside '" << kNames[a] << "': " << apart;
    }
  }
}

TEST_P(Adapters, ABranchWithoutANameIsAddedForAll) {
  const std::string unnamed = Unnamed(kTone + std::string(" seed: 9"));
  const auto both = Over({unnamed, Named(kTone, "tone")});
  const auto one = Over({unnamed});
  Stir(&both->At("kv"));
  Stir(&one->At("kv"));
  Serving serving(&both->At("kv")), below(&one->At("kv"));
  const std::vector<int32_t> tokens = Prompt(1, 30);
  EXPECT_EQ(FirstDifference(below.Alone(tokens), serving.Alone(tokens), serving.vocab()), "");
  EXPECT_NE(FirstDifference(below.Alone(tokens), serving.Alone(tokens, 0, 1), serving.vocab()), "");
  Sequence s = serving.Open(tokens, {.adapter = 2});
  const Part part{&s, 30, 1};
  try {
    serving.Step({&part, 1});
    FAIL() << "there is no adapter 2";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("chose adapter 2; the model has 1"));
  }
}

// --- pages and sessions --------------------------------------------------------------------------

TEST_P(Adapters, PagesNeverPassFromOneToAnother) {
  const auto both = Over({Named(kTone, "tone"), Named(kLaw, "law")});
  Stir(&both->At("kv"));
  Serving serving(&both->At("kv"));
  const std::vector<int32_t> tokens = Prompt(4, 70);
  for (const bool warm : {false, true}) {
    for (uint32_t a = 0; a < 3; ++a) {
      SCOPED_TRACE((warm ? "warm, adapter '" : "cold, adapter '") + kNames[a] + "'");
      Sequence s = serving.Open(tokens, {.adapter = a});
      EXPECT_EQ(s.cached, warm ? 64u : 0u);
      EXPECT_EQ(s.reason, warm     ? ENGINE_KV_HIT_PREFIX
                          : a == 0 ? ENGINE_KV_MISS_COLD
                                   : ENGINE_KV_MISS_SALT);
      const uint32_t from = s.done;
      const Part part{&s, 70 - from, 70 - from};
      const std::vector<float> got = serving.Step({&part, 1});
      EXPECT_EQ(FirstDifference(serving.Alone(tokens, from, a), got, serving.vocab()), "");
      serving.Close(&s);
    }
  }
  // A salt is told apart from an adapter, and each from both.
  EXPECT_EQ(serving.Open(tokens, {.salt = "tone", .adapter = 0}).cached, 0u);
  EXPECT_EQ(serving.Open(tokens, {.salt = "tone", .adapter = 1}).cached, 0u);
}

TEST_P(Adapters, ASessionBelongsToItsAdapter) {
  const std::vector<std::string> loras = {Named(kTone, "tone"), Named(kLaw, "law")};
  const auto both = Over(loras), again = Over(loras);
  Stir(&both->At("kv"));
  Serving serving(&both->At("kv"));
  const std::vector<int32_t> tokens = Prompt(2, 50);
  const Opening tone = {.session = "s", .adapter = 1}, law = {.session = "s", .adapter = 2};
  Sequence s = serving.Open(tokens, tone);
  const Part first{&s, 40, 1};
  serving.Step({&first, 1});
  Must(serving.Keep(&s));
  ASSERT_TRUE(serving.SaveSession(tone, Path("saved")).ok());
  EXPECT_EQ(serving.SaveSession(law, Path("other")).code(), ENGINE_NOT_FOUND);
  // Under the other adapter the session of that name is a new one.
  Sequence other = serving.Open(tokens, law);
  EXPECT_EQ(other.cached, 0u);
  serving.Close(&other);
  const Status refused = serving.RestoreSession(law, Path("saved"));
  EXPECT_EQ(refused.code(), ENGINE_FAILED_PRECONDITION);
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("with the model's adapter 1, and is to be restored for adapter 2"));
  EXPECT_FALSE(serving.RestoreSession({.session = "s"}, Path("saved")).ok());

  // Dropped and back: the keys and values are those of the adapter.
  Must(serving.DropSession(tone));
  Must(serving.RestoreSession(tone, Path("saved")));
  Sequence back = serving.Open(tokens, tone);
  EXPECT_EQ(back.cached, 40u);
  EXPECT_EQ(back.reason, ENGINE_KV_HIT_SESSION);
  const Part rest{&back, 10, 10};
  const std::vector<float> got = serving.Step({&rest, 1});
  EXPECT_EQ(FirstDifference(serving.Alone(tokens, 40, 1), got, serving.vocab()), "");
  // An adapter of other values is another model to a file.
  Serving fresh(&again->At("kv"));
  EXPECT_TRUE(fresh.RestoreSession(tone, Path("saved")).ok()) << "the same chain reads it";
  const auto less = Over({Named("rank: 2 alpha: 8", "tone"), Named(kLaw, "law")});
  Serving changed(&less->At("kv"));
  EXPECT_THAT(std::string(changed.RestoreSession(tone, Path("saved")).message()),
              HasSubstr("another model"));
}

// --- what is refused -----------------------------------------------------------------------------

TEST_F(AdapterChains, WhatCannotStandTogetherIsRefused) {
  const std::vector<std::array<std::string, 3>> cases = {
      {"lora { }", "lora { rank: 4 }", "has a low-rank branch without a name already"},
      {Named("targets: \"q_proj\"", "law"), Named("targets: \"v_proj\"", "law"),
       "has an adapter named 'law' already"},
      {Named("", "a.b"), "", "must be 1 to 64 letters"},
      {Named("", ""), "", "must be 1 to 64 letters"},
      {Named("init: PISSA", "law"), "", "PISSA takes its part out of the weights"},
      {"lora { }", Named("dora: true", "law"), "dora scales base and branch as one"},
      {Named("", "law"), "lora { dora: true }", "dora scales base and branch as one"},
  };
  for (const auto& [first, second, words] : cases) {
    const std::string text = Base(Path("toy")) + On("first", "base", first) +
                             (second.empty() ? "" : On("second", "first", second));
    const Chain chain(text);
    EXPECT_FALSE(chain.status().ok()) << text;
    EXPECT_THAT(std::string(chain.status().message()) + chain.diagnostics(), HasSubstr(words));
  }
  // Over other linears, and under names, several may stand.
  for (const auto& [first, second] : std::vector<std::pair<std::string, std::string>>{
           {"lora { targets: \"q_proj\" }", "lora { targets: \"v_proj\" }"},
           {Named("dora: true", "law"), Named("dora: true", "tone")},
           {Named("dora: true", "law"), "lora { }"}}) {
    const Chain chain(Both(first, second));
    EXPECT_TRUE(chain.status().ok()) << chain.status().message();
  }
}

TEST_F(AdapterChains, NumbersFollowTheChain) {
  // The second adapter is met at an earlier site.
  const auto chain = Made(Both(Named("targets: \"down_proj\"", "tone"), Named("", "law")));
  EXPECT_EQ(chain->At("second").adapters(), (std::vector<std::string>{"tone", "law"}));
  EXPECT_EQ(chain->At("first").adapters(), std::vector<std::string>{"tone"});
  EXPECT_EQ(chain->At("second").AdapterNumber("law"), 2u);
}

// Puts at a site what calls what stood there and says nothing of it.
struct Opaque {
  uint32_t site;
  const engine_site_impl* base = nullptr;

  static engine_status* Plan(void* self, const engine_model*, const engine_diff* diff) {
    return diff->replace(diff->self, static_cast<Opaque*>(self)->site, Str("opaque"), 0, 0);
  }
  static engine_status* Rewrite(void* self, engine_model* of, uint32_t site,
                                engine_site_impl* out) {
    static_cast<Opaque*>(self)->base = &model::FromC(of)->impl(site);
    out->struct_size = sizeof *out;
    out->self = self;
    out->forward = [](void* mine, engine_forward* pass, const AtenTensorHandle* in, uint32_t n_in,
                      AtenTensorHandle* to, uint32_t n_out) -> engine_status* {
      const engine_site_impl* base = static_cast<Opaque*>(mine)->base;
      return base->forward(base->self, pass, in, n_in, to, n_out);
    };
    out->extension = [](void*, const char*) -> const void* { return nullptr; };
    out->destroy = [](void*) {};
    return nullptr;
  }
};

TEST_F(AdapterChains, WhatIsServedWholeCannotBeChosen) {
  const engine_transform_vtable table = {sizeof table,     0,       &Opaque::Plan,
                                         &Opaque::Rewrite, nullptr, nullptr};
  const auto named = Made(Both(Named("rank: 2", "tone"), "lora { rank: 4 }"));
  const auto unnamed = Made(Both("lora { rank: 2 }", "checkpoint { }"));
  for (const char* site : {"model.layers.1.mlp.up_proj", "model.layers.1.mlp"}) {
    for (Chain* chain : {named.get(), unnamed.get()}) {
      const model::Model& model = chain->At("second");
      std::shared_ptr<model::Model> over;
      ASSERT_STATUS_OK(
          model.Apply(&table, std::make_shared<Opaque>(Opaque{model.FindSite(site)}), "it", &over));
      EXPECT_EQ(over->adapters(), model.adapters());
      const Status status = over->Prepare();
      EXPECT_EQ(status.ok(), chain == unnamed.get()) << site << ": " << status.message();
      if (chain == named.get()) {
        EXPECT_THAT(std::string(status.message()),
                    AllOf(HasSubstr("has adapter 'tone'"), HasSubstr("cannot choose")));
      }
    }
  }
}

// --- training ------------------------------------------------------------------------------------

// Two named branches are together the one branch that has both their halves.
TEST_F(AdapterChains, TrainingAddsEveryBranch) {
  const auto both = Made(
      Both(Named("rank: 3 alpha: 6", "tone"), Named("rank: 5 alpha: 10", "law"), "dtype: F64"));
  const auto plain = Made(Both(Named("rank: 3 alpha: 6", "tone"), Named("rank: 5 alpha: 10", "law"),
                               "dtype: F64 sites: PLAIN"));
  const auto one =
      Made(Base(Path("toy"), "dtype: F64") + On("one", "base", "lora { rank: 8 alpha: 16 }"));
  model::Model& two = both->At("second");
  Stir(&two);
  Stir(&plain->At("second"));
  model::Model& merged = one->At("one");
  for (const model::Param& p : merged.params()) {
    if (!p.trainable) continue;
    const std::string stem = p.name.substr(0, p.name.size() - std::string("weight").size());
    const auto half = [&](const std::string& name) {
      return ops::Detach(*two.FindParam(stem + name + ".weight")->tensor);
    };
    const bool a = p.name.find("lora_A") != std::string::npos;
    ops::Tensor target = ops::Detach(*p.tensor);
    ops::CopyInto(target, ops::Cat({half("tone"), half("law")}, a ? 0 : 1));
  }
  EXPECT_LT(Distance(Logits(&two), Logits(&merged)), 1e-12);
  const Training t = tests::Train(&two);
  EXPECT_EQ(Untrained(t, true), "");
  EXPECT_EQ(t.grads.size(), 4u * 4 * 7);
  EXPECT_NEAR(t.loss, tests::Train(&merged).loss, 1e-12);
  EXPECT_LT(Distance(t, tests::Train(&plain->At("second"))), 1e-11);
}

TEST_F(AdapterChains, WhatIsTrainedUnderNamesIsSavedUnderThem) {
  const std::string chain = Both("lora { rank: 2 }", Named("rank: 4", "tone"));
  ASSERT_STATUS_OK(Train(chain, "saved"));
  for (const std::string folder : {"saved", "saved/tone"}) {
    SCOPED_TRACE(folder);
    const json config = json::parse(ReadFile(Path(folder + "/adapter_config.json")));
    EXPECT_EQ(config["r"], folder == "saved" ? 2 : 4);
    std::unique_ptr<model::SafetensorsFile> file;
    ASSERT_STATUS_OK(
        model::SafetensorsFile::Open(Path(folder + "/adapter_model.safetensors"), &file));
    EXPECT_EQ(file->tensors().size(), 4u * 7 * 2);
    for (const auto& tensor : file->tensors()) {
      EXPECT_EQ(tensor.name.find("tone"), std::string::npos) << tensor.name;
      EXPECT_TRUE(tensor.name.ends_with(".lora_A.weight") ||
                  tensor.name.ends_with(".lora_B.weight"))
          << tensor.name;
    }
  }
  // Both together are what was trained; the folders stand for themselves under any name.
  const auto loaded = Made(Both("lora { adapter: \"" + Path("saved") + "\" }",
                                Named("adapter: \"" + Path("saved/tone") + "\"", "other")));
  const auto names = Made(Both(Named("adapter: \"" + Path("saved") + "\"", "default"),
                               "lora { adapter: \"" + Path("saved/tone") + "\" }"));
  EXPECT_LT(Distance(Logits(&loaded->At("second")), Logits(&names->At("second"))), 1e-4);
  const auto base = Made(Base(Path("toy")));
  EXPECT_GT(Distance(Logits(&loaded->At("second")), Logits(&base->At("base"))), 1e-2);
  EXPECT_LT(Distance(ServedLogits(&loaded->At("second")), Logits(&loaded->At("first"))), 1e-3);
  EXPECT_LT(Distance(ServedLogits(&loaded->At("second"), 1), Logits(&loaded->At("second"))), 1e-3);

  // A weight that is trained whole would be everybody's.
  std::string text = Both(Named("rank: 2", "law"), Named("rank: 4", "tone"));
  text.replace(text.find("\"second\""), 8, "\"inner\"");
  const Status refused =
      Train(text + On("second", "inner", "trainable { targets: \"model.norm\" }"), "never");
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("'model.norm.weight' is trained whole, which an adapter with a name"));
  // And such a folder takes no name.
  text = Both("lora { rank: 2 }", "trainable { targets: \"model.norm\" }");
  ASSERT_STATUS_OK(Train(text, "whole"));
  const Chain named(Base(Path("toy")) +
                    On("law", "base", Named("adapter: \"" + Path("whole") + "\"", "law")));
  EXPECT_THAT(std::string(named.status().message()), HasSubstr("modules_to_save"));
}

}  // namespace
}  // namespace engine::tests
