// Cuts text into the words that BPE works on. A PreTokenizer is a list of steps; each cuts the
// pieces of the one before it further.
#ifndef ENGINE_MODEL_FORMATS_PRETOKENIZE_H_
#define ENGINE_MODEL_FORMATS_PRETOKENIZE_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.hpp"

namespace engine::model {

class Regex;  // a compiled pattern

class PreTokenizer {
 public:
  PreTokenizer();
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;

  // Each number by itself, or runs of them.
  void AddDigits(bool individual);
  // GPT-2's pattern, by hand: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|
  // \s+(?!\S)|\s+
  void AddGpt2();
  // A pattern in the common subset of Oniguruma and PCRE2. What it matches becomes a piece, and
  // so does what lies between, unless remove_matches or remove_gaps.
  Status AddRegex(const std::string& pattern, bool remove_matches, bool remove_gaps);

  // REQUIRES: text is valid UTF-8. The words point into it. An error only when a pattern exceeds
  // its limit of steps on this text.
  Status Split(std::string_view text, std::vector<std::string_view>* words) const;

 private:
  struct Step;
  Status Run(size_t step, std::string_view piece, std::vector<std::string_view>* words) const;
  std::vector<Step> steps_;
};

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_PRETOKENIZE_H_
