// Protobuf's text format as a tree, read without protobuf: what tests give a node and expect of it
// is written in the language of the pipelines. Options and payloads are made from this tree by
// options.hpp and payloads.hpp.
// Format: https://protobuf.dev/reference/protobuf/textformat-spec/
#ifndef ENGINE_TESTING_TEXT_HPP_
#define ENGINE_TESTING_TEXT_HPP_

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.hpp"

namespace engine::testing {

// One `name: value` or `name { ... }`. Elements of a list are fields of the same name.
struct Field {
  std::string name;
  bool message = false;
  bool quoted = false;        // the value stood in quotes; they and escapes are gone
  std::string value;          // of a scalar
  std::vector<Field> fields;  // of a message
  int line = 0;               // from 1
  std::string source = {};    // of a message: the text between its braces

  const Field* Find(std::string_view wanted) const {
    for (const Field& f : fields) {
      if (f.name == wanted) return &f;
    }
    return nullptr;
  }
  // The value of a scalar below, or `otherwise`.
  std::string Get(std::string_view wanted, std::string_view otherwise = {}) const {
    const Field* f = Find(wanted);
    return f == nullptr || f->message ? std::string(otherwise) : f->value;
  }
};

// "text" with what cannot stand in quotes escaped.
inline std::string Quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      char octal[8];
      std::snprintf(octal, sizeof octal, "\\%03o", static_cast<unsigned>(byte));
      out += octal;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

namespace internal {

class TextParser {
 public:
  TextParser(std::string_view text, int line) : text_(text), line_(line) {}

  Status Parse(std::vector<Field>* out) {
    ENGINE_RETURN_IF_ERROR(Fields('\0', 0, out));
    return Status();
  }

 private:
  static constexpr int kDeepest = 64;

  template <typename... Parts>
  Status Wrong(const Parts&... parts) const {
    return Error(ENGINE_INVALID_ARGUMENT, "line ", line_, ": ", parts...);
  }
  void Space() {
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '#') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
        if (at_ == text_.size()) return;
        ++line_;
      } else if (c == '\n') {
        ++line_;
      } else if (c != ' ' && c != '\t' && c != '\r') {
        return;
      }
    }
  }
  char Peek() {
    Space();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool Take(char c) {
    if (Peek() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }
  static bool InWord(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '+' || c == '-';
  }
  std::string Word() {
    Space();
    const size_t begin = at_;
    while (at_ < text_.size() && InWord(text_[at_])) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }
  std::string Found() {
    const char c = Peek();
    return at_ == text_.size() ? "the end" : std::string("'") + std::string(1, c) + "'";
  }

  Status Fields(char end, int depth, std::vector<Field>* out) {
    if (depth > kDeepest) return Wrong("blocks within blocks are more than ", kDeepest, " deep");
    for (;;) {
      while (Take(',') || Take(';')) {
      }
      if (at_ == text_.size()) {
        if (end == '\0') return Status();
        return Wrong("'", end, "' is missing at the end");
      }
      if (end != '\0' && Take(end)) return Status();
      Field field;
      Space();
      field.line = line_;
      field.name = Word();
      if (field.name.empty())
        return Wrong("the name of a field is expected, and found is ", Found());
      const bool colon = Take(':');
      if (colon && Take('[')) {
        if (Take(']')) continue;
        do {
          Field element;
          element.name = field.name;
          ENGINE_RETURN_IF_ERROR(Value(true, depth, &element));
          out->push_back(std::move(element));
        } while (Take(','));
        if (!Take(']')) return Wrong("']' is expected after a list, and found is ", Found());
        continue;
      }
      ENGINE_RETURN_IF_ERROR(Value(colon, depth, &field));
      out->push_back(std::move(field));
    }
  }

  Status Value(bool colon, int depth, Field* out) {
    const char c = Peek();
    if (out->line == 0) out->line = line_;
    if (c == '{' || c == '<') {
      ++at_;
      out->message = true;
      const size_t begin = at_;
      ENGINE_RETURN_IF_ERROR(Fields(c == '{' ? '}' : '>', depth + 1, &out->fields));
      out->source = std::string(text_.substr(begin, at_ - 1 - begin));
      return Status();
    }
    if (!colon)
      return Wrong("':' or '{' is expected after '", out->name, "', and found is ", Found());
    if (c == '"' || c == '\'') {
      out->quoted = true;
      while (Peek() == '"' || Peek() == '\'') ENGINE_RETURN_IF_ERROR(String(&out->value));
      return Status();
    }
    out->value = Word();
    if (out->value.empty()) return Wrong("'", out->name, "' has no value, but ", Found());
    return Status();
  }

  static int Digit(char c, int base) {
    const int d = c >= '0' && c <= '9'   ? c - '0'
                  : c >= 'a' && c <= 'f' ? c - 'a' + 10
                  : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                         : 99;
    return d < base ? d : -1;
  }
  // Up to `most` digits as one byte.
  void Byte(int base, int most, std::string* out) {
    int value = 0;
    for (int i = 0; i < most && at_ < text_.size() && Digit(text_[at_], base) >= 0; ++i) {
      value = value * base + Digit(text_[at_++], base);
    }
    *out += static_cast<char>(static_cast<unsigned char>(value));
  }
  Status String(std::string* out) {
    const char quote = text_[at_++];
    while (at_ < text_.size() && text_[at_] != quote) {
      char c = text_[at_++];
      if (c == '\n') return Wrong("a text in quotes does not end on its line");
      if (c != '\\') {
        *out += c;
        continue;
      }
      if (at_ == text_.size()) break;
      c = text_[at_++];
      static constexpr std::string_view kFrom = "abfnrtv\\'\"?", kTo = "\a\b\f\n\r\t\v\\'\"?";
      if (const size_t i = kFrom.find(c); i != std::string_view::npos) {
        *out += kTo[i];
      } else if (c == 'x' || c == 'X') {
        Byte(16, 2, out);
      } else if (Digit(c, 8) >= 0) {
        --at_;
        Byte(8, 3, out);
      } else {
        return Wrong("'\\", c, "' is no escape of a text");
      }
    }
    if (at_ >= text_.size()) return Wrong("a text in quotes has no end");
    ++at_;
    return Status();
  }

  std::string_view text_;
  int line_;
  size_t at_ = 0;
};

}  // namespace internal

// The fields of a text whose first line is line `line` of its file.
inline Status ParseText(std::string_view text, std::vector<Field>* out, int line = 1) {
  return internal::TextParser(text, line).Parse(out);
}

}  // namespace engine::testing

#endif  // ENGINE_TESTING_TEXT_HPP_
