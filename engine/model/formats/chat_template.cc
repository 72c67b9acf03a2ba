#include "engine/model/formats/chat_template.h"

#include "engine/model/formats/jinja_eval.h"
#include "engine/model/formats/jinja_parser.h"

namespace engine::model {
namespace {

constexpr size_t kMaxTemplate = size_t{1} << 20;

// Runs `body`, which may throw a TemplateError, and answers a status.
template <typename Body>
Status Caught(Body&& body) {
  return Status(Guard([&]() -> Status {
    try {
      body();
      return Status();
    } catch (const jinja::TemplateError& e) {
      return Error(ENGINE_INVALID_ARGUMENT, "chat template: ", e.what());
    }
  }));
}

}  // namespace

struct ChatTemplate::Parsed {
  jinja::Body body;
};

ChatTemplate::ChatTemplate() = default;
ChatTemplate::~ChatTemplate() = default;

Status ChatTemplate::Compile(const std::string& text, std::unique_ptr<ChatTemplate>* out) {
  if (text.size() > kMaxTemplate) {
    return Error(ENGINE_INVALID_ARGUMENT, "chat template: it has ", text.size(), " bytes; at most ",
                 kMaxTemplate, " are allowed");
  }
  return Caught([&] {
    std::unique_ptr<ChatTemplate> t(new ChatTemplate);
    t->parsed_ = std::make_unique<Parsed>(Parsed{jinja::Parse(text)});
    *out = std::move(t);
  });
}

Status ChatTemplate::Render(const nlohmann::ordered_json& messages,
                            const ChatTemplateOptions& options, std::string* out) const {
  if (!messages.is_array()) {
    return Error(ENGINE_INVALID_ARGUMENT, "chat template: messages must be an array, not ",
                 messages.type_name());
  }
  return Caught([&] {
    using jinja::Value;
    std::map<std::string, Value> globals = {
        {"messages", Value::FromJson(messages)},
        {"add_generation_prompt", Value::Bool(options.add_generation_prompt)},
        {"tools", Value::FromJson(options.tools)},
        {"documents", Value::None()}};
    if (!options.bos_token.empty()) globals["bos_token"] = Value::String(options.bos_token);
    if (!options.eos_token.empty()) globals["eos_token"] = Value::String(options.eos_token);
    if (options.extra.is_object()) {
      for (const auto& [key, v] : options.extra.items()) globals[key] = Value::FromJson(v);
    }
    *out = jinja::Evaluator(std::move(globals)).Render(parsed_->body);
  });
}

}  // namespace engine::model
