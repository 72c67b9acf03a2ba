// The values of "format" that are kept to, and the regular expressions that stand for them. Each is
// a part of what the format allows that strict validators accept: dates have no 29th of February,
// host names no punycode.
#ifndef PLUGINS_GUIDED_FORMATS_H_
#define PLUGINS_GUIDED_FORMATS_H_

#include <string_view>

namespace engine::guided {

// Empty for a format that is only an annotation. What it gives is a whole text.
std::string_view FormatRegex(std::string_view format);

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_FORMATS_H_
