// GPT-2's printable alphabet: each byte is one code point, so that tokens are text without white
// space or control characters.
#ifndef ENGINE_MODEL_FORMATS_BYTE_ALPHABET_H_
#define ENGINE_MODEL_FORMATS_BYTE_ALPHABET_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/model/formats/unicode.h"

namespace engine::model {

// The code point of each byte: bytes that are printable in Latin-1 stand for themselves; the 68
// others follow from U+0100 in order.
inline const std::array<char32_t, 256>& CodePointsOfBytes() {
  static const auto table = [] {
    std::array<char32_t, 256> t{};
    char32_t next = 0x100;
    for (char32_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
      t[b] = printable ? b : next++;
    }
    return t;
  }();
  return table;
}

// The byte of a code point, or -1.
inline int ByteOfCodePoint(char32_t c) {
  static const auto table = [] {
    std::array<int16_t, 0x144> t{};
    t.fill(-1);
    for (int16_t b = 0; b < 256; ++b) t[CodePointsOfBytes()[static_cast<size_t>(b)]] = b;
    return t;
  }();
  return c < table.size() ? table[c] : -1;
}

// One byte as a token.
inline std::string TokenOfByte(uint8_t byte) {
  std::string token;
  AppendUtf8(CodePointsOfBytes()[byte], &token);
  return token;
}

// False when the token is not spelled in the alphabet.
inline bool BytesOfToken(std::string_view token, std::string* bytes) {
  bytes->clear();
  for (size_t at = 0; at < token.size();) {
    if (Utf8Length(token, at) <= 0) return false;
    const int b = ByteOfCodePoint(NextCodePoint(token, &at));
    if (b < 0) return false;
    bytes->push_back(static_cast<char>(b));
  }
  return true;
}

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_BYTE_ALPHABET_H_
