// From one JSON object, of any shape that people keep data sets in, to one form: a text, a prompt
// with its completion, or a conversation. Whatever the text is, this answers with an example or
// with what is wrong and what would be right; the caller adds file and line.
#ifndef PLUGINS_DATA_EXAMPLES_H_
#define PLUGINS_DATA_EXAMPLES_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.hpp"

namespace engine::data {

enum class Shape { kText, kPromptCompletion, kMessages, kAlpaca, kShareGpt };

struct Message {
  std::string role;
  std::string json;     // as a chat format wants it: role, content and what else there is
  bool answer = false;  // the assistant's, and to be trained
};

struct Example {
  enum class Kind { kText, kPrompt, kChat };
  Kind kind = Kind::kText;
  std::string prompt;             // kPrompt
  std::string text;               // kText; kPrompt: the completion
  std::vector<Message> messages;  // kChat; begins, after system messages, with no assistant
  std::string tools;              // kChat: a JSON list, or empty
};

// Our names of fields to the file's.
class Columns {
 public:
  // Takes "ours=theirs".
  Status Add(std::string_view pair);
  const std::string& Of(const std::string& ours) const;

 private:
  std::map<std::string, std::string> theirs_;
};

// A longer conversation is refused: rendering it takes time that grows with the square.
inline constexpr size_t kMostMessages = 1024;
// Deeper JSON is refused before it is read: what copies and prints it calls itself.
inline constexpr int kDeepestJson = 64;

// Which shape an object has.
Status FindShape(std::string_view object, const Columns& columns, Shape* out);

Status ParseExample(std::string_view object, Shape shape, const Columns& columns, Example* out);

}  // namespace engine::data

#endif  // PLUGINS_DATA_EXAMPLES_H_
