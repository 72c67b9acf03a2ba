// The description of what the server takes and gives, in OpenAPI 3.1; made from the same limits
// that requests are read with.
#ifndef PLUGINS_HTTP_API_OPENAPI_H_
#define PLUGINS_HTTP_API_OPENAPI_H_

#include <string>

#include "ask.h"

namespace engine::http_api {

std::string OpenApiText(const AskLimits& limits, const std::string& model, bool keys);

}  // namespace engine::http_api

#endif  // PLUGINS_HTTP_API_OPENAPI_H_
