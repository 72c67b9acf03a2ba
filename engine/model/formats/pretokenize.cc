#include "engine/model/formats/pretokenize.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "engine/model/formats/unicode.h"

namespace engine::model {
namespace {

// Unicode's White_Space, for PCRE2's \s, which has a code point more.
constexpr const char* kSpaces =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"
    "\\x{205f}\\x{3000}";
constexpr uint32_t kMatchLimit = 10'000'000;

// Spells out \s, and \S where it stands outside a bracketed class.
std::string SpellOutSpaces(const std::string& pattern) {
  std::string out;
  bool in_class = false;
  for (size_t k = 0; k < pattern.size(); ++k) {
    const char c = pattern[k];
    if (c == '\\' && k + 1 < pattern.size()) {
      const char next = pattern[++k];
      if (next == 's' || (next == 'S' && !in_class)) {
        if (!in_class) out += next == 's' ? "[" : "[^";
        out += kSpaces;
        if (!in_class) out += ']';
      } else {
        out += c;
        out += next;
      }
      continue;
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

// The end of the run of code points of one class that begins at `at`.
size_t RunEnd(std::string_view s, size_t at, CharClass kind) {
  while (at < s.size()) {
    size_t next = at;
    if (ClassOf(NextCodePoint(s, &next)) != kind) break;
    at = next;
  }
  return at;
}

size_t ContractionLength(std::string_view s, size_t at) {
  const std::string_view rest = s.substr(at + 1, 2);
  if (rest == "re" || rest == "ve" || rest == "ll") return 3;
  if (rest.empty()) return 0;
  const char c = rest[0];
  return c == 's' || c == 't' || c == 'm' || c == 'd' ? 2 : 0;
}

// The end of the match of GPT-2's pattern at `at`; there always is one.
size_t Gpt2End(std::string_view s, size_t at) {
  if (s[at] == '\'') {
    if (const size_t n = ContractionLength(s, at); n > 0) return at + n;
  }
  size_t next = at;
  CharClass kind = ClassOf(NextCodePoint(s, &next));
  if (kind != kSpace) return RunEnd(s, next, kind);
  if (s[at] == ' ' && next < s.size()) {
    size_t after = next;
    kind = ClassOf(NextCodePoint(s, &after));
    if (kind != kSpace) return RunEnd(s, after, kind);
  }
  // White space: all of it at the end of the text; else all but its last code point, which is
  // left to what follows; or that one by itself.
  size_t last = at;
  while (next < s.size()) {
    size_t after = next;
    if (ClassOf(NextCodePoint(s, &after)) != kSpace) return last > at ? last : next;
    last = next;
    next = after;
  }
  return next;
}

}  // namespace

class Regex {
 public:
  ~Regex() { pcre2_code_free(code_); }

  static Status Compile(const std::string& pattern, std::shared_ptr<const Regex>* out) {
    auto regex = std::make_shared<Regex>();
    const std::string text = SpellOutSpaces(pattern);
    int error = 0;
    PCRE2_SIZE offset = 0;
    regex->code_ =
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                      PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
    if (regex->code_ == nullptr) {
      PCRE2_UCHAR message[160] = {};
      pcre2_get_error_message(error, message, sizeof message);
      return Error(ENGINE_INVALID_ARGUMENT,
                   "the tokenizer's pattern is not a valid regular "
                   "expression: ",
                   reinterpret_cast<const char*>(message), " at byte ", offset);
    }
    pcre2_jit_compile(regex->code_, PCRE2_JIT_COMPLETE);  // without it, matching is only slower
    *out = std::move(regex);
    return Status();
  }

  // Calls piece(text, is_match) for matches and for what lies between, in order.
  template <typename Piece>
  Status Cut(std::string_view text, Piece piece) const {
    pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
    pcre2_match_context* context = pcre2_match_context_create(nullptr);
    pcre2_set_match_limit(context, kMatchLimit);
    Status status;
    size_t done = 0;
    for (size_t at = 0; at <= text.size();) {
      const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
      int rc = pcre2_match(code_, subject, text.size(), at, PCRE2_NO_UTF_CHECK, data, context);
      if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter keeps its stack on the heap
        rc = pcre2_match(code_, subject, text.size(), at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data,
                         context);
      }
      if (rc == PCRE2_ERROR_NOMATCH) break;
      if (rc < 0) {
        status = Error(ENGINE_RESOURCE_EXHAUSTED, "the tokenizer's pattern gave up on a text of ",
                       text.size(), " bytes (PCRE2 error ", rc, ")");
        break;
      }
      const PCRE2_SIZE* found = pcre2_get_ovector_pointer(data);
      if (found[1] <= found[0]) {  // an empty match cuts nothing
        if (found[1] >= text.size()) break;
        at = found[1];
        NextCodePoint(text, &at);
        continue;
      }
      if (found[0] > done) status = piece(text.substr(done, found[0] - done), false);
      if (status.ok()) status = piece(text.substr(found[0], found[1] - found[0]), true);
      if (!status.ok()) break;
      at = done = found[1];
    }
    if (status.ok() && done < text.size()) status = piece(text.substr(done), false);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
    return status;
  }

 private:
  pcre2_code* code_ = nullptr;
};

struct PreTokenizer::Step {
  enum Kind { kDigit, kDigitRuns, kGpt2, kRegex } kind;
  std::shared_ptr<const Regex> regex;
  bool remove_matches = false, remove_gaps = false;
};

PreTokenizer::PreTokenizer() = default;
PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;

void PreTokenizer::AddDigits(bool individual) {
  steps_.push_back({individual ? Step::kDigit : Step::kDigitRuns, nullptr, false, false});
}

void PreTokenizer::AddGpt2() { steps_.push_back({Step::kGpt2, nullptr, false, false}); }

Status PreTokenizer::AddRegex(const std::string& pattern, bool remove_matches, bool remove_gaps) {
  Step step{Step::kRegex, nullptr, remove_matches, remove_gaps};
  ENGINE_RETURN_IF_ERROR(Regex::Compile(pattern, &step.regex));
  steps_.push_back(std::move(step));
  return Status();
}

Status PreTokenizer::Split(std::string_view text, std::vector<std::string_view>* words) const {
  words->clear();
  return Run(0, text, words);
}

Status PreTokenizer::Run(size_t index, std::string_view piece,
                         std::vector<std::string_view>* words) const {
  if (piece.empty()) return Status();
  if (index == steps_.size()) {
    words->push_back(piece);
    return Status();
  }
  const Step& step = steps_[index];
  if (step.kind == Step::kRegex) {
    return step.regex->Cut(piece, [&](std::string_view part, bool match) {
      if (match ? step.remove_matches : step.remove_gaps) return Status();
      return Run(index + 1, part, words);
    });
  }
  if (step.kind == Step::kGpt2) {
    for (size_t at = 0; at < piece.size();) {
      const size_t end = Gpt2End(piece, at);
      ENGINE_RETURN_IF_ERROR(Run(index + 1, piece.substr(at, end - at), words));
      at = end;
    }
    return Status();
  }
  size_t begin = 0;
  bool in_number = false;
  for (size_t at = 0; at < piece.size();) {
    size_t next = at;
    const bool number = IsNumeric(NextCodePoint(piece, &next));
    if (number != in_number || (number && step.kind == Step::kDigit)) {
      ENGINE_RETURN_IF_ERROR(Run(index + 1, piece.substr(begin, at - begin), words));
      begin = at;
    }
    in_number = number;
    at = next;
  }
  return Run(index + 1, piece.substr(begin), words);
}

}  // namespace engine::model
