// Reads JSON texts that anybody may have sent.
#include "schema.h"

namespace engine::guided {
namespace {

// Looks at brackets and commas before anything is made of the text: how deep it is, and how much
// one bracket holds. Members of an object are found one after another later on, so that their
// number counts twice.
Status CheckShape(std::string_view text, std::string_view what, const Limits& limits) {
  struct Open {
    bool object = false;
    uint32_t commas = 0;
  };
  std::vector<Open> open;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (open.size() >= limits.text_depth) {
        return Error(ENGINE_INVALID_ARGUMENT, what, ", byte ", i,
                     ": brackets are nested deeper than ", limits.text_depth,
                     " levels; put inner parts into \"$defs\" and refer to them");
      }
      open.push_back({c == '{', 0});
    } else if ((c == '}' || c == ']') && !open.empty()) {
      open.pop_back();
    } else if (c == ',' && !open.empty()) {
      const uint32_t most = open.back().object ? limits.members : limits.elements;
      if (++open.back().commas >= most) {
        return Error(ENGINE_INVALID_ARGUMENT, what, ", byte ", i, ": more than ", most,
                     open.back().object ? " members in one object" : " elements in one list");
      }
    }
  }
  return Status();
}

}  // namespace

Status ParseJson(std::string_view text, std::string_view what, const Limits& limits, Json* json) {
  if (text.size() > limits.text_bytes) {
    return Error(ENGINE_INVALID_ARGUMENT, what, " has ", text.size(), " bytes; it can have ",
                 limits.text_bytes);
  }
  ENGINE_RETURN_IF_ERROR(CheckShape(text, what, limits));
  try {
    *json = Json::parse(text);
  } catch (const Json::exception& e) {
    return Error(ENGINE_INVALID_ARGUMENT, what, " is not JSON: ", e.what());
  }
  return Status();
}

}  // namespace engine::guided
