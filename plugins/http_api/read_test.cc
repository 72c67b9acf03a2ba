// Bytes to requests, and requests to what they ask for: the limits and the words of refusals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ask.h"
#include "http_message.h"
#include "json_read.h"
#include "keys.h"

namespace engine::http_api {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;
using State = HttpReader::State;

// --- JSON

std::string Problem(std::string_view text, const JsonLimits& limits = {}) {
  Json json;
  const Status status = ReadJson(text, limits, &json);
  return status.ok() ? "" : std::string(status.message());
}

TEST(ReadJson, TakesWhatIsJsonInItsOrder) {
  Json json;
  ASSERT_TRUE(ReadJson(R"({"b": [1, -2, 2.5, null, true, "x"], "a": {"z": {}}})", {}, &json).ok());
  EXPECT_EQ(Line(json), R"({"b":[1,-2,2.5,null,true,"x"],"a":{"z":{}}})");
  for (const char* text : {"5", "\"x\"", "[]", "null"}) EXPECT_EQ(Problem(text), "") << text;
}

TEST(ReadJson, RefusesWithThePlace) {
  EXPECT_THAT(Problem(""), HasSubstr("empty"));
  EXPECT_THAT(Problem("{"), HasSubstr("byte 2"));
  EXPECT_THAT(Problem("{\"a\": NaN}"), HasSubstr("byte 7"));
  EXPECT_THAT(Problem("{\"a\": 1} x"), HasSubstr("byte"));
  EXPECT_THAT(Problem("\"\xff\""), HasSubstr("byte"));
  EXPECT_THAT(Problem("\"\\ud800\""), HasSubstr("byte"));
  EXPECT_THAT(Problem(R"({"a": 1, "b": 2, "a": 3})"), HasSubstr("\"a\" is there twice"));
}

TEST(ReadJson, BoundsWhatItBuilds) {
  EXPECT_THAT(Problem(std::string(100000, '[')), HasSubstr("nested more than 96 deep"));
  EXPECT_THAT(Problem("[1,2,3,4]", {.values = 4}), HasSubstr("more than 4 values"));
  EXPECT_EQ(Problem("[1,2,3]", {.values = 4}), "");
  EXPECT_THAT(Problem(R"({"a":1,"b":2})", {.members = 1}), HasSubstr("more than 1 members"));
  EXPECT_EQ(Problem("[[]]", {.depth = 2}), "");
  EXPECT_THAT(Problem("[[[]]]", {.depth = 2}), HasSubstr("2 deep"));
}

// --- HTTP

struct Read {
  State state = State::kMore;
  HttpRequest request;
  int status = 0;
  std::string problem;
};
// All at once, and byte by byte: the outcome must be the same.
Read ReadBytes(const std::string& bytes, uint32_t header = 4096, uint32_t body = 1000) {
  std::vector<Read> both;
  for (const size_t step : {bytes.size(), size_t{1}}) {
    HttpReader reader(header, body);
    Read read;
    for (size_t i = 0; i < bytes.size(); i += step) {
      read.state = reader.Feed(std::string_view(bytes).substr(i, step));
      while (read.state == State::kHead || read.state == State::kContinue) {
        read.state = reader.Feed({});
      }
      if (read.state == State::kDone || read.state == State::kBad) break;
    }
    read.status = reader.status();
    read.problem = reader.problem();
    if (read.state == State::kDone) read.request = reader.Take();
    both.push_back(std::move(read));
  }
  EXPECT_EQ(both[0].state, both[1].state) << bytes.substr(0, 200);
  EXPECT_EQ(both[0].status, both[1].status) << both[0].problem << " / " << both[1].problem;
  EXPECT_EQ(both[0].request.body, both[1].request.body);
  return both[0];
}

TEST(HttpReader, TakesARequestApart) {
  const Read read = ReadBytes(
      "POST /v1/a%20b?x=1 HTTP/1.1\r\nHost: h\r\nX-Session-ID: s\r\nContent-Length: 3\r\n\r\nabc");
  ASSERT_EQ(read.state, State::kDone);
  EXPECT_EQ(read.request.method, "POST");
  EXPECT_EQ(read.request.path, "/v1/a b");
  EXPECT_EQ(read.request.query, "x=1");
  EXPECT_EQ(read.request.body, "abc");
  EXPECT_EQ(read.request.Header("x-session-id"), "s");
  EXPECT_TRUE(read.request.keep_alive);
  EXPECT_FALSE(read.request.old);
}

TEST(HttpReader, ChunksAndOldRequests) {
  Read read = ReadBytes(
      "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
      "chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  ASSERT_EQ(read.state, State::kDone);
  EXPECT_EQ(read.request.body, "abcde");
  read = ReadBytes("GET http://other/health HTTP/1.0\r\n\r\n");
  ASSERT_EQ(read.state, State::kDone);
  EXPECT_EQ(read.request.path, "/health");
  EXPECT_TRUE(read.request.old);
  EXPECT_FALSE(read.request.keep_alive);
}

TEST(HttpReader, RequestsFollowOneAnother) {
  HttpReader reader(4096, 1000);
  const std::string one = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi";
  ASSERT_EQ(reader.Feed(one + one + "GET /b"), State::kDone);
  EXPECT_EQ(reader.Take().body, "hi");
  ASSERT_EQ(reader.Feed({}), State::kDone);
  EXPECT_EQ(reader.Take().body, "hi");
  EXPECT_EQ(reader.Feed({}), State::kMore);
  EXPECT_TRUE(reader.begun());
  ASSERT_EQ(reader.Feed(" HTTP/1.1\r\nHost: h\r\n\r\n"), State::kDone);
  EXPECT_EQ(reader.Take().path, "/b");
  EXPECT_FALSE(reader.begun());
}

TEST(HttpReader, SaysToGoOnOnce) {
  HttpReader reader(4096, 1000);
  EXPECT_EQ(reader.Feed(
                "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"),
            State::kHead);
  EXPECT_EQ(reader.expected(), 2u);
  EXPECT_EQ(reader.head().path, "/");
  EXPECT_EQ(reader.Feed({}), State::kContinue);
  EXPECT_EQ(reader.Feed("a"), State::kMore);
  EXPECT_EQ(reader.Feed("b"), State::kDone);
}

TEST(HttpReader, RefusesWhatHasTwoMeanings) {
  const auto bad = [](const std::string& bytes, int status) {
    const Read read = ReadBytes(bytes);
    EXPECT_EQ(read.state, State::kBad) << bytes.substr(0, 100);
    EXPECT_EQ(read.status, status) << bytes.substr(0, 100) << ": " << read.problem;
  };
  bad("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: "
      "chunked\r\n\r\n0\r\n\r\n",
      400);
  bad("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400);
  bad("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -3\r\n\r\n", 400);
  bad("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400);
  bad("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n", 413);
  bad("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400);
  bad("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", 413);
  bad("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" +
          std::string(1001, 'x'),
      413);
  bad("GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(5000, 'a') + "\r\n\r\n", 431);
  bad("GET /" + std::string(5000, 'a') + " HTTP/1.1\r\nHost: h\r\n\r\n", 431);
  bad("GET / HTTP/9.9\r\n\r\n", 400);
  bad("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 no HTTP at all\r\n\r\n", 400);
  bad("GET / HTTP/1.1\r\nHost: h\r\nA B: c\r\n\r\n", 400);
  bad("GET / HTTP/1.1\r\nX: y\r\n\r\n", 400);  // no Host
  bad("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400);
  bad("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
  const std::string chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  bad(chunked + "5;" + std::string(8000, 'a'), 400);  // a line that does not end
  bad(chunked + "0\r\nX: " + std::string(8000, 'a'), 400);
  bad("POST / HTTP/1.1\r\nHost: h\r\nExpect: miracles\r\nContent-Length: 2\r\n\r\nab", 417);
}

TEST(HttpReader, TrailersAreNoHeaders) {
  const Read read = ReadBytes(
      "\r\n\r\nPOST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
      "Authorization: Bearer x\r\nX-Session-ID: s\r\n\r\n");
  ASSERT_EQ(read.state, State::kDone);
  EXPECT_EQ(read.request.body, "a");
  EXPECT_EQ(read.request.Header("authorization"), "");
  EXPECT_EQ(read.request.Header("x-session-id"), "");
}

TEST(HttpReader, PathsDoNotClimb) {
  for (const char* path : {"/v1/../admin", "/%2e%2e/x", "/a/./b", "/%zz", "/a%00b", "/%2"}) {
    const Read read = ReadBytes(std::string("GET ") + path + " HTTP/1.1\r\nHost: h\r\n\r\n");
    ASSERT_EQ(read.state, State::kDone) << path;
    EXPECT_EQ(read.request.path, "") << path;
  }
  EXPECT_EQ(ReadBytes("GET //v1//chat HTTP/1.1\r\nHost: h\r\n\r\n").request.path, "//v1//chat");
}

TEST(HttpResponse, HeadsHoldNoForeignLineEnds) {
  const std::string head = ResponseHead(200, "text/plain", 3, true, {{"X", "a\r\nSet-Cookie: b"}});
  EXPECT_THAT(head, HasSubstr("X: aSet-Cookie: b\r\n"));
  std::string chunked;
  AppendChunk("0123456789abcdefg", &chunked);
  AppendChunk("", &chunked);
  EXPECT_EQ(chunked, "11\r\n0123456789abcdefg\r\n");
}

// --- Keys

TEST(Keys, AreFoundInAnyOfTheirForms) {
  Keys keys;
  ASSERT_TRUE(keys.Read("secret-key-1", "").ok());
  EXPECT_EQ(keys.Find("Bearer secret-key-1", ""), 0);
  EXPECT_EQ(keys.Find("bearer secret-key-1", ""), 0);
  EXPECT_EQ(keys.Find("", "secret-key-1"), 0);
  EXPECT_EQ(keys.Find("Basic bWU6c2VjcmV0LWtleS0x", ""), 0);  // me:secret-key-1
  for (const char* wrong : {"", "Bearer", "Bearer ", "Bearer secret-key-", "Bearer secret-key-12",
                            "Bearer SECRET-KEY-1", "Basic !!!!", "Basic bWU="}) {
    EXPECT_EQ(keys.Find(wrong, ""), -1) << wrong;
  }
  Keys none;
  EXPECT_EQ(none.Find("", ""), 0);
  EXPECT_FALSE(none.needed());
  EXPECT_THAT(std::string(Keys().Read("short", "").message()), HasSubstr("8 to 512"));
  EXPECT_THAT(std::string(Keys().Read("with a space", "").message()), HasSubstr("no header"));
}

// --- What is asked

AskLimits Limits() {
  AskLimits limits;
  limits.vocab = 1000;
  limits.context = 100;
  return limits;
}
AskRead Parse(Style style, const std::string& text) {
  Json json;
  const Status status = ReadJson(text, {}, &json);
  EXPECT_TRUE(status.ok()) << status.message() << text;
  return ReadAsk(style, json, Limits());
}

TEST(Ask, ReadsAChat) {
  const AskRead read = Parse(Style::kChat, R"({
    "model": "m", "messages": [
      {"role": "developer", "content": "Be kind."},
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
    "max_completion_tokens": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "n": 2, "seed": -4,
    "stop": ["x", "yy"], "logit_bias": {"12": -100, "13": 5.5}, "presence_penalty": 1,
    "frequency_penalty": -1, "repetition_penalty": 1.2, "min_p": 0.1, "typical_p": 0.8,
    "logprobs": true, "top_logprobs": 3, "stream": true, "stream_options": {"include_usage": true},
    "unknown_field": {"is": "ignored"}, "user": null})");
  ASSERT_FALSE(read.refusal.set()) << read.refusal.message;
  const Ask& ask = read.ask;
  EXPECT_EQ(ask.prompts[0].text,
            R"([{"role":"system","content":"Be kind."},{"role":"user","content":"ab"}])");
  EXPECT_EQ(ask.max_tokens, 7u);
  EXPECT_EQ(ask.n, 2u);
  EXPECT_TRUE(read.has_seed);
  EXPECT_EQ(ask.sampling.seed, static_cast<uint64_t>(-4));
  EXPECT_THAT(ask.stops, ElementsAre("x", "yy"));
  EXPECT_THAT(ask.bias_ids, ElementsAre(12, 13));
  EXPECT_LT(ask.bias_values[0], -1e8f);
  EXPECT_EQ(ask.sampling.logprobs, 4u);
  EXPECT_TRUE(ask.stream && ask.include_usage);
  EXPECT_EQ(ask.sampling.flags, ENGINE_SAMPLING_OWN_DRAWS);
}

TEST(Ask, ReadsPromptsInAllTheirForms) {
  const auto count = [](const std::string& prompt) {
    const AskRead read = Parse(Style::kCompletion, R"({"prompt": )" + prompt + "}");
    EXPECT_FALSE(read.refusal.set()) << read.refusal.message;
    return read.ask.prompts.size();
  };
  EXPECT_EQ(count(R"("a")"), 1u);
  EXPECT_EQ(count(R"(["a", "b"])"), 2u);
  EXPECT_EQ(count("[1, 2, 3]"), 1u);
  EXPECT_EQ(count("[[1], [2, 3]]"), 2u);
  EXPECT_EQ(Parse(Style::kCompletion, R"({"prompt": "a"})").ask.max_tokens, 16u);
  EXPECT_EQ(Parse(Style::kCompletion, R"({"prompt": "a", "max_tokens": 5.0})").ask.max_tokens, 5u);
  const AskRead scored =
      Parse(Style::kCompletion, R"({"prompt": "a", "max_tokens": 0, "echo": true, "logprobs": 1})");
  EXPECT_TRUE(scored.ask.no_answer);
}

TEST(Ask, ReadsForms) {
  const auto form = [](const std::string& rest) {
    const AskRead read =
        Parse(Style::kChat, R"({"messages": [{"role": "user", "content": "x"}], )" + rest + "}");
    return read.refusal.set() ? "! " + read.refusal.message
                              : std::to_string(read.ask.form) + " " + read.ask.form_text;
  };
  EXPECT_EQ(form(R"("response_format": {"type": "text"})"), "0 ");
  EXPECT_EQ(form(R"("response_format": {"type": "json_object"})"), "1 ");
  EXPECT_EQ(form(R"("response_format": {"type": "json_schema", "json_schema": {"name": "n",
                 "schema": {"type": "object"}}})"),
            "2 {\"type\":\"object\"}");
  EXPECT_EQ(form(R"("guided_regex": "[0-9]+")"), "3 [0-9]+");
  EXPECT_EQ(form(R"("structured_outputs": {"json": {"type": "string"}})"),
            "2 {\"type\":\"string\"}");
  EXPECT_THAT(form(R"("response_format": {"type": "sound"})"), HasSubstr("json_schema or regex"));
  EXPECT_THAT(form(R"("response_format": {"type": "json_schema"})"), HasSubstr("must be there"));
  EXPECT_THAT(form(R"("response_format": {"type": "json_schema", "json_schema": {"schema": 123}})"),
              HasSubstr("must be a JSON schema, and is a number"));
  EXPECT_THAT(form(R"("response_format": 5)"), HasSubstr("must be an object"));
}

// The words of refusals, which name the field and what would work.
TEST(Ask, RefusesFields) {
  struct Case {
    const char* rest;
    const char* param;
    const char* words;
  };
  const Case cases[] = {
      {R"("max_tokens": -1)", "max_tokens", "from 1 to"},
      {R"("max_tokens": 0)", "max_tokens", "from 1 to"},
      {R"("max_tokens": 1.5)", "max_tokens", "whole number, and is 1.5"},
      {R"("max_tokens": "10")", "max_tokens", "whole number, and is a text"},
      {R"("max_tokens": true)", "max_tokens", "whole number, and is true or false"},
      {R"("max_tokens": 18446744073709551616)", "max_tokens", "whole number"},
      {R"("n": 0)", "n", "from 1 to 8"},
      {R"("n": 1000000)", "n", "from 1 to 8"},
      {R"("temperature": -1)", "temperature", "from 0 to 2"},
      {R"("temperature": 1e308)", "temperature", "from 0 to 2"},
      {R"("temperature": "0")", "temperature", "must be a number, and is a text"},
      {R"("top_p": 0)", "top_p", "above 0"},
      {R"("top_p": 1.1)", "top_p", "from 0 to 1"},
      {R"("top_k": -2)", "top_k", "from -1"},
      {R"("min_p": 2)", "min_p", "from 0 to 1"},
      {R"("presence_penalty": 1e9)", "presence_penalty", "from -2 to 2"},
      {R"("seed": 1.5)", "seed", "whole number"},
      {R"("seed": 18446744073709551616)", "seed", "whole number"},
      {R"("stop": "")", "stop", "empty text"},
      {R"("stop": [""])", "stop", "empty text"},
      {R"("stop": [null])", "stop", "holds null"},
      {R"("stop": {})", "stop", "and holds an object"},
      {R"("logprobs": -1)", "logprobs", "true or false"},
      {R"("top_logprobs": 3)", "top_logprobs", "needs logprobs"},
      {R"("logprobs": true, "top_logprobs": 1000000000)", "top_logprobs", "from 0 to 20"},
      {R"("logit_bias": {"abc": 1})", "logit_bias", "\"abc\", which is no token id"},
      {R"("logit_bias": {"-1": 100})", "logit_bias", "no token id"},
      {R"("logit_bias": {"99999999": 1})", "logit_bias", "0 to 999"},
      {R"("logit_bias": {"1": 1e9})", "logit_bias", "from -100 to 100"},
      {R"("logit_bias": {"1": 1, "01": 2})", "logit_bias", "token 1 twice"},
      {R"("stream": "yes")", "stream", "true or false, and is a text"},
      {R"("stream_options": {"include_usage": true})", "stream_options", "needs stream: true"},
      {R"("tools": {})", "tools", "must be a list"},
      {R"("tools": [{"type": "function", "function": {"name": ""}}])", "tools[0].function.name",
       "letters"},
      {R"("tools": [{"type": "function", "function": {"name": "a"}},
          {"type": "function", "function": {"name": "a"}}])",
       "tools[1].function.name", "as of a tool before"},
      {R"("tools": [{"type": "function", "function": {"name": "a"}}],
          "tool_choice": {"type": "function", "function": {"name": "b"}})",
       "tool_choice", "name of a tool that is there"},
      {R"("tool_choice": "required")", "tool_choice", "there are no tools"},
      {R"("tool_choice": "sometimes")", "tool_choice", "none, auto, required"},
  };
  for (const Case& c : cases) {
    const AskRead read =
        Parse(Style::kChat,
              std::string(R"({"messages": [{"role": "user", "content": "x"}], )") + c.rest + "}");
    EXPECT_EQ(read.refusal.status, 400) << c.rest;
    EXPECT_EQ(read.refusal.param, c.param) << c.rest << read.refusal.message;
    EXPECT_THAT(read.refusal.message, HasSubstr(c.words)) << c.rest;
  }
}

TEST(Ask, RefusesMessages) {
  struct Case {
    const char* messages;
    const char* words;
  };
  const Case cases[] = {
      {"null", "at least one message"},
      {R"("string")", "and is a text"},
      {"[]", "at least one message"},
      {"[123]", "'messages[0]' must be an object, and is a number"},
      {"[{}]", "'messages[0].role' must be a text"},
      {R"([{"role": 123}])", "role' must be a text"},
      {R"([{"role": "king", "content": "x"}])", "\"king\"; it can be system"},
      {R"([{"role": "user"}])", "content' must be there"},
      {R"([{"role": "user", "content": 123}])", "and is a number"},
      {R"([{"role": "user", "content": [{"type": "image_url"}]}])", "reads text alone"},
      {R"([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
          {"role": "assistant", "content": "c"}])",
       "as the one before it"},
      {R"([{"role": "assistant", "tool_calls": [5]}])", "holds what is no {\"id\""},
      {R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}])",
       "no JSON object"},
  };
  for (const Case& c : cases) {
    const AskRead read = Parse(Style::kChat, std::string(R"({"messages": )") + c.messages + "}");
    EXPECT_EQ(read.refusal.status, 400) << c.messages;
    EXPECT_THAT(read.refusal.message, HasSubstr(c.words)) << c.messages;
  }
  Json many = Json::array();
  for (int i = 0; i < 5000; ++i) many.push_back({{"role", "user"}, {"content", "x"}});
  EXPECT_THAT(Parse(Style::kChat, Line({{"messages", many}})).refusal.message,
              HasSubstr("at most 4096"));
}

TEST(Ask, RefusesPrompts) {
  struct Case {
    const char* prompt;
    const char* words;
  };
  const Case cases[] = {
      {"[]", "is empty"},
      {"[[]]", "is empty"},
      {"[-1]", "no token id"},
      {"[1000]", "0 to 999"},
      {"[1099511627776]", "no token id"},
      {R"([1, "a"])", "mixed"},
      {R"(["a", 1])", "mixed"},
      {R"([[1], "a"])", "mixed"},
      {"[1.5]", "mixed"},
      {R"("")", "is empty"},
      {"{}", "and is an object"},
      {"null", "must be there"},
  };
  for (const Case& c : cases) {
    const AskRead read = Parse(Style::kCompletion, std::string(R"({"prompt": )") + c.prompt + "}");
    EXPECT_EQ(read.refusal.status, 400) << c.prompt;
    EXPECT_THAT(read.refusal.message, HasSubstr(c.words)) << c.prompt;
  }
  Json ids = Json::array();
  for (int i = 0; i < 100; ++i) ids.push_back(1);
  EXPECT_THAT(Parse(Style::kCompletion, Line({{"prompt", ids}})).refusal.message,
              HasSubstr("has 100 tokens; the context of the model holds 100"));
  Json texts = Json::array();
  for (int i = 0; i < 65; ++i) texts.push_back("x");
  EXPECT_THAT(Parse(Style::kCompletion, Line({{"prompt", texts}})).refusal.message,
              HasSubstr("at most 64"));
}

}  // namespace
}  // namespace engine::http_api
