#include "tools.h"

#include <algorithm>
#include <set>

#include "fields.h"

namespace engine::http_api {
namespace {

constexpr std::string_view kOpen = "<tool_call>", kClose = "</tool_call>";
constexpr size_t kMostTools = 128, kMostMessages = 4096, kMostNameBytes = 64;

bool IsName(std::string_view name) {
  return !name.empty() && name.size() <= kMostNameBytes &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '_' || c == '-' || c == '.';
         });
}

bool Fail(Refusal* refusal, std::string param, std::string message) {
  if (!refusal->set()) {
    refusal->status = 400;
    refusal->param = std::move(param);
    refusal->message = std::move(message);
  }
  return false;
}

// A content as one text; parts that are no text cannot be taken.
bool ReadContent(const Json& content, const std::string& where, std::string* out,
                 Refusal* refusal) {
  if (content.is_string()) {
    *out = content.get<std::string>();
    return true;
  }
  if (!content.is_array()) {
    return Fail(refusal, where,
                "'" + where + "' must be a text or a list of parts, and is " + TypeName(content));
  }
  for (const Json& part : content) {
    const bool text = part.is_object() && part.value("type", Json()) == "text" &&
                      part.contains("text") && part["text"].is_string();
    if (!text) {
      return Fail(refusal, where,
                  "'" + where +
                      "' holds a part that is no {\"type\": \"text\", \"text\": ...}: "
                      "the model reads text alone");
    }
    *out += part["text"].get_ref<const std::string&>();
  }
  return true;
}

std::string CallText(const std::string& name, const std::string& arguments) {
  return std::string(kOpen) + "\n{\"name\": " + Quoted(name) + ", \"arguments\": " + arguments +
         "}\n" + std::string(kClose);
}

// The calls that an assistant's message of the past holds, as the text that they were.
bool ReadCalls(const Json& calls, const std::string& where, bool template_has_tools, Json* message,
               Refusal* refusal) {
  if (!calls.is_array()) {
    return Fail(refusal, where, "'" + where + "' must be a list, and is " + TypeName(calls));
  }
  std::string text;
  Json parsed = calls;  // with arguments as templates take them
  for (size_t i = 0; i < calls.size(); ++i) {
    const Json& call = calls[i];
    const bool good =
        call.is_object() && call.contains("function") && call["function"].is_object() &&
        call["function"].contains("name") && call["function"]["name"].is_string() &&
        call["function"].contains("arguments") && call["function"]["arguments"].is_string();
    if (!good) {
      return Fail(refusal, where,
                  "'" + where +
                      "' holds what is no {\"id\", \"type\": \"function\", \"function\": "
                      "{\"name\", \"arguments\"}}");
    }
    const auto& function = call["function"];
    Json arguments;
    const auto& words = function["arguments"].get_ref<const std::string&>();
    const Status status = ReadJson(words.empty() ? "{}" : words, {}, &arguments);
    if (!status.ok() || !arguments.is_object()) {
      return Fail(refusal, where, "'" + where + "' holds arguments that are no JSON object");
    }
    parsed[i]["function"]["arguments"] = arguments;
    if (!text.empty()) text += "\n";
    text += CallText(function["name"].get<std::string>(), Line(arguments));
  }
  if (template_has_tools) {
    (*message)["tool_calls"] = std::move(parsed);
    return true;
  }
  std::string& content = (*message)["content"].get_ref<std::string&>();
  if (!content.empty() && !text.empty()) content += "\n";
  content += text;
  return true;
}

// What the model is told of the tools where its template has no words for them.
std::string Offer(const Json& tools) {
  std::string text =
      "You may call functions to help with the user's request. Their signatures, in "
      "<tools></tools>:"
      "\n<tools>\n";
  for (const Json& tool : tools) text += Line(tool["function"]) + "\n";
  return text +
         "</tools>\nTo call one, answer with its name and arguments as JSON in these tags:\n"
         "<tool_call>\n{\"name\": <function-name>, \"arguments\": <arguments>}\n</tool_call>";
}

}  // namespace

ToolsRead ReadTools(const Json& body, Refusal* refusal) {
  ToolsRead read;
  Fields fields(body, refusal);
  const Json* tools = fields.Find("tools");
  const Json* choice = fields.Find("tool_choice");
  bool parallel = true;
  fields.Flag("parallel_tool_calls", &parallel);
  if (!fields.ok()) return read;
  Json offered = Json::array();
  std::set<std::string> names;
  if (tools != nullptr) {
    if (!tools->is_array()) {
      fields.Fail("tools", "must be a list, and is ", TypeName(*tools));
      return read;
    }
    if (tools->size() > kMostTools) {
      fields.Fail("tools", "holds ", tools->size(), " tools; at most ", kMostTools, " are taken");
      return read;
    }
    for (size_t i = 0; i < tools->size(); ++i) {
      const Json& tool = (*tools)[i];
      const std::string at = "tools[" + std::to_string(i) + "]";
      const bool function = tool.is_object() && tool.value("type", Json()) == "function" &&
                            tool.contains("function") && tool["function"].is_object();
      if (!function) {
        fields.Fail(at, "must be {\"type\": \"function\", \"function\": {\"name\", ...}}");
        return read;
      }
      const Json& f = tool["function"];
      const std::string name =
          f.contains("name") && f["name"].is_string() ? f["name"].get<std::string>() : "";
      if (!IsName(name)) {
        fields.Fail(at + ".function.name", "must be 1 to ", kMostNameBytes,
                    " letters, digits, '_', '-' or '.'");
        return read;
      }
      if (!names.insert(name).second) {
        fields.Fail(at + ".function.name", "is ", Quoted(name), ", as of a tool before");
        return read;
      }
      if (f.contains("parameters") && !f["parameters"].is_object()) {
        fields.Fail(at + ".function.parameters", "must be a JSON schema, and is ",
                    TypeName(f["parameters"]));
        return read;
      }
      offered.push_back(tool);
    }
  }
  std::string mode = offered.empty() ? "none" : "auto", named;
  if (choice != nullptr && choice->is_string()) {
    mode = choice->get<std::string>();
    if (mode != "none" && mode != "auto" && mode != "required") {
      fields.Fail("tool_choice", "is ", Quoted(mode.substr(0, 64)),
                  "; it can be none, auto, required or an object that names a function");
      return read;
    }
    if (mode == "auto" && offered.empty()) mode = "none";
    if (mode == "required" && offered.empty()) {
      fields.Fail("tool_choice", "is required, but there are no tools");
      return read;
    }
  } else if (choice != nullptr) {
    mode = "named";
    if (choice->is_object() && choice->contains("function") && (*choice)["function"].is_object()) {
      named = (*choice)["function"].value("name", Json("")).is_string()
                  ? (*choice)["function"].value("name", "")
                  : "";
    }
    if (names.count(named) == 0) {
      fields.Fail("tool_choice",
                  "must be none, auto, required or {\"type\": \"function\", "
                  "\"function\": {\"name\": ...}} with the name of a tool that is there");
      return read;
    }
  }
  if (mode == "none") return read;
  read.any = true;
  read.offered = offered;
  Json form = {{"tools", Json::array()}, {"mode", mode}, {"parallel", parallel}};
  if (mode == "named") form["name"] = named;
  for (const Json& tool : offered) {
    const Json& f = tool["function"];
    form["tools"].push_back(
        {{"name", f["name"]},
         {"parameters", f.contains("parameters") ? f["parameters"] : Json{{"type", "object"}}}});
  }
  read.form = Line(form);
  return read;
}

bool ReadMessages(const Json& value, bool template_has_tools, const Json& tools, Json* out,
                  Refusal* refusal) {
  if (!value.is_array() || value.empty()) {
    return Fail(refusal, "messages",
                std::string("'messages' must be a list of at least one message") +
                    (value.is_array() ? "" : std::string(", and is ") + TypeName(value)));
  }
  if (value.size() > kMostMessages) {
    return Fail(refusal, "messages",
                "'messages' holds " + std::to_string(value.size()) + " messages; at most " +
                    std::to_string(kMostMessages) + " are taken");
  }
  *out = Json::array();
  std::string last_role;
  for (size_t i = 0; i < value.size(); ++i) {
    const Json& message = value[i];
    const std::string at = "messages[" + std::to_string(i) + "]";
    if (!message.is_object()) {
      return Fail(refusal, at, "'" + at + "' must be an object, and is " + TypeName(message));
    }
    if (!message.contains("role") || !message["role"].is_string()) {
      return Fail(refusal, at + ".role", "'" + at + ".role' must be a text");
    }
    std::string role = message["role"].get<std::string>();
    static const std::set<std::string> kRoles = {"system",    "developer", "user",
                                                 "assistant", "tool",      "function"};
    if (kRoles.count(role) == 0) {
      return Fail(refusal, at + ".role",
                  "'" + at + ".role' is " + Quoted(role.substr(0, 64)) +
                      "; it can be system, developer, user, assistant or tool");
    }
    const bool calls = role == "assistant" && message.contains("tool_calls") &&
                       !message["tool_calls"].is_null() && !message["tool_calls"].empty();
    std::string content;
    if (message.contains("content") && !message["content"].is_null()) {
      if (!ReadContent(message["content"], at + ".content", &content, refusal)) return false;
    } else if (!calls) {
      return Fail(refusal, at + ".content", "'" + at + ".content' must be there");
    }
    if (role == "assistant" && last_role == "assistant") {
      return Fail(refusal, at + ".role",
                  "'" + at +
                      "' is an assistant's, as the one before it; answers alternate with "
                      "messages of the user or of tools");
    }
    last_role = role;
    if (role == "developer") role = "system";
    if (role == "function") role = "tool";
    Json plain = {{"role", role}, {"content", content}};
    if (calls && !ReadCalls(message["tool_calls"], at + ".tool_calls", template_has_tools, &plain,
                            refusal)) {
      return false;
    }
    if (role == "tool" && !template_has_tools) {
      plain = {{"role", "user"}, {"content", "<tool_response>\n" + content + "\n</tool_response>"}};
    }
    out->push_back(std::move(plain));
  }
  if (!tools.empty() && !template_has_tools) {
    if ((*out)[0]["role"] == "system") {
      std::string& first = (*out)[0]["content"].get_ref<std::string&>();
      first += (first.empty() ? "" : "\n\n") + Offer(tools);
    } else {
      out->insert(out->begin(), Json{{"role", "system"}, {"content", Offer(tools)}});
    }
  }
  return true;
}

void ToolReader::Add(std::string_view text, bool last, std::string* plain,
                     std::vector<ToolCall>* calls) {
  held_ += text;
  for (;;) {
    if (!in_call_) {
      const size_t open = held_.find(kOpen);
      size_t free = open;
      if (open == std::string::npos) {
        // The end may begin a tag.
        free = held_.size();
        for (size_t n = std::min(held_.size(), kOpen.size() - 1); n > 0 && !last; --n) {
          if (std::string_view(held_).substr(held_.size() - n) == kOpen.substr(0, n)) {
            free -= n;
            break;
          }
        }
      }
      const std::string_view words = std::string_view(held_).substr(0, free);
      // Whitespace around calls belongs to their form; whether there will be one, the rest tells.
      const bool blank = words.find_first_not_of(" \n\r\t") == std::string_view::npos;
      if (blank && open == std::string::npos && !last) return;
      if (!blank || (open == std::string::npos && !called_)) plain->append(words);
      held_.erase(0, free);
      if (open == std::string::npos) return;
      held_.erase(0, kOpen.size());
      in_call_ = true;
    }
    const size_t close = held_.find(kClose);
    if (close == std::string::npos && !last) return;
    const std::string body = held_.substr(0, close);
    Json call;
    const Status status = ReadJson(body, {}, &call);
    const bool good = status.ok() && call.is_object() && call.contains("name") &&
                      call["name"].is_string() && call.contains("arguments");
    if (good) {
      called_ = true;
      const Json& arguments = call["arguments"];
      calls->push_back({call["name"].get<std::string>(),
                        arguments.is_string() ? arguments.get<std::string>() : Line(arguments)});
    } else {
      // Cut off, or no call after all: it is said as it stands.
      plain->append(kOpen).append(body);
      if (close != std::string::npos) plain->append(kClose);
    }
    held_.erase(0, close == std::string::npos ? held_.size() : close + kClose.size());
    in_call_ = false;
    if (held_.empty()) return;
  }
}

}  // namespace engine::http_api
