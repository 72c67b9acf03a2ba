// Calls of tools, as syntax trees of the Hermes form: one or several blocks
//
//   <tool_call>
//   {"name": "x", "arguments": {...}}
//   </tool_call>
//
// The text that says which is {"tools": [{"name", "parameters": schema}...], "mode": "auto",
// "required" or "named", "name": of the tool for "named", "parallel": whether several blocks may
// come}. With "auto" a text that does not begin with <tool_call>, white space aside, is free.
#ifndef PLUGINS_GUIDED_TOOLS_H_
#define PLUGINS_GUIDED_TOOLS_H_

#include <string_view>

#include "ast.h"
#include "engine/status.hpp"

namespace engine::guided {

Status ToolsNode(std::string_view text, Grammar* grammar, Node* node);

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_TOOLS_H_
