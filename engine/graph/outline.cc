#include "engine/graph/outline.h"

#include "engine/graph/diagnostic.h"
#include "engine/graph/suggest.h"

namespace engine::graph {
namespace {

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsSpace(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

struct Token {
  enum class Type { kEnd, kWord, kNumber, kText, kSymbol };
  Type type = Type::kEnd;
  Span span;
  std::string text;
  bool plain = true;
};

void AppendUtf8(uint32_t c, std::string* out) {
  if (c < 0x80) {
    *out += static_cast<char>(c);
  } else if (c < 0x800) {
    *out += static_cast<char>(0xC0 | (c >> 6));
    *out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    *out += static_cast<char>(0xE0 | (c >> 12));
    *out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    *out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    *out += static_cast<char>(0xF0 | (c >> 18));
    *out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    *out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    *out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

class Parser {
 public:
  Parser(const SourceFile& file, Reporter* reporter)
      : file_(file), text_(file.text()), reporter_(reporter) {}

  bool Root(OutlineBlock* block) {
    block->span = {&file_, 0, static_cast<uint32_t>(text_.size())};
    if (!CheckEncoding() || !Next()) return false;
    while (token_.type != Token::Type::kEnd) {
      if (Is("}") || Is(">")) return Fail("this '" + token_.text + "' closes nothing");
      if (!Field(block, 0)) return false;
    }
    return true;
  }

 private:
  bool Is(std::string_view symbol) const {
    return token_.type == Token::Type::kSymbol && token_.text == symbol;
  }
  bool Fail(std::string message) { return FailAt(token_.span, std::move(message)); }
  bool FailAt(const Span& span, std::string message) {
    reporter_->Error(span, std::move(message));
    return false;
  }
  std::string Found() const {
    if (token_.type == Token::Type::kEnd) return "the end of the file";
    return Quote(std::string_view(text_).substr(token_.span.begin, token_.span.length));
  }

  // Control characters and broken UTF-8 are refused here, so that nothing later meets them.
  bool CheckEncoding() {
    for (size_t i = 0; i < text_.size();) {
      const auto c = static_cast<unsigned char>(text_[i]);
      size_t more = c < 0x80 ? 0 : c >= 0xC2 && c < 0xE0 ? 1 : (c & 0xF0) == 0xE0 ? 2 : 3;
      bool good = c < 0x80 ? c >= 32 || IsSpace(text_[i]) : c >= 0xC2 && c < 0xF5;
      for (size_t k = 1; good && k <= more; ++k) {
        good = i + k < text_.size() && (text_[i + k] & 0xC0) == 0x80;
      }
      if (good && c == 0xE0) good = static_cast<unsigned char>(text_[i + 1]) >= 0xA0;
      if (good && c == 0xED) good = static_cast<unsigned char>(text_[i + 1]) < 0xA0;
      if (good && c == 0xF0) good = static_cast<unsigned char>(text_[i + 1]) >= 0x90;
      if (good && c == 0xF4) good = static_cast<unsigned char>(text_[i + 1]) < 0x90;
      if (!good) {
        return FailAt({&file_, static_cast<uint32_t>(i), 1},
                      c < 0x80 ? "a control character" : "this is not UTF-8 text");
      }
      i += more + 1;
    }
    return true;
  }

  bool Next() {
    last_end_ = token_.span.begin + token_.span.length;
    while (at_ < text_.size()) {
      if (text_[at_] == '#') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      } else if (IsSpace(text_[at_])) {
        ++at_;
      } else {
        break;
      }
    }
    const size_t begin = at_;
    token_ = Token();
    if (at_ < text_.size()) {
      const char c = text_[at_];
      if (IsLetter(c)) {
        token_.type = Token::Type::kWord;
        while (at_ < text_.size() && (IsLetter(text_[at_]) || IsDigit(text_[at_]))) ++at_;
      } else if (IsDigit(c) || (c == '.' && at_ + 1 < text_.size() && IsDigit(text_[at_ + 1]))) {
        token_.type = Token::Type::kNumber;
        const bool hex = c == '0' && at_ + 1 < text_.size() && (text_[at_ + 1] | 32) == 'x';
        while (
            at_ < text_.size() &&
            (IsLetter(text_[at_]) || IsDigit(text_[at_]) || text_[at_] == '.' ||
             ((text_[at_] == '+' || text_[at_] == '-') && !hex && (text_[at_ - 1] | 32) == 'e'))) {
          ++at_;
        }
      } else if (c == '"' || c == '\'') {
        token_.type = Token::Type::kText;
        if (!Text(c)) return false;
      } else {
        token_.type = Token::Type::kSymbol;
        ++at_;
        while (at_ < text_.size() && (text_[at_] & 0xC0) == 0x80) ++at_;
      }
    }
    token_.span = {&file_, static_cast<uint32_t>(begin), static_cast<uint32_t>(at_ - begin)};
    if (token_.type != Token::Type::kText) token_.text = text_.substr(begin, at_ - begin);
    return true;
  }

  int HexDigits(size_t most, uint32_t* value) {
    int count = 0;
    for (*value = 0; most > 0 && at_ < text_.size(); --most, ++at_, ++count) {
      const char c = static_cast<char>(text_[at_] | 32);
      if (IsDigit(text_[at_])) {
        *value = *value * 16 + static_cast<uint32_t>(text_[at_] - '0');
      } else if (c >= 'a' && c <= 'f') {
        *value = *value * 16 + static_cast<uint32_t>(c - 'a' + 10);
      } else {
        break;
      }
    }
    return count;
  }

  bool Text(char quote) {
    const size_t begin = at_++;
    while (at_ < text_.size() && text_[at_] != quote && text_[at_] != '\n') {
      if (text_[at_] != '\\') {
        token_.text += text_[at_++];
        continue;
      }
      token_.plain = false;
      const size_t escape = at_++;
      const char c = at_ < text_.size() ? text_[at_++] : '\n';
      uint32_t value = 0;
      bool good = true;
      switch (c) {
        case 'n':
          token_.text += '\n';
          break;
        case 't':
          token_.text += '\t';
          break;
        case 'r':
          token_.text += '\r';
          break;
        case 'a':
          token_.text += '\a';
          break;
        case 'b':
          token_.text += '\b';
          break;
        case 'f':
          token_.text += '\f';
          break;
        case 'v':
          token_.text += '\v';
          break;
        case '\\':
        case '\'':
        case '"':
        case '?':
          token_.text += c;
          break;
        case 'x':
        case 'X':
          good = HexDigits(2, &value) > 0;
          token_.text += static_cast<char>(value);
          break;
        case 'u':
          good = HexDigits(4, &value) == 4;
          AppendUtf8(value, &token_.text);
          break;
        case 'U':
          good = HexDigits(8, &value) == 8 && value <= 0x10FFFF;
          if (good) AppendUtf8(value, &token_.text);
          break;
        default:
          good = c >= '0' && c <= '7';
          for (int k = 0; good && k < 3; ++k) {
            if (k > 0 && (at_ >= text_.size() || text_[at_] < '0' || text_[at_] > '7')) break;
            value = value * 8 + static_cast<uint32_t>((k == 0 ? c : text_[at_++]) - '0');
          }
          good = good && value < 256;
          token_.text += static_cast<char>(value);
      }
      if (!good) {
        return FailAt({&file_, static_cast<uint32_t>(escape), 2}, "an escape that does not exist");
      }
    }
    if (at_ >= text_.size() || text_[at_] != quote) {
      return FailAt({&file_, static_cast<uint32_t>(begin), static_cast<uint32_t>(at_ - begin)},
                    "this text has no closing quote");
    }
    ++at_;
    return true;
  }

  bool Block(OutlineValue* value, int depth) {
    if (depth >= kMaxDepth) {
      return Fail("blocks go deeper than " + std::to_string(kMaxDepth) + " levels");
    }
    const Span open = token_.span;
    const char* close = Is("<") ? ">" : "}";
    value->type = OutlineValue::Type::kBlock;
    value->block = std::make_shared<OutlineBlock>();
    if (!Next()) return false;
    while (!Is(close)) {
      if (token_.type == Token::Type::kEnd) {
        Diagnostic& d = reporter_->Error(
            token_.span, std::string("the file ends where '") + close + "' was expected");
        d.At(open, "to close this block");
        return false;
      }
      if (!Field(value->block.get(), depth + 1)) return false;
    }
    value->span = {&file_, open.begin, token_.span.begin + token_.span.length - open.begin};
    value->block->span = value->span;
    return Next();
  }

  bool Scalar(OutlineValue* value) {
    const uint32_t begin = token_.span.begin;
    std::string sign;
    if (Is("-")) {
      sign = "-";
      if (!Next()) return false;
      if (token_.type != Token::Type::kNumber && token_.type != Token::Type::kWord) {
        return Fail("expected a number after '-', found " + Found());
      }
    }
    switch (token_.type) {
      case Token::Type::kText:
        value->type = OutlineValue::Type::kText;
        value->plain = token_.plain;
        value->text = token_.text;
        if (!Next()) return false;
        while (token_.type == Token::Type::kText) {  // neighbours are one text
          value->plain = false;
          value->text += token_.text;
          if (!Next()) return false;
        }
        break;
      case Token::Type::kNumber:
      case Token::Type::kWord:
        value->type = token_.type == Token::Type::kNumber ? OutlineValue::Type::kNumber
                                                          : OutlineValue::Type::kWord;
        value->text = sign + token_.text;
        if (!Next()) return false;
        break;
      default:
        return Fail("expected a value, found " + Found());
    }
    value->span = {&file_, begin, last_end_ - begin};
    return true;
  }

  bool Field(OutlineBlock* block, int depth) {
    if (Is("[")) return Fail("extensions and Any are not part of the pipeline language");
    if (token_.type != Token::Type::kWord) {
      return Fail("expected the name of a field, found " + Found());
    }
    OutlineField field;
    field.name = token_.text;
    field.name_span = token_.span;
    if (!Next()) return false;
    const bool colon = Is(":");
    if (colon && !Next()) return false;
    auto value = [&] {
      field.values.emplace_back();
      return Is("{") || Is("<") ? Block(&field.values.back(), depth) : Scalar(&field.values.back());
    };
    if (Is("[")) {
      if (!Next()) return false;
      while (!Is("]")) {
        if (!value()) return false;
        if (!Is(",")) break;
        if (!Next()) return false;
        if (Is("]")) return Fail("expected a value, found \"]\"");
      }
      if (!Is("]")) return Fail("expected ',' or ']', found " + Found());
      if (!Next()) return false;
    } else {
      if (!colon && !Is("{") && !Is("<")) {
        return Fail("expected ':' or '{' after " + Quote(field.name) + ", found " + Found());
      }
      if (!value()) return false;
    }
    field.span = {&file_, field.name_span.begin, last_end_ - field.name_span.begin};
    block->fields.push_back(std::move(field));
    if (Is(",") || Is(";")) return Next();
    return true;
  }

  const SourceFile& file_;
  const std::string& text_;
  Reporter* reporter_;
  size_t at_ = 0;
  uint32_t last_end_ = 0;  // of the token before token_
  Token token_;
};

}  // namespace

Span OutlineValue::Part(size_t offset, size_t count) const {
  if (type != Type::kText || !plain) return span;
  return span.Part(offset + 1, count);
}

const OutlineValue* OutlineBlock::Find(std::string_view name, size_t n) const {
  for (const OutlineField& field : fields) {
    if (field.bad || field.name != name) continue;
    if (n < field.values.size()) return &field.values[n];
    n -= field.values.size();
  }
  return nullptr;
}

const OutlineField* OutlineBlock::FindField(std::string_view name) const {
  for (const OutlineField& field : fields) {
    if (!field.bad && field.name == name) return &field;
  }
  return nullptr;
}

bool OutlineBlock::damaged() const {
  for (const OutlineField& field : fields) {
    if (field.bad) return true;
  }
  return false;
}

bool ParseOutline(const SourceFile& file, OutlineBlock* root, Reporter* reporter) {
  return Parser(file, reporter).Root(root);
}

}  // namespace engine::graph
