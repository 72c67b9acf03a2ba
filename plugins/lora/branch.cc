#include "branch.h"

#include <charconv>

namespace engine::lora {

Status ParseException(const std::string& text, double most, bool whole,
                      std::pair<std::string, double>* out) {
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
    return Error(ENGINE_INVALID_ARGUMENT, "\"", text,
                 "\" is no exception such as \"q_proj=16\": a ", whole ? "whole number" : "number",
                 " above 0 and at most ", most, " after '='");
  }
  *out = {text.substr(0, at), value};
  return Status();
}

}  // namespace engine::lora
