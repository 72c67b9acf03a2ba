#include "tests/support.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "engine/model/autograd.h"
#include "engine/model/extensions.h"
#include "engine/model/formats/safetensors.h"
#include "engine/model/formats/test_model.h"
#include "engine/model/host_services.h"

namespace engine::tests {

abi::Registry& BuiltPlugins() {
  static abi::Registry* registry = [] {
    model::RegisterServices();
    auto* made = new abi::Registry;
    model::AddBuiltinKinds(made);
    made->LoadFolder(ENGINE_BINARY_DIR "/lib/engine/plugins");
    return made;
  }();
  return *registry;
}

Chain::Chain(const std::string& text) {
  std::vector<graph::Diagnostic> diagnostics;
  const bool good = graph::LoadPipeline({.path = "test.pbtxt", .text = text, .need_nodes = false},
                                        BuiltPlugins().index(), {}, &plan_, &diagnostics);
  diagnostics_ = graph::Render(diagnostics);
  if (!good) {
    status_ = Status(ENGINE_INVALID_ARGUMENT, diagnostics_);
    return;
  }
  model::Maker maker(BuiltPlugins());
  for (const graph::PlanResource& resource : plan_.resources) {
    runtime::ResourceSlot made;
    const runtime::ResourceSlot from =
        resource.from < 0 ? nullptr : slots_[static_cast<size_t>(resource.from)];
    status_ = maker.Make(resource, from, &made);
    if (!status_.ok()) return;
    slots_.push_back(std::move(made));
  }
}

model::Model& Chain::At(const std::string& resource) {
  for (size_t i = 0; i < plan_.resources.size(); ++i) {
    if (plan_.resources[i].name == resource) return *model::ModelOf(slots_.at(i));
  }
  throw std::runtime_error("no resource is named " + resource + ": " +
                           std::string(status_.message()));
}

Status RunPipeline(const std::string& text) {
  graph::Plan plan;
  std::vector<graph::Diagnostic> diagnostics;
  if (!graph::LoadPipeline({.path = "test.pbtxt", .text = text}, BuiltPlugins().index(), {}, &plan,
                           &diagnostics)) {
    return Status(ENGINE_INVALID_ARGUMENT, graph::Render(diagnostics));
  }
  const auto thread_state = model::CaptureThreadState();
  runtime::RunOptions options;
  options.thread_state = thread_state.get();
  model::Maker maker(BuiltPlugins());
  std::unique_ptr<runtime::Pipeline> pipeline;
  ENGINE_RETURN_IF_ERROR(runtime::Pipeline::Make(plan, BuiltPlugins(), &maker, options, &pipeline));
  ENGINE_RETURN_IF_ERROR(pipeline->run().Open());
  pipeline->run().Start();
  return pipeline->run().Wait();
}

TempFolder::TempFolder() {
  std::string pattern = testing::TempDir() + "engine_test_XXXXXX";
  path_ = mkdtemp(pattern.data());
}
TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void WriteToyModel(const std::string& folder) {
  std::filesystem::create_directories(folder);
  const nlohmann::json config = {{"architectures", {"LlamaForCausalLM"}},
                                 {"model_type", "llama"},
                                 {"hidden_size", 64},
                                 {"num_hidden_layers", 4},
                                 {"num_attention_heads", 4},
                                 {"num_key_value_heads", 2},
                                 {"head_dim", 16},
                                 {"intermediate_size", 96},
                                 {"vocab_size", 320},
                                 {"max_position_embeddings", 256},
                                 {"rope_theta", 10000.0},
                                 {"rms_norm_eps", 1e-5},
                                 {"hidden_act", "silu"},
                                 {"tie_word_embeddings", true},
                                 {"bos_token_id", 0},
                                 {"eos_token_id", 0},
                                 {"torch_dtype", "float32"}};
  std::ofstream(folder + "/config.json") << config.dump(1);
  // 256 bytes in GPT-2's printable alphabet and 64 made-up tokens.
  nlohmann::json vocab;
  int next = 0;
  int id = 0;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    const int point = printable ? b : 256 + next++;
    std::string utf8;
    if (point < 128) {
      utf8 += static_cast<char>(point);
    } else {
      utf8 += static_cast<char>(0xc0 | (point >> 6));
      utf8 += static_cast<char>(0x80 | (point & 0x3f));
    }
    vocab[utf8] = id++;
  }
  for (int i = 0; i < 64; ++i) vocab["<extra_" + std::to_string(i) + ">"] = id++;
  const nlohmann::json tokenizer = {{"version", "1.0"},
                                    {"added_tokens", nlohmann::json::array()},
                                    {"normalizer", nullptr},
                                    {"pre_tokenizer",
                                     {{"type", "ByteLevel"},
                                      {"add_prefix_space", false},
                                      {"trim_offsets", true},
                                      {"use_regex", true}}},
                                    {"model",
                                     {{"type", "BPE"},
                                      {"vocab", vocab},
                                      {"merges", nlohmann::json::array()},
                                      {"ignore_merges", false}}}};
  std::ofstream(folder + "/tokenizer.json") << tokenizer.dump();

  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, 0.08f);
  std::vector<std::vector<float>> values;
  std::vector<model::SafetensorsSource> tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, bool norm) {
    int64_t count = 1;
    for (int64_t d : shape) count *= d;
    std::vector<float> v(static_cast<size_t>(count));
    for (float& x : v) x = norm ? 1.0f + normal(random) : normal(random);
    values.push_back(std::move(v));
    tensors.push_back({name, "F32", std::move(shape), nullptr});
  };
  add("model.embed_tokens.weight", {320, 64}, false);
  for (int i = 0; i < 4; ++i) {
    const std::string block = "model.layers." + std::to_string(i) + ".";
    add(block + "input_layernorm.weight", {64}, true);
    add(block + "self_attn.q_proj.weight", {64, 64}, false);
    add(block + "self_attn.k_proj.weight", {32, 64}, false);
    add(block + "self_attn.v_proj.weight", {32, 64}, false);
    add(block + "self_attn.o_proj.weight", {64, 64}, false);
    add(block + "post_attention_layernorm.weight", {64}, true);
    add(block + "mlp.gate_proj.weight", {96, 64}, false);
    add(block + "mlp.up_proj.weight", {96, 64}, false);
    add(block + "mlp.down_proj.weight", {64, 96}, false);
  }
  add("model.norm.weight", {64}, true);
  for (size_t i = 0; i < tensors.size(); ++i) tensors[i].data = values[i].data();
  const Status status = model::WriteSafetensors(folder + "/model.safetensors", tensors);
  ASSERT_TRUE(status.ok()) << status.message();
}

std::string RealModel() { return model::TestModelPath(); }

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

uint64_t OpenSequence(const engine_kv_pool* pool) {
  const int32_t token = 0;
  engine_kv_open open = Sized<engine_kv_open>();
  open.flags = ENGINE_KV_OPEN_NO_SHARING;
  open.tokens = &token;
  open.token_count = 1;
  engine_kv_match match = Sized<engine_kv_match>();
  uint64_t sequence = 0;
  const Status status(pool->sequence_open(pool->self, &open, &sequence, &match));
  if (!status.ok()) throw std::runtime_error(std::string(status.message()));
  return sequence;
}

Greedy Generate(model::Model* model, std::vector<int32_t> prompt, int count, int chunk) {
  const engine_kv_pool* kv = model::PoolOf(*model);
  Greedy result;
  std::vector<int32_t> tokens = std::move(prompt);
  size_t done = 0;
  uint64_t sequence = 0;
  const auto good = [](engine_status* s) {
    const Status status(s);
    if (!status.ok()) throw std::runtime_error(std::string(status.message()));
  };
  if (kv != nullptr) sequence = OpenSequence(kv);
  std::vector<float> logits(static_cast<size_t>(model->config().vocab));
  while (static_cast<int>(result.ids.size()) < count) {
    engine_step_sequence s = Sized<engine_step_sequence>();
    s.request = 1;
    size_t end = tokens.size();
    if (kv != nullptr) {
      end = std::min(end, done + static_cast<size_t>(chunk));
      good(kv->sequence_reserve(kv->self, sequence, end));
      good(kv->sequence_blocks(kv->self, sequence, &s.blocks, &s.block_count));
      s.start = static_cast<uint32_t>(done);
    }
    s.tokens = tokens.data() + s.start;
    s.token_count = static_cast<uint32_t>(end - s.start);
    s.logits_count = 1;
    const engine_step step = {sizeof(engine_step), 1, &s};
    const Status status = model->Step(step, logits.data());
    if (!status.ok()) throw std::runtime_error(std::string(status.message()));
    if (kv != nullptr) good(kv->sequence_written(kv->self, sequence, s.tokens, end));
    done = end;
    if (end < tokens.size()) continue;
    const auto best = std::max_element(logits.begin(), logits.end());
    float second = -INFINITY;
    for (auto it = logits.begin(); it != logits.end(); ++it) {
      if (it != best) second = std::max(second, *it);
    }
    result.ids.push_back(static_cast<int32_t>(best - logits.begin()));
    result.margins.push_back(*best - second);
    result.logits.push_back(logits);
    tokens.push_back(result.ids.back());
  }
  if (kv != nullptr) good(kv->sequence_close(kv->self, sequence, 0));
  return result;
}

}  // namespace engine::tests
