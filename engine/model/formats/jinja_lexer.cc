#include "engine/model/formats/jinja_lexer.h"

#include <algorithm>
#include <cstring>

#include "engine/model/formats/jinja_value.h"
#include "engine/model/formats/unicode.h"

namespace engine::model::jinja {
namespace {

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

class Lexer {
 public:
  explicit Lexer(const std::string& source) {
    // Line ends become \n, and one at the very end is dropped, as Jinja does.
    for (size_t k = 0; k < source.size(); ++k) {
      if (source[k] == '\r') {
        if (k + 1 < source.size() && source[k + 1] == '\n') continue;
        s_ += '\n';
      } else {
        s_ += source[k];
      }
    }
    if (!s_.empty() && s_.back() == '\n') s_.pop_back();
  }

  std::vector<Token> Run() {
    while (at_ < s_.size()) {
      const size_t open = NextOpen(at_);
      std::string text = s_.substr(at_, open - at_);
      if (open == s_.size()) {
        Emit(Token::kText, text);
        break;
      }
      const char kind = s_[open + 1];
      const char sign = open + 2 < s_.size() ? s_[open + 2] : '\0';
      const bool signed_tag = sign == '-' || (sign == '+' && kind != '{');
      if (sign == '-') {
        while (!text.empty() && IsSpace(text.back())) text.pop_back();
      } else if (kind != '{' && sign != '+') {
        StripLine(&text);
      }
      CountLines(at_, open);
      if (!text.empty()) Emit(Token::kText, text);
      at_ = open + 2 + (signed_tag ? 1 : 0);
      line_start_ = false;
      if (kind == '#') {
        Comment();
      } else if (kind == '%' && Raw()) {
        continue;
      } else {
        Emit(kind == '{' ? Token::kOpenOutput : Token::kOpenBlock, "");
        Inside(kind == '{' ? "}}" : "%}", kind == '{' ? Token::kCloseOutput : Token::kCloseBlock);
      }
    }
    Emit(Token::kEnd, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void Fail(const std::string& what) const {
    throw TemplateError("line " + std::to_string(line_) + ": " + what);
  }
  void Emit(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), line_});
  }
  void CountLines(size_t from, size_t to) {
    line_ += static_cast<int>(std::count(s_.begin() + static_cast<std::ptrdiff_t>(from),
                                         s_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
  }
  size_t NextOpen(size_t from) const {
    for (size_t k = from; k + 1 < s_.size(); ++k) {
      if (s_[k] == '{' && (s_[k + 1] == '{' || s_[k + 1] == '%' || s_[k + 1] == '#')) return k;
    }
    return s_.size();
  }

  // lstrip_blocks: white space between the line's beginning and a block tag goes.
  void StripLine(std::string* text) const {
    const size_t newline = text->rfind('\n');
    if (newline == std::string::npos && !line_start_) return;
    const size_t from = newline == std::string::npos ? 0 : newline + 1;
    if (std::all_of(text->begin() + static_cast<std::ptrdiff_t>(from), text->end(), IsSpace)) {
      text->resize(from);
    }
  }

  // Behind a closing tag: "-" takes all white space; a block takes one newline (trim_blocks).
  void AfterClose(bool dash, bool plus, bool block) {
    const size_t from = at_;
    if (dash) {
      while (at_ < s_.size() && IsSpace(s_[at_])) ++at_;
    } else if (block && !plus && at_ < s_.size() && s_[at_] == '\n') {
      ++at_;
    }
    CountLines(from, at_);
    line_start_ = at_ > 0 && s_[at_ - 1] == '\n';
  }

  void Comment() {
    const size_t end = s_.find("#}", at_);
    if (end == std::string::npos) Fail("a comment is not closed; '#}' is missing");
    const char sign = end > at_ ? s_[end - 1] : '\0';
    CountLines(at_, end);
    at_ = end + 2;
    AfterClose(sign == '-', sign == '+', true);
  }

  // At a {% raw %}: emits its content as text. False when this is another block.
  bool Raw() {
    size_t k = at_;
    while (k < s_.size() && IsSpace(s_[k])) ++k;
    if (s_.compare(k, 3, "raw") != 0) return false;
    k += 3;
    while (k < s_.size() && IsSpace(s_[k])) ++k;
    const bool dash = k < s_.size() && s_[k] == '-';
    if (dash) ++k;
    if (s_.compare(k, 2, "%}") != 0) return false;
    at_ = k + 2;
    AfterClose(dash, false, true);
    for (size_t open = s_.find("{%", at_); open != std::string::npos;
         open = s_.find("{%", open + 2)) {
      size_t p = open + 2;
      const bool strip = p < s_.size() && s_[p] == '-';
      if (strip) ++p;
      while (p < s_.size() && IsSpace(s_[p])) ++p;
      if (s_.compare(p, 6, "endraw") != 0) continue;
      p += 6;
      while (p < s_.size() && IsSpace(s_[p])) ++p;
      const bool end_dash = p < s_.size() && s_[p] == '-';
      if (end_dash) ++p;
      if (s_.compare(p, 2, "%}") != 0) continue;
      std::string text = s_.substr(at_, open - at_);
      if (strip) {
        while (!text.empty() && IsSpace(text.back())) text.pop_back();
      } else {
        StripLine(&text);
      }
      Emit(Token::kText, text);
      CountLines(at_, p);
      at_ = p + 2;
      AfterClose(end_dash, false, true);
      return true;
    }
    Fail("'raw' is not closed; '{% endraw %}' is missing");
  }

  void Inside(const char* close, Token::Kind close_kind) {
    int brackets = 0;
    while (true) {
      while (at_ < s_.size() && IsSpace(s_[at_])) {
        if (s_[at_] == '\n') ++line_;
        ++at_;
      }
      if (at_ >= s_.size()) Fail(std::string("a tag is not closed; '") + close + "' is missing");
      const bool sign = s_[at_] == '-' || (s_[at_] == '+' && close_kind == Token::kCloseBlock);
      if (brackets == 0 && sign && s_.compare(at_ + 1, 2, close) == 0) {
        const bool dash = s_[at_] == '-';
        Emit(close_kind, "");
        at_ += 3;
        return AfterClose(dash, !dash, close_kind == Token::kCloseBlock);
      }
      if (brackets == 0 && s_.compare(at_, 2, close) == 0) {
        Emit(close_kind, "");
        at_ += 2;
        return AfterClose(false, false, close_kind == Token::kCloseBlock);
      }
      const char c = s_[at_];
      if (c == '(' || c == '[' || c == '{') ++brackets;
      if (c == ')' || c == ']' || c == '}') --brackets;
      One();
    }
  }

  void One() {
    const char c = s_[at_];
    if (IsNameStart(c)) {
      const size_t from = at_;
      while (at_ < s_.size() && (IsNameStart(s_[at_]) || IsDigit(s_[at_]))) ++at_;
      return Emit(Token::kName, s_.substr(from, at_ - from));
    }
    if (IsDigit(c)) return Number();
    if (c == '"' || c == '\'') return Quoted(c);
    for (const char* op : {"==", "!=", "<=", ">=", "//", "**"}) {
      if (s_.compare(at_, 2, op) == 0) {
        at_ += 2;
        return Emit(Token::kOperator, op);
      }
    }
    if (std::strchr("+-*/%~<>=.,:|()[]{}", c) == nullptr || c == '\0') {
      Fail(std::string("unexpected character '") + (c >= 32 && c < 127 ? c : '?') + "'");
    }
    ++at_;
    Emit(Token::kOperator, std::string(1, c));
  }

  void Number() {
    const size_t from = at_;
    while (at_ < s_.size() && (IsDigit(s_[at_]) || s_[at_] == '_')) ++at_;
    bool real = false;
    if (at_ + 1 < s_.size() && s_[at_] == '.' && IsDigit(s_[at_ + 1])) {
      real = true;
      ++at_;
      while (at_ < s_.size() && IsDigit(s_[at_])) ++at_;
    }
    std::string text = s_.substr(from, at_ - from);
    std::erase(text, '_');
    if (text.size() > 18) Fail("the number " + text.substr(0, 20) + "… is too long");
    Emit(real ? Token::kFloat : Token::kInt, text);
  }

  void Quoted(char quote) {
    std::string text;
    for (++at_; at_ < s_.size() && s_[at_] != quote; ++at_) {
      if (s_[at_] == '\n') ++line_;
      if (s_[at_] != '\\') {
        text += s_[at_];
        continue;
      }
      if (++at_ >= s_.size()) break;
      switch (const char c = s_[at_]) {
        case 'n':
          text += '\n';
          break;
        case 't':
          text += '\t';
          break;
        case 'r':
          text += '\r';
          break;
        case 'b':
          text += '\b';
          break;
        case 'f':
          text += '\f';
          break;
        case 'v':
          text += '\v';
          break;
        case 'a':
          text += '\a';
          break;
        case '0':
          text += '\0';
          break;
        case '\n':
          break;
        case '\\':
        case '\'':
        case '"':
          text += c;
          break;
        case 'x':
          Hex(2, &text);
          break;
        case 'u':
          Hex(4, &text);
          break;
        case 'U':
          Hex(8, &text);
          break;
        default:
          text += '\\';
          text += c;
      }
    }
    if (at_ >= s_.size()) Fail("a string is not closed");
    ++at_;
    Emit(Token::kString, text);
  }

  void Hex(size_t digits, std::string* text) {
    char32_t c = 0;
    for (size_t k = 1; k <= digits; ++k) {
      const char d = at_ + k < s_.size() ? s_[at_ + k] : '\0';
      const char* hex = "0123456789abcdef";
      const char* found = d == '\0' ? nullptr : std::strchr(hex, d | 0x20);
      if (found == nullptr) Fail("an escape in a string lacks hexadecimal digits");
      c = c * 16 + static_cast<char32_t>(found - hex);
    }
    if (c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) Fail("an escape is not a code point");
    at_ += digits;
    AppendUtf8(c, text);
  }

  std::string s_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_start_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> Tokenize(const std::string& source) { return Lexer(source).Run(); }

}  // namespace engine::model::jinja
