// Tools that a chat may call: how they are offered to the model, and how its calls are read back.
// The form is that of Hermes: <tool_call>{"name": …, "arguments": {…}}</tool_call>.
#ifndef PLUGINS_HTTP_API_TOOLS_H_
#define PLUGINS_HTTP_API_TOOLS_H_

#include <string>
#include <string_view>
#include <vector>

#include "ask.h"

namespace engine::http_api {

struct ToolsRead {
  bool any = false;              // the answer may be calls
  Json offered = Json::array();  // as they came, for the template; empty where none may be called
  std::string form;              // for ENGINE_FORM_TOOLS
};
// `tools`, `tool_choice` and `parallel_tool_calls` of a chat.
ToolsRead ReadTools(const Json& body, Refusal* refusal);

struct ToolCall {
  std::string name, arguments;  // arguments as JSON text
};

// Reads calls out of an answer as it grows.
// Invariant: text that may yet become the beginning of a call is held back, and whatever is neither
// call nor held back is given as text exactly once.
class ToolReader {
 public:
  // Takes more of the answer; `last`: nothing follows. Appends what is plain text and what is
  // called.
  void Add(std::string_view text, bool last, std::string* plain, std::vector<ToolCall>* calls);

 private:
  std::string held_;
  bool in_call_ = false;
  bool called_ = false;  // a call came: whitespace between calls is no text
};

}  // namespace engine::http_api

#endif  // PLUGINS_HTTP_API_TOOLS_H_
