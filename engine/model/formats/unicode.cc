#include "engine/model/formats/unicode.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>

namespace engine::model {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Code points that Unicode 16 added; ICU 72 knows Unicode 15. Sorted.
struct Range {
  char32_t first, last;
  CharClass kind;
  bool numeric;
};
constexpr Range kNewer[] = {
    {0x1C89, 0x1C8A, kLetter, false},   {0xA7CB, 0xA7CD, kLetter, false},
    {0xA7DA, 0xA7DC, kLetter, false},   {0x105C0, 0x105F3, kLetter, false},
    {0x10D40, 0x10D49, kNumber, true},  {0x10D4A, 0x10D65, kLetter, false},
    {0x10D6F, 0x10D85, kLetter, false}, {0x10EC2, 0x10EC4, kLetter, false},
    {0x11380, 0x11389, kLetter, false}, {0x1138B, 0x1138B, kLetter, false},
    {0x1138E, 0x1138E, kLetter, false}, {0x11390, 0x113B5, kLetter, false},
    {0x113B7, 0x113B7, kLetter, false}, {0x113D1, 0x113D1, kLetter, false},
    {0x113D3, 0x113D3, kLetter, false}, {0x116D0, 0x116E3, kNumber, true},
    {0x11BC0, 0x11BE0, kLetter, false}, {0x11BF0, 0x11BF9, kNumber, true},
    {0x11DE0, 0x11DE9, kOther, true},   {0x13460, 0x143FA, kLetter, false},
    {0x16100, 0x1611D, kLetter, false}, {0x16130, 0x16139, kNumber, true},
    {0x16D40, 0x16D6C, kLetter, false}, {0x16D70, 0x16D79, kNumber, true},
    {0x16FF4, 0x16FF6, kOther, true},   {0x18CFF, 0x18CFF, kLetter, false},
    {0x1CCF0, 0x1CCF9, kNumber, true},  {0x1E5D0, 0x1E5ED, kLetter, false},
    {0x1E5F0, 0x1E5F0, kLetter, false}, {0x1E5F1, 0x1E5FA, kNumber, true},
    {0x2EBF0, 0x2EE5D, kLetter, false},
};

const Range* FindNewer(char32_t c) {
  const auto* r = std::lower_bound(std::begin(kNewer), std::end(kNewer), c,
                                   [](const Range& x, char32_t v) { return x.last < v; });
  return r != std::end(kNewer) && c >= r->first ? r : nullptr;
}

CharClass Slow(char32_t c) {
  if (const Range* r = FindNewer(c)) return r->kind;
  const auto mask = U_GET_GC_MASK(static_cast<UChar32>(c));
  if (mask & U_GC_L_MASK) return kLetter;
  if (mask & U_GC_N_MASK) return kNumber;
  return u_isUWhiteSpace(static_cast<UChar32>(c)) ? kSpace : kOther;
}

// Classes of the basic plane, made at first use.
const std::array<CharClass, 0x10000>& BasicPlane() {
  static const auto* table = [] {
    auto* t = new std::array<CharClass, 0x10000>;
    for (char32_t c = 0; c < 0x10000; ++c) (*t)[c] = Slow(c);
    return t;
  }();
  return *table;
}

}  // namespace

int Utf8Length(std::string_view s, size_t from) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(s[from + k]); };
  const size_t left = s.size() - from;
  const unsigned c = byte(0);
  if (c < 0x80) return 1;
  int length = 0;
  unsigned low = 0x80, high = 0xBF;  // of the second byte
  if (c >= 0xC2 && c <= 0xDF) {
    length = 2;
  } else if (c >= 0xE0 && c <= 0xEF) {
    length = 3;
    if (c == 0xE0) low = 0xA0;
    if (c == 0xED) high = 0x9F;
  } else if (c >= 0xF0 && c <= 0xF4) {
    length = 4;
    if (c == 0xF0) low = 0x90;
    if (c == 0xF4) high = 0x8F;
  } else {
    return -1;
  }
  for (int k = 1; k < length; ++k) {
    if (static_cast<size_t>(k) >= left) return 0;
    if (byte(static_cast<size_t>(k)) < low || byte(static_cast<size_t>(k)) > high) return -k;
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

std::string_view ValidUtf8(std::string_view text, std::string* storage) {
  bool valid = true;
  size_t copied = 0;  // text[0, copied) is in *storage, once something was found invalid
  for (size_t at = 0; at < text.size();) {
    uint64_t eight = 0;
    if (text.size() - at >= 8) {
      std::memcpy(&eight, text.data() + at, 8);
      if ((eight & 0x8080808080808080u) == 0) {
        at += 8;
        continue;
      }
    }
    const int length = Utf8Length(text, at);
    if (length > 0) {
      at += static_cast<size_t>(length);
      continue;
    }
    if (valid) storage->clear();
    valid = false;
    storage->append(text, copied, at - copied);
    storage->append(kReplacement);
    at = length < 0 ? at + static_cast<size_t>(-length) : text.size();
    copied = at;
  }
  if (valid) return text;
  storage->append(text, copied);
  return *storage;
}

CharClass ClassOf(char32_t c) {
  static const auto& basic = BasicPlane();
  return c < 0x10000 ? basic[c] : Slow(c);
}

bool IsNumeric(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  if (const Range* r = FindNewer(c)) return r->numeric;
  return ClassOf(c) == kNumber;
}

void AppendUtf8(char32_t c, std::string* out) {
  const auto put = [out](char32_t b) { out->push_back(static_cast<char>(b)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

std::string ToNfc(std::string_view text) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(error);
  std::string out;
  if (U_FAILURE(error)) return std::string(text);
  icu::StringByteSink<std::string> sink(&out);
  nfc->normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink,
                     nullptr, error);
  return U_FAILURE(error) ? std::string(text) : out;
}

}  // namespace engine::model
