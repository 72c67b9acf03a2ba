// Answers as they grow: stops that straddle pieces, calls of tools, and the shapes that clients
// pin.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "choice.h"
#include "generation.h"
#include "sessions.h"
#include "tools.h"

namespace engine::http_api {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

Piece Say(const std::string& text, engine_finish finish = ENGINE_FINISH_NONE) {
  Piece piece;
  piece.id = 5;
  piece.text = text;
  piece.finish = finish;
  piece.usage.struct_size = sizeof piece.usage;
  piece.usage.prompt_tokens = 3;
  return piece;
}

// What is given out, piece by piece, for a text that comes in pieces.
struct Given {
  std::string text;
  bool enough = false;
  const char* reason = nullptr;
};
Given Feed(const std::vector<std::string>& pieces, const std::vector<std::string>& stops) {
  Ask ask;
  ask.stops = stops;
  Choice choice;
  Given given;
  for (size_t i = 0; i < pieces.size() && !choice.ended(); ++i) {
    Delta delta;
    given.enough |= choice.Add(
        Say(pieces[i], i + 1 == pieces.size() ? ENGINE_FINISH_LENGTH : ENGINE_FINISH_NONE), ask,
        &delta);
    given.text += delta.text;
  }
  EXPECT_EQ(given.text, choice.text());
  given.reason = choice.finish_reason();
  return given;
}

TEST(Choice, StopsAreCutWhereverThePiecesAre) {
  EXPECT_EQ(Feed({"ab", "cd", "ef"}, {"cde"}).text, "ab");
  EXPECT_EQ(Feed({"ab", "cd", "ef"}, {"cdx"}).text, "abcdef");
  EXPECT_EQ(Feed({"abcdef"}, {"ef", "cd"}).text, "ab");
  EXPECT_EQ(Feed({"a", "a", "a", "b"}, {"aab"}).text, "a");
  EXPECT_EQ(Feed({"stop"}, {"stop"}).text, "");
  const Given cut = Feed({"x", "STOP", "y"}, {"STOP"});
  EXPECT_TRUE(cut.enough);
  EXPECT_STREQ(cut.reason, "stop");
  // With the last piece there is nobody to tell.
  EXPECT_FALSE(Feed({"x", "STOP"}, {"STOP"}).enough);
}

// Against the plain definition, for random texts, cuts and stops.
TEST(Choice, AgreesWithSearchingTheWholeText) {
  std::mt19937 random(3);
  const auto word = [&](size_t most) {
    std::string s;
    for (size_t i = 0, n = 1 + random() % most; i < n; ++i) s += "ab"[random() % 2];
    return s;
  };
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> pieces, stops;
    std::string whole;
    for (size_t i = 0, n = 1 + random() % 8; i < n; ++i) {
      pieces.push_back(word(4));
      whole += pieces.back();
    }
    for (size_t i = 0, n = random() % 3; i < n; ++i) stops.push_back(word(5));
    // The stop that is complete first ends the text; of several, the one that begins first.
    std::string want = whole, so_far;
    for (const std::string& piece : pieces) {
      so_far += piece;
      size_t at = std::string::npos;
      for (const std::string& stop : stops) at = std::min(at, so_far.find(stop));
      if (at == std::string::npos) continue;
      want = so_far.substr(0, at);
      break;
    }
    ASSERT_EQ(Feed(pieces, stops).text, want) << round;
  }
}

TEST(ToolReader, FindsCallsInAnyPieces) {
  const std::string text =
      " <tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>\n"
      "<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call>\n";
  for (size_t step = 1; step <= text.size(); ++step) {
    ToolReader reader;
    std::string plain;
    std::vector<ToolCall> calls;
    for (size_t i = 0; i < text.size(); i += step) {
      reader.Add(text.substr(i, step), i + step >= text.size(), &plain, &calls);
    }
    ASSERT_THAT(calls, SizeIs(2)) << step;
    EXPECT_EQ(calls[0].name, "f");
    EXPECT_EQ(calls[0].arguments, "{\"a\":1}");
    EXPECT_EQ(calls[1].name, "g");
    EXPECT_EQ(plain, "") << step;
  }
}

TEST(ToolReader, PlainTextPassesWhole) {
  for (const std::string text : {"Hello <b>", "  x <tool", "<tool_call>{\"name\": 5}</tool_call>y",
                                 "<tool_call>{cut", " "}) {
    for (size_t step = 1; step <= text.size(); ++step) {
      ToolReader reader;
      std::string plain;
      std::vector<ToolCall> calls;
      for (size_t i = 0; i < text.size(); i += step) {
        reader.Add(text.substr(i, step), i + step >= text.size(), &plain, &calls);
      }
      EXPECT_EQ(plain, text) << step;
      EXPECT_TRUE(calls.empty());
    }
  }
}

// --- The shapes

struct Recorder : Exchange {
  using Exchange::Reply;
  int status = 0;
  std::string body;
  std::vector<std::string> events;
  std::vector<std::string> headers;
  bool ended = false;
  void Reply(int s, std::string_view, std::string b, const HttpHeaders& h) override {
    status = s;
    body = std::move(b);
    for (const auto& [name, value] : h) headers.push_back(std::string(name) + ": " + value);
  }
  void StartEvents(const HttpHeaders&) override { status = 200; }
  void Event(std::string_view data) override { events.emplace_back(data); }
  void Comment(std::string_view text) override { events.push_back(": " + std::string(text)); }
  void EndEvents() override { ended = true; }
};

struct Fixture {
  std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
  std::unique_ptr<Generation> generation;
  Generation::Wanted wanted;
  explicit Fixture(Ask ask) {
    if (ask.prompts.empty()) ask.prompts.resize(1);
    GenerationInfo info;
    info.id = "id-1";
    info.model = "m";
    info.fingerprint = "fp";
    info.created = 9;
    generation =
        std::make_unique<Generation>(std::make_shared<const Ask>(std::move(ask)), info, recorder);
  }
  void Add(Piece piece, size_t prompt = 0) {
    generation->OnPiece(prompt, std::move(piece), &wanted);
  }
};

TEST(Generation, StreamsAChatAsClientsPinIt) {
  Ask ask;
  ask.stream = ask.include_usage = true;
  Fixture f(ask);
  f.Add(Say("Hi"));
  f.Add(Say(" \"you\"\n", ENGINE_FINISH_STOP));
  const auto& events = f.recorder->events;
  ASSERT_THAT(events, SizeIs(6));
  EXPECT_EQ(events[0],
            R"({"id":"id-1","object":"chat.completion.chunk","created":9,"model":"m",)"
            R"("system_fingerprint":"fp","choices":[{"index":0,"delta":{"role":"assistant",)"
            R"("content":null},"logprobs":null,"finish_reason":null}],"usage":null})");
  const Json second = Json::parse(events[1]);
  EXPECT_EQ(second["choices"][0]["delta"], Json({{"content", "Hi"}}));
  EXPECT_EQ(Json::parse(events[2])["choices"][0]["delta"]["content"], " \"you\"\n");
  const Json last = Json::parse(events[3]);
  EXPECT_EQ(last["choices"][0]["delta"], Json::object());
  EXPECT_EQ(last["choices"][0]["finish_reason"], "stop");
  const Json usage = Json::parse(events[4]);
  EXPECT_EQ(usage["choices"], Json::array());
  EXPECT_EQ(usage["usage"]["prompt_tokens"], 3);
  EXPECT_EQ(usage["usage"]["completion_tokens"], 2);
  EXPECT_EQ(events[5], "[DONE]");
  EXPECT_TRUE(f.recorder->ended);
  EXPECT_TRUE(f.generation->done());
}

TEST(Generation, AFailureBeforeTheFirstTokenHasItsStatus) {
  for (const bool stream : {false, true}) {
    Ask ask;
    ask.stream = stream;
    Fixture f(ask);
    Piece piece = Say("", ENGINE_FINISH_ERROR);
    piece.id = -1;
    piece.code = ENGINE_RESOURCE_EXHAUSTED;
    piece.error = "the queue is full";
    piece.retry_after_us = 1'500'000;
    f.Add(std::move(piece));
    EXPECT_EQ(f.recorder->status, 429);
    EXPECT_THAT(f.recorder->body, HasSubstr("\"code\":429"));
    EXPECT_THAT(f.recorder->headers, ElementsAre("Retry-After: 2", "Retry-After-Ms: 1500"));
    EXPECT_TRUE(f.wanted.cancel_all);
  }
}

TEST(Generation, AFailureWithinAStreamIsToldThere) {
  Ask ask;
  ask.stream = true;
  Fixture f(ask);
  f.Add(Say("Hi"));
  Piece piece = Say("", ENGINE_FINISH_ERROR);
  piece.code = ENGINE_DATA_LOSS;
  piece.error = "a NaN";
  f.Add(std::move(piece));
  const auto& events = f.recorder->events;
  EXPECT_EQ(Json::parse(events[events.size() - 2])["error"]["code"], 500);
  EXPECT_EQ(events.back(), "[DONE]");
}

TEST(Generation, WaitsForAllChoicesAndPrompts) {
  Ask ask;
  ask.style = Style::kCompletion;
  ask.n = 2;
  ask.prompts.resize(2);
  Fixture f(ask);
  int said = 0;
  for (const size_t prompt : {1, 0}) {
    for (const uint32_t choice : {1u, 0u}) {
      EXPECT_EQ(f.recorder->status, 0);
      Piece piece = Say("text" + std::to_string(prompt * 2 + choice), ENGINE_FINISH_LENGTH);
      piece.choice = choice;
      f.Add(std::move(piece), prompt);
      ++said;
    }
  }
  const Json body = Json::parse(f.recorder->body);
  ASSERT_THAT(body["choices"], SizeIs(4));
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(body["choices"][i]["index"], i);
    EXPECT_EQ(body["choices"][i]["text"], "text" + std::to_string(i));
    EXPECT_EQ(body["choices"][i]["finish_reason"], "length");
  }
  EXPECT_EQ(body["usage"]["prompt_tokens"], 6);
  EXPECT_EQ(body["usage"]["completion_tokens"], said);
}

TEST(Generation, AStopStringEndsTheChoiceAndTellsTheEngine) {
  Ask ask;
  ask.stops = {"END"};
  Fixture f(ask);
  f.Add(Say("abc E"));
  f.Add(Say("ND def"));
  EXPECT_THAT(f.wanted.enough, ElementsAre(std::make_pair(size_t{0}, 0u)));
  EXPECT_FALSE(f.generation->done());  // its usage comes with the engine's own end
  f.Add(Say("", ENGINE_FINISH_STOP));
  EXPECT_TRUE(f.generation->done());
  const Json body = Json::parse(f.recorder->body);
  EXPECT_EQ(body["choices"][0]["message"]["content"], "abc ");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
}

TEST(Generation, CallsOfToolsBecomeToolCalls) {
  for (const bool stream : {false, true}) {
    Ask ask;
    ask.calls_tools = true;
    ask.stream = stream;
    Fixture f(ask);
    f.Add(Say("<tool_call>\n{\"name\": \"f\", \"arg"));
    f.Add(Say("uments\": {\"x\": \"y\"}}\n</tool_call>", ENGINE_FINISH_STOP));
    Json call;
    if (stream) {
      const Json event = Json::parse(f.recorder->events[1]);
      call = event["choices"][0]["delta"]["tool_calls"][0];
      EXPECT_EQ(call["index"], 0);
      EXPECT_EQ(Json::parse(f.recorder->events[2])["choices"][0]["finish_reason"], "tool_calls");
    } else {
      const Json body = Json::parse(f.recorder->body);
      EXPECT_EQ(body["choices"][0]["finish_reason"], "tool_calls");
      EXPECT_TRUE(body["choices"][0]["message"]["content"].is_null());
      call = body["choices"][0]["message"]["tool_calls"][0];
    }
    EXPECT_EQ(call["function"]["name"], "f");
    EXPECT_EQ(call["function"]["arguments"], "{\"x\":\"y\"}");
    EXPECT_EQ(call["type"], "function");
  }
}

TEST(Generation, ScoresHaveTheShapesOfBothApis) {
  TokenScore first;
  first.bytes = "\xc3\xa9";
  first.logprob = NAN;
  TokenScore second;
  second.bytes = "b";
  second.scored = true;
  second.logprob = -0.5f;
  second.top = {{7, -0.25f, "c"}, {8, -INFINITY, "d"}};
  const Json completion = CompletionScores({first}, {second}, 0);
  EXPECT_EQ(Line(completion),
            "{\"tokens\":[\"\xc3\xa9\",\"b\"],\"token_logprobs\":[null,-0.5],"
            "\"top_logprobs\":[null,{\"c\":-0.25,\"d\":-9999.0}],\"text_offset\":[0,1]}");
  EXPECT_EQ(Line(ChatScores({second})),
            R"({"content":[{"token":"b","logprob":-0.5,"bytes":[98],"top_logprobs":)"
            R"([{"token":"c","logprob":-0.25,"bytes":[99]},)"
            R"({"token":"d","logprob":-9999.0,"bytes":[100]}]}],"refusal":null})");
}

TEST(Generation, TokensThatAreNoTextAreToldByTheirBytes) {
  TokenScore score;
  score.bytes = "\xe2\x96";
  score.scored = true;
  score.top = {{7, -0.25f, "\xe2\x96"}, {8, -1.0f, "\xff"}};
  const Json json = CompletionScores({}, {score}, 0);
  EXPECT_EQ(json["tokens"][0], "bytes:\\xe2\\x96");
  EXPECT_EQ(json["top_logprobs"][0].size(), 2u);
  EXPECT_EQ(json["top_logprobs"][0]["bytes:\\xff"], -1.0);
}

TEST(Sessions, TheLeastRecentlyUsedGo) {
  Sessions sessions;
  sessions.Touch({0, "a"}, 10);
  sessions.Touch({1, "a"}, 20);
  sessions.Touch({0, "b"}, 30);
  sessions.Touch({0, "a"}, 40);
  const auto gone = sessions.Expire(35);
  ASSERT_THAT(gone, SizeIs(2));
  EXPECT_EQ(gone[0].key, 1);
  EXPECT_EQ(gone[1].name, "b");
  EXPECT_EQ(sessions.size(), 1u);
  sessions.Forget({0, "a"});
  for (size_t i = 0; i < Sessions::kMost; ++i) {
    EXPECT_TRUE(sessions.Touch({0, std::to_string(i)}, i).empty());
  }
  ASSERT_THAT(sessions.Touch({0, "more"}, 99), SizeIs(1));
  for (const char* name : {"", "a b", "a/b", "\xf0\x9f\x98\x80", "a\r\n"}) {
    EXPECT_FALSE(IsSessionName(name)) << name;
  }
  EXPECT_FALSE(IsSessionName(std::string(129, 'a')));
  EXPECT_TRUE(IsSessionName("CON.-_9"));
}

}  // namespace
}  // namespace engine::http_api
