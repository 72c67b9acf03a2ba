// What training leaves behind (T-03 of the training tests): a merged model computes what base and
// adapter compute, in either container, and the base is left as it was; an adapter folder and the
// figures of a run say what happened. Each comparison is shown to notice a difference.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "engine/model/export_model.h"
#include "engine/model/extensions.h"
#include "engine/model/formats/gguf.h"
#include "engine/model/formats/safetensors.h"
#include "engine/model/formats/test_model.h"
#include "engine/torch_ops.h"
#include "engine/wire.hpp"
#include "plugins/trainer/event_file.h"
#include "tests/process.h"
#include "tests/small_model.h"
#include "tests/support.h"

namespace engine::tests {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;
using Doubles = std::vector<double>;

std::string Load(const std::string& path, const std::string& rest = "") {
  return "resource { name: \"base\" load { path: \"" + path + "\" weights: DECODED " + rest +
         " } }\n";
}
std::string On(const std::string& name, const std::string& from, const std::string& kind) {
  return "resource { name: \"" + name + "\" from: \"" + from + "\" " + kind + " }\n";
}
const char kLora[] = "lora { rank: 4 alpha: 8 seed: 3 }";

// The toy model with a head of its own.
void WriteUntied(const std::string& folder) {
  WriteToyModel(folder);
  std::unique_ptr<model::SafetensorsFile> file;
  ASSERT_STATUS_OK(model::SafetensorsFile::Open(folder + "/model.safetensors", &file));
  std::vector<model::SafetensorsSource> tensors;
  std::vector<float> head;
  for (const model::SafetensorsTensor& t : file->tensors()) {
    tensors.push_back({t.name, t.dtype, t.shape, t.data});
    if (t.name != "model.embed_tokens.weight") continue;
    ASSERT_STATUS_OK(file->Read(t, &head));
    std::reverse(head.begin(), head.end());
  }
  tensors.push_back({"lm_head.weight", "F32", {320, 64}, head.data()});
  ASSERT_STATUS_OK(model::WriteSafetensors(folder + "/new.safetensors", tensors));
  fs::rename(folder + "/new.safetensors", folder + "/model.safetensors");
  json config = json::parse(ReadFile(folder + "/config.json"));
  config["tie_word_embeddings"] = false;
  std::ofstream(folder + "/config.json") << config;
}

Doubles Logits(model::Model* model) {
  const ops::Tensor ids = ops::Empty({1, 40}, ENGINE_I64);
  for (int64_t i = 0; i < 40; ++i) ops::Data<int64_t>(ids)[i] = (i * 7919 + 13) % 300;
  std::optional<ops::Tensor> logits;
  const Status status = model->Forward(ids, &logits);
  EXPECT_TRUE(status.ok()) << status.message();
  const ops::Tensor wide = ops::Contiguous(ops::To(ops::Detach(*logits), ENGINE_F64));
  return Doubles(ops::Data<double>(wide), ops::Data<double>(wide) + wide.numel());
}

double Distance(const Doubles& a, const Doubles& b) {
  if (a.size() != b.size()) return INFINITY;
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::fabs(a[i] - b[i]));
  return most;
}

// Loads what was written, as anyone would.
Doubles LogitsOf(const std::string& path, const std::string& rest = "") {
  Chain chain(Load(path, rest));
  EXPECT_TRUE(chain.status().ok()) << chain.status().message();
  return chain.status().ok() ? Logits(&chain.At("base")) : Doubles();
}

// Moves every B away from zero.
void MoveAdapters(model::Model* model) {
  for (const model::Param& p : model->params()) {
    if (!p.trainable || p.name.find("lora_B") == std::string::npos) continue;
    const ops::Tensor wide = ops::Contiguous(ops::To(ops::Detach(*p.tensor), ENGINE_F64));
    for (int64_t i = 0; i < wide.numel(); ++i) {
      ops::Data<double>(wide)[i] = 0.02 * std::sin(static_cast<double>(i) * 1.7 + 0.3);
    }
    ops::Tensor target = ops::Detach(*p.tensor);
    ops::CopyInto(target, ops::To(wide, ops::DtypeOf(*p.tensor)));
  }
  model->ParamsChanged();
}

std::vector<float> Rows(const model::Checkpoint& c, const std::string& name) {
  const model::TensorInfo* t = c.Find(name);
  if (t == nullptr) return {};
  std::vector<float> out(static_cast<size_t>(t->rows() * t->columns()));
  const Status status = c.ReadRows(*t, 0, t->rows(), out.data());
  EXPECT_TRUE(status.ok()) << status.message();
  return out;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

model::MergeRequest To(const std::string& path, const char* type = "F32",
                       engine_merge_into into = ENGINE_MERGE_REFUSE) {
  model::MergeRequest request;
  request.path = path;
  request.merge_into = into;
  const Status status = model::ParseExportFormat(path, type, &request.format);
  EXPECT_TRUE(status.ok()) << status.message();
  return request;
}

struct Case {
  const char* name;
  bool gguf, tied;
};

// A model on disk, in either container, its head tied or not.
class Merged : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const Case& c = GetParam();
    source_ = Path(c.gguf ? "model.gguf" : "model");
    if (c.gguf && c.tied) return WriteSmallModel(source_, Stored::kF32);
    const std::string folder = Path("model");
    c.tied ? WriteToyModel(folder) : WriteUntied(folder);
    if (!c.gguf) return;
    std::unique_ptr<model::Checkpoint> checkpoint;
    ASSERT_STATUS_OK(model::OpenCheckpoint(folder, &checkpoint));
    ASSERT_STATUS_OK(model::ExportCheckpoint(
        *checkpoint, {source_, {true, model::Encoding::kF32}, false, nullptr, {}, ""}));
    fs::remove_all(folder);
  }
  std::string Path(const std::string& name) const { return folder_.Path(name); }
  std::string source_;

 private:
  TempFolder folder_;
};

TEST_P(Merged, BranchesOfZeroLeaveTheBaseToTheBit) {
  Chain chain(Load(source_) + On("tuned", "base", kLora));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  const Doubles base = Logits(&chain.At("base"));
  for (const char* name : {"out.gguf", "out"}) {
    ASSERT_STATUS_OK(model::ExportModel(chain.At("tuned"), To(Path(name))));
    std::unique_ptr<model::Checkpoint> copy;
    ASSERT_STATUS_OK(model::OpenCheckpoint(Path(name), &copy));
    const model::Checkpoint& original = *chain.At("base").base().checkpoint;
    ASSERT_EQ(copy->tensors().size(), original.tensors().size());
    for (const model::TensorInfo& t : original.tensors()) {
      EXPECT_TRUE(SameBits(Rows(*copy, t.name), Rows(original, t.name))) << name << ' ' << t.name;
    }
    EXPECT_EQ(LogitsOf(Path(name)), base) << name;
    EXPECT_EQ(copy->config().tied_embedding, GetParam().tied);
    EXPECT_EQ(copy->Find("lm_head.weight") == nullptr, GetParam().tied) << name;
  }
  std::unique_ptr<model::SafetensorsFile> file;
  ASSERT_STATUS_OK(model::SafetensorsFile::Open(Path("out/model.safetensors"), &file));
  EXPECT_EQ(file->Find("lm_head.weight") == nullptr, GetParam().tied);
  EXPECT_EQ(json::parse(ReadFile(Path("out/config.json")))["tie_word_embeddings"], GetParam().tied);
}

TEST_P(Merged, IsBaseAndAdapterInF32) {
  Chain chain(Load(source_) + On("tuned", "base", kLora) + On("lean", "tuned", "checkpoint { }"));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  MoveAdapters(&chain.At("lean"));
  const Doubles base = Logits(&chain.At("base")), tuned = Logits(&chain.At("lean"));
  EXPECT_GT(Distance(base, tuned), 1e-2) << "the adapter does nothing that could be seen";
  const model::Checkpoint& original = *chain.At("base").base().checkpoint;
  std::map<std::string, std::vector<float>> before;
  for (const model::TensorInfo& t : original.tensors()) before[t.name] = Rows(original, t.name);
  for (const char* name : {"out.gguf", "out"}) {
    ASSERT_STATUS_OK(model::ExportModel(chain.At("lean"), To(Path(name))));
    EXPECT_LT(Distance(LogitsOf(Path(name)), tuned), 1e-4) << name;
    EXPECT_GT(Distance(LogitsOf(Path(name)), base), 1e-2) << name;
  }
  // What was merged is neither the file nor the tensors that the base computes with.
  EXPECT_EQ(Logits(&chain.At("base")), base);
  EXPECT_EQ(Logits(&chain.At("lean")), tuned);
  for (const auto& [name, values] : before) EXPECT_TRUE(SameBits(Rows(original, name), values));

  // To the bit the same again.
  ASSERT_STATUS_OK(model::ExportModel(chain.At("tuned"), To(Path("again.gguf"))));
  EXPECT_TRUE(ReadFile(Path("again.gguf")) == ReadFile(Path("out.gguf")));
  // A branch that is missing shows.
  Chain fewer(Load(source_) + On("tuned", "base", "lora { rank: 4 targets: \"up_proj\" }"));
  ASSERT_TRUE(fewer.status().ok()) << fewer.status().message();
  MoveAdapters(&fewer.At("tuned"));
  ASSERT_STATUS_OK(model::ExportModel(fewer.At("tuned"), To(Path("fewer"))));
  EXPECT_GT(Distance(LogitsOf(Path("fewer")), tuned), 1e-3);
}

// In the container that it came from: the other one rounds some of the config's numbers.
TEST_P(Merged, IsBaseAndAdapterInF64) {
  Chain chain(Load(source_, "dtype: F64") + On("tuned", "base", kLora));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  MoveAdapters(&chain.At("tuned"));
  const std::string out = Path(GetParam().gguf ? "out.gguf" : "out");
  ASSERT_STATUS_OK(model::ExportModel(chain.At("tuned"), To(out, "F64")));
  EXPECT_LT(Distance(LogitsOf(out, "dtype: F64"), Logits(&chain.At("tuned"))), 1e-10);
}

TEST_P(Merged, NumbersOfOtherKindsAreThoseRounded) {
  Chain chain(Load(source_) + On("tuned", "base", kLora));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  MoveAdapters(&chain.At("tuned"));
  ASSERT_STATUS_OK(model::ExportModel(chain.At("tuned"), To(Path("exact"))));
  std::unique_ptr<model::Checkpoint> exact;
  ASSERT_STATUS_OK(model::OpenCheckpoint(Path("exact"), &exact));
  const struct {
    const char *path, *type, *dtype;
    model::Encoding encoding;
    double bound;  // of the error, in units of a row's greatest magnitude
  } kinds[] = {{"f16.gguf", "F16", "", model::Encoding::kF16, 0x1p-11},
               {"bf16.gguf", "bf16", "", model::Encoding::kBF16, 0x1p-8},
               {"q8.gguf", "Q8_0", "", model::Encoding::kQ8_0, 0.01},
               {"f16", "F16", "float16", model::Encoding::kF16, 0x1p-11},
               {"bf16", "BF16", "bfloat16", model::Encoding::kBF16, 0x1p-8},
               {"int8", "INT8", "", model::Encoding::kI8, 0.01}};
  for (const auto& kind : kinds) {
    ASSERT_STATUS_OK(model::ExportModel(chain.At("tuned"), To(Path(kind.path), kind.type)));
    std::unique_ptr<model::Checkpoint> copy;
    ASSERT_STATUS_OK(model::OpenCheckpoint(Path(kind.path), &copy));
    for (const model::TensorInfo& t : exact->tensors()) {
      const std::vector<float> want = Rows(*exact, t.name), got = Rows(*copy, t.name);
      ASSERT_EQ(want.size(), got.size()) << kind.path << ' ' << t.name;
      if (t.shape.size() == 2) {
        EXPECT_EQ(copy->Find(t.name)->encoding, kind.encoding) << kind.path << ' ' << t.name;
      }
      float most = 0, apart = 0;
      for (size_t i = 0; i < want.size(); ++i) {
        most = std::max(most, std::fabs(want[i]));
        apart = std::max(apart, std::fabs(want[i] - got[i]));
      }
      EXPECT_LE(apart, kind.bound * most) << kind.path << ' ' << t.name;
    }
    if (*kind.dtype == '\0') continue;
    EXPECT_EQ(json::parse(ReadFile(Path(std::string(kind.path) + "/config.json")))["torch_dtype"],
              kind.dtype);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Merged,
                         testing::Values(Case{"FolderTied", false, true},
                                         Case{"FolderUntied", false, false},
                                         Case{"GgufTied", true, true},
                                         Case{"GgufUntied", true, false}),
                         [](const auto& info) { return std::string(info.param.name); });

class Export : public testing::Test {
 protected:
  Export() { WriteToyModel(Path("toy")); }
  std::string Path(const std::string& name) const { return folder_.Path(name); }

 private:
  TempFolder folder_;
};

TEST_F(Export, WhatIsNotFiniteIsRefusedByName) {
  Chain chain(Load(Path("toy")) + On("tuned", "base", kLora));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  model::Model& model = chain.At("tuned");
  const std::string name = "model.layers.1.mlp.down_proj.lora_A.weight";
  float* at = ops::Data<float>(ops::Detach(*model.FindParam(name)->tensor));
  const float kept = at[7];
  for (const float poison : {NAN, INFINITY}) {
    at[7] = poison;
    EXPECT_REFUSED(model::ExportModel(model, To(Path("out"))), "'" + name + "'");
    EXPECT_REFUSED(model::ExportModel(model, To(Path("out.gguf"))), "element 7 of '" + name + "'");
  }
  at[7] = kept;
  EXPECT_FALSE(fs::exists(Path("out")));
  EXPECT_FALSE(fs::exists(Path("out.gguf")));
  // What becomes infinite by the type is an error as well.
  MoveAdapters(&model);
  at[7] = 1e9f;
  EXPECT_REFUSED(model::ExportModel(model, To(Path("out"), "F16")), "mlp.down_proj.weight'");
  EXPECT_FALSE(fs::exists(Path("out")));
}

// Values that training gave to the base's own parameters are those that are written.
TEST_F(Export, ParametersAreTakenAsTheModelHoldsThem) {
  Chain chain(Load(Path("toy")) + On("tuned", "base", kLora));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  for (const char* name : {"model.norm.weight", "model.layers.2.self_attn.k_proj.weight"}) {
    model::Param* param = chain.At("tuned").FindParam(name);
    std::optional<ops::Tensor> dense;
    ASSERT_STATUS_OK(chain.At("tuned").DenseTensor(*param, &dense));
    param->tensor = ops::Scale(*dense, 1.5);
    param->trainable = true;
  }
  const Doubles changed = Logits(&chain.At("tuned"));
  EXPECT_GT(Distance(changed, Logits(&chain.At("base"))), 1e-2);
  for (const char* name : {"out", "out.gguf"}) {
    ASSERT_STATUS_OK(model::ExportModel(chain.At("tuned"), To(Path(name))));
    EXPECT_LT(Distance(LogitsOf(Path(name)), changed), 1e-6) << name;
  }
  std::string provenance;
  ASSERT_STATUS_OK(model::Provenance(chain.At("tuned"), &provenance));
  EXPECT_TRUE(json::parse(provenance)["parameters"].contains("model.norm.weight"));
}

TEST_F(Export, QuantizedBasesAreMergedIntoWhatWasAskedFor) {
  Chain chain(Load(Path("toy")) + On("small", "base", "int8 { }") + On("tuned", "small", kLora));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  model::Model& model = chain.At("tuned");
  MoveAdapters(&model);
  EXPECT_REFUSED(model::ExportModel(model, To(Path("out"))), "DEQUANTIZED");
  EXPECT_REFUSED(model::CheckExportModel(model, To(Path("out"))), "held as INT8_GROUPS");
  EXPECT_FALSE(fs::exists(Path("out")));
  const std::string site = "model.layers.3.self_attn.v_proj", name = site + ".weight";
  const auto* low =
      model::Ask<engine_low_rank>(model.impl(model.FindSite(site)), ENGINE_EXT_LOW_RANK);
  ASSERT_NE(low, nullptr);
  const float* a = ops::Data<float>(ops::Borrow(low->a));
  const float* b = ops::Data<float>(ops::Borrow(low->b));
  for (const engine_merge_into into : {ENGINE_MERGE_DEQUANTIZED, ENGINE_MERGE_ORIGINAL}) {
    const bool original = into == ENGINE_MERGE_ORIGINAL;
    const std::string word = original ? "ORIGINAL" : "DEQUANTIZED", folder = Path(word);
    ASSERT_STATUS_OK(model::ExportModel(model, To(folder, "F32", into)));
    ASSERT_STATUS_OK(model::ExportModel(model, To(folder + ".gguf", "F32", into)));
    std::unique_ptr<model::Checkpoint> copy, gguf;
    ASSERT_STATUS_OK(model::OpenCheckpoint(folder, &copy));
    ASSERT_STATUS_OK(model::OpenCheckpoint(folder + ".gguf", &gguf));
    // By hand: the weight below the branch, and the branch.
    std::vector<float> want = Rows(*model.base().checkpoint, name);
    if (!original) {
      ASSERT_STATUS_OK(model.ReadRows(*model.FindParam(name), 0, 32, want.data()));
    }
    for (size_t r = 0; r < 32; ++r) {
      for (size_t c = 0; c < 64; ++c) {
        double sum = want[r * 64 + c];
        for (size_t k = 0; k < 4; ++k) {
          sum += low->scale * double{b[r * 4 + k]} * double{a[k * 64 + c]};
        }
        want[r * 64 + c] = static_cast<float>(sum);
      }
    }
    EXPECT_TRUE(SameBits(Rows(*copy, name), want)) << word;
    EXPECT_TRUE(SameBits(Rows(*gguf, name), want)) << word;
    std::unique_ptr<model::SafetensorsFile> file;
    ASSERT_STATUS_OK(model::SafetensorsFile::Open(folder + "/model.safetensors", &file));
    EXPECT_EQ(file->metadata().at("engine.merged.into"), word);
    EXPECT_EQ(gguf->gguf()->Find("engine.merged.into")->s, word);
    const json provenance = json::parse(ReadFile(folder + "/provenance.json"));
    EXPECT_EQ(provenance["merged"]["into"], word);
    EXPECT_EQ(provenance["merged"]["branches"], 28);
    EXPECT_EQ(provenance["parameters"][name]["codec"], "INT8_GROUPS");
    EXPECT_EQ(provenance["parameters"][name]["stored"], "F32");
  }
}

TEST_F(Export, WhatAFileCannotSayIsRefused) {
  Chain chain(Load(Path("toy")) + On("tuned", "base", kLora));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  model::Model& model = chain.At("tuned");
  const uint32_t site = model.FindSite("model.layers.0.mlp.up_proj");
  auto& impl = const_cast<engine_site_impl&>(model.impl(site));
  const engine_site_impl kept = impl;
  impl.extension = [](void*, const char*) -> const void* { return nullptr; };
  EXPECT_REFUSED(model::ExportModel(model, To(Path("out"))),
                 "site 'model.layers.0.mlp.up_proj' of resource 'tuned'");
  impl = kept;
  std::ofstream(Path("there.gguf")) << "mine";
  EXPECT_REFUSED(model::ExportModel(model, To(Path("there.gguf"))), "replace: true");
  EXPECT_EQ(ReadFile(Path("there.gguf")), "mine");
  model::MergeRequest replace = To(Path("there.gguf"));
  replace.replace = true;
  ASSERT_STATUS_OK(model::ExportModel(model, replace));
  replace = To(Path("toy"));
  replace.replace = true;
  EXPECT_REFUSED(model::ExportModel(model, replace), "is the model that is read");
}

// --- the nodes ----------------------------------------------------------------------------------

// The scalars of an event file by step and tag; every sum is checked.
std::map<int64_t, std::map<std::string, double>> ReadEvents(const std::string& folder) {
  std::map<int64_t, std::map<std::string, double>> steps;
  size_t files = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    EXPECT_THAT(entry.path().filename().string(), testing::StartsWith("events.out.tfevents."));
    const std::string bytes = ReadFile(entry.path().string());
    ++files;
    const auto u32 = [&](size_t at) {
      uint32_t v = 0;
      std::memcpy(&v, bytes.data() + at, 4);
      return v;
    };
    for (size_t at = 0; at + 12 <= bytes.size();) {
      uint64_t length = 0;
      std::memcpy(&length, bytes.data() + at, 8);
      EXPECT_EQ(u32(at + 8), trainer::MaskedCrc32c(bytes.substr(at, 8)));
      const std::string data = bytes.substr(at + 12, length);
      EXPECT_EQ(u32(at + 12 + length), trainer::MaskedCrc32c(data));
      at += 16 + length;
      wire::Reader event(data);
      int64_t step = -1;
      while (const uint32_t field = event.Next()) {
        if (field == 2) {
          step = event.I64();
        } else if (field == 3) {
          EXPECT_EQ(event.Bytes(), "brain.Event:2");
        } else if (field == 5) {
          wire::Reader summary(event.Bytes());
          while (summary.Next() == 1) {
            wire::Reader value(summary.Bytes());
            EXPECT_EQ(value.Next(), 1u);
            const std::string tag(value.Bytes());
            EXPECT_EQ(value.Next(), 2u);
            steps[step][tag] = double{value.F32()};
          }
        } else {
          event.Skip();
        }
      }
      EXPECT_FALSE(event.failed());
    }
  }
  EXPECT_EQ(files, 1u);
  return steps;
}

class Leaves : public Export {
 protected:
  Status Train(const std::string& trainer, const std::string& nodes) {
    return RunPipeline(Load(Path("toy")) + On("tuned", "base", kLora) +
                       "node { name: \"data\" dataset { path: \"" ENGINE_SOURCE_DIR
                       "/LICENSE\" shape: TEXT shuffle: false epochs: 0 sequence: 64 batch: 2 } "
                       "use: \"tuned\" out: \"batches\" }\n"
                       "node { name: \"train\" trainer { lr: 1e-2 " +
                       trainer + " } in: \"batches\" use: \"tuned\" out: \"steps\" }\n" + nodes);
  }
  static std::string Node(const std::string& name, const std::string& kind, bool uses = true) {
    return "node { name: \"" + name + "\" " + kind + " in: \"steps\"" +
           (uses ? " use: \"tuned\"" : "") + " }\n";
  }
};

TEST_F(Leaves, AFolderThatSaysWhatItBelongsTo) {
  ASSERT_STATUS_OK(
      Train("steps: 6 out: \"" + Path("by_trainer") + "\"",
            Node("keep", "save_adapter { path: \"" + Path("by_node") + "\" }") +
                Node("merge", "export_model { path: \"" + Path("merged.gguf") + "\" }") +
                Node("whole", "export_model { path: \"" + Path("merged") + "\" }")));
  for (const char* file :
       {"adapter_model.safetensors", "adapter_config.json", "README.md", "provenance.json"}) {
    const std::string text = ReadFile(Path(std::string("by_trainer/") + file));
    EXPECT_FALSE(text.empty()) << file;
    EXPECT_TRUE(text == ReadFile(Path(std::string("by_node/") + file))) << file;
  }
  const json config = json::parse(ReadFile(Path("by_node/adapter_config.json")));
  EXPECT_EQ(config["base_model_name_or_path"], Path("toy"));
  EXPECT_EQ(config["r"], 4);
  EXPECT_EQ(config["lora_alpha"], 8.0);
  EXPECT_THAT(ReadFile(Path("by_node/README.md")),
              testing::StartsWith("---\nlibrary_name: peft\nbase_model: \"" + Path("toy") +
                                  "\"\ntags:\n- lora\n---\n"));
  Chain chain(Load(Path("toy")) +
              On("tuned", "base", "lora { adapter: \"" + Path("by_node") + "\" }"));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  const json provenance = json::parse(ReadFile(Path("by_node/provenance.json")));
  char hex[24];
  std::snprintf(hex, sizeof hex, "%016llx",
                static_cast<unsigned long long>(chain.At("base").fingerprint()));
  EXPECT_EQ(provenance["base"]["fingerprint"], hex);
  EXPECT_EQ(provenance["base"]["path"], Path("toy"));
  EXPECT_FALSE(provenance["engine"].get<std::string>().empty());
  EXPECT_EQ(provenance["parameters"].size(), 28u);
  EXPECT_EQ(provenance["parameters"]["model.layers.0.mlp.up_proj.weight"],
            json({{"stored", "F32"}, {"codec", "DENSE"}}));
  // The merged model is the one with the adapter, and both have learnt something.
  const Doubles tuned = Logits(&chain.At("tuned"));
  EXPECT_GT(Distance(tuned, Logits(&chain.At("base"))), 1e-2);
  EXPECT_LT(Distance(LogitsOf(Path("merged.gguf")), tuned), 1e-4);
  EXPECT_LT(Distance(LogitsOf(Path("merged")), tuned), 1e-4);

  // A model card of one's own stays; a second run does not write over a model unasked.
  std::ofstream(Path("by_node/README.md")) << "mine";
  ASSERT_STATUS_OK(
      Train("steps: 1", Node("keep", "save_adapter { path: \"" + Path("by_node") + "\" }")));
  EXPECT_EQ(ReadFile(Path("by_node/README.md")), "mine");
  const Status again =
      Train("steps: 1 out: \"" + Path("never") + "\"",
            Node("merge", "export_model { path: \"" + Path("merged.gguf") + "\" }"));
  EXPECT_REFUSED(Status(again), "replace: true");
  EXPECT_FALSE(fs::exists(Path("never"))) << "it trained before it looked";
}

TEST_F(Leaves, FiguresForTensorBoardAndACurve) {
  ASSERT_STATUS_OK(
      Train("steps: 5", Node("board", "tensorboard { dir: \"" + Path("runs/one") + "\" }", false) +
                            Node("log",
                                 "train_log { path: \"" + Path("log.jsonl") + "\" svg: \"" +
                                     Path("loss.svg") + "\" }",
                                 false)));
  const auto events = ReadEvents(Path("runs/one"));
  const std::vector<std::string> lines = Lines(ReadFile(Path("log.jsonl")));
  ASSERT_EQ(lines.size(), 5u);
  ASSERT_EQ(events.size(), 5u);
  for (const std::string& line : lines) {
    const json j = json::parse(line);
    const auto& scalars = events.at(j["step"].get<int64_t>());
    ASSERT_EQ(scalars.size(), 5u);
    const auto near = [&](const char* tag, double want) {
      EXPECT_NEAR(scalars.at(tag), want, 1e-6 * std::fabs(want)) << tag;
    };
    near("train/loss", j["loss"]);
    near("train/grad_norm", j["grad_norm"]);
    near("train/learning_rate", j["lr"]);
    near("train/tokens_per_second", j["tokens"].get<double>() / j["seconds"].get<double>());
    EXPECT_GT(scalars.at("mem/peak_bytes"), 1e6);
  }
  const std::string svg = ReadFile(Path("loss.svg"));
  EXPECT_THAT(svg, HasSubstr("loss, nats per token"));
  EXPECT_THAT(svg, HasSubstr("at step 5<"));
}

TEST_F(Leaves, AModelWithoutTrainingIsWrittenAtOnce) {
  const std::string text = Load(Path("toy")) + "node { name: \"merge\" export_model { path: \"" +
                           Path("copy.gguf") + "\" type: F32 } use: \"base\" }\n";
  ASSERT_STATUS_OK(RunPipeline(text));
  EXPECT_EQ(LogitsOf(Path("copy.gguf")), LogitsOf(Path("toy")));
  const Status wrong =
      RunPipeline(Load(Path("toy")) + "node { name: \"merge\" export_model { path: \"" +
                  Path("folder") + "\" type: Q8_0 } use: \"base\" }\n");
  EXPECT_REFUSED(Status(wrong), "Q8_0 is written to a file whose name ends in .gguf");
}

// --- the command --------------------------------------------------------------------------------

TEST_F(Leaves, ConvertGoesBothWaysAndMerges) {
  ASSERT_STATUS_OK(
      Train("steps: 3", Node("keep", "save_adapter { path: \"" + Path("adapter") + "\" }")));
  Chain chain(Load(Path("toy")) +
              On("tuned", "base", "lora { adapter: \"" + Path("adapter") + "\" }"));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  const auto run = [&](std::vector<std::string> args) {
    args.insert(args.begin(), "convert");
    return RunEngine(args);
  };
  const Outcome there = run({Path("toy"), Path("a.gguf")});
  ASSERT_EQ(there.code, 0) << there.err;
  EXPECT_THAT(there.out, HasSubstr("wrote " + Path("a.gguf")));
  const Outcome back = run({Path("a.gguf"), Path("b"), "--type", "F64"});
  ASSERT_EQ(back.code, 0) << back.err;
  EXPECT_EQ(LogitsOf(Path("b")), Logits(&chain.At("base")));
  const Outcome merged = run({Path("a.gguf"), Path("c"), "--adapter", Path("adapter")});
  ASSERT_EQ(merged.code, 0) << merged.err;
  EXPECT_LT(Distance(LogitsOf(Path("c")), Logits(&chain.At("tuned"))), 1e-4);
  EXPECT_GT(Distance(LogitsOf(Path("c")), Logits(&chain.At("base"))), 1e-3);

  const Outcome exists = run({Path("toy"), Path("a.gguf")});
  EXPECT_EQ(exists.code, 2);
  EXPECT_THAT(exists.err, HasSubstr("--force"));
  EXPECT_EQ(run({Path("toy"), Path("a.gguf"), "--force", "--type", "q8_0"}).code, 0);
  EXPECT_EQ(run({Path("toy"), Path("d"), "--type", "Q8_0"}).code, 2);
  EXPECT_EQ(run({Path("toy"), Path("d"), "--type", "F8"}).code, 2);
  const Outcome none = run({Path("toy"), Path("d"), "--adapter", Path("nowhere")});
  EXPECT_EQ(none.code, 2);
  EXPECT_THAT(none.err, HasSubstr("nowhere"));
  const Outcome kind =
      run({Path("toy"), Path("d"), "--adapter", Path("adapter"), "--adapter-kind", "lor"});
  EXPECT_EQ(kind.code, 2);
  EXPECT_THAT(kind.err, HasSubstr("did you mean \"lora\"?"));
  // An adapter with a value that is not finite is refused by the name of its tensor.
  std::unique_ptr<model::SafetensorsFile> file;
  ASSERT_STATUS_OK(model::SafetensorsFile::Open(Path("adapter/adapter_model.safetensors"), &file));
  std::vector<model::SafetensorsSource> tensors;
  std::vector<float> spoiled;
  for (const model::SafetensorsTensor& t : file->tensors()) {
    tensors.push_back({t.name, t.dtype, t.shape, t.data});
  }
  ASSERT_STATUS_OK(file->Read(file->tensors()[3], &spoiled));
  spoiled[5] = NAN;
  tensors[3].data = spoiled.data();
  fs::create_directory(Path("spoiled"));
  fs::copy(Path("adapter/adapter_config.json"), Path("spoiled/adapter_config.json"));
  ASSERT_STATUS_OK(model::WriteSafetensors(Path("spoiled/adapter_model.safetensors"), tensors));
  const Outcome nan = run({Path("toy"), Path("d"), "--adapter", Path("spoiled")});
  EXPECT_NE(nan.code, 0);
  EXPECT_THAT(nan.err, HasSubstr("'" + tensors[3].name + "'"));
  EXPECT_FALSE(fs::exists(Path("d")));
}

}  // namespace
}  // namespace engine::tests
