// A tokenizer from Hugging Face's tokenizer.json: byte-level BPE and what commonly surrounds it.
// What would change the ids and is not understood is refused by name.
#include "engine/model/formats/json_problem.h"
#include "engine/model/formats/printable.h"
#include "engine/model/formats/tokenizer.h"
#include "nlohmann/json.hpp"

namespace engine::model {
namespace {

using nlohmann::json;

class Reader {
 public:
  Reader(const json& root, std::string_view where) : root_(root), where_(where) {}

  Status Read(TokenizerSpec* spec) {
    ENGINE_RETURN_IF_ERROR(Vocabulary(spec));
    ENGINE_RETURN_IF_ERROR(Merges(spec));
    ENGINE_RETURN_IF_ERROR(Normalizer(Get(root_, "normalizer"), 0, spec));
    bool bytes = false;
    ENGINE_RETURN_IF_ERROR(PreTokenize(Get(root_, "pre_tokenizer"), 0, &bytes, spec));
    if (!bytes) return Unsupported("pre_tokenizer", "one without a ByteLevel step", "byte level");
    spec->form = MatchPreForm(steps_, spec->normalize_nfc, spec->ignore_merges);
    return PostProcess(Get(root_, "post_processor"), 0, spec);
  }

 private:
  template <typename... Parts>
  Status Bad(const Parts&... parts) const {
    return Error(ENGINE_DATA_LOSS, where_, ": ", parts...);
  }
  Status Unsupported(std::string_view field, std::string_view found,
                     std::string_view supported) const {
    return Error(ENGINE_UNIMPLEMENTED, where_, ": ", field, " '", Printable(found, 60),
                 "' is not supported; ", supported, " is");
  }

  // The member, or null.
  static const json& Get(const json& object, const char* key) {
    static const json null;
    if (!object.is_object()) return null;
    const auto it = object.find(key);
    return it == object.end() ? null : *it;
  }
  static std::string Text(const json& object, const char* key) {
    const json& v = Get(object, key);
    return v.is_string() ? v.get<std::string>() : std::string();
  }
  static bool Flag(const json& object, const char* key, bool otherwise) {
    const json& v = Get(object, key);
    return v.is_boolean() ? v.get<bool>() : otherwise;
  }

  Status Vocabulary(TokenizerSpec* spec) {
    const json& model = Get(root_, "model");
    const json& vocab = Get(model, "vocab");
    const std::string type = Text(model, "type");
    if ((!type.empty() && type != "BPE") || !vocab.is_object()) {
      return Unsupported("model", type.empty() ? "(none)" : type, "BPE with a vocabulary");
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!Text(model, key).empty()) return Unsupported(key, Text(model, key), "none");
    }
    if (Flag(model, "byte_fallback", false)) {
      return Unsupported("model", "byte_fallback", "byte-level BPE");
    }
    const json& dropout = Get(model, "dropout");
    if (dropout.is_number() && dropout.get<double>() != 0) {
      return Unsupported("model", "dropout", "none");
    }
    spec->ignore_merges = Flag(model, "ignore_merges", false);
    const json& added = Get(root_, "added_tokens");
    const size_t most = vocab.size() + added.size();
    std::vector<bool> taken(most, false);
    spec->tokens.resize(most);
    size_t count = 0;
    const auto take = [&](const std::string& text, const json& id, bool again_is_fine) -> Status {
      if (!id.is_number_unsigned() || id.get<uint64_t>() >= most) {
        return Bad("token '", Printable(text, 40),
                   "' has an id that is not below the number of "
                   "tokens, ",
                   most, "; ids must have no gap");
      }
      const auto n = id.get<size_t>();
      if (taken[n] && !(again_is_fine && spec->tokens[n] == text)) {
        return Bad("id ", n, " belongs to two tokens");
      }
      if (!taken[n]) ++count;
      taken[n] = true;
      spec->tokens[n] = text;
      return Status();
    };
    for (const auto& [text, id] : vocab.items()) ENGINE_RETURN_IF_ERROR(take(text, id, false));
    if (!added.is_null() && !added.is_array()) return Bad("added_tokens is not an array");
    for (const json& a : added) {
      AddedToken token;
      token.text = Text(a, "content");
      ENGINE_RETURN_IF_ERROR(take(token.text, Get(a, "id"), true));
      token.id = Get(a, "id").get<int32_t>();
      token.special = Flag(a, "special", false);
      token.lstrip = Flag(a, "lstrip", false);
      token.rstrip = Flag(a, "rstrip", false);
      token.single_word = Flag(a, "single_word", false);
      spec->added.push_back(std::move(token));
    }
    for (size_t id = 0; id < count; ++id) {
      if (!taken[id]) return Bad("the vocabulary has no token ", id, "; ids must have no gap");
    }
    spec->tokens.resize(count);
    return Status();
  }

  Status Merges(TokenizerSpec* spec) {
    std::unordered_map<std::string_view, int32_t> ids;
    ids.reserve(spec->tokens.size());
    for (size_t id = 0; id < spec->tokens.size(); ++id) {
      ids.emplace(spec->tokens[id], static_cast<int32_t>(id));
    }
    const json& merges = Get(Get(root_, "model"), "merges");
    if (!merges.is_array()) return Bad("model.merges is not an array");
    for (const json& m : merges) {
      std::string left, right;
      if (m.is_array() && m.size() == 2 && m[0].is_string() && m[1].is_string()) {
        left = m[0].get<std::string>();
        right = m[1].get<std::string>();
      } else if (m.is_string()) {
        const auto text = m.get<std::string>();
        const size_t space = text.find(' ', 1);
        left = text.substr(0, space);
        if (space != std::string::npos) right = text.substr(space + 1);
      }
      const auto a = ids.find(left), b = ids.find(right), c = ids.find(left + right);
      if (left.empty() || right.empty() || a == ids.end() || b == ids.end() || c == ids.end()) {
        return Bad("merge ", spec->merges.size(), " ('", Printable(left, 40), "' and '",
                   Printable(right, 40), "') names a token that is not in the vocabulary");
      }
      spec->merges.push_back({a->second, b->second, c->second});
    }
    return Status();
  }

  Status Normalizer(const json& n, int depth, TokenizerSpec* spec) {
    if (n.is_null()) return Status();
    const std::string type = Text(n, "type");
    if (type == "Sequence" && depth < 4) {
      for (const json& step : Get(n, "normalizers")) {
        ENGINE_RETURN_IF_ERROR(Normalizer(step, depth + 1, spec));
      }
      return Status();
    }
    if (type != "NFC") return Unsupported("normalizer", type, "null or NFC");
    spec->normalize_nfc = true;
    return Status();
  }

  Status PreTokenize(const json& p, int depth, bool* bytes, TokenizerSpec* spec) {
    if (p.is_null()) return Status();
    const std::string type = Text(p, "type");
    if (type == "Sequence" && depth < 4) {
      for (const json& step : Get(p, "pretokenizers")) {
        ENGINE_RETURN_IF_ERROR(PreTokenize(step, depth + 1, bytes, spec));
      }
      return Status();
    }
    if (*bytes) return Unsupported("pre_tokenizer", type + " after ByteLevel", "ByteLevel last");
    if (type == "Digits") {
      const bool individual = Flag(p, "individual_digits", false);
      spec->pre.AddDigits(individual);
      steps_ += individual ? "digits;" : "runs of digits;";
      return Status();
    }
    if (type == "ByteLevel") {
      if (Flag(p, "add_prefix_space", true)) {
        return Unsupported("pre_tokenizer", "ByteLevel with add_prefix_space",
                           "add_prefix_space: false");
      }
      *bytes = true;
      if (!Flag(p, "use_regex", true)) return Status();
      spec->pre.AddGpt2();
      steps_ += "gpt2;";
      return Status();
    }
    if (type != "Split") {
      return Unsupported("pre_tokenizer", type, "Sequence, Digits, Split or ByteLevel");
    }
    const json& pattern = Get(p, "pattern");
    std::string regex = Text(pattern, "Regex");
    if (regex.empty()) {
      for (char c : Text(pattern, "String")) {
        if (std::string_view("\\^$.[]|()?*+{}#-").find(c) != std::string_view::npos) regex += '\\';
        regex += c;
      }
    }
    if (regex.empty()) return Bad("a Split of the pre_tokenizer has no pattern");
    const std::string behavior = Text(p, "behavior");
    const bool invert = Flag(p, "invert", false), removed = behavior == "Removed";
    if (behavior != "Isolated" && !removed) {
      return Unsupported("Split behavior", behavior, "Isolated or Removed");
    }
    steps_ += (removed ? "removing regex:" : "regex:") + regex + ";";
    return spec->pre.AddRegex(regex, removed && !invert, removed && invert)
        .Prefix(std::string(where_) + ": ");
  }

  Status PostProcess(const json& p, int depth, TokenizerSpec* spec) {
    if (p.is_null()) return Status();
    const std::string type = Text(p, "type");
    if (type == "ByteLevel") return Status();  // moves offsets, not ids
    if (type == "Sequence" && depth < 4) {
      for (const json& step : Get(p, "processors")) {
        ENGINE_RETURN_IF_ERROR(PostProcess(step, depth + 1, spec));
      }
      return Status();
    }
    if (type != "TemplateProcessing") {
      return Unsupported("post_processor", type, "ByteLevel or TemplateProcessing");
    }
    bool after = false;
    for (const json& piece : Get(p, "single")) {
      if (!Get(piece, "Sequence").is_null()) {
        after = true;
        continue;
      }
      const std::string name = Text(Get(piece, "SpecialToken"), "id");
      const json& ids = Get(Get(Get(p, "special_tokens"), name.c_str()), "ids");
      if (!ids.is_array())
        return Bad("post_processor names '", Printable(name), "', which has no ids");
      for (const json& id : ids) {
        if (!id.is_number_unsigned() || id.get<uint64_t>() >= spec->tokens.size()) {
          return Bad("post_processor adds '", Printable(name),
                     "' with an id outside the vocabulary");
        }
        (after ? spec->suffix_ids : spec->prefix_ids).push_back(id.get<int32_t>());
      }
    }
    return Status();
  }

  const json& root_;
  std::string_view where_;
  std::string steps_;  // of the pre-tokenizer, as MatchPreForm reads them
};

}  // namespace

Status TokenizerFromJson(std::string_view text, std::string_view where,
                         std::unique_ptr<Tokenizer>* out) {
  const json root = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return Error(ENGINE_DATA_LOSS, where, ": ", JsonProblem(text));
  TokenizerSpec spec;
  ENGINE_RETURN_IF_ERROR(Reader(root, where).Read(&spec));
  return Tokenizer::Create(std::move(spec), where, out);
}

}  // namespace engine::model
