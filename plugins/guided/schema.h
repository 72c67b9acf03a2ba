// JSON schemas (the words of 2020-12 and of draft-07), turned into syntax trees of the texts that
// are valid under them, or of a part of these.
//
// What is left out: members come in the order in which the schema names them, further ones after
// them; an object whose schema names members and says nothing of others has only those; numbers
// and strings as numbers.h and json_forms.h say. What cannot be kept to is refused; the error names
// the place in the schema as a JSON pointer, the keyword, and what would work.
#ifndef PLUGINS_GUIDED_SCHEMA_H_
#define PLUGINS_GUIDED_SCHEMA_H_

#include <nlohmann/json.hpp>
#include <string_view>

#include "ast.h"
#include "engine/status.hpp"
#include "json_forms.h"

namespace engine::guided {

using Json = nlohmann::ordered_json;

// Reads a text within the limits; `what` names it in errors.
Status ParseJson(std::string_view text, std::string_view what, const Limits& limits, Json* json);

struct SchemaRequest {
  const Json* schema = nullptr;
  // References begin at this document; null for the schema itself.
  const Json* document = nullptr;
  std::string at = "#";      // the schema's place, for errors
  bool object_only = false;  // other types are left out
};

// The text of a value that is valid under the schema.
Status SchemaNode(const SchemaRequest& request, JsonForms* forms, Node* node);

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_SCHEMA_H_
