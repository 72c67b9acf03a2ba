// A tokenizer from GGUF metadata (tokenizer.ggml.*).
#include "engine/model/formats/printable.h"
#include "engine/model/formats/tokenizer.h"

namespace engine::model {
namespace {

Status SetPattern(const std::string& pre, std::string_view where, TokenizerSpec* spec) {
  spec->form = FindPreForm(pre);
  if (spec->form == nullptr) {
    return Error(ENGINE_UNIMPLEMENTED, where, ": pre-tokenizer '", Printable(pre, 40),
                 "' is not supported; smollm, gpt-2, llama-bpe and qwen2 are");
  }
  spec->normalize_nfc = spec->form->normalize_nfc;
  spec->ignore_merges = spec->form->ignore_merges;
  if (spec->form->digits) spec->pre.AddDigits(/*individual=*/true);
  if (spec->form->regex != nullptr) return spec->pre.AddRegex(spec->form->regex, false, false);
  spec->pre.AddGpt2();
  return Status();
}

}  // namespace

Status TokenizerFromGguf(const GgufFile& file, std::unique_ptr<Tokenizer>* out) {
  const std::string where = "GGUF file '" + file.file().path() + "'";
  const auto required = GgufFile::kRequired, optional = GgufFile::kOptional;
  std::string model, pre = "gpt-2";
  ENGINE_RETURN_IF_ERROR(file.GetString("tokenizer.ggml.model", required, &model));
  if (model != "gpt2") {
    return Error(ENGINE_UNIMPLEMENTED, where, ": tokenizer model '", Printable(model, 40),
                 "' is not supported; 'gpt2' (byte-level BPE) is");
  }
  ENGINE_RETURN_IF_ERROR(file.GetString("tokenizer.ggml.pre", optional, &pre));
  TokenizerSpec spec;
  ENGINE_RETURN_IF_ERROR(SetPattern(pre, where, &spec));

  const GgufValue *tokens = nullptr, *merges = nullptr, *types = nullptr;
  ENGINE_RETURN_IF_ERROR(
      file.GetArray("tokenizer.ggml.tokens", required, GgufValue::Kind::kString, &tokens));
  ENGINE_RETURN_IF_ERROR(
      file.GetArray("tokenizer.ggml.merges", required, GgufValue::Kind::kString, &merges));
  ENGINE_RETURN_IF_ERROR(
      file.GetArray("tokenizer.ggml.token_type", optional, GgufValue::Kind::kSigned, &types));
  const size_t count = tokens->strings.size();
  if (types != nullptr && types->integers.size() != count) {
    return Error(ENGINE_DATA_LOSS, where, ": ", types->integers.size(), " token types for ", count,
                 " tokens");
  }
  std::unordered_map<std::string_view, int32_t> ids;
  ids.reserve(count);
  spec.tokens.reserve(count);
  for (size_t id = 0; id < count; ++id) {
    spec.tokens.emplace_back(tokens->strings[id]);
    ids.emplace(tokens->strings[id], static_cast<int32_t>(id));
    const int64_t type = types == nullptr ? 1 : types->integers[id];
    // 3 is a control token and 4 one that a user added; both are found before BPE.
    if (type == 3 || type == 4) {
      AddedToken added;
      added.id = static_cast<int32_t>(id);
      added.text = spec.tokens.back();
      added.special = type == 3;
      spec.added.push_back(std::move(added));
    }
  }
  spec.merges.reserve(merges->strings.size());
  std::string joined;
  for (size_t rank = 0; rank < merges->strings.size(); ++rank) {
    const std::string_view text = merges->strings[rank];
    const size_t space = text.find(' ', 1);
    const auto left = ids.find(text.substr(0, space));
    const auto right =
        space == std::string_view::npos ? ids.end() : ids.find(text.substr(space + 1));
    if (left == ids.end() || right == ids.end()) {
      return Error(ENGINE_DATA_LOSS, where, ": merge ", rank,
                   " is not two tokens of the vocabulary with a space between");
    }
    joined = std::string(left->first) + std::string(right->first);
    const auto result = ids.find(joined);
    if (result == ids.end()) {
      return Error(ENGINE_DATA_LOSS, where, ": the result of merge ", rank,
                   " is not in the vocabulary");
    }
    spec.merges.push_back({left->second, right->second, result->second});
  }
  bool add_bos = std::string_view(spec.form->name) == "llama-bpe", add_eos = false;
  int64_t bos = -1, eos = -1;
  ENGINE_RETURN_IF_ERROR(file.GetBool("tokenizer.ggml.add_bos_token", optional, &add_bos));
  ENGINE_RETURN_IF_ERROR(file.GetBool("tokenizer.ggml.add_eos_token", optional, &add_eos));
  ENGINE_RETURN_IF_ERROR(file.GetInt("tokenizer.ggml.bos_token_id", optional, &bos));
  ENGINE_RETURN_IF_ERROR(file.GetInt("tokenizer.ggml.eos_token_id", optional, &eos));
  for (const auto& [add, id, list] :
       {std::tuple(add_bos, bos, &spec.prefix_ids), std::tuple(add_eos, eos, &spec.suffix_ids)}) {
    if (!add) continue;
    if (id < 0 || id >= static_cast<int64_t>(count)) {
      return Error(ENGINE_DATA_LOSS, where, ": a special token is to be added but its id ", id,
                   " is outside the vocabulary of ", count);
    }
    list->push_back(static_cast<int32_t>(id));
  }
  return Tokenizer::Create(std::move(spec), where, out);
}

}  // namespace engine::model
