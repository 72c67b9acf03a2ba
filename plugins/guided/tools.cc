// Calls of tools, as syntax trees.
#include "tools.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "schema.h"

namespace engine::guided {
namespace {

constexpr std::string_view kOpen = "<tool_call>", kClose = "</tool_call>";
constexpr size_t kLongestName = 64;
constexpr uint32_t kLeading = 8;  // white space in front of a first block

bool IsName(const std::string& name) {
  return !name.empty() && name.size() <= kLongestName &&
         name.find_first_not_of(
             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") ==
             std::string::npos;
}

Status Bad(std::string_view where, std::string_view why) {
  return Error(ENGINE_INVALID_ARGUMENT, "tools: ", where, ": ", why);
}

// Texts that do not begin with `kOpen` behind white space.
Node FreeText(Grammar* grammar) {
  const CodeSet space{{'\t', '\n'}, {'\r', '\r'}, {' ', ' '}};
  Graph graph;
  const uint32_t begin = graph.Add(true), free = graph.Add(true);
  graph.Join(begin, grammar->Class(space), begin);
  graph.Join(free, grammar->Class(CodeSet::All()), free);
  uint32_t at = begin;
  for (size_t i = 0; i < kOpen.size(); ++i) {
    const CodeSet next = CodeSet::Of(static_cast<uint8_t>(kOpen[i]));
    graph.Join(at, grammar->Class((i == 0 ? next.Or(space) : next).Not()), free);
    if (i + 1 == kOpen.size()) break;
    const uint32_t to = graph.Add(true);
    graph.Join(at, grammar->Class(next), to);
    at = to;
  }
  return grammar->Of(std::move(graph));
}

struct Tool {
  std::string name;
  const Json* parameters = nullptr;
  std::string at;
};

// One block. Names share their beginnings, so that many tools are as few places to look at.
Status Block(const std::vector<Tool>& tools, JsonForms* forms, Node* node) {
  Grammar* grammar = forms->grammar();
  static const Json anything = {{"type", "object"}, {"properties", Json::object()}};
  Graph graph;
  const uint32_t begin = graph.Add(), end = graph.Add(true), names = graph.Add();
  const std::string opening = std::string(kOpen) + "\n{\"name\": \"";
  graph.Join(begin, grammar->Text(opening), names);
  std::map<std::pair<uint32_t, char>, uint32_t> next;
  const Node tail = grammar->Text("}\n" + std::string(kClose));
  for (const Tool& tool : tools) {
    uint32_t at = names;
    for (const char c : tool.name) {
      const auto [it, fresh] = next.try_emplace({at, c}, 0);
      if (fresh) {
        it->second = graph.Add();
        graph.Join(at, grammar->Text(std::string_view(&c, 1)), it->second);
      }
      at = it->second;
    }
    Node arguments = 0;
    const SchemaRequest request = {tool.parameters == nullptr ? &anything : tool.parameters,
                                   nullptr, tool.at, true};
    Status status = SchemaNode(request, forms, &arguments);
    if (!status.ok()) return status.Prefix("tool '" + tool.name + "': ");
    graph.Join(at, grammar->Sequence({grammar->Text("\", \"arguments\": "), arguments, tail}), end);
  }
  *node = grammar->Of(std::move(graph));
  return grammar->status();
}

Status ReadTools(const Json& request, std::vector<Tool>* tools) {
  const auto list = request.find("tools");
  if (list == request.end() || !list->is_array() || list->empty()) {
    return Bad("\"tools\"", "it must be a list of at least one tool");
  }
  std::map<std::string, size_t> seen;
  for (const Json& each : *list) {
    const std::string at = "tools/" + std::to_string(tools->size());
    if (!each.is_object()) return Bad(at, "it must be an object with a name and parameters");
    const auto name = each.find("name");
    if (name == each.end() || !name->is_string() || !IsName(name->get_ref<const std::string&>())) {
      return Bad(at + "/name", "it must be 1 to 64 letters, digits and signs of \"_.-\"");
    }
    Tool tool;
    tool.name = name->get<std::string>();
    tool.at = "#/" + at + "/parameters";
    const auto [it, fresh] = seen.try_emplace(tool.name, tools->size());
    if (!fresh) {
      return Bad(at + "/name", "'" + tool.name + "' is the name of tools/" +
                                   std::to_string(it->second) + " already");
    }
    if (const auto found = each.find("parameters"); found != each.end() && !found->is_null()) {
      tool.parameters = &*found;
    }
    tools->push_back(std::move(tool));
  }
  return Status();
}

}  // namespace

Status ToolsNode(std::string_view text, Grammar* grammar, Node* node) {
  *node = grammar->Nothing();
  Json request;
  // Schemas stand three brackets deep in it.
  Limits limits = grammar->limits();
  limits.text_depth += 3;
  ENGINE_RETURN_IF_ERROR(ParseJson(text, "the list of tools", limits, &request));
  if (!request.is_object()) return Bad("the request", "it must be an object with \"tools\"");
  std::vector<Tool> tools;
  ENGINE_RETURN_IF_ERROR(ReadTools(request, &tools));
  const Json mode = request.value("mode", Json("auto"));
  if (mode != "auto" && mode != "required" && mode != "named") {
    return Bad("\"mode\"", "it must be \"auto\", \"required\" or \"named\"");
  }
  const Json parallel = request.value("parallel", Json(false));
  if (!parallel.is_boolean()) return Bad("\"parallel\"", "it must be true or false");
  if (mode == "named") {
    const auto name = request.find("name");
    if (name == request.end() || !name->is_string()) {
      return Bad("\"name\"", "with mode \"named\" it must be the name of a tool");
    }
    const std::string& wanted = name->get_ref<const std::string&>();
    std::erase_if(tools, [&](const Tool& tool) { return tool.name != wanted; });
    if (tools.empty()) {
      return Bad("\"name\"", "no tool is called '" + (IsName(wanted) ? wanted : "?") +
                                 "'; it must be one of \"tools\"");
    }
  }
  JsonForms forms(grammar);
  Node block = 0;
  ENGINE_RETURN_IF_ERROR(Block(tools, &forms, &block));
  Node blocks = block;
  if (parallel.get<bool>()) {
    Graph graph;
    const uint32_t before = graph.Add(), after = graph.Add(true);
    graph.Join(before, block, after);
    graph.Join(after, grammar->Optional(grammar->Text("\n")), before);
    blocks = grammar->Of(std::move(graph));
  }
  if (mode == "auto") {
    const CodeSet space{{'\t', '\n'}, {'\r', '\r'}, {' ', ' '}};
    const Node leading = grammar->Repeat(grammar->Class(space), 0, kLeading);
    blocks = grammar->Either({grammar->Sequence({leading, blocks}), FreeText(grammar)});
  }
  *node = blocks;
  return grammar->status();
}

}  // namespace engine::guided
