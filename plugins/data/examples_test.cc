// Shapes in, conversations out; and what is said of lines that are none. Conversations are compared
// as text: messages one a line, answers that count marked by a star.
#include "examples.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace engine::data {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Show(const Example& e) {
  switch (e.kind) {
    case Example::Kind::kText:
      return "text " + e.text;
    case Example::Kind::kPrompt:
      return "prompt " + e.prompt + " -> " + e.text;
    case Example::Kind::kChat:
      break;
  }
  std::string out;
  for (const Message& m : e.messages) out += (m.answer ? "*" : "") + m.json + "\n";
  return out + (e.tools.empty() ? "" : "tools " + e.tools + "\n");
}

Columns Renamed(const std::vector<std::string>& pairs) {
  Columns columns;
  for (const std::string& pair : pairs) EXPECT_TRUE(columns.Add(pair).ok()) << pair;
  return columns;
}

std::string Read(std::string_view text, const std::vector<std::string>& columns = {}) {
  const Columns c = Renamed(columns);
  Shape shape = Shape::kText;
  Example e;
  Status status = FindShape(text, c, &shape);
  if (status.ok()) status = ParseExample(text, shape, c, &e);
  return status.ok() ? Show(e) : "error " + std::string(status.message());
}

std::string ReadAs(std::string_view text, Shape shape) {
  Example e;
  const Status status = ParseExample(text, shape, Columns(), &e);
  return status.ok() ? Show(e) : "error " + std::string(status.message());
}

TEST(Examples, TextAndPrompt) {
  EXPECT_EQ(Read(R"({"text": "a\nb"})"), "text a\nb");
  EXPECT_EQ(Read(R"({"prompt": "2+2=", "completion": "4", "id": 7})"), "prompt 2+2= -> 4");
}

TEST(Examples, Messages) {
  EXPECT_EQ(Read(R"({"messages": [{"role": "system", "content": "S"},
                    {"content": "Q", "role": "user"}, {"role": "assistant", "content": "A"}]})"),
            "{\"role\":\"system\",\"content\":\"S\"}\n"
            "{\"role\":\"user\",\"content\":\"Q\"}\n"
            "*{\"role\":\"assistant\",\"content\":\"A\"}\n");
}

TEST(Examples, WeightZeroIsNotTrainedAndPartsAreJoined) {
  EXPECT_EQ(Read(R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "Q"}, "R"]},
                    {"role": "assistant", "content": "A", "weight": 0},
                    {"role": "assistant", "content": "B", "weight": 1}]})"),
            "{\"role\":\"user\",\"content\":\"QR\"}\n"
            "{\"role\":\"assistant\",\"content\":\"A\"}\n"
            "*{\"role\":\"assistant\",\"content\":\"B\"}\n");
}

TEST(Examples, ToolCallsNeedNoContentAndToolsAreHandedOn) {
  EXPECT_EQ(Read(R"({"tools": [{"type": "function"}], "messages": [{"role": "user", "content": "Q"},
                    {"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]},
                    {"role": "assistant", "tool_calls": [{"id": "2"}]},
                    {"role": "tool", "content": "R", "name": "f"}]})"),
            "{\"role\":\"user\",\"content\":\"Q\"}\n"
            "*{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\"}]}\n"
            "*{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"2\"}]}\n"
            "{\"role\":\"tool\",\"content\":\"R\",\"name\":\"f\"}\n"
            "tools [{\"type\":\"function\"}]\n");
}

TEST(Examples, AlpacaWithInputAndHistory) {
  EXPECT_EQ(Read(R"({"instruction": "Add.", "input": "1 2", "output": "3", "system": "S",
                     "history": [["q", "a"]]})"),
            "{\"role\":\"system\",\"content\":\"S\"}\n"
            "{\"role\":\"user\",\"content\":\"q\"}\n"
            "*{\"role\":\"assistant\",\"content\":\"a\"}\n"
            "{\"role\":\"user\",\"content\":\"Add.\\n1 2\"}\n"
            "*{\"role\":\"assistant\",\"content\":\"3\"}\n");
  EXPECT_THAT(Read(R"({"instruction": "Hi", "input": "", "output": "Ho"})"),
              HasSubstr("\"content\":\"Hi\""));
}

TEST(Examples, ShareGptWithACall) {
  EXPECT_EQ(Read(R"({"system": "S", "tools": "[{\"name\": \"f\"}]", "conversations": [
               {"from": "human", "value": "Q"},
               {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},
               {"from": "observation", "value": "R"}, {"from": "gpt", "value": "A"}]})"),
            "{\"role\":\"system\",\"content\":\"S\"}\n"
            "{\"role\":\"user\",\"content\":\"Q\"}\n"
            "*{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"type\":\"function\","
            "\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1}}}]}\n"
            "{\"role\":\"tool\",\"content\":\"R\"}\n"
            "*{\"role\":\"assistant\",\"content\":\"A\"}\n"
            "tools [{\"name\":\"f\"}]\n");
}

TEST(Examples, PromptAndCompletionAsMessagesTrainTheSecond) {
  EXPECT_EQ(Read(R"({"prompt": [{"role": "user", "content": "Q"}, {"role": "assistant",
                     "content": "A"}, {"role": "user", "content": "R"}],
                     "completion": [{"role": "assistant", "content": "B"}]})"),
            "{\"role\":\"user\",\"content\":\"Q\"}\n"
            "{\"role\":\"assistant\",\"content\":\"A\"}\n"
            "{\"role\":\"user\",\"content\":\"R\"}\n"
            "*{\"role\":\"assistant\",\"content\":\"B\"}\n");
}

TEST(Examples, ColumnsRename) {
  EXPECT_EQ(Read(R"({"question": "Q", "answer": "A"})", {"prompt=question", "completion=answer"}),
            "prompt Q -> A");
  EXPECT_EQ(Read(R"({"dialog": [{"speaker": "user", "says": "Q"}]})",
                 {"messages=dialog", "role=speaker", "content=says"}),
            "{\"role\":\"user\",\"content\":\"Q\"}\n");
  Columns c;
  EXPECT_THAT(std::string(c.Add("prompt").message()), HasSubstr("no pair"));
  EXPECT_THAT(std::string(c.Add("promt=q").message()),
              AllOf(HasSubstr("'promt' is none of our names"), HasSubstr("completion")));
  EXPECT_TRUE(c.Add("prompt=q").ok());
  EXPECT_THAT(std::string(c.Add("prompt=r").message()), HasSubstr("given twice"));
}

TEST(Examples, WhatIsNoExampleIsNamed) {
  EXPECT_THAT(Read("{\"text\": \"a"), HasSubstr("error no JSON, at byte"));
  EXPECT_THAT(Read("{\"text\": \"\xff\"}"),
              AllOf(HasSubstr("error no UTF-8, at byte 11"), HasSubstr("convert the file")));
  EXPECT_THAT(Read("{\"text\": \"a\"} x"), HasSubstr("error no JSON, at byte"));
  EXPECT_EQ(Read("[1]"), "error an example is a JSON object, and this is a list");
  EXPECT_THAT(Read("{\"a\": 1, \"b\": 2}"),
              AllOf(HasSubstr("no known shape has the fields 'a', 'b'"), HasSubstr("columns")));
  EXPECT_EQ(Read("{\"text\": 5}"), "error 'text' is a number; it must be a text");
  EXPECT_THAT(ReadAs("{\"prompt\": \"a\"}", Shape::kPromptCompletion),
              AllOf(HasSubstr("there is no 'completion'; the fields are 'prompt'"),
                    HasSubstr("\"completion=...\"")));
  EXPECT_THAT(ReadAs("{}", Shape::kText), HasSubstr("the fields are none"));
}

TEST(Examples, WhatIsNoConversationIsNamed) {
  const auto chat = [](const std::string& list) { return Read("{\"messages\": " + list + "}"); };
  EXPECT_EQ(chat("5"), "error 'messages' is a number; it must be a list of messages");
  EXPECT_EQ(chat("[]"), "error 'messages' is empty; it must be a list of messages");
  EXPECT_EQ(chat("[5]"), "error message 1: it is a number; a message is an object");
  EXPECT_THAT(chat(R"([{"role": "user", "content": "Q"}, {"role": "boss", "content": "A"}])"),
              HasSubstr("error message 2: the role 'boss' is unknown; known are system"));
  EXPECT_THAT(
      chat(R"([{"role": "system", "content": "S"}, {"role": "assistant", "content": "A"}])"),
      HasSubstr("error message 2: the conversation begins with the assistant"));
  EXPECT_THAT(chat(R"([{"role": "user"}])"), HasSubstr("error message 1: there is no 'content'"));
  EXPECT_THAT(chat(R"([{"role": "user", "content": [{"type": "image"}]}])"),
              HasSubstr("only texts can be trained on"));
  EXPECT_THAT(chat(R"([{"role": "user", "content": "Q", "weight": 0.5}])"),
              HasSubstr("'weight' must be 0 or 1"));
  EXPECT_THAT(Read(R"({"instruction": "a", "output": "b", "history": [["q"]]})"),
              HasSubstr("'history' must be a list of pairs"));
  EXPECT_THAT(Read(R"({"conversations": [{"from": "human", "value": "Q"},
                                         {"from": "function_call", "value": "f of 1"
}]
})"),
              HasSubstr("error message 2: the function call is no JSON"));
}

TEST(Examples, LimitsComeBeforeTheWork) {
  std::string deep = "{\"text\": ";
  deep.append(200000, '[');
  EXPECT_THAT(Read(deep), HasSubstr("more than 64 deep, at byte 73"));
  // Brackets inside of texts are no depth.
  EXPECT_THAT(Read("{\"text\": \"\\\"" + std::string(100, '[') + "\"}"), HasSubstr("text \"[["));
  std::string many = "{\"messages\": [";
  for (int i = 0; i < 1025; ++i) {
    many += std::string(i == 0 ? "" : ",") + R"({"role": "user", "content": ""})";
  }
  EXPECT_THAT(Read(many + "]}"), HasSubstr("at most 1024 messages"));
  EXPECT_LT(Read("{\"" + std::string(100000, 'k') + "\": 1}").size(), 400u);
}

}  // namespace
}  // namespace engine::data
