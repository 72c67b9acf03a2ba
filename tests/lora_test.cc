// The lora transform's variants on one small model: dropout, magnitudes (DoRA), principal parts
// (PiSSA), whole weights beside branches, and adapters that are refused. In F64 wherever something
// is claimed to be equal but for rounding; each comparison is shown to notice a difference.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/model/export_model.h"
#include "engine/model/extensions.h"
#include "engine/model/formats/safetensors.h"
#include "engine/model/formats/test_model.h"
#include "engine/model/host_services.h"
#include "engine/torch_ops.h"
#include "tests/support.h"
#include "tests/trained.h"

namespace engine::tests {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Doubles = std::vector<double>;

constexpr char kSite[] = "model.layers.1.mlp.up_proj";

void Good(const Status& status) { EXPECT_TRUE(status.ok()) << status.message(); }

const engine_low_rank* Table(const model::Model& model, const std::string& site = kSite) {
  return model::Ask<engine_low_rank>(model.impl(model.FindSite(site)), ENGINE_EXT_LOW_RANK);
}

// Multiplies each value of the parameters whose name holds `part` by something else.
void Move(model::Model* model, const std::string& part) {
  for (const model::Param& p : model->params()) {
    if (!p.trainable || p.name.find(part) == std::string::npos) continue;
    const ops::Tensor wide = ops::Contiguous(ops::To(ops::Detach(*p.tensor), ENGINE_F64));
    for (int64_t i = 0; i < wide.numel(); ++i) {
      ops::Data<double>(wide)[i] *= 1 + 0.3 * std::sin(static_cast<double>(i) * 1.3 + 0.7);
    }
    ops::Tensor target = ops::Detach(*p.tensor);
    ops::CopyInto(target, ops::To(wide, ops::DtypeOf(*p.tensor)));
  }
  model->ParamsChanged();
}

class Lora : public testing::Test {
 protected:
  Lora() { WriteToyModel(Path("toy")); }
  std::string Path(const std::string& name) const { return folder_.Path(name); }
  // base, perhaps small (int8), tuned, and lean, which computes blocks again.
  std::string Text(const std::string& lora, const std::string& load = "dtype: F64",
                   bool int8 = false) const {
    return Base(Path("toy"), load) + (int8 ? On("small", "base", "int8 { }") : "") +
           On("tuned", int8 ? "small" : "base", "lora { " + lora + " }") +
           On("lean", "tuned", "checkpoint { }");
  }
  std::unique_ptr<Chain> Made(const std::string& text) const {
    auto chain = std::make_unique<Chain>(text);
    if (!chain->status().ok()) throw std::runtime_error(std::string(chain->status().message()));
    return chain;
  }
  Status Refused(const std::string& lora, bool int8 = false) const {
    return Status(Chain(Text(lora, "", int8)).status());
  }
  // Trains some steps and keeps the adapter in the folder `name`.
  Status Trained(const std::string& lora, const std::string& name, int steps,
                 const std::string& more = "") const {
    const std::string last = more.empty() ? "lean" : "also";
    return RunPipeline(
        Text(lora) + more +
        "node { name: \"data\" dataset { path: \"" ENGINE_SOURCE_DIR
        "/LICENSE\" shape: TEXT shuffle: false epochs: 0 sequence: 48 batch: 2 } use: \"tuned\" "
        "out: \"batches\" }\n"
        "node { name: \"train\" trainer { lr: 1e-2 steps: " +
        std::to_string(steps) + " out: \"" + Path(name) + "\" } in: \"batches\" use: \"" + last +
        "\" out: \"steps\" }\nnode { name: \"log\" train_log { path: \"" + Path(name + ".jsonl") +
        "\" } in: \"steps\" }\n");
  }
  std::string Adapter(const std::string& name) const { return "adapter: \"" + Path(name) + "\""; }
  // The model that is merged and loaded again.
  Doubles MergedLogits(const model::Model& model, const std::string& name) const {
    model::MergeRequest request;
    request.path = Path(name);
    const char* type = model.dtype() == ENGINE_F64 ? "F64" : "F32";
    Good(model::ParseExportFormat(request.path, type, &request.format));
    request.merge_into = ENGINE_MERGE_DEQUANTIZED;
    Good(model::ExportModel(model, request));
    const auto chain = Made(Base(Path(name), model.dtype() == ENGINE_F64 ? "dtype: F64" : ""));
    return Logits(&chain->At("base"));
  }

 private:
  TempFolder folder_;
};

model::LossHow At(uint64_t step, uint64_t microbatch) {
  return {.dropout = true, .step = step, .microbatch = microbatch};
}

// --- on and off (T-03) ---------------------------------------------------------------------------

TEST_F(Lora, TakenOutItIsTheBaseAndPutBackItIsWhatItWas) {
  const auto chain = Made(Text("rank: 4 alpha: 8", ""));
  model::Model& model = chain->At("tuned");
  const Doubles base = Logits(&chain->At("base")), served = ServedLogits(&chain->At("base"));
  const auto zero = [&] {
    for (const model::Param& p : model.params()) {
      if (p.name.find("lora_B") == std::string::npos) continue;
      ops::Tensor target = ops::Detach(*p.tensor);
      ops::CopyInto(target, ops::ZerosLike(target));
    }
    model.ParamsChanged();
  };
  EXPECT_EQ(Logits(&model), base);
  EXPECT_EQ(ServedLogits(&model), served);
  MoveAdapters(&model);
  const Doubles on = Logits(&model), served_on = ServedLogits(&model);
  EXPECT_GT(Distance(on, base), 1e-2);
  EXPECT_GT(Distance(served_on, served), 1e-2);
  // The base serves beside it, and after a merge, as it did.
  EXPECT_LT(Distance(MergedLogits(model, "merged"), on), 1e-4);
  EXPECT_EQ(Logits(&chain->At("base")), base);
  EXPECT_EQ(ServedLogits(&chain->At("base")), served);
  zero();
  EXPECT_EQ(Logits(&model), base);
  EXPECT_EQ(ServedLogits(&model), served);
  MoveAdapters(&model);
  EXPECT_EQ(Logits(&model), on);
  EXPECT_EQ(ServedLogits(&model), served_on);
}

// --- dropout -------------------------------------------------------------------------------------

class Dropout : public Lora, public testing::WithParamInterface<const char*> {};

TEST_P(Dropout, FusedIsPlainAndRecomputationKeepsTheBits) {
  const std::string kind = GetParam();
  const bool int8 = kind == "int8";
  const std::string lora =
      "rank: 4 alpha: 8 seed: 3 dropout: 0.25" + std::string(kind == "dora" ? " dora: true" : "");
  const auto fused = Made(Text(lora, "dtype: F64", int8));
  const auto plain = Made(Text(lora, "dtype: F64 sites: PLAIN", int8));
  for (const auto& chain : {fused.get(), plain.get()}) {
    MoveAdapters(&chain->At("tuned"));
    Move(&chain->At("tuned"), "lora_magnitude");
  }
  const Training t = Train(&fused->At("tuned"), 48, 2, At(5, 1));
  EXPECT_EQ(Untrained(t, true), "");
  EXPECT_LT(Distance(t, Train(&plain->At("tuned"), 48, 2, At(5, 1))), 1e-11);
  EXPECT_EQ(Difference(Train(&fused->At("lean"), 48, 2, At(5, 1)), t), "");
  EXPECT_EQ(Difference(Train(&plain->At("lean"), 48, 2, At(5, 1)),
                       Train(&plain->At("tuned"), 48, 2, At(5, 1))),
            "");
  // Each step and microbatch draws anew.
  for (const model::LossHow& other : {At(6, 1), At(5, 0), At(1, 5)}) {
    EXPECT_GT(Distance(Train(&fused->At("tuned"), 48, 2, other), t), 1e-4);
  }
  // Evaluation drops nothing.
  const std::string whole =
      lora.substr(0, lora.find(" dropout")) + (kind == "dora" ? " dora: true" : "");
  const auto none = Made(Text(whole, "dtype: F64", int8));
  MoveAdapters(&none->At("tuned"));
  Move(&none->At("tuned"), "lora_magnitude");
  EXPECT_EQ(Difference(Train(&fused->At("tuned")), Train(&none->At("tuned"))), "");
  EXPECT_EQ(Logits(&fused->At("tuned")), Logits(&none->At("tuned")));
}

INSTANTIATE_TEST_SUITE_P(All, Dropout, testing::Values("dense", "int8", "dora"),
                         [](const auto& info) { return std::string(info.param); });

TEST_F(Lora, DropsTheShareThatWasAskedForAndKeepsTheMean) {
  engine_forward pass;
  pass.how = At(3, 0);
  const ops::Tensor ones = ops::Full({64, 1024}, 1, ENGINE_F64);
  const auto kept = [&](double p, uint64_t seed, uint64_t stream) {
    AtenTensorHandle handle = nullptr;
    EXPECT_EQ(model::ModelHost()->dropout(&pass, p, seed, stream, ones.get(), &handle), nullptr);
    const ops::Tensor t(handle);
    return Doubles(ops::Data<double>(t), ops::Data<double>(t) + t.numel());
  };
  const double count = 64 * 1024;
  for (const double p : {0.05, 0.1, 0.5, 0.9}) {
    const Doubles values = kept(p, 7, 11);
    double dropped = 0, sum = 0;
    for (const double v : values) {
      dropped += v == 0;
      sum += v;
      if (v != 0) {
        ASSERT_NEAR(v, 1 / (1 - p), 1e-6);
      }
    }
    // Four standard deviations of that many draws.
    const double spread = 4 * std::sqrt(p * (1 - p) / count);
    EXPECT_NEAR(dropped / count, p, spread);
    EXPECT_NEAR(sum / count, 1, spread / (1 - p));
  }
  // Another seed, linear, step or microbatch drops others: half of them agree by chance.
  const Doubles first = kept(0.5, 7, 11);
  EXPECT_EQ(kept(0.5, 7, 11), first);
  std::vector<Doubles> others = {kept(0.5, 8, 11), kept(0.5, 7, 12)};
  pass.how = At(4, 0);
  others.push_back(kept(0.5, 7, 11));
  pass.how = At(3, 1);
  others.push_back(kept(0.5, 7, 11));
  for (const Doubles& other : others) {
    double same = 0;
    for (size_t i = 0; i < other.size(); ++i) same += other[i] == first[i];
    EXPECT_NEAR(same / count, 0.5, 4 * 0.5 / std::sqrt(count));
  }
  pass.how.dropout = false;
  EXPECT_EQ(kept(0.5, 7, 11), Doubles(64 * 1024, 1.0));
}

TEST_F(Lora, EachLinearDropsByItself) {
  const auto chain = Made(Text("rank: 4 dropout: 0.5 seed: 9"));
  std::set<uint64_t> streams;
  int linears = 0;
  for (const model::Site& site : chain->At("tuned").sites()) {
    const auto* table = Table(chain->At("tuned"), site.name);
    if (table == nullptr) continue;
    ++linears;
    streams.insert(table->drop_stream);
    EXPECT_EQ(table->drop_seed, 9u);
    EXPECT_EQ(table->dropout, 0.5);
  }
  EXPECT_EQ(linears, 28);
  EXPECT_EQ(streams.size(), 28u);
}

TEST_F(Lora, DropoutGoesWithTheAdapter) {
  ASSERT_STATUS_OK(Trained("rank: 4 dropout: 0.125", "adapter", 2));
  EXPECT_EQ(json::parse(ReadFile(Path("adapter/adapter_config.json")))["lora_dropout"], 0.125);
  EXPECT_EQ(Table(Made(Text(Adapter("adapter")))->At("tuned"))->dropout, 0.125);
  EXPECT_EQ(Table(Made(Text(Adapter("adapter") + " dropout: 0"))->At("tuned"))->dropout, 0);
  EXPECT_REFUSED(Refused("dropout: 1"), "leaves nothing to train on");
}

// --- magnitudes ----------------------------------------------------------------------------------

TEST_F(Lora, MagnitudesBeginAsTheBaseAndScaleRows) {
  const auto chain = Made(Text("rank: 4 alpha: 8 dora: true"));
  model::Model& model = chain->At("tuned");
  EXPECT_LT(Distance(Logits(&model), Logits(&chain->At("base"))), 1e-12);
  EXPECT_EQ(Untrained(Train(&model), false), "");
  MoveAdapters(&model);
  // The length of a row stays what it was, whatever the branch adds.
  const auto lora = Made(Text("rank: 4 alpha: 8"));
  MoveAdapters(&lora->At("tuned"));
  const Doubles moved = Logits(&model);
  EXPECT_GT(Distance(moved, Logits(&lora->At("tuned"))), 1e-3);
  // By hand: the dense weight that base and branch make, its rows scaled to the magnitudes.
  Move(&model, "lora_magnitude");
  EXPECT_GT(Distance(moved, Logits(&model)), 1e-2);
  EXPECT_LT(Distance(MergedLogits(model, "merged"), Logits(&model)), 1e-10);
  for (const model::Site& site : model.sites()) {
    const auto* low = Table(model, site.name);
    if (low == nullptr) continue;
    ASSERT_NE(low->magnitude, nullptr);
    model::Param* param = chain->At("base").FindParam(site.weight);
    std::optional<ops::Tensor> w;
    ASSERT_STATUS_OK(chain->At("base").DenseTensor(*param, &w));
    const ops::Tensor sum = ops::AddScaled(
        *w, ops::Detach(ops::Matmul(ops::Borrow(low->b), ops::Borrow(low->a))), low->scale);
    const ops::Tensor length = ops::Sqrt(ops::Sum(ops::Mul(sum, sum), {1}, true));
    const ops::Tensor m = ops::Reshape(ops::Detach(ops::Borrow(low->magnitude)), {site.out, 1});
    param->tensor = ops::Mul(sum, ops::Div(m, length));
  }
  EXPECT_LT(Distance(Logits(&chain->At("base")), Logits(&model)), 1e-11);
}

TEST_F(Lora, GradientsOfMagnitudesAreTheSlopesOfTheLoss) {
  const auto chain = Made(Text("rank: 4 alpha: 8 dora: true dropout: 0.2"));
  model::Model& model = chain->At("tuned");
  MoveAdapters(&model);
  const std::string name = std::string(kSite) + ".lora_magnitude_vector";
  const double grad = Train(&model, 48, 2, At(2, 0)).grads.at(name).at(5) / 94;  // labels
  double* at = ops::Data<double>(ops::Detach(*model.FindParam(name)->tensor)) + 5;
  const double kept = *at, step = 1e-5;
  *at = kept + step;
  const double up = Train(&model, 48, 2, At(2, 0)).loss;
  *at = kept - step;
  const double down = Train(&model, 48, 2, At(2, 0)).loss;
  EXPECT_GT(std::abs(grad), 1e-6);
  EXPECT_NEAR((up - down) / (2 * step), grad, 1e-6 * std::abs(grad) + 1e-9);
}

TEST_F(Lora, MagnitudesTrainTheSameFusedOrNotAndServe) {
  for (const bool int8 : {false, true}) {
    const std::string lora = "rank: 4 alpha: 8 dora: true";
    const auto fused = Made(Text(lora, "", int8));
    const auto plain = Made(Text(lora, "sites: PLAIN", int8));
    for (const auto& chain : {fused.get(), plain.get()}) {
      MoveAdapters(&chain->At("tuned"));
      Move(&chain->At("tuned"), "lora_magnitude");
    }
    model::Model& model = fused->At("tuned");
    const Training t = Train(&model);
    EXPECT_EQ(Untrained(t, true), "");
    EXPECT_LT(Distance(t, Train(&plain->At("tuned"))), 2e-5);
    EXPECT_EQ(Difference(Train(&fused->At("lean")), t), "");
    const Doubles served = ServedLogits(&model);
    EXPECT_LT(Distance(served, Logits(&model)), int8 ? 2e-3 : 1e-4);
    EXPECT_LT(Distance(ServedLogits(&fused->At("lean")), served), 1e-30);
    // Scales are made anew when parameters change.
    Move(&model, "lora_magnitude");
    EXPECT_GT(Distance(ServedLogits(&model), served), 1e-2);
    EXPECT_LT(Distance(ServedLogits(&model), Logits(&model)), int8 ? 2e-3 : 1e-4);
  }
}

TEST_F(Lora, MagnitudesGoWithTheAdapter) {
  ASSERT_STATUS_OK(Trained("rank: 4 dora: true", "adapter", 3));
  const json config = json::parse(ReadFile(Path("adapter/adapter_config.json")));
  EXPECT_EQ(config["use_dora"], true);
  std::unique_ptr<model::SafetensorsFile> file;
  ASSERT_STATUS_OK(model::SafetensorsFile::Open(Path("adapter/adapter_model.safetensors"), &file));
  EXPECT_EQ(file->tensors().size(), 84u);
  const auto* stored =
      file->Find("base_model.model." + std::string(kSite) + ".lora_magnitude_vector");
  ASSERT_NE(stored, nullptr);
  EXPECT_EQ(stored->shape, std::vector<int64_t>({96}));
  const auto chain = Made(Text(Adapter("adapter"), ""));
  model::Model& model = chain->At("tuned");
  EXPECT_EQ(Untrained(Train(&model), true), "");
  EXPECT_GT(Distance(Logits(&model), Logits(&chain->At("base"))), 1e-2);
  EXPECT_LT(Distance(MergedLogits(model, "merged.gguf"), Logits(&model)), 1e-4);
  // Beside plain linears, some of them added to what is there already.
  const auto some = Made(
      Base(Path("toy")) +
      On("tuned", "base", "lora { rank: 2 dora: true targets: \"up_proj\" targets: \"o_proj\" }"));
  Move(&some->At("tuned"), "lora_magnitude");
  EXPECT_LT(Distance(ServedLogits(&some->At("tuned")), Logits(&some->At("tuned"))), 1e-4);
  EXPECT_GT(Distance(ServedLogits(&some->At("tuned")), ServedLogits(&some->At("base"))), 1e-2);
  Chain over(Base(Path("toy")) + On("one", "base", "lora { rank: 2 }") +
             On("two", "one", "lora { rank: 2 dora: true }"));
  EXPECT_REFUSED(Status(over.status()), "has a low-rank branch already");
}

TEST_F(Lora, Int8BasesAreMergedWithTheirMagnitudes) {
  const auto chain = Made(Text("rank: 4 alpha: 8 dora: true", "", true));
  model::Model& model = chain->At("tuned");
  MoveAdapters(&model);
  Move(&model, "lora_magnitude");
  // Activations are rounded to int8 beside packed weights, and are not in the merged model.
  EXPECT_LT(Distance(MergedLogits(model, "merged"), Logits(&model)), 0.1);
  std::unique_ptr<model::Checkpoint> merged;
  ASSERT_STATUS_OK(model::OpenCheckpoint(Path("merged"), &merged));
  const std::string name = std::string(kSite) + ".weight";
  const model::TensorInfo& w = *merged->Find(name);
  std::vector<double> row(64);
  const float* m = ops::Data<float>(ops::Borrow(Table(model)->magnitude));
  for (int64_t r = 0; r < 96; ++r) {
    ASSERT_STATUS_OK(merged->ReadRows(w, r, r + 1, row.data()));
    double squares = 0;
    for (const double v : row) squares += v * v;
    EXPECT_NEAR(std::sqrt(squares), m[r], 1e-5);
  }
}

// --- principal parts -----------------------------------------------------------------------------

TEST_F(Lora, PrincipalPartsBeginAsTheBaseAndTrainAtOnce) {
  const auto chain = Made(Text("rank: 4 alpha: 8 init: PISSA"));
  model::Model& model = chain->At("tuned");
  const Doubles base = Logits(&chain->At("base"));
  EXPECT_LT(Distance(Logits(&model), base), 1e-10);
  EXPECT_EQ(Untrained(Train(&model), true), "");
  // What is left has none of the greatest singular values: A is orthogonal to it.
  const engine_low_rank& low = *Table(model);
  model::Param* param = model.FindParam(std::string(kSite) + ".weight");
  const ops::Tensor cross = ops::Linear(*param->tensor, ops::Detach(ops::Borrow(low.a)));
  EXPECT_LT(*ops::Data<double>(ops::Amax(ops::Abs(cross), {0, 1}, false)), 1e-12);
  const auto plain = Made(Text("rank: 4 alpha: 8 init: PISSA", "dtype: F64 sites: PLAIN"));
  EXPECT_LT(Distance(Train(&model), Train(&plain->At("tuned"))), 1e-10);
  Move(&model, "lora_");
  EXPECT_GT(Distance(Logits(&model), base), 1e-2);
  EXPECT_LT(Distance(MergedLogits(model, "merged"), Logits(&model)), 1e-10);
  // Other views of the base keep their weights.
  EXPECT_EQ(Logits(&chain->At("base")), base);

  const auto served = Made(Text("rank: 4 alpha: 8 init: PISSA", ""));
  Move(&served->At("tuned"), "lora_");
  EXPECT_LT(Distance(ServedLogits(&served->At("tuned")), Logits(&served->At("tuned"))), 1e-4);
  EXPECT_GT(Distance(ServedLogits(&served->At("tuned")), ServedLogits(&served->At("base"))), 1e-2);

  EXPECT_REFUSED(Refused("init: PISSA", true), "held as integers");
  EXPECT_REFUSED(Refused("init: PISSA rank: 100"), "has no 100 singular values");
  EXPECT_REFUSED(Refused("init: PISSA dora: true"), "choose one");
  EXPECT_REFUSED(Refused("init: PISSA alpha: 0"), "alpha above 0");
}

TEST_F(Lora, PrincipalPartsAreSavedAsAPlainAdapter) {
  const std::string lora = "rank: 4 alpha: 8 init: PISSA rank_pattern: \"q_proj=6\"";
  ASSERT_STATUS_OK(Trained(lora, "none", 1));
  ASSERT_STATUS_OK(Trained(lora, "adapter", 4));
  const json config = json::parse(ReadFile(Path("adapter/adapter_config.json")));
  EXPECT_FALSE(config.contains("init_lora_weights"));
  const auto loaded = Made(Text(Adapter("adapter")));
  model::Model& model = loaded->At("tuned");
  EXPECT_EQ(Table(model)->rank, 8u);
  EXPECT_EQ(Table(model)->scale, 2);
  EXPECT_EQ(Table(model, "model.layers.0.self_attn.q_proj")->rank, 12u);
  // The same branches over what is left of the weights: PEFT's form without the conversion.
  std::unique_ptr<model::SafetensorsFile> file;
  ASSERT_STATUS_OK(model::SafetensorsFile::Open(Path("adapter/adapter_model.safetensors"), &file));
  std::vector<model::SafetensorsSource> halves;
  std::vector<std::unique_ptr<Doubles>> owned;
  for (const model::SafetensorsTensor& t : file->tensors()) {
    Doubles all(static_cast<size_t>(t.shape[0] * t.shape[1]));
    ASSERT_STATUS_OK(file->Read(t, &all));
    owned.push_back(std::make_unique<Doubles>());
    const bool a = t.name.find("lora_A") != std::string::npos;
    const int64_t rows = a ? t.shape[0] / 2 : t.shape[0], columns = a ? t.shape[1] : t.shape[1] / 2;
    for (int64_t r = 0; r < rows; ++r) {
      const auto from = all.begin() + r * t.shape[1];
      owned.back()->insert(owned.back()->end(), from, from + columns);
    }
    halves.push_back({t.name, "F64", {rows, columns}, owned.back()->data()});
  }
  fs::create_directory(Path("own"));
  ASSERT_STATUS_OK(model::WriteSafetensors(Path("own/adapter_model.safetensors"), halves));
  json own = config;
  own["r"] = 4;
  own["lora_alpha"] = 8;
  own.erase("alpha_pattern");
  for (auto& [name, rank] : own["rank_pattern"].items()) rank = 6;
  own["init_lora_weights"] = "pissa";
  const double alpha = config["lora_alpha"].get<double>() * 4 / config["r"].get<double>();
  own["lora_alpha"] = alpha;
  std::ofstream(Path("own/adapter_config.json")) << own;
  const auto beside = Made(Text(Adapter("own")));
  EXPECT_NE(Table(beside->At("tuned"))->start_a, nullptr);
  EXPECT_LT(Distance(Logits(&beside->At("tuned")), Logits(&model)), 1e-9);
  EXPECT_GT(Distance(Logits(&model), Logits(&loaded->At("base"))), 1e-2);
  own["init_lora_weights"] = "pissa_niter_4";
  std::ofstream(Path("own/adapter_config.json")) << own;
  EXPECT_REFUSED(Refused(Adapter("own")), "path_initial_model_for_weight_conversion");
}

// --- whole weights -------------------------------------------------------------------------------

TEST_F(Lora, WholeWeightsAreKeptBesideTheBranches) {
  const std::string also = On("also", "tuned", "trainable { targets: \"model.norm\" }");
  ASSERT_STATUS_OK(Trained("rank: 4", "adapter", 3, also));
  const json config = json::parse(ReadFile(Path("adapter/adapter_config.json")));
  EXPECT_EQ(config["modules_to_save"], json::array({"model.norm"}));
  const auto chain = Made(Text(Adapter("adapter"), ""));
  model::Model& model = chain->At("tuned");
  const model::Param& norm = *model.FindParam("model.norm.weight");
  ASSERT_TRUE(norm.trainable && norm.tensor);
  EXPECT_EQ(Untrained(Train(&model), true), "");
  EXPECT_LT(Distance(ServedLogits(&model), Logits(&model)), 1e-4);
  EXPECT_LT(Distance(MergedLogits(model, "merged"), Logits(&model)), 1e-4);
  const Doubles with = Logits(&model);
  std::optional<ops::Tensor> before;
  ASSERT_STATUS_OK(
      chain->At("base").DenseTensor(*chain->At("base").FindParam("model.norm.weight"), &before));
  ops::Tensor target = ops::Detach(*norm.tensor);
  ops::CopyInto(target, *before);
  EXPECT_GT(Distance(Logits(&model), with), 1e-3) << "the norm had learnt nothing";

  // What an adapter cannot say is told before anything is trained.
  for (const auto& [target, words] : {std::pair("lm_head", "the embedding and the head in one"),
                                      std::pair("up_proj", "the weight below a low-rank branch")}) {
    const std::string both =
        On("also", "tuned", "trainable { targets: \"" + std::string(target) + "\" }");
    EXPECT_REFUSED(Trained("rank: 4", "never", 1, both), words);
    EXPECT_FALSE(fs::exists(Path("never.jsonl")) && fs::file_size(Path("never.jsonl")) > 0);
  }
}

// --- adapters that are refused -------------------------------------------------------------------

TEST_F(Lora, AdaptersThatMeanSomethingElseAreRefused) {
  ASSERT_STATUS_OK(Trained("rank: 4", "adapter", 1));
  const std::string path = Path("adapter/adapter_config.json");
  const json good = json::parse(ReadFile(path));
  const struct {
    const char* key;
    json value;
    const char* words;
  } cases[] = {
      {"bias", "some", "bias is \"some\""},
      {"lora_bias", true, "lora_bias is true"},
      {"fan_in_fan_out", true, "fan_in_fan_out is true"},
      {"layer_replication", json::array({json::array({0, 1})}), "layer_replication is set"},
      {"target_parameters", json::array({"x"}), "target_parameters is set"},
      {"lora_dropout", 1.0, "lora_dropout must be"},
      {"lora_dropout", "0.1", "lora_dropout must be"},
      {"use_dora", true, "tensors that fit no linear"},
      {"init_lora_weights", "loftq", "belongs to a changed base"},
      {"init_lora_weights", "olora", "belongs to a changed base"},
      // Ranks that the tensors do not have.
      {"r", 5, "site 'model.layers.0.self_attn.q_proj': lora_A must be [5, 64]"}};
  for (const auto& c : cases) {
    json config = good;
    config[c.key] = c.value;
    std::ofstream(path) << config;
    EXPECT_REFUSED(Refused(Adapter("adapter")), c.words);
  }
  json fine = good;
  fine["init_lora_weights"] = true;
  fine["layer_replication"] = nullptr;
  fine["target_parameters"] = json::array();
  fine["megatron_config"] = json::object();
  // Of linears without biases all biases, or those beside a branch, are none.
  for (const char* bias : {"none", "all", "lora_only"}) {
    fine["bias"] = bias;
    std::ofstream(path) << fine;
    Good(Refused(Adapter("adapter")));
  }
}

}  // namespace
}  // namespace engine::tests
