#include "engine/model/formats/config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/model/formats/json_problem.h"
#include "engine/model/formats/printable.h"
#include "nlohmann/json.hpp"

namespace engine::model {
namespace {

using nlohmann::json;

constexpr int64_t kMaxSize = int64_t{1} << 24;  // of any one dimension; keeps products in range

// Fields of one JSON object, with errors that name the file and the field.
class Fields {
 public:
  Fields(const json& object, std::string_view where) : object_(object), where_(where) {}

  const json* Find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  Status Int(const char* key, bool required, int64_t* out) const {
    const json* v = Find(key);
    if (v == nullptr) return required ? Missing(key) : Status();
    if (!v->is_number_integer() ||
        (v->is_number_unsigned() && v->get<uint64_t>() > uint64_t{1} << 62)) {
      return Wrong(key, "an integer", *v);
    }
    *out = v->get<int64_t>();
    return Status();
  }

  Status Float(const char* key, bool required, double* out) const {
    const json* v = Find(key);
    if (v == nullptr) return required ? Missing(key) : Status();
    if (!v->is_number()) return Wrong(key, "a number", *v);
    *out = v->get<double>();
    return Status();
  }

  Status Bool(const char* key, bool* out) const {
    const json* v = Find(key);
    if (v == nullptr) return Status();
    if (!v->is_boolean()) return Wrong(key, "true or false", *v);
    *out = v->get<bool>();
    return Status();
  }

  Status Wrong(const char* key, const char* wanted, const json& found) const {
    std::string text = found.dump(-1, ' ', true, json::error_handler_t::replace);
    if (text.size() > 60) text = text.substr(0, 60) + "…";
    return Error(ENGINE_INVALID_ARGUMENT, where_, ": '", key, "' must be ", wanted, "; it is ",
                 text);
  }

 private:
  Status Missing(const char* key) const {
    return Error(ENGINE_INVALID_ARGUMENT, where_, ": '", key, "' is missing");
  }
  const json& object_;
  std::string_view where_;
};

void AddStop(int64_t id, ModelConfig* c) {
  if (id < 0 || std::count(c->stop_ids.begin(), c->stop_ids.end(), id) > 0) return;
  c->stop_ids.insert(std::upper_bound(c->stop_ids.begin(), c->stop_ids.end(), id), id);
}

// The divisors of "llama3" scaling: long wavelengths are stretched by `factor`, short ones are
// kept, and those between are blended.
std::vector<double> Llama3Divisors(int64_t head_dim, double theta, double factor, double low,
                                   double high, double original) {
  std::vector<double> divisors;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const double freq =
        1.0 / std::pow(theta, 2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    const double wavelength = 2.0 * std::numbers::pi / freq;
    double divisor = 1.0;
    if (wavelength > original / low) {
      divisor = factor;
    } else if (wavelength >= original / high) {
      const double smooth = (original / wavelength - low) / (high - low);
      divisor = 1.0 / ((1.0 - smooth) / factor + smooth);
    }
    divisors.push_back(divisor);
  }
  return divisors;
}

// `rope` is config.json's rope_scaling or rope_parameters.
Status ReadRope(const json& rope, std::string_view where, ModelConfig* c) {
  if (!rope.is_object()) {
    return Error(ENGINE_INVALID_ARGUMENT, where, ": rope scaling must be an object or null");
  }
  const Fields fields(rope, where);
  ENGINE_RETURN_IF_ERROR(fields.Float("rope_theta", false, &c->rope_theta));
  const json* kind = fields.Find("rope_type");
  if (kind == nullptr) kind = fields.Find("type");
  const std::string name =
      kind != nullptr && kind->is_string() ? kind->get<std::string>() : std::string("default");
  if (name == "default") return Status();
  if (name != "linear" && name != "llama3") {
    return Error(ENGINE_UNIMPLEMENTED, where, ": rope scaling '", name,
                 "' is not supported; default, linear and llama3 are");
  }
  double factor = 0, low = 1, high = 4, original = 0;
  ENGINE_RETURN_IF_ERROR(fields.Float("factor", true, &factor));
  if (!(factor >= 1.0 && factor < 1e6)) {
    return Error(ENGINE_INVALID_ARGUMENT, where, ": rope scaling factor is ", factor,
                 "; it must be at least 1");
  }
  if (c->head_dim <= 0 || c->head_dim > kMaxSize || !(c->rope_theta > 0)) return Status();
  if (name == "linear") {
    c->rope_divisors.assign(static_cast<size_t>(c->head_dim / 2), factor);
    return Status();
  }
  ENGINE_RETURN_IF_ERROR(fields.Float("low_freq_factor", true, &low));
  ENGINE_RETURN_IF_ERROR(fields.Float("high_freq_factor", true, &high));
  ENGINE_RETURN_IF_ERROR(fields.Float("original_max_position_embeddings", true, &original));
  if (!(low > 0 && high > low && original > 0)) {
    return Error(ENGINE_INVALID_ARGUMENT, where,
                 ": llama3 rope scaling needs 0 < low_freq_factor "
                 "< high_freq_factor and original_max_position_embeddings > 0");
  }
  c->rope_divisors = Llama3Divisors(c->head_dim, c->rope_theta, factor, low, high, original);
  return Status();
}

Status ParseObject(std::string_view text, std::string_view where, json* out) {
  *out = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!out->is_object()) {
    return Error(ENGINE_INVALID_ARGUMENT, where, ": ", JsonProblem(text));
  }
  return Status();
}

// The part of compressed-tensors that is read: "int-quantized" symmetric 8-bit weights, scaled by
// output channel or by groups of inputs, all alike. What it says of activations is not followed:
// the engine has its own arithmetic for such weights.
Status ReadQuantization(const json& q, std::string_view where, ModelConfig* c) {
  const auto no = [&](const std::string& found) {
    return Error(ENGINE_UNIMPLEMENTED, where, ": quantization_config ", found,
                 " is not supported; compressed-tensors of format int-quantized with symmetric "
                 "8-bit weights by channel or group is. Else give the unquantized checkpoint or "
                 "a GGUF file");
  };
  const auto get = [](const json& object, const char* key) {
    return object.is_object() && object.contains(key) ? object[key] : json();
  };
  const auto text = [&](const json& object, const char* key) {
    return get(object, key).dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 40);
  };
  if (get(q, "quant_method") != "compressed-tensors") {
    return no("with quant_method " + text(q, "quant_method"));
  }
  if (get(q, "format") != "int-quantized") return no("with format " + text(q, "format"));
  if (!get(q, "kv_cache_scheme").is_null()) return no("with a kv_cache_scheme");
  const json groups = get(q, "config_groups");
  if (!groups.is_object() || groups.empty()) return no("without config_groups");
  for (const auto& [name, group] : groups.items()) {
    const json weights = get(group, "weights");
    if (get(weights, "num_bits") != 8)
      return no("with weights.num_bits " + text(weights, "num_bits"));
    if (get(weights, "type") != "int") return no("with weights.type " + text(weights, "type"));
    if (get(weights, "symmetric") != true) {
      return no("with weights.symmetric " + text(weights, "symmetric"));
    }
    if (!get(weights, "actorder").is_null()) return no("with weights.actorder");
    int64_t size = 0;
    if (get(weights, "strategy") == "group") {
      const json given = get(weights, "group_size");
      if (!given.is_number_unsigned() || given.get<uint64_t>() == 0 ||
          given.get<uint64_t>() > static_cast<uint64_t>(kMaxSize)) {
        return no("with weights.group_size " + text(weights, "group_size"));
      }
      size = given.get<int64_t>();
    } else if (get(weights, "strategy") != "channel") {
      return no("with weights.strategy " + text(weights, "strategy"));
    }
    if (c->int8_group >= 0 && c->int8_group != size) return no("with groups of different sizes");
    c->int8_group = size;
  }
  return Status();
}

// A token in tokenizer_config.json: its text, or an object with its text in "content".
std::string TokenText(const json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end()) return "";
  if (it->is_string()) return it->get<std::string>();
  if (it->is_object() && it->contains("content") && (*it)["content"].is_string()) {
    return (*it)["content"].get<std::string>();
  }
  return "";
}

// eos_token_id is one id or a list.
Status ReadEos(const Fields& fields, ModelConfig* c) {
  const json* eos = fields.Find("eos_token_id");
  if (eos == nullptr) return Status();
  const json list = eos->is_array() ? *eos : json::array({*eos});
  for (const json& id : list) {
    if (!id.is_number_integer())
      return fields.Wrong("eos_token_id", "an id or a list of ids", *eos);
    if (c->eos < 0) c->eos = id.get<int64_t>();
    AddStop(id.get<int64_t>(), c);
  }
  return Status();
}

}  // namespace

Status ValidateConfig(const ModelConfig& c, std::string_view where) {
  const auto bad = [&](const auto&... parts) {
    return Error(ENGINE_INVALID_ARGUMENT, where, ": ", parts...);
  };
  const struct {
    const char* name;
    int64_t value;
    int64_t most;
  } sizes[] = {{"hidden size", c.hidden, kMaxSize},
               {"number of blocks", c.blocks, 4096},
               {"number of attention heads", c.heads, kMaxSize},
               {"number of key/value heads", c.kv_heads, kMaxSize},
               {"head size", c.head_dim, kMaxSize},
               {"MLP size", c.mlp, kMaxSize},
               {"vocabulary size", c.vocab, kMaxSize},
               {"context length", c.context, int64_t{1} << 31}};
  for (const auto& s : sizes) {
    if (s.value < 1 || s.value > s.most) {
      return bad("the ", s.name, " is ", s.value, "; 1 to ", s.most, " is valid");
    }
  }
  if (c.heads % c.kv_heads != 0) {
    return bad(c.kv_heads, " key/value heads do not divide ", c.heads, " attention heads");
  }
  if (c.head_dim % 2 != 0) return bad("the head size is ", c.head_dim, "; it must be even");
  if (!(c.rope_theta > 0) || !std::isfinite(c.rope_theta)) {
    return bad("rope theta is ", c.rope_theta, "; it must be above 0");
  }
  if (!(c.norm_eps > 0) || !(c.norm_eps < 1)) {
    return bad("the norm's epsilon is ", c.norm_eps, "; it must be between 0 and 1");
  }
  if (!c.rope_divisors.empty()) {
    if (static_cast<int64_t>(c.rope_divisors.size()) != c.head_dim / 2) {
      return bad(c.rope_divisors.size(), " rotary factors are given; half the head size, ",
                 c.head_dim / 2, ", is needed");
    }
    for (double d : c.rope_divisors) {
      if (!(d > 0) || !std::isfinite(d))
        return bad("a rotary factor is ", d, "; it must be above 0");
    }
  }
  const struct {
    const char* name;
    int64_t id;
  } ids[] = {{"bos", c.bos}, {"eos", c.eos}, {"pad", c.pad}, {"unk", c.unk}};
  for (const auto& t : ids) {
    if (t.id < -1 || t.id >= c.vocab) {
      return bad("the ", t.name, " token's id is ", t.id, "; the vocabulary has ", c.vocab);
    }
  }
  for (int64_t id : c.stop_ids) {
    if (id < 0 || id >= c.vocab) {
      return bad("a stop token's id is ", id, "; the vocabulary has ", c.vocab);
    }
  }
  return Status();
}

Status ConfigFromGguf(const GgufFile& file, ModelConfig* c) {
  const std::string& where = file.file().path();
  ENGINE_RETURN_IF_ERROR(
      file.GetString("general.architecture", GgufFile::kRequired, &c->architecture));
  if (c->architecture != "llama") {
    return Error(ENGINE_UNIMPLEMENTED, "GGUF file '", where, "': architecture '",
                 Printable(c->architecture, 40), "' is not supported; 'llama' is");
  }
  const auto optional = GgufFile::kOptional, required = GgufFile::kRequired;
  ENGINE_RETURN_IF_ERROR(file.GetString("general.name", optional, &c->name));
  ENGINE_RETURN_IF_ERROR(file.GetInt("llama.embedding_length", required, &c->hidden));
  ENGINE_RETURN_IF_ERROR(file.GetInt("llama.block_count", required, &c->blocks));
  ENGINE_RETURN_IF_ERROR(file.GetInt("llama.attention.head_count", required, &c->heads));
  c->kv_heads = c->heads;
  ENGINE_RETURN_IF_ERROR(file.GetInt("llama.attention.head_count_kv", optional, &c->kv_heads));
  ENGINE_RETURN_IF_ERROR(file.GetInt("llama.feed_forward_length", required, &c->mlp));
  ENGINE_RETURN_IF_ERROR(file.GetInt("llama.context_length", required, &c->context));
  ENGINE_RETURN_IF_ERROR(file.GetFloat("llama.rope.freq_base", optional, &c->rope_theta));
  ENGINE_RETURN_IF_ERROR(
      file.GetFloat("llama.attention.layer_norm_rms_epsilon", required, &c->norm_eps));
  ENGINE_RETURN_IF_ERROR(file.GetInt("llama.vocab_size", optional, &c->vocab));
  // Without a head size it is hidden / heads; 0 heads is left to ValidateConfig.
  if (c->heads > 0) c->head_dim = c->hidden / c->heads;
  int64_t experts = 0, value_dim = -1, rotary = -1;
  ENGINE_RETURN_IF_ERROR(file.GetInt("llama.attention.key_length", optional, &c->head_dim));
  ENGINE_RETURN_IF_ERROR(file.GetInt("llama.attention.value_length", optional, &value_dim));
  ENGINE_RETURN_IF_ERROR(file.GetInt("llama.rope.dimension_count", optional, &rotary));
  ENGINE_RETURN_IF_ERROR(file.GetInt("llama.expert_count", optional, &experts));
  if (experts != 0) {
    return Error(ENGINE_UNIMPLEMENTED, "GGUF file '", where, "': it has ", experts,
                 " experts; only dense checkpoints are supported");
  }
  if ((value_dim != -1 && value_dim != c->head_dim) || (rotary != -1 && rotary != c->head_dim)) {
    return Error(ENGINE_UNIMPLEMENTED, "GGUF file '", where, "': heads of ", c->head_dim,
                 " with values of ", value_dim, " and rotary size ", rotary,
                 "; all three must be equal");
  }
  std::string scaling = "none";
  double factor = 1.0;
  ENGINE_RETURN_IF_ERROR(file.GetString("llama.rope.scaling.type", optional, &scaling));
  ENGINE_RETURN_IF_ERROR(file.GetFloat("llama.rope.scaling.factor", optional, &factor));
  if (scaling == "linear") {
    if (!(factor >= 1.0 && factor < 1e6)) {
      return Error(ENGINE_INVALID_ARGUMENT, "GGUF file '", where, "': rope scaling factor is ",
                   factor, "; it must be at least 1");
    }
    if (c->head_dim > 0 && c->head_dim <= kMaxSize) {
      c->rope_divisors.assign(static_cast<size_t>(c->head_dim / 2), factor);
    }
  } else if (scaling != "none") {
    return Error(ENGINE_UNIMPLEMENTED, "GGUF file '", where, "': rope scaling '",
                 Printable(scaling, 40),
                 "' is not supported; none, linear and llama3 (as a tensor "
                 "of rotary factors) are");
  }
  ENGINE_RETURN_IF_ERROR(file.GetInt("tokenizer.ggml.bos_token_id", optional, &c->bos));
  ENGINE_RETURN_IF_ERROR(file.GetInt("tokenizer.ggml.eos_token_id", optional, &c->eos));
  ENGINE_RETURN_IF_ERROR(file.GetInt("tokenizer.ggml.padding_token_id", optional, &c->pad));
  ENGINE_RETURN_IF_ERROR(file.GetInt("tokenizer.ggml.unknown_token_id", optional, &c->unk));
  int64_t end_of_turn = -1, end_of_message = -1;
  ENGINE_RETURN_IF_ERROR(file.GetInt("tokenizer.ggml.eot_token_id", optional, &end_of_turn));
  ENGINE_RETURN_IF_ERROR(file.GetInt("tokenizer.ggml.eom_token_id", optional, &end_of_message));
  for (int64_t id : {c->eos, end_of_turn, end_of_message}) AddStop(id, c);
  ENGINE_RETURN_IF_ERROR(file.GetString("tokenizer.chat_template", optional, &c->chat_template));

  const GgufValue* tokens = nullptr;
  ENGINE_RETURN_IF_ERROR(
      file.GetArray("tokenizer.ggml.tokens", optional, GgufValue::Kind::kString, &tokens));
  if (tokens != nullptr) {
    const auto count = static_cast<int64_t>(tokens->strings.size());
    if (c->vocab == 0) c->vocab = count;
    const auto text = [&](int64_t id) {
      return id >= 0 && id < count ? std::string(tokens->strings[static_cast<size_t>(id)])
                                   : std::string();
    };
    c->bos_token = text(c->bos);
    c->eos_token = text(c->eos);
    // Texts that end a turn or the text by convention: files often name only one of them.
    for (int64_t id = 0; id < count; ++id) {
      const std::string_view t = tokens->strings[static_cast<size_t>(id)];
      if (t == "<|im_end|>" || t == "<|endoftext|>" || t == "<|eot_id|>" ||
          t == "<|end_of_text|>" || t == "<|eom_id|>") {
        AddStop(id, c);
      }
    }
  }
  return Status();
}

Status ConfigFromHf(std::string_view config_json, std::string_view generation_config_json,
                    std::string_view tokenizer_config_json, std::string_view where,
                    ModelConfig* c) {
  json root;
  ENGINE_RETURN_IF_ERROR(ParseObject(config_json, where, &root));
  const Fields fields(root, where);
  const json* type = fields.Find("model_type");
  c->architecture = type != nullptr && type->is_string() ? type->get<std::string>() : "";
  if (c->architecture != "llama") {
    return Error(ENGINE_UNIMPLEMENTED, where, ": model_type '", Printable(c->architecture, 40),
                 "' is not supported; 'llama' is");
  }
  ENGINE_RETURN_IF_ERROR(fields.Int("hidden_size", true, &c->hidden));
  ENGINE_RETURN_IF_ERROR(fields.Int("num_hidden_layers", true, &c->blocks));
  ENGINE_RETURN_IF_ERROR(fields.Int("num_attention_heads", true, &c->heads));
  c->kv_heads = c->heads;
  ENGINE_RETURN_IF_ERROR(fields.Int("num_key_value_heads", false, &c->kv_heads));
  if (c->heads > 0) c->head_dim = c->hidden / c->heads;
  ENGINE_RETURN_IF_ERROR(fields.Int("head_dim", false, &c->head_dim));
  ENGINE_RETURN_IF_ERROR(fields.Int("intermediate_size", true, &c->mlp));
  ENGINE_RETURN_IF_ERROR(fields.Int("vocab_size", true, &c->vocab));
  c->context = 2048;  // the default of transformers' LlamaConfig
  ENGINE_RETURN_IF_ERROR(fields.Int("max_position_embeddings", false, &c->context));
  ENGINE_RETURN_IF_ERROR(fields.Float("rope_theta", false, &c->rope_theta));
  c->norm_eps = 1e-6;
  ENGINE_RETURN_IF_ERROR(fields.Float("rms_norm_eps", false, &c->norm_eps));
  ENGINE_RETURN_IF_ERROR(fields.Bool("tie_word_embeddings", &c->tied_embedding));
  bool attention_bias = false, mlp_bias = false;
  ENGINE_RETURN_IF_ERROR(fields.Bool("attention_bias", &attention_bias));
  ENGINE_RETURN_IF_ERROR(fields.Bool("mlp_bias", &mlp_bias));
  if (attention_bias || mlp_bias) {
    return Error(ENGINE_UNIMPLEMENTED, where, ": ", attention_bias ? "attention_bias" : "mlp_bias",
                 " is true; linear layers with a bias are not supported");
  }
  const json* act = fields.Find("hidden_act");
  if (act != nullptr && *act != "silu") {
    return Error(ENGINE_UNIMPLEMENTED, where, ": hidden_act is ",
                 act->dump(-1, ' ', true, json::error_handler_t::replace).substr(0, 40),
                 "; \"silu\" is supported");
  }
  if (const json* quantization = fields.Find("quantization_config")) {
    ENGINE_RETURN_IF_ERROR(ReadQuantization(*quantization, where, c));
  }
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    const json* rope = fields.Find(key);
    if (rope != nullptr) ENGINE_RETURN_IF_ERROR(ReadRope(*rope, where, c));
  }
  ENGINE_RETURN_IF_ERROR(fields.Int("bos_token_id", false, &c->bos));
  ENGINE_RETURN_IF_ERROR(fields.Int("pad_token_id", false, &c->pad));
  ENGINE_RETURN_IF_ERROR(ReadEos(fields, c));
  const json* name = fields.Find("_name_or_path");
  if (name != nullptr && name->is_string()) c->name = name->get<std::string>();

  if (!generation_config_json.empty()) {
    json generation;
    const std::string place = std::string(where) + " (generation_config.json)";
    ENGINE_RETURN_IF_ERROR(ParseObject(generation_config_json, place, &generation));
    ENGINE_RETURN_IF_ERROR(ReadEos(Fields(generation, place), c));
  }
  if (!tokenizer_config_json.empty()) {
    json tokenizer;
    const std::string place = std::string(where) + " (tokenizer_config.json)";
    ENGINE_RETURN_IF_ERROR(ParseObject(tokenizer_config_json, place, &tokenizer));
    c->bos_token = TokenText(tokenizer, "bos_token");
    c->eos_token = TokenText(tokenizer, "eos_token");
    const auto chat = tokenizer.find("chat_template");
    if (chat != tokenizer.end() && chat->is_string()) c->chat_template = chat->get<std::string>();
  }
  return Status();
}

}  // namespace engine::model
