// Regular expressions, read into syntax trees.
#include "pattern.h"

#include <algorithm>
#include <string>
#include <vector>

namespace engine::guided {
namespace {

constexpr uint32_t kDeepest = 200;  // groups within groups

bool IsDigit(uint32_t c) { return c >= '0' && c <= '9'; }
bool IsWord(char c) {
  return IsDigit(static_cast<uint8_t>(c)) || c == '_' || ((c | 32) >= 'a' && (c | 32) <= 'z');
}
bool IsPunctuation(uint32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
         (c >= '{' && c <= '~') || c == ' ';
}

// What `\d` and its kin hold. Dialects disagree beyond ASCII: `both` is what each of them has, and
// `any` what at least one has; a negated class leaves out the latter.
struct Shorthand {
  CodeSet both, any;
};

bool FindShorthand(uint32_t letter, Shorthand* found) {
  static const CodeSet ascii{{0, 0x7f}}, beyond{{0x80, kLastCodePoint}};
  static const CodeSet digit{{'0', '9'}};
  // Where Unicode has digits, or may get some: not in European, Chinese, Japanese and Korean
  // scripts.
  static const CodeSet digits{
      {'0', '9'}, {0x0600, 0x303f}, {0xa620, 0xabff}, {0xd7a4, 0x1f2ff}, {0x1f650, kLastCodePoint}};
  static const CodeSet word{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
  static const CodeSet space{{'\t', '\r'}, {' ', ' '}};
  static const CodeSet spaces{{'\t', '\r'},     {0x1c, 0x20},     {0x85, 0x85},
                              {0xa0, 0xa0},     {0x1680, 0x1680}, {0x180e, 0x180e},
                              {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f},
                              {0x205f, 0x205f}, {0x3000, 0x3000}, {0xfeff, 0xfeff}};
  switch (letter) {
    case 'd':
      *found = {digit, digits};
      return true;
    case 'D':
      *found = {digits.Not(), digit.Not()};
      return true;
    case 'w':
      *found = {word, word.Or(beyond)};
      return true;
    case 'W':
      *found = {word.Not().And(ascii), word.Not()};
      return true;
    case 's':
      *found = {space, spaces};
      return true;
    case 'S':
      *found = {spaces.Not(), space.Not()};
      return true;
    default:
      return false;
  }
}

class Parser {
 public:
  Parser(std::string_view pattern, RegexUse use, Grammar* grammar)
      : text_(pattern), use_(use), grammar_(*grammar) {}

  Status Run(Node* node) {
    if (!IsUtf8(text_)) {
      return Error(ENGINE_INVALID_ARGUMENT, "the regular expression is not UTF-8");
    }
    // One level for each open group, the outermost first; a loop instead of calls, so that no
    // text can exhaust the stack.
    levels_.emplace_back();
    Anchor();
    while (status_.ok() && grammar_.ok() && at_ < text_.size()) Step();
    ENGINE_RETURN_IF_ERROR(status_);
    ENGINE_RETURN_IF_ERROR(grammar_.status());
    if (levels_.size() > 1) {
      return Refuse(levels_.back().opened, "'(' is not closed; write \\( for a bracket itself");
    }
    EndAlternative();
    *node = grammar_.Either(std::move(levels_[0].alternatives));
    return grammar_.status();
  }

 private:
  struct Level {
    size_t opened = 0;
    std::vector<Node> alternatives, sequence;
    bool begins = false, ends = false;  // the current alternative has `^`, `$`
    bool repeatable = false;            // its last item has no quantifier yet
  };

  Status Refuse(size_t at, std::string_view words) {
    return Error(ENGINE_INVALID_ARGUMENT, "regular expression, byte ", at, ": ", words);
  }
  void Fail(size_t at, std::string_view words) {
    if (status_.ok()) status_ = Refuse(at, words);
  }

  char Peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  bool Eat(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  uint32_t Code() {
    std::string_view rest = text_.substr(at_);
    uint32_t code = 0;
    TakeCodePoint(&rest, &code);
    at_ = text_.size() - rest.size();
    return code;
  }

  void Push(Node node) {
    Level& level = levels_.back();
    if (level.ends) {
      Fail(at_, "nothing can follow '$'; it may stand at the end of an alternative only");
    }
    level.sequence.push_back(node);
    level.repeatable = true;
  }

  void Anchor() {
    if (Peek() != '^') return;
    ++at_;
    levels_.back().begins = true;
    if (Peek() == '*' || Peek() == '+' || Peek() == '?' || Peek() == '{') {
      Fail(at_, "a quantifier needs something to repeat, and '^' is no such thing");
    }
  }

  void EndAlternative() {
    Level& level = levels_.back();
    if (use_ == RegexUse::kSearch && levels_.size() == 1) {
      const Node any = grammar_.Repeat(grammar_.Class(CodeSet::All()), 0, kInfinite);
      if (!level.begins) level.sequence.insert(level.sequence.begin(), any);
      if (!level.ends) level.sequence.push_back(any);
    }
    level.alternatives.push_back(grammar_.Sequence(std::move(level.sequence)));
    level.sequence.clear();
    level.begins = level.ends = level.repeatable = false;
  }

  void Step() {
    static const CodeSet dot = CodeSet{{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}.Not();
    const size_t here = at_;
    switch (Peek()) {
      case '(':
        return Open();
      case ')': {
        if (levels_.size() == 1) {
          return Fail(here, "')' closes nothing; write \\) for a bracket itself");
        }
        ++at_;
        EndAlternative();
        const Node group = grammar_.Either(std::move(levels_.back().alternatives));
        levels_.pop_back();
        return Push(group);
      }
      case '|':
        ++at_;
        EndAlternative();
        if (levels_.size() == 1) Anchor();
        return;
      case '^':
        return Fail(here, "'^' may stand at the begin of an alternative outside of groups only");
      case '$':
        if (levels_.size() != 1) {
          return Fail(here, "'$' may stand at the end of an alternative outside of groups only");
        }
        ++at_;
        if (levels_.back().ends) return Fail(here, "'$' stands here twice");
        levels_.back().ends = true;
        levels_.back().repeatable = false;
        return;
      case '*':
        ++at_;
        return Quantify(here, 0, kInfinite);
      case '+':
        ++at_;
        return Quantify(here, 1, kInfinite);
      case '?':
        ++at_;
        return Quantify(here, 0, 1);
      case '{':
        return Braces();
      case '[':
        return Push(grammar_.Class(Brackets()));
      case '.':
        ++at_;
        return Push(grammar_.Class(dot));
      case '\\': {
        CodeSet set;
        Shorthand shorthand;
        uint32_t code = 0;
        if (Escape(false, &code, &shorthand)) {
          set = shorthand.both;
        } else {
          set = CodeSet::Of(code);
        }
        return Push(grammar_.Class(set));
      }
      default: {
        const uint32_t code = Code();
        std::string literal;
        AppendUtf8(code, &literal);
        return Push(grammar_.Text(literal));
      }
    }
  }

  void Open() {
    const size_t here = at_++;
    if (levels_.size() > kDeepest) {
      return Fail(here, "groups are nested deeper than 200 levels");
    }
    if (Peek() == '?') {
      if (Eat("?:")) {
      } else if (Eat("?=") || Eat("?!") || Eat("?<=") || Eat("?<!")) {
        return Fail(here, "look-around cannot be generated by; say what the text may be instead");
      } else if (Eat("?P<") || Eat("?<")) {
        while (IsWord(Peek())) ++at_;
        if (!Eat(">")) return Fail(at_, "a group's name is letters, digits and '_', then '>'");
      } else {
        return Fail(here,
                    "'(?' must go on as (?:, (?<name> or (?P<name>; flags, conditions and "
                    "references to groups are not supported");
      }
    }
    levels_.emplace_back().opened = here;
  }

  void Quantify(size_t here, uint32_t min, uint32_t max) {
    Level& level = levels_.back();
    if (!level.repeatable || level.sequence.empty()) {
      return Fail(here,
                  "a quantifier needs something to repeat before it; write \\ before it for "
                  "the character itself");
    }
    if (Peek() == '?') {
      ++at_;  // lazy: the same texts
    } else if (Peek() == '+') {
      return Fail(at_, "'+' behind a quantifier (a possessive one) is not supported");
    }
    level.sequence.back() = grammar_.Repeat(level.sequence.back(), min, max);
    level.repeatable = false;
  }

  bool Number(uint32_t* number) {
    if (!IsDigit(Peek())) return false;
    uint64_t value = 0;
    while (IsDigit(Peek())) {
      value = std::min<uint64_t>(value * 10 + static_cast<uint64_t>(Peek() - '0'), UINT32_MAX);
      ++at_;
    }
    *number = static_cast<uint32_t>(value);
    return true;
  }

  void Braces() {
    const size_t here = at_++;
    uint32_t min = 0, max = 0;
    bool good = Number(&min);
    if (good && Eat(",")) {
      if (!Number(&max)) max = kInfinite;
    } else {
      max = min;
    }
    good = good && Eat("}");
    if (!good) {
      return Fail(here, "'{' must begin {m}, {m,} or {m,n}; write \\{ for a brace itself");
    }
    const uint32_t most = grammar_.limits().repeat;
    if (min > most || (max != kInfinite && max > most)) {
      return Fail(here, "repetitions are counted up to " + std::to_string(most) + " only");
    }
    if (min > max) return Fail(here, "a repetition's first bound exceeds its second");
    Quantify(here, min, max);
  }

  uint32_t Hex(size_t digits) {
    uint32_t value = 0;
    for (size_t i = 0; i < digits; ++i, ++at_) {
      const char c = Peek();
      const char lower = static_cast<char>(c | 32);
      if (!IsDigit(c) && (lower < 'a' || lower > 'f')) {
        Fail(at_, "a hexadecimal digit is missing; forms are \\xHH, \\uHHHH and \\u{H...}");
        return 0;
      }
      value = value * 16 + static_cast<uint32_t>(IsDigit(c) ? c - '0' : lower - 'a' + 10);
    }
    return value;
  }

  uint32_t UnicodeEscape(size_t here) {
    uint32_t code = 0;
    if (Eat("{")) {
      size_t digits = 0;
      while (digits < 7 && Peek(digits) != '}' && Peek(digits) != '\0') ++digits;
      if (digits == 0 || digits == 7) {
        Fail(here, "\\u{...} has one to six hexadecimal digits");
        return 0;
      }
      code = Hex(digits);
      if (!Eat("}")) Fail(at_, "\\u{...} is not closed");
    } else {
      code = Hex(4);
      if (code >= 0xd800 && code < 0xdc00 && Eat("\\u")) {
        const uint32_t low = Hex(4);
        if (low >= 0xdc00 && low < 0xe000) code = 0x10000 + ((code - 0xd800) << 10) + low - 0xdc00;
      }
    }
    if (code > kLastCodePoint || (code >= 0xd800 && code < 0xe000)) {
      Fail(here, "this escape is not a code point (surrogates come in pairs only)");
      return 0;
    }
    return code;
  }

  // True for a shorthand, false for a single code point.
  bool Escape(bool in_class, uint32_t* code, Shorthand* shorthand) {
    const size_t here = at_++;
    *code = 0;
    if (at_ == text_.size()) {
      Fail(here, "'\\' stands at the end; write \\\\ for a backslash itself");
      return false;
    }
    const uint32_t c = Code();
    if (FindShorthand(c, shorthand)) return true;
    switch (c) {
      case 't':
        *code = '\t';
        return false;
      case 'r':
        *code = '\r';
        return false;
      case 'n':
        *code = '\n';
        return false;
      case 'f':
        *code = '\f';
        return false;
      case 'v':
        *code = '\v';
        return false;
      case 'x':
        *code = Hex(2);
        return false;
      case 'u':
        *code = UnicodeEscape(here);
        return false;
      case 'b':
        if (in_class) {
          *code = '\b';
          return false;
        }
        [[fallthrough]];
      case 'B':
        Fail(here, "word boundaries (\\b, \\B) are not supported");
        return false;
      case 'p':
      case 'P':
        Fail(here, "properties (\\p, \\P) are not supported; list ranges such as \\u00c0-\\u024f");
        return false;
      case 'k':
        Fail(here, "back-references are not supported");
        return false;
      default:
        break;
    }
    if (c == '0' && !IsDigit(Peek())) return false;
    if (IsDigit(c)) {
      Fail(here, "back-references and octal escapes are not supported");
    } else if (!IsPunctuation(c)) {
      Fail(here,
           "this escape is not known; escapes are \\d \\w \\s \\D \\W \\S \\t \\r \\n \\f \\v "
           "\\xHH \\uHHHH \\u{H...} and \\ before punctuation");
    }
    *code = c;
    return false;
  }

  CodeSet Brackets() {
    const size_t here = at_++;
    const bool negated = Eat("^");
    CodeSet set;
    std::vector<CodeRange> ranges;
    if (Peek() == ']') {
      Fail(at_, "']' right behind '[' means different things to different dialects; write \\]");
    }
    while (status_.ok() && grammar_.ok()) {
      if (at_ == text_.size()) {
        Fail(here, "'[' is not closed; write \\[ for a bracket itself");
        break;
      }
      if (Eat("]")) break;
      uint32_t low = 0;
      Shorthand shorthand;
      if (ClassItem(&low, &shorthand)) {
        set = set.Or(negated ? shorthand.any : shorthand.both);
        if (Peek() == '-' && Peek(1) != ']') {
          Fail(at_, "a range cannot begin with a class; write \\- for the character itself");
        }
        continue;
      }
      uint32_t high = low;
      if (Peek() == '-' && Peek(1) != ']' && Peek(1) != '\0') {
        const size_t dash = at_++;
        if (ClassItem(&high, &shorthand)) {
          Fail(dash, "a range cannot end with a class; write \\- for the character itself");
        }
        if (high < low) Fail(dash, "a range's first character comes after its last one");
      }
      ranges.push_back({low, high});
    }
    set = set.Or(CodeSet(std::move(ranges)));
    return negated ? set.Not() : set;
  }

  bool ClassItem(uint32_t* code, Shorthand* shorthand) {
    if (Peek() == '\\') return Escape(true, code, shorthand);
    *code = Code();
    return false;
  }

  const std::string_view text_;
  const RegexUse use_;
  Grammar& grammar_;
  size_t at_ = 0;
  Status status_;
  std::vector<Level> levels_;
};

}  // namespace

Status ParseRegex(std::string_view pattern, RegexUse use, Grammar* grammar, Node* node) {
  *node = grammar->Nothing();
  return Parser(pattern, use, grammar).Run(node);
}

}  // namespace engine::guided
