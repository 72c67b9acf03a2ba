// The manual of what is installed, in the manner of gst-inspect: made from the descriptions of the
// plugins and the comments of their schemas, so that it cannot be out of date.
#ifndef ENGINE_GRAPH_INSPECT_H_
#define ENGINE_GRAPH_INSPECT_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/abi/kind.h"
#include "engine/graph/schema.h"

namespace engine::graph {

// `what` is empty (a list of all plugins and kinds), the id of a plugin, a kind, or KIND.option
// with further '.' for options inside of options. Fails on anything else, with the nearest name.
Status Inspect(const Schema& schema, std::string_view what, std::string* text);

// The same as Markdown: all plugins, one of them, or a kind.
Status InspectMarkdown(const Schema& schema, std::string_view what, std::string* text);

// File names and texts of the reference: a page for each plugin, and README.md with all kinds.
std::vector<std::pair<std::string, std::string>> ReferencePages(const Schema& schema);

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_INSPECT_H_
