// Regular expressions, read into syntax trees: the subset on which ECMAScript and Python agree.
//
// Literals, `.`, classes, groups (their names are ignored), `|`, greedy and lazy quantifiers, `^`
// and `$` at the ends of an alternative that is not in a group. Look-around, back-references, \b,
// \p and flags are refused. Where the two dialects differ in what a class holds, the tree has what
// both accept: `\s` is ASCII white space, `.` spares all four line ends, `\W` is ASCII, `\D` leaves
// out the scripts that have digits of their own.
#ifndef PLUGINS_GUIDED_PATTERN_H_
#define PLUGINS_GUIDED_PATTERN_H_

#include <string_view>

#include "ast.h"
#include "engine/status.hpp"

namespace engine::guided {

enum class RegexUse {
  kWhole,   // all of the text must match; `^` and `$` say nothing new
  kSearch,  // something in the text must match, as for "pattern" of JSON schema
};

// Errors name the byte of `pattern`, what stands there and what would work.
Status ParseRegex(std::string_view pattern, RegexUse use, Grammar* grammar, Node* node);

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_PATTERN_H_
