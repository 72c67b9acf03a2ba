// A model as a Hugging Face folder. The embedding is stored once where the head is tied to it; of
// int8 weights the scales have half precision. From another folder the JSON files are copied, but
// for what the new numbers change; from a GGUF file they are written.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "engine/model/formats/export.h"
#include "engine/model/formats/quantize.h"
#include "engine/model/formats/safetensors.h"
#include "engine/model/formats/tokenizer.h"
#include "nlohmann/json.hpp"

namespace engine::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

Status WriteText(const fs::path& path, std::string_view text) {
  OutputFile file;
  ENGINE_RETURN_IF_ERROR(file.Open(path.string()));
  ENGINE_RETURN_IF_ERROR(file.Append(text));
  return file.Commit();
}

Status WriteJson(const fs::path& path, const ordered_json& value) {
  return WriteText(path, value.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n");
}

// An absent file is none to copy.
Status Copy(const fs::path& from, const fs::path& to) {
  std::error_code error;
  if (!fs::exists(from, error)) return Status();
  std::ifstream in(from, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!in) return Error(ENGINE_UNAVAILABLE, "'", from.string(), "' cannot be read");
  return WriteText(to, text);
}

ordered_json Quantization(bool tied) {
  ordered_json weights = {{"num_bits", 8},    {"type", "int"},       {"symmetric", true},
                          {"dynamic", false}, {"strategy", "group"}, {"group_size", kExportGroup}};
  return {{"quant_method", "compressed-tensors"},
          {"format", "int-quantized"},
          {"quantization_status", "compressed"},
          {"global_compression_ratio", nullptr},
          {"kv_cache_scheme", nullptr},
          // A tied head has no tensor of its own: the embedding stands for it.
          {"ignore", tied ? ordered_json::array({"lm_head"}) : ordered_json::array()},
          {"config_groups",
           {{"group_0",
             {{"targets", {"Linear", "Embedding"}},
              {"weights", weights},
              {"input_activations", nullptr},
              {"output_activations", nullptr}}}}}};
}

// --- from a GGUF file ---------------------------------------------------------------------------

Status ConfigJson(const Checkpoint& checkpoint, ordered_json* out) {
  const ModelConfig& c = checkpoint.config();
  ordered_json j = {{"architectures", {"LlamaForCausalLM"}},
                    {"model_type", "llama"},
                    {"attention_bias", false},
                    {"hidden_act", "silu"},
                    {"hidden_size", c.hidden},
                    {"head_dim", c.head_dim},
                    {"intermediate_size", c.mlp},
                    {"max_position_embeddings", c.context},
                    {"mlp_bias", false},
                    {"num_attention_heads", c.heads},
                    {"num_hidden_layers", c.blocks},
                    {"num_key_value_heads", c.kv_heads},
                    {"rope_theta", c.rope_theta},
                    {"tie_word_embeddings", c.tied_embedding},
                    {"torch_dtype", "float32"},
                    {"vocab_size", c.vocab}};
  // A float's shortest decimal form: 1e-05, not 9.99999974737875e-06.
  char eps[32];
  std::snprintf(eps, sizeof eps, "%.8g", c.norm_eps);
  j["rms_norm_eps"] = std::strtod(eps, nullptr);
  const std::vector<double>& d = c.rope_divisors;
  if (!d.empty()) {
    if (std::count(d.begin(), d.end(), d[0]) != static_cast<std::ptrdiff_t>(d.size())) {
      return Error(ENGINE_UNIMPLEMENTED, "'", checkpoint.path(),
                   "' scales its rotary frequencies one by one, which a config.json cannot say; "
                   "give --out a .gguf file");
    }
    j["rope_scaling"] = {{"rope_type", "linear"}, {"factor", d[0]}};
  }
  const std::pair<const char*, int64_t> ids[] = {
      {"bos_token_id", c.bos}, {"eos_token_id", c.eos}, {"pad_token_id", c.pad}};
  for (const auto& [key, id] : ids) {
    if (id >= 0) j[key] = id;
  }
  *out = std::move(j);
  return Status();
}

// A step of the post-processor that puts tokens around a text.
ordered_json Around(const TokenizerSpec& spec) {
  ordered_json single = ordered_json::array(), special = ordered_json::object();
  const auto add = [&](int32_t id) {
    const std::string& text = spec.tokens[static_cast<size_t>(id)];
    single.push_back({{"SpecialToken", {{"id", text}, {"type_id", 0}}}});
    special[text] = {{"id", text}, {"ids", {id}}, {"tokens", {text}}};
  };
  for (const int32_t id : spec.prefix_ids) add(id);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  for (const int32_t id : spec.suffix_ids) add(id);
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", ordered_json::array()},
          {"special_tokens", special}};
}

ordered_json TokenizerJson(const Tokenizer& tokenizer) {
  const TokenizerSpec& spec = tokenizer.spec();
  const PreForm& form = *spec.form;
  ordered_json added = ordered_json::array();
  // Filled as the vector that it is: every other way looks for the key first.
  ordered_json::object_t vocab;
  ordered_json merges = ordered_json::array(), steps = ordered_json::array();
  std::vector<const AddedToken*> order;
  for (const AddedToken& a : spec.added) order.push_back(&a);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->id < b->id; });
  for (const AddedToken* a : order) {
    added.push_back({{"id", a->id},
                     {"content", a->text},
                     {"single_word", a->single_word},
                     {"lstrip", a->lstrip},
                     {"rstrip", a->rstrip},
                     {"normalized", false},
                     {"special", a->special}});
  }
  for (size_t id = 0; id < spec.tokens.size(); ++id) vocab.emplace_back(spec.tokens[id], id);
  for (const Merge& m : tokenizer.merges()) {
    merges.push_back(spec.tokens[static_cast<size_t>(m.left)] + " " +
                     spec.tokens[static_cast<size_t>(m.right)]);
  }
  if (form.digits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  if (form.regex != nullptr) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", form.regex}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  const auto byte_level = [](bool regex) {
    return ordered_json{{"type", "ByteLevel"},
                        {"add_prefix_space", false},
                        {"trim_offsets", true},
                        {"use_regex", regex}};
  };
  steps.push_back(byte_level(form.regex == nullptr));
  const bool around = !spec.prefix_ids.empty() || !spec.suffix_ids.empty();
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", form.normalize_nfc ? ordered_json{{"type", "NFC"}} : ordered_json()},
          {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", steps}}},
          {"post_processor", around ? Around(spec) : ordered_json()},
          {"decoder", byte_level(true)},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", form.ignore_merges},
            {"vocab", vocab},
            {"merges", merges}}}};
}

Status WriteTexts(const Checkpoint& checkpoint, const fs::path& to, ordered_json* config) {
  const ModelConfig& c = checkpoint.config();
  std::unique_ptr<Tokenizer> tokenizer;
  ENGINE_RETURN_IF_ERROR(OpenTokenizer(checkpoint, &tokenizer));
  ENGINE_RETURN_IF_ERROR(ConfigJson(checkpoint, config));
  ENGINE_RETURN_IF_ERROR(WriteJson(to / "tokenizer.json", TokenizerJson(*tokenizer)));
  ordered_json settings = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                           {"clean_up_tokenization_spaces", false},
                           {"model_max_length", c.context}};
  if (!c.bos_token.empty()) settings["bos_token"] = c.bos_token;
  if (!c.eos_token.empty()) settings["eos_token"] = c.eos_token;
  if (!c.chat_template.empty()) settings["chat_template"] = c.chat_template;
  ENGINE_RETURN_IF_ERROR(WriteJson(to / "tokenizer_config.json", settings));
  // The first end token is that of the config.
  ordered_json stops = ordered_json::array();
  if (c.eos >= 0) stops.push_back(c.eos);
  for (const int64_t id : c.stop_ids) {
    if (id != c.eos) stops.push_back(id);
  }
  ordered_json generation = ordered_json::object();
  if (c.bos >= 0) generation["bos_token_id"] = c.bos;
  if (!stops.empty()) generation["eos_token_id"] = stops;
  return WriteJson(to / "generation_config.json", generation);
}

// --- weights ------------------------------------------------------------------------------------

// Codes and scales of a matrix. The codes come first in the file; the scales, which are made on the
// way, wait in memory.
struct Matrix {
  const Checkpoint* checkpoint;
  const TensorInfo* info;
  internal::Rows rows;
  std::vector<uint16_t> scales;

  Status Write(OutputFile* file) {
    const int64_t columns = info->columns(), groups = (columns + kExportGroup - 1) / kExportGroup;
    constexpr int64_t kPiece = 64;
    std::vector<double> values(static_cast<size_t>(kPiece * columns));
    std::vector<float> row(static_cast<size_t>(columns));
    std::vector<int8_t> codes(static_cast<size_t>(columns));
    scales.resize(static_cast<size_t>(info->rows() * groups));
    for (int64_t r = 0; r < info->rows(); r += kPiece) {
      const int64_t end = std::min(info->rows(), r + kPiece);
      ENGINE_RETURN_IF_ERROR(rows(r, end, values.data()));
      for (int64_t i = r; i < end; ++i) {
        std::copy_n(values.data() + (i - r) * columns, columns, row.data());
        if (!EncodeInt8Groups(row.data(), columns, kExportGroup, codes.data(),
                              scales.data() + i * groups)) {
          return Error(ENGINE_DATA_LOSS, "row ", i, " of tensor '", info->name,
                       "' holds values that are not finite or too great for int8 with scales in "
                       "half precision");
        }
        ENGINE_RETURN_IF_ERROR(file->Append(codes.data(), codes.size()));
      }
    }
    checkpoint->Drop(*info);
    return Status();
  }
};

// As safetensors and as a config.json name the numbers.
std::pair<const char*, const char*> Names(Encoding encoding) {
  switch (encoding) {
    case Encoding::kF64:
      return {"F64", "float64"};
    case Encoding::kF16:
      return {"F16", "float16"};
    case Encoding::kBF16:
      return {"BF16", "bfloat16"};
    default:
      return {"F32", "float32"};
  }
}

Status WriteWeights(const Checkpoint& checkpoint, const ExportRequest& request,
                    const fs::path& path) {
  const bool int8 = request.format.matrices == Encoding::kI8;
  const Encoding plain = int8 ? Encoding::kF32 : request.format.matrices;
  std::vector<SafetensorsSource> tensors;
  for (const TensorInfo& t : checkpoint.tensors()) {
    const internal::Rows rows = internal::RowsOf(checkpoint, t, request.rows);
    if (!int8 || t.shape.size() != 2) {
      tensors.push_back({t.name, Names(plain).first, t.shape, nullptr,
                         [&checkpoint, &t, plain, rows](OutputFile* file) {
                           Status status = internal::WriteRows(t.name, t.shape, plain, rows, file);
                           checkpoint.Drop(t);
                           return status;
                         }});
      continue;
    }
    auto matrix = std::make_shared<Matrix>(Matrix{&checkpoint, &t, rows, {}});
    tensors.push_back({t.name, "I8", t.shape, nullptr,
                       [matrix](OutputFile* file) { return matrix->Write(file); }});
    const int64_t groups = (t.columns() + kExportGroup - 1) / kExportGroup;
    tensors.push_back(
        {t.name + "_scale", "F16", {t.rows(), groups}, nullptr, [matrix](OutputFile* file) {
           Status status = file->Append(matrix->scales.data(), matrix->scales.size() * 2);
           matrix->scales = {};
           return status;
         }});
  }
  std::map<std::string, std::string> metadata = request.notes;
  metadata["format"] = "pt";
  return WriteSafetensors(path.string(), tensors, metadata);
}

}  // namespace

Status internal::WriteFolder(const Checkpoint& checkpoint, const ExportRequest& request,
                             const std::string& folder) {
  const fs::path to(folder), from(checkpoint.path());
  const Encoding numbers = request.format.matrices;
  ordered_json config;
  if (checkpoint.gguf() != nullptr) {
    ENGINE_RETURN_IF_ERROR(WriteTexts(checkpoint, to, &config));
  } else {
    std::ifstream in(from / "config.json", std::ios::binary);
    config = ordered_json::parse(in, nullptr, /*allow_exceptions=*/false);
    if (!config.is_object()) {
      return Error(ENGINE_DATA_LOSS, "'", (from / "config.json").string(), "' cannot be read");
    }
    for (const char* name : {"generation_config.json", "tokenizer.json", "tokenizer_config.json",
                             "special_tokens_map.json", "chat_template.jinja"}) {
      ENGINE_RETURN_IF_ERROR(Copy(from / name, to / name));
    }
  }
  if (checkpoint.random()) {
    const ModelConfig& c = checkpoint.config();
    config["hidden_size"] = c.hidden;
    config["num_hidden_layers"] = c.blocks;
    config["num_attention_heads"] = c.heads;
    config["num_key_value_heads"] = c.kv_heads;
    config["head_dim"] = c.head_dim;
    config["intermediate_size"] = c.mlp;
    config["max_position_embeddings"] = c.context;
    if (c.rope_divisors.empty()) config.erase("rope_scaling");
  }
  if (numbers == Encoding::kI8) {
    config["quantization_config"] = Quantization(checkpoint.config().tied_embedding);
  } else {
    config.erase("quantization_config");
    // transformers 5 calls it dtype.
    config[config.contains("dtype") ? "dtype" : "torch_dtype"] = Names(numbers).second;
  }
  ENGINE_RETURN_IF_ERROR(WriteJson(to / "config.json", config));
  if (!request.provenance.empty()) {
    ENGINE_RETURN_IF_ERROR(WriteText(to / "provenance.json", request.provenance));
  }
  return WriteWeights(checkpoint, request, to / "model.safetensors");
}

}  // namespace engine::model
