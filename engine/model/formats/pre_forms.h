// Pre-tokenizers that have a name in GGUF files (tokenizer.ggml.pre), and what each is made of, so
// that a tokenizer can be written in the other format.
#ifndef ENGINE_MODEL_FORMATS_PRE_FORMS_H_
#define ENGINE_MODEL_FORMATS_PRE_FORMS_H_

#include <string>
#include <string_view>

namespace engine::model {

struct PreForm {
  const char* name;   // llama.cpp's
  bool digits;        // each digit by itself first
  const char* regex;  // null: GPT-2's pattern
  bool normalize_nfc;
  bool ignore_merges;
};

// By llama.cpp's name or one of its synonyms; null: unknown.
const PreForm* FindPreForm(std::string_view name);

// The form that consists of exactly these steps: "digits;" and then "gpt2;" or "regex:PATTERN;".
// Null: none does.
const PreForm* MatchPreForm(std::string_view steps, bool normalize_nfc, bool ignore_merges);

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_PRE_FORMS_H_
