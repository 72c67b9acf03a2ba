#include "engine/model/formats/chat_template.h"

#include <fstream>

#include "engine/model/formats/test_model.h"

namespace engine::model {
namespace {

using Json = nlohmann::ordered_json;

Status Render(const std::string& text, const Json& messages, std::string* out) {
  std::unique_ptr<ChatTemplate> compiled;
  ENGINE_RETURN_IF_ERROR(ChatTemplate::Compile(text, &compiled));
  ChatTemplateOptions options;
  options.bos_token = "<s>";
  options.eos_token = "</s>";
  return compiled->Render(messages, options, out);
}

Status Render(const std::string& text, const Json& messages = Json::array()) {
  std::string out;
  return Render(text, messages, &out);
}

std::string Rendered(const std::string& text, const Json& messages = Json::array()) {
  std::string out;
  const Status status = Render(text, messages, &out);
  EXPECT_TRUE(status.ok()) << status.message() << "\nin: " << text;
  return out;
}

// Written by tests/parity/make_chat_templates.py with Jinja itself.
TEST(ChatTemplate, TextEqualsJinjasForRealTemplates) {
  std::ifstream in(ENGINE_SOURCE_DIR "/tests/data/chat_templates.json");
  ASSERT_TRUE(in.good()) << "tests/data/chat_templates.json is missing";
  const Json all = Json::parse(in);
  size_t cases = 0;
  for (const Json& t : all) {
    std::unique_ptr<ChatTemplate> compiled;
    ASSERT_STATUS_OK(ChatTemplate::Compile(t["template"].get<std::string>(), &compiled));
    for (const Json& c : t["cases"]) {
      SCOPED_TRACE(t["name"].get<std::string>() + " case " + std::to_string(cases++));
      ChatTemplateOptions options;
      options.add_generation_prompt = c["add_generation_prompt"].get<bool>();
      options.bos_token = "<s>";
      options.eos_token = "</s>";
      options.tools = c["tools"];
      std::string text = "untouched";
      const Status status = compiled->Render(c["messages"], options, &text);
      if (c.contains("error")) {
        EXPECT_FALSE(status.ok()) << text;
        EXPECT_EQ(text, "untouched");
        continue;
      }
      EXPECT_TRUE(status.ok()) << status.message();
      EXPECT_EQ(text, c["text"].get<std::string>());
    }
  }
  EXPECT_GE(cases, 100u);
}

TEST(ChatTemplate, ErrorsNameTheLineAndTheCause) {
  const struct {
    const char *text, *words;
  } vectors[] = {
      {"{{", "a tag is not closed; '}}' is missing"},
      {"{% if x %}", "'{% endif %}' is missing"},
      {"a\n\n{% for x in %}", "line 3"},
      {"{% include 'x' %}", "the statement 'include' is not supported"},
      {"{% break %}", "'break' is not supported here"},
      {"{# never", "a comment is not closed"},
      {"{% raw %} x", "'raw' is not closed"},
      {"{{ 'abc }}", "a string is not closed"},
      {"{{ 1 + }}", "an expression is expected"},
      {"{{ a b }}", "'}}' is expected before 'b'"},
      {"{{ $ }}", "unexpected character '$'"},
      {"{{ 99999999999999999999 }}", "is too long"},
      {"{{ x.y.z }}", "'x' is undefined, so it has no 'y'"},
      {"{{ 'a' + 1 }}", "operator '+' does not work with a string and an integer"},
      {"{{ 'a' + x }}", "'x', which is undefined"},
      {"{{ 1 / 0 }}", "division by zero"},
      {"{{ 1 % 0 }}", "division by zero"},
      {"{{ 9223372036854775807 * 2 }}", "is too long"},
      {"{{ 922337203685477580 * 100 }}", "integer overflow"},
      {"{{ 3 ** 100 }}", "integer overflow"},
      {"{{ x() }}", "'x' is undefined and cannot be called"},
      {"{{ 'a'.format(1) }}", "a string has no method 'format'"},
      {"{{ 'a' | nope }}", "the filter 'nope' is not supported"},
      {"{{ 1 is nope }}", "the test 'nope' is not supported"},
      {"{{ 1 < 'a' }}", "cannot be ordered"},
      {"{% for x in 5 %}{% endfor %}", "cannot be iterated over"},
      {"{% set x.y = 1 %}", "only attributes of a namespace"},
      {"{{ raise_exception('go away') }}", "go away"},
      {"{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "takes at most 1"},
  };
  for (const auto& v : vectors) {
    SCOPED_TRACE(v.text);
    EXPECT_REFUSED(Render(v.text), v.words);
  }
  EXPECT_REFUSED(Render("x", Json::object()), "messages must be an array");
}

TEST(ChatTemplate, RunawayTemplatesAreStopped) {
  const std::string forever =
      "{% for a in range(100000) %}{% for b in range(100000) %}{{ b }}{% endfor %}{% endfor %}";
  EXPECT_REFUSED(Render(forever), "steps");
  EXPECT_REFUSED(Render("{{ range(1000000000) }}"), "a range has more than");
  EXPECT_REFUSED(Render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"), "calls too deeply");
  EXPECT_REFUSED(Render("{{ 'x' * 1000000000000 }}"), "steps");
  EXPECT_REFUSED(Render("{% set ns = namespace(s='xxxxxxxxxxxxxxxx') %}{% for i in range(60) %}"
                        "{% set ns.s = ns.s + ns.s %}{% endfor %}"),
                 "");
  EXPECT_REFUSED(Render("{{ " + std::string(50000, '(') + std::string(50000, ')') + " }}"),
                 "nested too deeply");
  EXPECT_REFUSED(Render("{{ " + std::string(50000, '-') + "1 }}"), "nested too deeply");
  EXPECT_REFUSED(Render("{{ " + std::string(50000, '[') + std::string(50000, ']') + " }}"),
                 "nested too deeply");
  std::string deep, sum = "{{ 1", nots = "{{ ";
  for (int k = 0; k < 20000; ++k) {
    deep += "{% if 1 %}";
    sum += "+1";
    nots += "not ";
  }
  EXPECT_REFUSED(Render(deep), "nested too deeply");
  EXPECT_REFUSED(Render(sum + " }}"), "too many operators");
  EXPECT_REFUSED(Render(nots + "1 }}"), "nested too deeply");
  EXPECT_REFUSED(Render(std::string(2 << 20, 'x')), "at most");
  Json nested = "x";
  for (int k = 0; k < 200; ++k) nested = Json::array({nested});
  EXPECT_REFUSED(Render("x", nested), "nested too deeply");
  // A namespace that holds itself.
  EXPECT_REFUSED(Render("{% set n = namespace() %}{% set n.n = n %}{{ n }}"), "nested too deeply");
}

TEST(ChatTemplate, ScopesAreThoseOfJinja) {
  EXPECT_EQ(Rendered("{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{% endfor %}{{ x }}"), "1");
  EXPECT_EQ(Rendered("{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}"), "2");
  EXPECT_EQ(Rendered("{% for i in [1] %}{% endfor %}{{ i is defined }}"), "False");
  EXPECT_EQ(Rendered("{% macro m(a, b='d') %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(b=2) }}"),
            "1d2");
  EXPECT_EQ(Rendered("{{ bos_token }}{{ tools is none }}{{ eos_token }}"), "<s>True</s>");
  EXPECT_EQ(Rendered("{{ 'a' if false }}|{{ strftime_now('%Y') | length }}"), "|4");
  EXPECT_EQ(Rendered("a\n"), "a");
  EXPECT_EQ(Rendered("  {%- if true -%}  x  {%- endif %}\n y"), "x y");
}

// Looking at the message before does not copy the conversation.
TEST(ChatTemplate, LongConversations) {
  Json messages = Json::array();
  for (int k = 0; k < 20000; ++k) messages.push_back({{"role", "user"}, {"content", "x"}});
  const std::string text = Rendered(
      "{% for m in messages %}{% if loop.first or messages[loop.index0 - 1].role == m.role %}"
      "{{ m.content }}{% endif %}{% endfor %}",
      messages);
  EXPECT_EQ(text, std::string(20000, 'x'));
}

// Every prefix of a template, and every template with a byte spoiled, is answered without a crash.
TEST(ChatTemplate, PrefixesAndSpoiledBytes) {
  std::ifstream in(ENGINE_SOURCE_DIR "/tests/data/chat_templates.json");
  const Json all = Json::parse(in);
  const Json& messages = all[0]["cases"][4]["messages"];
  for (const Json& t : all) {
    const auto text = t["template"].get<std::string>();
    for (size_t k = 0; k < text.size(); k += 3) {
      (void)Render(text.substr(0, k), messages);
      std::string spoiled = text;
      spoiled[k] = static_cast<char>("(|\xff%}'-0"[k % 8]);
      (void)Render(spoiled, messages);
    }
  }
}

}  // namespace
}  // namespace engine::model
