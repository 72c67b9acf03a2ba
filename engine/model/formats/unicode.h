// Unicode as tokenizers need it: repair of UTF-8, and the classes of code points that their
// patterns speak of. Classes are those of Unicode 16 whatever the ICU found at run time.
#ifndef ENGINE_MODEL_FORMATS_UNICODE_H_
#define ENGINE_MODEL_FORMATS_UNICODE_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace engine::model {

// The bytes at the front of s[from, end) that form one code point; or, if they form none, the
// length of the maximal invalid subpart (at least 1) negated. 0 when what is there is the proper
// beginning of a code point that s ends too early to complete.
int Utf8Length(std::string_view s, size_t from);

// `text` itself when it is valid UTF-8; else *storage, with one U+FFFD for each maximal invalid
// subpart.
std::string_view ValidUtf8(std::string_view text, std::string* storage);

enum CharClass : uint8_t { kOther = 0, kLetter = 1, kNumber = 2, kSpace = 3 };
// \p{L}, \p{N}, \s or none of them.
CharClass ClassOf(char32_t c);
// Rust's char::is_numeric, which knows a few numbers more than \p{N} of the patterns.
bool IsNumeric(char32_t c);

// Decodes the code point at *at and moves *at behind it. REQUIRES: s is valid UTF-8.
inline char32_t NextCodePoint(std::string_view s, size_t* at) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(s[*at + k]); };
  const char32_t c = byte(0);
  if (c < 0x80) {
    *at += 1;
    return c;
  }
  char32_t out = 0;
  if (c < 0xE0) {
    out = (c & 0x1Fu) << 6 | (byte(1) & 0x3Fu);
    *at += 2;
  } else if (c < 0xF0) {
    out = (c & 0x0Fu) << 12 | (byte(1) & 0x3Fu) << 6 | (byte(2) & 0x3Fu);
    *at += 3;
  } else {
    out = (c & 0x07u) << 18 | (byte(1) & 0x3Fu) << 12 | (byte(2) & 0x3Fu) << 6 | (byte(3) & 0x3Fu);
    *at += 4;
  }
  return out;
}

void AppendUtf8(char32_t c, std::string* out);

// Normalization form C. REQUIRES: text is valid UTF-8.
std::string ToNfc(std::string_view text);

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_UNICODE_H_
