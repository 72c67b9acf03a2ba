// Foreign JSON as a document, within limits.
// Invariant: what comes out has no more values, depth and members than allowed, no key twice in one
// object, and valid UTF-8 throughout.
#ifndef PLUGINS_HTTP_API_JSON_READ_H_
#define PLUGINS_HTTP_API_JSON_READ_H_

#include <string_view>

#include "engine/status.hpp"
#include "nlohmann/json.hpp"

namespace engine::http_api {

using Json = nlohmann::ordered_json;

struct JsonLimits {
  size_t depth = 96;
  size_t values = 200'000;
  size_t members = 10'000;  // of one object
};

// INVALID_ARGUMENT tells the byte, or the limit that was passed.
Status ReadJson(std::string_view text, const JsonLimits& limits, Json* out);

// One line; invalid UTF-8, which the model may make, becomes U+FFFD.
std::string Line(const Json& json);
// A text as a JSON string, with its quotes.
std::string Quoted(std::string_view text);

}  // namespace engine::http_api

#endif  // PLUGINS_HTTP_API_JSON_READ_H_
