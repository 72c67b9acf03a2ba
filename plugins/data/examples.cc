#include "examples.h"

#include <algorithm>
#include <array>

#include "nlohmann/json.hpp"

namespace engine::data {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::string_view, 15> kNames = {
    "text",   "prompt",  "completion", "messages", "tools", "system", "instruction",  "input",
    "output", "history", "role",       "content",  "from",  "value",  "conversations"};

template <typename... Parts>
Status Bad(const Parts&... parts) {
  return Error(ENGINE_INVALID_ARGUMENT, parts...);
}

// A file's words in a message: short and without control characters, so that a hostile line can
// neither fill a log nor steer a terminal.
std::string Quote(std::string_view words) {
  std::string out = "'";
  for (const char c : words.substr(0, 64)) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  if (words.size() > 64) out += "...";
  return out += "'";
}

std::string TypeName(const Json& j) {
  switch (j.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "a list";
    case Json::value_t::string:
      return "a text";
    case Json::value_t::boolean:
      return "a truth value";
    default:
      return "a number";
  }
}

Status CheckDepth(std::string_view text) {
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepestJson) {
        return Bad("brackets within brackets more than ", kDeepestJson, " deep, at byte ", i + 1);
      }
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return Status();
}

Status ParseJson(std::string_view text, Json* out) {
  ENGINE_RETURN_IF_ERROR(CheckDepth(text));
  try {
    *out = Json::parse(text);
  } catch (const Json::parse_error& e) {
    // The library's words after its own prefix; its quotes of the input are cut off.
    std::string words = e.what();
    if (const size_t at = words.find("syntax error"); at != std::string::npos) words.erase(0, at);
    if (const size_t colon = words.find("; "); colon != std::string::npos) words.resize(colon);
    if (words.find("UTF-8") != std::string::npos) {
      return Bad("no UTF-8, at byte ", e.byte,
                 "; convert the file, as \"iconv -f LATIN1 -t UTF-8\" does");
    }
    return Bad("no JSON, at byte ", e.byte, ": ", words.substr(0, 160),
               "; an example is one whole JSON object");
  } catch (const Json::exception& e) {
    // Such as a number that is out of range.
    return Bad("no JSON: ", std::string_view(e.what()).substr(0, 160));
  }
  return Status();
}

Status ParseObject(std::string_view text, Json* out) {
  ENGINE_RETURN_IF_ERROR(ParseJson(text, out));
  if (out->is_object()) return Status();
  return Bad("an example is a JSON object, and this is ", TypeName(*out));
}

// Null where the object has no such field, or null in it.
const Json* Find(const Json& object, const Columns& columns, const std::string& ours) {
  const auto it = object.find(columns.Of(ours));
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

std::string FieldsOf(const Json& object) {
  std::string names;
  int count = 0;
  for (const auto& item : object.items()) {
    if (++count > 8) return names + ", ...";
    names += (count == 1 ? "" : ", ") + Quote(item.key());
  }
  return names.empty() ? "none" : names;
}

Status Missing(const Json& object, const Columns& columns, const std::string& ours) {
  return Bad("there is no ", Quote(columns.Of(ours)), "; the fields are ", FieldsOf(object),
             "; columns can name another one: \"", ours, "=...\"");
}

// A text that must be there; with `optional`, empty where it is not.
Status Text(const Json& object, const Columns& columns, const std::string& ours, bool optional,
            std::string* out) {
  out->clear();
  const Json* field = Find(object, columns, ours);
  if (field == nullptr) {
    return optional ? Status() : Missing(object, columns, ours);
  }
  if (!field->is_string()) {
    return Bad(Quote(columns.Of(ours)), " is ", TypeName(*field), "; it must be a text");
  }
  *out = field->get<std::string>();
  return Status();
}

class Conversation {
 public:
  explicit Conversation(Example* out) : out_(out) { out_->kind = Example::Kind::kChat; }

  Status Add(const std::string& role, Json message, bool train) {
    if (out_->messages.size() == kMostMessages) {
      return Bad("a conversation has at most ", kMostMessages, " messages");
    }
    static constexpr std::array<std::string_view, 6> kRoles = {
        "system", "developer", "user", "assistant", "tool", "function"};
    if (std::find(kRoles.begin(), kRoles.end(), role) == kRoles.end()) {
      return Bad(Here(), "the role ", Quote(role),
                 " is unknown; known are system, developer, user, assistant, tool, function");
    }
    const bool opening = role == "system" || role == "developer";
    if (!opening && !opened_ && role == "assistant") {
      return Bad(Here(),
                 "the conversation begins with the assistant; before its first answer there "
                 "must be a message of the user");
    }
    opened_ = opened_ || !opening;
    out_->messages.push_back({role, message.dump(), role == "assistant" && train});
    return Status();
  }
  Status Add(const std::string& role, const std::string& content) {
    return Add(role, Json{{"role", role}, {"content", content}}, true);
  }
  // Which message comes next, for messages of errors.
  std::string Here() const { return "message " + std::to_string(out_->messages.size() + 1) + ": "; }

 private:
  Example* out_;
  bool opened_ = false;  // something other than system messages came
};

// Content of several parts as one text.
Status JoinParts(const Json& parts, std::string* out) {
  for (const Json& part : parts) {
    if (part.is_string()) {
      *out += part.get<std::string>();
      continue;
    }
    const auto text = part.is_object() ? part.find("text") : part.end();
    if (!part.is_object() || text == part.end() || !text->is_string()) {
      return Bad("a part of the content is no text; only texts can be trained on");
    }
    *out += text->get<std::string>();
  }
  return Status();
}

// The roles of ShareGPT under the names that chat formats know.
std::string RoleOf(const std::string& from) {
  if (from == "human") return "user";
  if (from == "gpt" || from == "chatgpt" || from == "bot" || from == "model" ||
      from == "function_call") {
    return "assistant";
  }
  return from == "observation" ? "tool" : from;
}

// A call that an answer consists of, written as text, in the form of messages.
Status ToolCalls(const std::string& value, Json* calls) {
  Json parsed;
  ENGINE_RETURN_IF_ERROR(ParseJson(value, &parsed).Prefix("the function call is "));
  if (!parsed.is_array()) parsed = Json::array({parsed});
  *calls = Json::array();
  for (Json& call : parsed) {
    if (!call.is_object() || !call.contains("name") || !call["name"].is_string()) {
      return Bad("a function call is an object with \"name\" and \"arguments\"");
    }
    calls->push_back(Json{{"type", "function"}, {"function", std::move(call)}});
  }
  return Status();
}

Status AddMessage(const Json& m, const Columns& columns, Conversation* to) {
  if (!m.is_object()) return Bad("it is ", TypeName(m), "; a message is an object");
  const bool turns = Find(m, columns, "role") == nullptr && Find(m, columns, "from") != nullptr;
  const std::string role_key = turns ? "from" : "role", key = turns ? "value" : "content";
  std::string from, content;
  ENGINE_RETURN_IF_ERROR(Text(m, columns, role_key, false, &from));
  const std::string role = RoleOf(from);
  const Json* field = Find(m, columns, key);
  const bool calls = m.contains("tool_calls") && m["tool_calls"].is_array();
  if (field != nullptr && field->is_array()) {
    ENGINE_RETURN_IF_ERROR(JoinParts(*field, &content));
  } else {
    ENGINE_RETURN_IF_ERROR(Text(m, columns, key, calls, &content));
  }
  bool train = true;
  if (const auto weight = m.find("weight"); weight != m.end() && !weight->is_null()) {
    if (*weight != 0 && *weight != 1) return Bad("'weight' must be 0 or 1");
    train = *weight == 1;
  }
  Json message = {{"role", role}, {"content", content}};
  // Chat formats may tell an answer without content, which only calls, from one whose content is
  // empty. Null is as good as missing, as it is to transformers.
  if (calls && field == nullptr) message.erase("content");
  if (from == "function_call") {
    message["content"] = "";
    ENGINE_RETURN_IF_ERROR(ToolCalls(content, &message["tool_calls"]));
  }
  for (const auto& item : m.items()) {
    if (item.key() == columns.Of(role_key) || item.key() == columns.Of(key) ||
        item.key() == "weight" || item.value().is_null()) {
      continue;
    }
    message[item.key()] = item.value();
  }
  return to->Add(role, std::move(message), train);
}

// Tools as a list, or as the text of one.
Status ReadTools(const Json& object, const Columns& columns, std::string* out) {
  const Json* tools = Find(object, columns, "tools");
  if (tools == nullptr || (tools->is_string() && tools->get_ref<const std::string&>().empty())) {
    return Status();
  }
  Json parsed;
  if (tools->is_string()) {
    ENGINE_RETURN_IF_ERROR(
        ParseJson(tools->get_ref<const std::string&>(), &parsed).Prefix("'tools' is "));
    tools = &parsed;
  }
  if (!tools->is_array()) {
    return Bad("'tools' is ", TypeName(*tools), "; it must be a list, or a text that holds one");
  }
  if (!tools->empty()) *out = tools->dump();
  return Status();
}

Status Messages(const Json& object, const Columns& columns, const std::string& ours, Example* out) {
  Conversation to(out);
  std::string system;
  ENGINE_RETURN_IF_ERROR(Text(object, columns, "system", true, &system));
  if (!system.empty()) ENGINE_RETURN_IF_ERROR(to.Add("system", system));
  ENGINE_RETURN_IF_ERROR(ReadTools(object, columns, &out->tools));
  const Json* list = Find(object, columns, ours);
  if (list == nullptr) return Missing(object, columns, ours);
  if (!list->is_array() || list->empty()) {
    return Bad(Quote(columns.Of(ours)), " is ", list->is_array() ? "empty" : TypeName(*list),
               "; it must be a list of messages");
  }
  for (const Json& m : *list) {
    const std::string here = to.Here();
    Status status = AddMessage(m, columns, &to);
    if (!status.ok()) return status.message().starts_with(here) ? status : status.Prefix(here);
  }
  return Status();
}

Status Alpaca(const Json& object, const Columns& columns, Example* out) {
  std::string system, instruction, input, output;
  ENGINE_RETURN_IF_ERROR(Text(object, columns, "system", true, &system));
  ENGINE_RETURN_IF_ERROR(Text(object, columns, "instruction", false, &instruction));
  ENGINE_RETURN_IF_ERROR(Text(object, columns, "input", true, &input));
  ENGINE_RETURN_IF_ERROR(Text(object, columns, "output", false, &output));
  Conversation to(out);
  if (!system.empty()) ENGINE_RETURN_IF_ERROR(to.Add("system", system));
  if (const Json* history = Find(object, columns, "history"); history != nullptr) {
    if (!history->is_array()) return Bad("'history' is ", TypeName(*history), ", no list of pairs");
    for (const Json& pair : *history) {
      if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) {
        return Bad("'history' must be a list of pairs of texts: [[\"question\", \"answer\"], ...]");
      }
      ENGINE_RETURN_IF_ERROR(to.Add("user", pair[0].get<std::string>()));
      ENGINE_RETURN_IF_ERROR(to.Add("assistant", pair[1].get<std::string>()));
    }
  }
  ENGINE_RETURN_IF_ERROR(
      to.Add("user", input.empty() ? instruction
                                   : instruction + (instruction.empty() ? "" : "\n") + input));
  return to.Add("assistant", output);
}

Status PromptCompletion(const Json& object, const Columns& columns, Example* out) {
  const Json* prompt = Find(object, columns, "prompt");
  const Json* completion = Find(object, columns, "completion");
  if (prompt != nullptr && completion != nullptr && prompt->is_array() && completion->is_array()) {
    // Both as messages: a conversation in two parts, of which only the second is trained.
    Conversation to(out);
    ENGINE_RETURN_IF_ERROR(ReadTools(object, columns, &out->tools));
    for (const Json* part : {prompt, completion}) {
      for (const Json& m : *part) {
        const std::string here = to.Here();
        ENGINE_RETURN_IF_ERROR(AddMessage(m, columns, &to).Prefix(here));
        if (part == prompt) out->messages.back().answer = false;
      }
    }
    return Status();
  }
  out->kind = Example::Kind::kPrompt;
  ENGINE_RETURN_IF_ERROR(Text(object, columns, "prompt", false, &out->prompt));
  return Text(object, columns, "completion", false, &out->text);
}

}  // namespace

Status Columns::Add(std::string_view pair) {
  const size_t equals = pair.find('=');
  const std::string ours(pair.substr(0, equals));
  if (equals == std::string_view::npos || equals + 1 == pair.size()) {
    return Bad("columns: ", Quote(pair), " is no pair such as \"prompt=question\"");
  }
  if (std::find(kNames.begin(), kNames.end(), ours) == kNames.end()) {
    std::string known;
    for (const std::string_view name : kNames)
      known += (known.empty() ? "" : ", ") + std::string(name);
    return Bad("columns: ", Quote(ours), " is none of our names, which come first; they are ",
               known);
  }
  if (!theirs_.emplace(ours, pair.substr(equals + 1)).second) {
    return Bad("columns: ", Quote(ours), " is given twice");
  }
  return Status();
}

const std::string& Columns::Of(const std::string& ours) const {
  const auto it = theirs_.find(ours);
  return it == theirs_.end() ? ours : it->second;
}

Status FindShape(std::string_view text, const Columns& columns, Shape* out) {
  Json object;
  ENGINE_RETURN_IF_ERROR(ParseObject(text, &object));
  const auto has = [&](const char* ours) { return object.contains(columns.Of(ours)); };
  if (has("messages")) {
    *out = Shape::kMessages;
  } else if (has("conversations")) {
    *out = Shape::kShareGpt;
  } else if (has("prompt") && has("completion")) {
    *out = Shape::kPromptCompletion;
  } else if (has("instruction") && has("output")) {
    *out = Shape::kAlpaca;
  } else if (has("text")) {
    *out = Shape::kText;
  } else {
    return Bad("no known shape has the fields ", FieldsOf(object),
               "; known are text; prompt, completion; messages; instruction, output; "
               "conversations; columns can rename: \"prompt=question\"");
  }
  return Status();
}

Status ParseExample(std::string_view text, Shape shape, const Columns& columns, Example* out) {
  *out = {};
  Json object;
  ENGINE_RETURN_IF_ERROR(ParseObject(text, &object));
  switch (shape) {
    case Shape::kText:
      return Text(object, columns, "text", false, &out->text);
    case Shape::kPromptCompletion:
      return PromptCompletion(object, columns, out);
    case Shape::kMessages:
      return Messages(object, columns, "messages", out);
    case Shape::kAlpaca:
      return Alpaca(object, columns, out);
    case Shape::kShareGpt:
      return Messages(object, columns, "conversations", out);
  }
  return Error(ENGINE_INTERNAL, "an unknown shape");
}

}  // namespace engine::data
