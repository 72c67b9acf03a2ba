// Turns a conversation into the text that a model was trained on, by the model's own template.
// The language is the part of Jinja that chat templates use; the text is that of transformers'
// apply_chat_template. What is not supported is an error that names it, with the line.
#ifndef ENGINE_MODEL_FORMATS_CHAT_TEMPLATE_H_
#define ENGINE_MODEL_FORMATS_CHAT_TEMPLATE_H_

#include <memory>
#include <string>

#include "engine/status.hpp"
#include "nlohmann/json.hpp"

namespace engine::model {

struct ChatTemplateOptions {
  bool add_generation_prompt = true;
  std::string bos_token, eos_token;
  nlohmann::ordered_json tools;  // null: none
  nlohmann::ordered_json extra;  // an object of further variables, or null
};

class ChatTemplate {
 public:
  static Status Compile(const std::string& text, std::unique_ptr<ChatTemplate>* out);
  ~ChatTemplate();

  // `messages` is an array of objects, usually with "role" and "content". *out is replaced, and
  // left alone on error. Steps, depth and bytes are limited. [any thread]
  Status Render(const nlohmann::ordered_json& messages, const ChatTemplateOptions& options,
                std::string* out) const;

 private:
  ChatTemplate();
  struct Parsed;
  std::unique_ptr<Parsed> parsed_;
};

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_CHAT_TEMPLATE_H_
