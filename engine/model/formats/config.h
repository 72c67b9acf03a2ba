// What a model is, read from a GGUF file's metadata or from a Hugging Face config.json. A config
// that ValidateConfig accepted describes an architecture that this engine can run.
#ifndef ENGINE_MODEL_FORMATS_CONFIG_H_
#define ENGINE_MODEL_FORMATS_CONFIG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/formats/gguf.h"
#include "engine/status.hpp"

namespace engine::model {

struct ModelConfig {
  std::string architecture = "llama";
  std::string name;
  int64_t hidden = 0, blocks = 0, heads = 0, kv_heads = 0, head_dim = 0, mlp = 0, vocab = 0;
  int64_t context = 0;  // positions that the model was trained for
  double rope_theta = 10000.0;
  // One for each of the head_dim / 2 rotary frequencies, which is divided by it; empty: all 1.
  // Linear and llama3 scaling are both expressed so.
  std::vector<double> rope_divisors;
  double norm_eps = 1e-5;
  bool tied_embedding = false;
  int64_t bos = -1, eos = -1, pad = -1, unk = -1;  // -1: none
  std::vector<int64_t> stop_ids;                   // end of text and end of turn, sorted, unique
  std::string bos_token, eos_token;                // their texts, for the chat template
  std::string chat_template;                       // empty: the checkpoint has none
  // A Hugging Face folder may hold weights as int8 with scales; -1: none is, 0: one scale for each
  // output, else for each group of so many neighbouring inputs.
  int64_t int8_group = -1;
};

// Refuses what is out of range or inconsistent within the config itself; names the field.
Status ValidateConfig(const ModelConfig& config, std::string_view where);

// Everything but vocab (when absent), tied_embedding and rope_divisors from tensors, which the
// caller fills in. Does not validate.
Status ConfigFromGguf(const GgufFile& file, ModelConfig* config);

// `config_json` is the text of config.json; the others may be empty. Does not validate.
Status ConfigFromHf(std::string_view config_json, std::string_view generation_config_json,
                    std::string_view tokenizer_config_json, std::string_view where,
                    ModelConfig* config);

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_CONFIG_H_
