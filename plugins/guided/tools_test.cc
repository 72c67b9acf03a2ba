#include "tools.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "test_forms.h"

namespace engine::guided {
namespace {

using testing::HasSubstr;

std::string Request(const std::string& rest) {
  return R"({"tools":[{"name":"get_weather","description":"x","parameters":{"type":"object",
      "properties":{"city":{"type":"string"},"days":{"$ref":"#/$defs/d"}},"required":["city"],
      "$defs":{"d":{"type":"integer","minimum":1,"maximum":9}}}},{"name":"get"}])" +
         rest + "}";
}

std::string Call(const std::string& name, const std::string& arguments) {
  return "<tool_call>\n{\"name\": \"" + name + "\", \"arguments\": " + arguments +
         "}\n</tool_call>";
}

const std::string kWeather = Call("get_weather", "{\"city\": \"Rome\", \"days\": 3}");
const std::string kGet = Call("get", "{}");

TEST(Tools, Required) {
  const std::string one = Request(R"(,"mode":"required")");
  EXPECT_TRUE(Fits(Kind::kTools, one, kWeather));
  EXPECT_TRUE(Fits(Kind::kTools, one, kGet));
  EXPECT_FALSE(Fits(Kind::kTools, one, kGet + kGet));
  EXPECT_FALSE(Fits(Kind::kTools, one, ""));
  EXPECT_FALSE(Begins(Kind::kTools, one, "Hello"));
  EXPECT_FALSE(Begins(Kind::kTools, one, Call("get_w", "{}")));
  EXPECT_FALSE(Begins(Kind::kTools, one, Call("get", "{\"a\":1}")));
  EXPECT_FALSE(Fits(Kind::kTools, one, Call("get_weather", "{\"city\":\"\",\"days\":10}")));
  const std::string several = Request(R"(,"mode":"required","parallel":true)");
  EXPECT_TRUE(Fits(Kind::kTools, several, kGet + kWeather + "\n" + kGet));
  EXPECT_FALSE(Fits(Kind::kTools, several, kGet + "\n"));
  EXPECT_FALSE(Begins(Kind::kTools, several, kGet + "\n\n"));
}

TEST(Tools, Named) {
  const std::string one = Request(R"(,"mode":"named","name":"get")");
  EXPECT_TRUE(Fits(Kind::kTools, one, kGet));
  EXPECT_FALSE(Begins(Kind::kTools, one, kWeather));
}

TEST(Tools, Auto) {
  const std::string any = Request("");
  EXPECT_TRUE(Fits(Kind::kTools, any, kGet));
  EXPECT_TRUE(Fits(Kind::kTools, any, "\n " + kWeather));
  for (const char* text : {"", "Hello \xf0\x9f\x98\x80\n", " <tool", "<b>x</b>", "<tool_calls>",
                           "say <tool_call>", "\n\n"}) {
    EXPECT_TRUE(Fits(Kind::kTools, any, text)) << text;
  }
  EXPECT_FALSE(Fits(Kind::kTools, any, "<tool_call>"));
  EXPECT_FALSE(Begins(Kind::kTools, any, "<tool_call> x"));
  EXPECT_FALSE(Begins(Kind::kTools, any, "                    <tool_call>"));
  EXPECT_FALSE(Begins(Kind::kTools, any, kGet + " and"));
  EXPECT_FALSE(Fits(Kind::kTools, any, "\xc3"));
  EXPECT_TRUE(Begins(Kind::kTools, any, "\xc3"));
}

TEST(Tools, ArgumentsParse) {
  std::shared_ptr<Guide> guide;
  ASSERT_TRUE(Guide::Compile(Kind::kTools, Request(R"(,"mode":"required")"), TestVocabulary(),
                             {kEndToken}, TestLimits(), &guide)
                  .ok());
  std::mt19937 random(3);
  for (uint64_t i = 0; i < 200; ++i) {
    std::string text, problem;
    ASSERT_TRUE(RandomOutput(guide.get(), *TestVocabulary(), i, &random, &text, &problem))
        << problem;
    const size_t begin = text.find('\n') + 1, end = text.rfind('\n');
    const auto call = nlohmann::json::parse(text.substr(begin, end - begin), nullptr, false);
    ASSERT_TRUE(call.is_object()) << text;
    EXPECT_TRUE(call["name"] == "get" || call["arguments"]["city"].is_string()) << text;
  }
}

TEST(Tools, Refusals) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "the list of tools is not JSON"},
      {"5", "tools: the request: it must be an object"},
      {"{}", "tools: \"tools\": it must be a list of at least one tool"},
      {R"({"tools":[]})", "it must be a list of at least one tool"},
      {R"({"tools":[5]})", "tools: tools/0: it must be an object"},
      {R"({"tools":[{}]})", "tools: tools/0/name: it must be 1 to 64 letters"},
      {R"({"tools":[{"name":""}]})", "tools: tools/0/name: it must be 1 to 64 letters"},
      {R"({"tools":[{"name":"a b"}]})", "tools: tools/0/name"},
      {"{\"tools\":[{\"name\":\"" + std::string(65, 'a') + "\"}]}", "tools: tools/0/name"},
      {R"({"tools":[{"name":"a"},{"name":"a"}]})",
       "tools: tools/1/name: 'a' is the name of tools/0"},
      {R"({"tools":[{"name":"a"}],"mode":"any"})", "tools: \"mode\": it must be"},
      {R"({"tools":[{"name":"a"}],"mode":5})", "tools: \"mode\": it must be"},
      {R"({"tools":[{"name":"a"}],"mode":"named"})", "tools: \"name\": with mode"},
      {R"({"tools":[{"name":"a"}],"mode":"named","name":"b"})", "no tool is called 'b'"},
      {R"({"tools":[{"name":"a"}],"parallel":1})", "tools: \"parallel\": it must be true or false"},
      {R"({"tools":[{"name":"a","parameters":{"type":"string"}}]})",
       "tool 'a': no value is valid under the schema"},
      {R"({"tools":[{"name":"a","parameters":{"properties":{"x":{"not":{}}}}}]})",
       "tool 'a': schema at '#/tools/0/parameters/properties/x': not"},
      {R"({"tools":[{"name":"a","parameters":5}]})", "5 is no schema"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_THAT(RefusalOf(Kind::kTools, text), HasSubstr(message)) << text;
    EXPECT_EQ(CodeOf(Kind::kTools, text), ENGINE_INVALID_ARGUMENT) << text;
  }
}

}  // namespace
}  // namespace engine::guided
