#include "engine/model/formats/pre_forms.h"

#include <utility>

namespace engine::model {
namespace {

// Those of the models' tokenizer.json.
constexpr const char* kLlama3 =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+"
    "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
constexpr const char* kQwen2 =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+"
    "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

constexpr PreForm kForms[] = {
    {"smollm", true, nullptr, false, false},
    {"gpt-2", false, nullptr, false, false},
    {"llama-bpe", false, kLlama3, false, true},
    {"qwen2", false, kQwen2, true, false},
};

constexpr std::pair<std::string_view, std::string_view> kSynonyms[] = {
    {"starcoder", "smollm"}, {"refact", "smollm"},      {"command-r", "smollm"},
    {"codeshell", "smollm"}, {"gpt2", "gpt-2"},         {"phi-2", "gpt-2"},
    {"llama3", "llama-bpe"}, {"llama-v3", "llama-bpe"},
};

}  // namespace

const PreForm* FindPreForm(std::string_view name) {
  for (const auto& [synonym, canonical] : kSynonyms) {
    if (name == synonym) name = canonical;
  }
  for (const PreForm& form : kForms) {
    if (name == form.name) return &form;
  }
  return nullptr;
}

const PreForm* MatchPreForm(std::string_view steps, bool normalize_nfc, bool ignore_merges) {
  for (const PreForm& form : kForms) {
    std::string made = form.digits ? "digits;" : "";
    made += form.regex == nullptr ? "gpt2;" : "regex:" + std::string(form.regex) + ";";
    if (steps == made && normalize_nfc == form.normalize_nfc &&
        ignore_merges == form.ignore_merges) {
      return &form;
    }
  }
  return nullptr;
}

}  // namespace engine::model
