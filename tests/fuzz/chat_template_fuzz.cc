// Chat templates come with a model: any of them ends, within its limits.
#include "engine/model/formats/chat_template.h"

using namespace engine::model;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::unique_ptr<ChatTemplate> made;
  if (!ChatTemplate::Compile(std::string(reinterpret_cast<const char*>(data), size), &made).ok()) {
    return 0;
  }
  static const auto messages = nlohmann::ordered_json::parse(
      R"([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"},
          {"role": "assistant", "content": "Hello", "tool_calls": [{"name": "f", "arguments": {}}]},
          {"role": "user", "content": "A\nB"}])");
  std::string out;
  engine::Status ignored = made->Render(messages, {.bos_token = "<s>", .eos_token = "</s>"}, &out);
  return 0;
}
