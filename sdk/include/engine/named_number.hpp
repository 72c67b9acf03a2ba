// Options that give a number to some names: "q_proj=16".
#ifndef ENGINE_NAMED_NUMBER_HPP_
#define ENGINE_NAMED_NUMBER_HPP_

#include <charconv>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include "engine/status.hpp"

namespace engine {

// Splits `text` at its last '=' into a name and a number that is above 0 and at most `most`.
// INVALID_ARGUMENT shows `example`, which is right.
inline Status ParseNamedNumber(const std::string& text, std::string_view example, double most,
                               bool whole, std::pair<std::string, double>* out) {
  const size_t at = text.rfind('=');
  double value = 0;
  const char* const end = text.data() + text.size();
  bool good = at != std::string::npos && at > 0;
  if (good) {
    const auto [last, error] = std::from_chars(text.data() + at + 1, end, value);
    good = error == std::errc() && last == end && value > 0 && value <= most &&
           (!whole || value == std::floor(value));
  }
  if (!good) {
    return Error(ENGINE_INVALID_ARGUMENT, "\"", text, "\" is no exception such as \"", example,
                 "\": a ", whole ? "whole number" : "number", " above 0 and at most ", most,
                 " after '='");
  }
  *out = {text.substr(0, at), value};
  return Status();
}

}  // namespace engine

#endif  // ENGINE_NAMED_NUMBER_HPP_
