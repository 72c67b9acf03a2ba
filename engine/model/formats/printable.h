// Words of a foreign file in a message: a terminal or a log must not act on them.
#ifndef ENGINE_MODEL_FORMATS_PRINTABLE_H_
#define ENGINE_MODEL_FORMATS_PRINTABLE_H_

#include <string>
#include <string_view>

#include "engine/model/formats/unicode.h"

namespace engine::model {

// At most `most` bytes of it, without control characters and invalid UTF-8.
inline std::string Printable(std::string_view text, size_t most = 80) {
  std::string storage, out;
  text = ValidUtf8(text.substr(0, most + 4), &storage);
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t c = NextCodePoint(text, &at);
    if (at > most) return out + "…";
    // C0, DEL and C1; marks that turn the direction of what follows.
    const bool acts = c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x202A && c <= 0x202E) ||
                      (c >= 0x2066 && c <= 0x2069);
    acts ? out += '?' : out += text.substr(begin, at - begin);
  }
  return out;
}

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_PRINTABLE_H_
