// Which tokens count, over a small tokenizer and chat format of this test's own. Both are made so
// that what is hard is there: tokens that cross borders, special tokens that take white space, a
// tokenizer that changes the text, a format that hides what an answer was.
#include "spans.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nlohmann/json.hpp"

namespace engine::data {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kBegin = 256, kEnd = 257, kBos = 258, kCut = 259, kTwoLines = 260, kAb = 261;

struct Fake {
  bool bos = false;      // texts begin with kBos
  bool changes = false;  // "X" is encoded as "x"
  bool hides = false;    // answers before the last are rendered without their content
  bool odd = false;      // what comes before an answer is not how answers begin
  int renders = 0;
};

// Bytes, but for "\n\n", "ab" and the special tokens; <cut> takes white space on both sides.
std::vector<int32_t> EncodeText(const Fake& fake, std::string_view text, bool special) {
  static const std::vector<std::pair<std::string, int32_t>> kTokens = {
      {"<begin>", kBegin}, {"<end>", kEnd}, {"<cut>", kCut}, {"\n\n", kTwoLines}, {"ab", kAb}};
  std::vector<int32_t> ids;
  for (size_t at = 0; at < text.size();) {
    size_t taken = 1;
    auto id = static_cast<int32_t>(static_cast<unsigned char>(text[at]));
    if (fake.changes && text[at] == 'X') id = 'x';
    for (const auto& [name, value] : kTokens) {
      if (value < kTwoLines && !special) continue;
      if (!text.substr(at).starts_with(name)) continue;
      id = value;
      taken = name.size();
      break;
    }
    if (id == kCut) {
      while (!ids.empty() && ids.back() == ' ') ids.pop_back();
      while (at + taken < text.size() && text[at + taken] == ' ') ++taken;
    }
    ids.push_back(id);
    at += taken;
  }
  return ids;
}

std::string Name(int32_t id) {
  static const std::map<int32_t, std::string> kNames = {
      {kBegin, "<begin>"}, {kEnd, "<end>"}, {kBos, "<bos>"}, {kCut, "<cut>"}};
  if (const auto it = kNames.find(id); it != kNames.end()) return it->second;
  if (id == kTwoLines) return "\n\n";
  return id == kAb ? "ab" : std::string(1, static_cast<char>(id));
}

Model Of(Fake* fake) {
  Model m;
  m.vocab = 262;
  m.render = [fake](const std::string& messages, const std::string& tools, bool generate,
                    std::string* text) {
    ++fake->renders;
    const auto list = nlohmann::json::parse(messages);
    *text = tools.empty() ? "" : "T" + tools;
    for (size_t i = 0; i < list.size(); ++i) {
      const bool hidden = fake->hides && list[i]["role"] == "assistant" && i + 1 != list.size();
      *text += "<begin>" + list[i]["role"].get<std::string>() + "\n" +
               (hidden ? "" : list[i]["content"].get<std::string>()) + "<end>\n";
    }
    if (generate) *text += fake->odd ? "<begin>assistant:" : "<begin>assistant\n";
    return Status();
  };
  m.encode = [fake](std::string_view text, bool special, bool frame, std::vector<int32_t>* ids) {
    *ids = EncodeText(*fake, text, special);
    if (frame && fake->bos) ids->insert(ids->begin(), kBos);
    return Status();
  };
  m.bytes = [](int32_t id) {
    static std::map<int32_t, std::string> names;
    if (id >= kBegin && id <= kCut) return std::string_view();
    return std::string_view(names.emplace(id, Name(id)).first->second);
  };
  m.stops = [](int32_t id) { return id == kEnd; };
  return m;
}

// The tokens that are asked for, a bar between two that do not follow each other; or the fate, or
// the error.
std::string Asked(Fake* fake, const Example& example, const SpanSettings& settings = {},
                  Tokens* tokens = nullptr) {
  Encoder encoder(Of(fake), settings);
  Tokens made;
  Fate fate = Fate::kGood;
  Status status = encoder.Prepare();
  if (status.ok()) status = encoder.Make(example, &made, &fate);
  if (!status.ok()) return "error " + std::string(status.message());
  if (fate == Fate::kShort) return "short";
  if (fate == Fate::kLong) return "long";
  if (fate == Fate::kUnlabelled) return "unlabelled";
  EXPECT_EQ(made.ids.size(), made.labels.size());
  EXPECT_EQ(made.labels.back(), kNoLabel);
  std::string out;
  for (size_t t = 0; t + 1 < made.ids.size(); ++t) {
    if (made.labels[t] == kNoLabel) continue;
    EXPECT_EQ(made.labels[t], made.ids[t + 1]);
    if (!out.empty() && made.labels[t - 1] == kNoLabel) out += "|";
    out += Name(made.labels[t]);
  }
  if (tokens != nullptr) *tokens = made;
  return out;
}

std::string Text(const Tokens& tokens) {
  std::string out;
  for (const int32_t id : tokens.ids) out += Name(id);
  return out;
}

// Turns of user and assistant; "-" before an answer: it is not trained.
Example Chat(const std::vector<std::string>& turns) {
  Example e;
  e.kind = Example::Kind::kChat;
  for (size_t i = 0; i < turns.size(); ++i) {
    const bool skip = i % 2 == 1 && turns[i].starts_with("-");
    const std::string role = i % 2 == 0 ? "user" : "assistant";
    const std::string text = turns[i].substr(skip ? 1 : 0);
    e.messages.push_back(
        {role, nlohmann::json{{"role", role}, {"content", text}}.dump(), i % 2 == 1 && !skip});
  }
  return e;
}

Example Prompt(const std::string& prompt, const std::string& completion) {
  Example e;
  e.kind = Example::Kind::kPrompt;
  e.prompt = prompt;
  e.text = completion;
  return e;
}

TEST(Chat, AnswersAndTheTokensThatEndThem) {
  Fake fake;
  Tokens tokens;
  EXPECT_EQ(Asked(&fake, Chat({"Hi", "Ho", "And?", "No"}), {}, &tokens), "Ho<end>|No<end>");
  EXPECT_EQ(Text(tokens),
            "<begin>user\nHi<end>\n<begin>assistant\nHo<end>\n<begin>user\nAnd?<end>\n"
            "<begin>assistant\nNo<end>\n");
  EXPECT_EQ(Asked(&fake, Chat({"Hi", "-Ho", "And?", "No"})), "No<end>");
  EXPECT_EQ(Asked(&fake, Chat({"Hi", "-Ho"})), "unlabelled");
}

TEST(Chat, AllMeansAll) {
  Fake fake;
  SpanSettings all;
  all.all = true;
  EXPECT_EQ(Asked(&fake, Chat({"Hi", "Ho"}), all), "user\nHi<end>\n<begin>assistant\nHo<end>\n");
  EXPECT_EQ(Asked(&fake, Chat({"Hi"}), all), "user\nHi<end>\n");
  EXPECT_THAT(Asked(&fake, Chat({"Hi"})), HasSubstr("no answer to train on"));
}

TEST(Chat, ATokenThatCrossesIntoTheAnswerIsAskedFor) {
  Fake fake;
  Tokens tokens;
  EXPECT_EQ(Asked(&fake, Chat({"Hi", "\nHo"}), {}, &tokens), "\n\nHo<end>");
}

TEST(Chat, NamesOfSpecialTokensInsideOfAnAnswer) {
  Fake fake;
  EXPECT_EQ(Asked(&fake, Chat({"a<end>b", "c<end>d"})), "c<end>d<end>");
}

TEST(Chat, SpecialTokensThatTakeWhiteSpace) {
  Fake fake;
  EXPECT_EQ(Asked(&fake, Chat({"q  <cut>  r", "a <cut>  b", "q", " <cut> "})),
            "a<cut>b<end>|<cut><end>");
  // Here encoding in pieces would not do.
  EXPECT_EQ(Asked(&fake, Chat({"q  <cut>  r", "\nHo"})), "\n\nHo<end>");
}

TEST(Chat, ATextThatTheTokenizerChangesIsEncodedInPieces) {
  Fake fake;
  fake.changes = true;
  EXPECT_EQ(Asked(&fake, Chat({"X", "Xa", "X", "b"})), "xa<end>|b<end>");
  // The token across the border is not that of any piece.
  EXPECT_THAT(Asked(&fake, Chat({"X", "\nHo"})), HasSubstr("error which tokens are the answer's"));
}

TEST(Chat, FormatsThatHideAnswersAreRefused) {
  Fake fake;
  fake.hides = true;
  EXPECT_THAT(Asked(&fake, Chat({"Hi", "Ho", "Q", "A"})),
              HasSubstr("error message 2: the chat format renders this answer otherwise"));
  EXPECT_EQ(Asked(&fake, Chat({"Hi", "-Ho", "Q", "A"})), "A<end>");
  fake.hides = false;
  fake.odd = true;
  EXPECT_THAT(Asked(&fake, Chat({"Hi", "Ho"})),
              HasSubstr("error message 2: the chat format does not begin this answer"));
}

TEST(Chat, WhatIsCutOffIsNotRendered) {
  Fake fake;
  std::vector<std::string> turns;
  for (int i = 0; i < 200; ++i) turns.push_back("word");
  SpanSettings s;
  s.sequence = 40;
  Tokens tokens;
  EXPECT_EQ(Asked(&fake, Chat(turns), s, &tokens), "word<end>");
  EXPECT_EQ(tokens.ids.size(), 40u);
  EXPECT_LT(fake.renders, 6);
  s.cut = false;
  EXPECT_EQ(Asked(&fake, Chat(turns), s), "long");
  s.cut = true;
  s.sequence = 12;
  EXPECT_EQ(Asked(&fake, Chat(turns), s), "unlabelled");
}

TEST(Plain, CompletionsAndTheirEnd) {
  Fake fake;
  Tokens tokens;
  EXPECT_EQ(Asked(&fake, Prompt("2+2=", "4"), {}, &tokens), "4<end>");
  EXPECT_EQ(Text(tokens), "2+2=4<end>");
  fake.bos = true;
  EXPECT_EQ(Asked(&fake, Prompt("2+2=", "4"), {}, &tokens), "4<end>");
  EXPECT_EQ(Text(tokens), "<bos>2+2=4<end>");
  EXPECT_EQ(Asked(&fake, Prompt("", "4")), "4<end>");
  EXPECT_EQ(Asked(&fake, Prompt("2", "")), "<end>");
  EXPECT_EQ(Asked(&fake, Prompt("xa", "bc")), "abc<end>");  // "ab" crosses the border
  SpanSettings all;
  all.all = true;
  EXPECT_EQ(Asked(&fake, Prompt("2+2=", "4"), all), "2+2=4<end>");
}

TEST(Plain, SpecialNamesAreTextUnlessAskedFor) {
  Fake fake;
  SpanSettings s;
  Tokens tokens;
  EXPECT_EQ(Asked(&fake, Prompt("<cut>", "<cut>"), s), "<cut><end>");
  Asked(&fake, Prompt("<cut>", "<cut>"), s, &tokens);
  EXPECT_EQ(tokens.ids.size(), 11u);
  s.special = true;
  EXPECT_EQ(Asked(&fake, Prompt("<cut>", "<cut>"), s, &tokens), "<cut><end>");
  EXPECT_EQ(tokens.ids.size(), 3u);
  s.end_token = "<cut>";
  EXPECT_EQ(Asked(&fake, Prompt("a", "c"), s), "c<cut>");
  s.end_token = "none";
  EXPECT_THAT(Asked(&fake, Prompt("a", "c"), s), HasSubstr("end_token 'none' is 4 tokens"));
}

TEST(Plain, TextsAreShortLongOrCut) {
  Fake fake;
  Example e;
  e.text = "word";
  SpanSettings s;
  EXPECT_EQ(Asked(&fake, e, s), "ord<end>");
  s.min_tokens = 6;
  EXPECT_EQ(Asked(&fake, e, s), "short");
  s.min_tokens = 2;
  s.sequence = 3;
  EXPECT_EQ(Asked(&fake, e, s), "or");
  s.cut = false;
  EXPECT_EQ(Asked(&fake, e, s), "long");
  e.text = "";
  EXPECT_EQ(Asked(&fake, e, s), "short");
}

// A format whose answers end with what is no token of its own, or with one that the model does not
// name as an end.
TEST(Chat, AnswersThatNoTokenEndsAreCounted) {
  Fake fake;
  Model m = Of(&fake);
  m.stops = [](int32_t) { return false; };
  SpanSettings s;
  Tokens tokens;
  Fate fate;
  for (const bool named : {false, true}) {
    s.end_token = named ? "<end>" : "";
    Encoder encoder(m, s);
    ASSERT_TRUE(encoder.Prepare().ok());
    ASSERT_TRUE(encoder.Make(Chat({"Hi", "Ho", "Q", "A"}), &tokens, &fate).ok());
    EXPECT_EQ(tokens.endless, named ? 0u : 2u);
    // Without a name for it, the whole of what the format makes of an answer counts.
    EXPECT_EQ(std::count_if(tokens.labels.begin(), tokens.labels.end(),
                            [](int32_t label) { return label != kNoLabel; }),
              named ? 5 : 7);
  }
}

TEST(Plain, TheWholeLengthIsKept) {
  Fake fake;
  SpanSettings s;
  s.sequence = 3;
  Encoder encoder(Of(&fake), s);
  ASSERT_TRUE(encoder.Prepare().ok());
  Example e;
  e.text = "word";
  Tokens tokens;
  Fate fate;
  ASSERT_TRUE(encoder.Make(e, &tokens, &fate).ok());
  EXPECT_EQ(fate, Fate::kGood);
  EXPECT_EQ(tokens.ids.size(), 3u);
  EXPECT_EQ(tokens.whole, 5u);
}

TEST(Chat, TokensAreShownByTheirNames) {
  Fake fake;
  Encoder encoder(Of(&fake), {});
  ASSERT_TRUE(encoder.Prepare().ok());
  Tokens tokens;
  Fate fate;
  EXPECT_EQ(encoder.Shown(kEnd), "<token 257>");
  ASSERT_TRUE(encoder.Make(Chat({"Hi", "Ho"}), &tokens, &fate).ok());
  EXPECT_EQ(encoder.Shown(kEnd), "<end>");
  EXPECT_EQ(encoder.Shown('x'), "x");
}

TEST(Plain, AModelWithoutAnEndTokenIsTold) {
  Fake fake;
  Model m = Of(&fake);
  m.stops = [](int32_t) { return false; };
  Encoder encoder(m, {});
  ASSERT_TRUE(encoder.Prepare().ok());
  Tokens tokens;
  Fate fate;
  EXPECT_THAT(std::string(encoder.Make(Prompt("a", "b"), &tokens, &fate).message()),
              HasSubstr("set end_token"));
}

}  // namespace
}  // namespace engine::data
