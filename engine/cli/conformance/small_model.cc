#include "engine/cli/conformance/small_model.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/model/formats/byte_alphabet.h"
#include "engine/model/formats/safetensors.h"
#include "engine/philox.hpp"

namespace engine::conformance {
namespace {

using nlohmann::json;

constexpr int64_t kMost = 1024;  // of each size, so that a test stays one

// 256 bytes in the printable alphabet of byte-level BPE, and made-up tokens.
json Tokenizer() {
  json vocab;
  int id = 0;
  for (int b = 0; b < 256; ++b) vocab[model::TokenOfByte(static_cast<uint8_t>(b))] = id++;
  for (int i = 0; id < kSmallVocab; ++i) vocab["<extra_" + std::to_string(i) + ">"] = id++;
  return {
      {"version", "1.0"},
      {"added_tokens", json::array()},
      {"normalizer", nullptr},
      {"pre_tokenizer",
       {{"type", "ByteLevel"},
        {"add_prefix_space", false},
        {"trim_offsets", true},
        {"use_regex", true}}},
      {"model",
       {{"type", "BPE"}, {"vocab", vocab}, {"merges", json::array()}, {"ignore_merges", false}}}};
}

}  // namespace

Status WriteSmallModel(const std::string& folder, const SmallModelSize& s,
                       const SmallValues& fill) {
  for (const int64_t each : {s.hidden, s.blocks, s.heads, s.kv_heads, s.mlp, s.context}) {
    if (each < 1 || each > kMost) {
      return Error(ENGINE_OUT_OF_RANGE, "a size of the small model is ", each, "; it takes 1 to ",
                   kMost);
    }
  }
  if (s.hidden % s.heads != 0 || s.hidden / s.heads % 2 != 0 || s.heads % s.kv_heads != 0) {
    return Error(
        ENGINE_INVALID_ARGUMENT, "hidden ", s.hidden, ", heads ", s.heads, " and kv_heads ",
        s.kv_heads,
        " make no model: hidden must be heads times an even number, and heads a multiple of "
        "kv_heads");
  }
  std::error_code ignored;
  std::filesystem::create_directories(folder, ignored);
  const int64_t head = s.hidden / s.heads;
  const json config = {{"architectures", {"LlamaForCausalLM"}},
                       {"model_type", "llama"},
                       {"hidden_size", s.hidden},
                       {"num_hidden_layers", s.blocks},
                       {"num_attention_heads", s.heads},
                       {"num_key_value_heads", s.kv_heads},
                       {"head_dim", head},
                       {"intermediate_size", s.mlp},
                       {"vocab_size", kSmallVocab},
                       {"max_position_embeddings", s.context},
                       {"rope_theta", 10000.0},
                       {"rms_norm_eps", 1e-5},
                       {"hidden_act", "silu"},
                       {"tie_word_embeddings", true},
                       {"bos_token_id", 0},
                       {"eos_token_id", 0},
                       {"torch_dtype", "float32"}};
  std::ofstream(folder + "/config.json") << config.dump(1);
  std::ofstream(folder + "/tokenizer.json") << Tokenizer().dump();

  std::vector<std::vector<float>> values;
  std::vector<model::SafetensorsSource> tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t d : shape) count *= d;
    const bool norm = shape.size() == 1;
    std::vector<float>& v = values.emplace_back(static_cast<size_t>(count));
    if (fill) {
      fill(name, norm, &v);
    } else {
      const Philox random(s.seed, name);
      for (size_t i = 0; i < v.size(); ++i) {
        v[i] = (norm ? 1.0f : 0.0f) + 0.14f * static_cast<float>(2 * random.Uniform(i) - 1);
      }
    }
    tensors.push_back({name, "F32", std::move(shape), nullptr});
  };
  add("model.embed_tokens.weight", {kSmallVocab, s.hidden});
  for (int64_t i = 0; i < s.blocks; ++i) {
    const std::string block = "model.layers." + std::to_string(i) + ".";
    add(block + "input_layernorm.weight", {s.hidden});
    add(block + "self_attn.q_proj.weight", {s.hidden, s.hidden});
    add(block + "self_attn.k_proj.weight", {head * s.kv_heads, s.hidden});
    add(block + "self_attn.v_proj.weight", {head * s.kv_heads, s.hidden});
    add(block + "self_attn.o_proj.weight", {s.hidden, s.hidden});
    add(block + "post_attention_layernorm.weight", {s.hidden});
    add(block + "mlp.gate_proj.weight", {s.mlp, s.hidden});
    add(block + "mlp.up_proj.weight", {s.mlp, s.hidden});
    add(block + "mlp.down_proj.weight", {s.hidden, s.mlp});
  }
  add("model.norm.weight", {s.hidden});
  for (size_t i = 0; i < tensors.size(); ++i) tensors[i].data = values[i].data();
  return model::WriteSafetensors(folder + "/model.safetensors", tensors);
}

}  // namespace engine::conformance
