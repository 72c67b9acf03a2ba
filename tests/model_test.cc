// The real model against transformers' stored outputs, and the two roads of the engine (fused
// steps, sites on tensors) against each other.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/kernels/isa.h"
#include "engine/torch_ops.h"
#include "tests/support.h"

namespace engine::tests {
namespace {

std::string Load(const std::string& rest = "") {
  return "resource { name: \"base\" load { path: \"" + RealModel() + "\" weights: DECODED " + rest +
         " } }\n";
}
constexpr char kKv[] = "resource { name: \"kv\" from: \"base\" kv_cache { } }\n";

nlohmann::json Reference() {
  return nlohmann::json::parse(ReadFile(ENGINE_SOURCE_DIR "/tests/data/generate_reference.json"));
}

std::vector<float> SiteLogits(model::Model* model, const std::vector<int32_t>& ids) {
  const ops::Tensor input = ops::Empty({1, static_cast<int64_t>(ids.size())}, ENGINE_I64);
  for (size_t i = 0; i < ids.size(); ++i) ops::Data<int64_t>(input)[i] = ids[i];
  std::optional<ops::Tensor> logits;
  const Status status = model->Forward(input, &logits);
  EXPECT_TRUE(status.ok()) << status.message();
  const ops::Tensor last = ops::Contiguous(
      ops::To(ops::Select(*logits, 1, static_cast<int64_t>(ids.size()) - 1), ENGINE_F32));
  const float* data = ops::Data<float>(last);
  return std::vector<float>(data, data + model->config().vocab);
}

double MostDifferent(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return most;
}

TEST(Parity, LogitsAndGreedyTokensOfTransformers) {
  Chain chain(Load() + kKv);
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  const nlohmann::json reference = Reference();
  ASSERT_GE(reference["items"].size(), 30u);
  double worst = 0;
  size_t compared = 0;
  for (const auto& item : reference["items"]) {
    const std::string prompt = item["prompt"];
    std::vector<int32_t> ids;
    ASSERT_TRUE(chain.At("base").base().tokenizer->Encode(prompt, true, false, &ids).ok());
    ASSERT_EQ(ids, item["ids"].get<std::vector<int32_t>>()) << prompt;
    const auto wanted = item["greedy"].get<std::vector<int32_t>>();
    const auto margins = item["margins"].get<std::vector<double>>();
    for (const char* name : {"kv", "base"}) {
      // Without a KV cache each token costs the whole sequence: fewer of them.
      const int count = name[0] == 'k' ? static_cast<int>(wanted.size()) : 4;
      const Greedy got = Generate(&chain.At(name), ids, count);
      for (size_t i = 0; i < item["top_ids"].size(); ++i) {
        const double logit = got.logits[0][item["top_ids"][i].get<size_t>()];
        worst = std::max(worst, std::abs(logit - item["top_logits"][i].get<double>()));
      }
      for (size_t i = 0; i < got.ids.size(); ++i) {
        if (margins[i] <= 1e-3) break;  // from here the continuations may part
        ASSERT_EQ(got.ids[i], wanted[i]) << prompt << " token " << i << " " << name;
        ++compared;
      }
    }
  }
  EXPECT_LT(worst, 1e-3);
  EXPECT_GT(compared, 1500u);
}

TEST(Roads, SitesOnTensorsAgreeWithFusedSteps) {
  Chain chain(Load());
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  const std::vector<int32_t> ids = {504, 3575, 282, 4649, 314};
  const Greedy fused = Generate(&chain.At("base"), ids, 1);
  EXPECT_LT(MostDifferent(fused.logits[0], SiteLogits(&chain.At("base"), ids)), 1e-3);
}

TEST(Roads, Bf16IsNearF32) {
  const std::vector<int32_t> ids = {504, 3575, 282, 4649, 314};
  Chain exact(Load()), rounded(Load("dtype: BF16"));
  ASSERT_TRUE(rounded.status().ok()) << rounded.status().message();
  const Greedy a = Generate(&exact.At("base"), ids, 1), b = Generate(&rounded.At("base"), ids, 1);
  const double difference = MostDifferent(a.logits[0], b.logits[0]);
  EXPECT_GT(difference, 1e-4) << "bf16 weights were not used";
  EXPECT_LT(difference, 0.7);
  EXPECT_EQ(a.ids, b.ids);
}

// Section 8 of the design: a row's logits know neither chunks nor the cache nor threads.
class Invariance : public testing::TestWithParam<const char*> {};

TEST_P(Invariance, ChunksCacheAndThreadsChangeNoBit) {
  const std::string chain_text = std::string(GetParam());
  Chain chain(Load(chain_text.find("BF16") != std::string::npos ? "dtype: BF16" : "") +
              (chain_text.find("int8") != std::string::npos
                   ? "resource { name: \"small\" from: \"base\" int8 { } }\n"
                     "resource { name: \"kv\" from: \"small\" kv_cache { page_tokens: 32 } }\n"
                   : kKv));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  std::vector<int32_t> ids;
  for (int i = 0; i < 70; ++i) ids.push_back(300 + 37 * i);
  const std::string plain = chain_text.find("int8") != std::string::npos ? "small" : "base";
  const Greedy want = Generate(&chain.At("kv"), ids, 6);
  for (int chunk : {1, 7, 33}) {
    const Greedy got = Generate(&chain.At("kv"), ids, 6, chunk);
    EXPECT_EQ(got.logits, want.logits) << "chunk " << chunk;
  }
  EXPECT_EQ(Generate(&chain.At(plain), ids, 6).logits, want.logits) << "without the cache";
}

INSTANTIATE_TEST_SUITE_P(Chains, Invariance, testing::Values("F32", "BF16", "int8"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Batch, NeighboursChangeNoBit) {
  Chain chain(Load() + "resource { name: \"small\" from: \"base\" int8 { } }\n");
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  model::Model& model = chain.At("small");
  const std::vector<std::vector<int32_t>> prompts = {{504, 3575}, {28, 29, 30, 31, 32}, {9}};
  std::vector<engine_step_sequence> sequences;
  for (const auto& p : prompts) {
    engine_step_sequence s = Sized<engine_step_sequence>();
    s.request = 1;
    s.tokens = p.data();
    s.token_count = static_cast<uint32_t>(p.size());
    s.logits_count = 1;
    sequences.push_back(s);
  }
  const auto vocab = static_cast<size_t>(model.config().vocab);
  std::vector<float> together(3 * vocab), alone(vocab);
  const engine_step all = {sizeof(engine_step), 3, sequences.data()};
  ASSERT_TRUE(model.Step(all, together.data()).ok());
  for (size_t i = 0; i < 3; ++i) {
    const engine_step one = {sizeof(engine_step), 1, &sequences[i]};
    ASSERT_TRUE(model.Step(one, alone.data()).ok());
    EXPECT_TRUE(
        std::equal(alone.begin(), alone.end(), together.begin() + static_cast<long>(i * vocab)))
        << "sequence " << i;
  }
}

TEST(Step, RefusesWhatCannotBe) {
  Chain chain(Load("context: 64") + kKv);
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  model::Model& model = chain.At("kv");
  std::vector<float> logits(static_cast<size_t>(model.config().vocab));
  const std::vector<int32_t> tokens(65, 5), wild = {-1}, over = {49152};
  const std::vector<int32_t> blocks = {0, 1, 2, 3, 99999999};
  const auto refused = [&](const int32_t* ids, uint32_t count, uint32_t start, const int32_t* pages,
                           uint32_t page_count, const char* words) {
    engine_step_sequence s = Sized<engine_step_sequence>();
    s.request = 1;
    s.tokens = ids;
    s.token_count = count;
    s.start = start;
    s.blocks = pages;
    s.block_count = page_count;
    const engine_step step = {sizeof(engine_step), 1, &s};
    const Status status = model.Step(step, logits.data());
    EXPECT_FALSE(status.ok());
    EXPECT_NE(status.message().find(words), std::string_view::npos) << status.message();
  };
  refused(tokens.data(), 65, 0, blocks.data(), 5, "the context is 64");
  refused(tokens.data(), 0, 0, blocks.data(), 5, "reach");
  refused(wild.data(), 1, 0, blocks.data(), 1, "token -1");
  refused(over.data(), 1, 0, blocks.data(), 1, "vocabulary of 49152");
  refused(tokens.data(), 17, 0, blocks.data(), 1, "need more");
  refused(tokens.data(), 1, 16, blocks.data() + 3, 2, "page 99999999");
}

TEST(Load, RefusesWhatCannotFitAndWhatIsNotThere) {
  Chain missing("resource { name: \"base\" load { path: \"smolm2-135m-instruct\" } }");
  EXPECT_NE(missing.status().message().find("no model or path 'smolm2-135m-instruct'"),
            std::string_view::npos)
      << missing.status().message();
  Chain context(Load("context: 100000"));
  EXPECT_NE(context.status().message().find("more than the"), std::string_view::npos);
}

TEST(Step, HeadsThatFitNoVectorAreRefused) {
  TempFolder folder;
  WriteToyModel(folder.Path("toy"));
  nlohmann::json config = nlohmann::json::parse(ReadFile(folder.Path("toy/config.json")));
  config["num_attention_heads"] = 8;
  config["num_key_value_heads"] = 4;
  config["head_dim"] = 8;
  std::ofstream(folder.Path("toy/config.json")) << config.dump();
  Chain chain("resource { name: \"base\" load { path: \"" + folder.Path("toy") + "\" } }");
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  const int32_t token = 5;
  engine_step_sequence s = Sized<engine_step_sequence>();
  s.request = 1;
  s.tokens = &token;
  s.token_count = 1;
  s.logits_count = 1;
  const engine_step step = {sizeof(engine_step), 1, &s};
  std::vector<float> logits(320);
  const Status status = chain.At("base").Step(step, logits.data());
  EXPECT_NE(status.message().find("heads of 8"), std::string_view::npos) << status.message();
}

// A file that claims 48 GiB of weights, without taking that room on the disk.
TEST(Load, AModelThatCannotFitIsRefusedBeforeItIsRead) {
  TempFolder folder;
  WriteToyModel(folder.Path("toy"));
  const std::string path = folder.Path("toy/model.safetensors");
  const std::string old = ReadFile(path);
  uint64_t header_size = 0;
  std::memcpy(&header_size, old.data(), 8);
  nlohmann::ordered_json header = nlohmann::ordered_json::parse(old.substr(8, header_size));
  constexpr uint64_t kWide = 1u << 24;
  uint64_t end = 0;
  for (auto& [name, tensor] : header.items()) {
    if (name == "__metadata__") continue;
    uint64_t bytes = 4;
    for (auto& d : tensor["shape"]) {
      if (d == 96) d = kWide;
      bytes *= d.get<uint64_t>();
    }
    tensor["data_offsets"] = {end, end + bytes};
    end += bytes;
  }
  const std::string text = header.dump();
  const uint64_t size = text.size();
  {
    std::ofstream out(path, std::ios::binary);
    out.write(reinterpret_cast<const char*>(&size), 8);
    out << text;
  }
  std::filesystem::resize_file(path, 8 + size + end);
  nlohmann::json config = nlohmann::json::parse(ReadFile(folder.Path("toy/config.json")));
  config["intermediate_size"] = kWide;
  std::ofstream(folder.Path("toy/config.json")) << config.dump();
  Chain chain("resource { name: \"base\" load { path: \"" + folder.Path("toy") + "\" } }");
  EXPECT_EQ(chain.status().code(), ENGINE_RESOURCE_EXHAUSTED) << chain.status().message();
  for (const char* words : {"needs 49", "this process may use", "BF16"}) {
    EXPECT_NE(chain.status().message().find(words), std::string_view::npos)
        << chain.status().message();
  }
}

}  // namespace
}  // namespace engine::tests
