// Figures over examples of this test's own, whose tokens are letters.
#include "report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nlohmann/json.hpp"

namespace engine::data {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

Encoder Letters() {
  Model m;
  m.bytes = [](int32_t id) {
    static std::string bytes[256];
    bytes[id] = static_cast<char>(id);
    return id == 0 ? std::string_view() : std::string_view(bytes[id]);
  };
  return Encoder(std::move(m), {});
}

// `text` with its capital letters counting, cut to `kept`.
Tokens Of(const std::string& text, size_t kept = SIZE_MAX) {
  Tokens t;
  t.whole = text.size();
  std::vector<bool> counts;
  for (const char c : text.substr(0, kept)) {
    t.ids.push_back(static_cast<unsigned char>(c));
    counts.push_back(c >= 'A' && c <= 'Z');
  }
  t.labels = Shift(t.ids, counts);
  return t;
}

TEST(Report, CountsAndSpreads) {
  ReportSettings settings;
  settings.file = "f";
  settings.sequence = 50;
  Report report(settings);
  report.Describe("one object a line", "TEXT", 104);
  const Encoder letters = Letters();
  // Of 1 to 100 tokens, all but the first of which count.
  for (size_t n = 2; n <= 100; ++n) {
    report.Add("f:" + std::to_string(n), Of("a" + std::string(n - 1, 'B'), 50), Fate::kGood,
               letters);
  }
  report.Add("f:1", Of("a"), Fate::kShort, letters);
  report.Add("f:101", Of("aa"), Fate::kUnlabelled, letters);
  report.Add("f:102", Of("aa"), Fate::kUnlabelled, letters);
  report.Bad("f:103: no JSON");
  report.Bad("f:104: no JSON");
  const auto j = nlohmann::json::parse(report.Json());
  EXPECT_EQ(j["file"], "f");
  EXPECT_EQ(j["examples"], 104);
  EXPECT_EQ(j["good"], 99);
  EXPECT_EQ(j["bad"], 2);
  EXPECT_EQ(j["cut"], 50);
  EXPECT_EQ(j["cut_tokens"], 50 * 51 / 2);
  EXPECT_EQ(j["left_out"]["short"], 1);
  EXPECT_EQ(j["left_out"]["long"], 0);
  EXPECT_EQ(j["left_out"]["unlabelled"], 2);
  // 1, 2, 2, 2, 3, 4, ..., 100: 102 numbers.
  EXPECT_EQ(j["tokens"]["total"], 5050 + 4);
  EXPECT_EQ(j["tokens"]["min"], 1);
  EXPECT_EQ(j["tokens"]["median"], 49);
  EXPECT_EQ(j["tokens"]["p90"], 90);
  EXPECT_EQ(j["tokens"]["p99"], 99);
  EXPECT_EQ(j["tokens"]["max"], 100);
  // 1, 2, ..., 49, then 49 fifty times.
  const int labels = 49 * 50 / 2 + 50 * 49, kept = labels + 99;
  EXPECT_EQ(j["labels"]["total"], labels);
  EXPECT_EQ(j["labels"]["max"], 49);
  EXPECT_EQ(j["kept_tokens"], kept);
  EXPECT_DOUBLE_EQ(j["masked_share"].get<double>(), 99.0 / kept);
  EXPECT_EQ(j["problems"].size(), 2u);
  EXPECT_THAT(report.Text(),
              AllOf(HasSubstr("f: one object a line, shape TEXT, 104 examples\n"),
                    HasSubstr("50 of the good ones, with more than 50 tokens, would lose 1275"),
                    HasSubstr("2 without a label that counts, the first at f:101\n"),
                    HasSubstr("problems:\n  f:103: no JSON\n  f:104: no JSON\n")));
  EXPECT_THAT(std::string(report.Verdict().message()), HasSubstr("2 of 104 examples in 'f' are"));
}

TEST(Report, TheShortestAreShownInTheFilesOrder) {
  ReportSettings settings;
  settings.shown = 2;
  Report report(settings);
  const Encoder letters = Letters();
  for (const char* text : {"abcD", "aBcD", "aBC", "abcdE", "xY", "aBC"}) {
    report.Add(text, Of(text), Fate::kGood, letters);
  }
  const auto j = nlohmann::json::parse(report.Json());
  ASSERT_EQ(j["shown"].size(), 2u);
  EXPECT_EQ(j["shown"][0]["where"], "aBC");
  EXPECT_EQ(j["shown"][1]["where"], "xY");
  EXPECT_EQ(j["shown"][1]["ids"], nlohmann::json({'x', 'Y'}));
  EXPECT_EQ(j["shown"][1]["labels"], nlohmann::json({'Y', kNoLabel}));
  EXPECT_THAT(report.Text(), HasSubstr("example xY, 2 tokens:\n"
                                       "  masked  \"x\"\n"
                                       "  counts  \"Y\"\n"));
  EXPECT_TRUE(report.Verdict().ok());
}

TEST(Report, WhatIsShownIsShortAndSafe) {
  Report report((ReportSettings()));
  std::string text = "a\x1b[31m\xff" + std::string(10000, 'b') + "end";
  text += '\0';
  report.Add("f:1", Of(text), Fate::kGood, Letters());
  EXPECT_THAT(report.Text(),
              AllOf(HasSubstr("\\u001b[31m"), HasSubstr("bbend<token 0>\" (10019 bytes)"),
                    Not(HasSubstr("\x1b")), Not(HasSubstr("\xff"))));
  EXPECT_LT(report.Text().size(), 1500u);
  EXPECT_TRUE(nlohmann::json::accept(report.Json()));
}

TEST(Report, AnswersWithoutAnEndAreTold) {
  Report report((ReportSettings()));
  Tokens tokens = Of("aB");
  report.Add("f:1", tokens, Fate::kGood, Letters());
  EXPECT_THAT(report.Text(), Not(HasSubstr("endless")));
  tokens.endless = 2;
  report.Add("f:2", tokens, Fate::kGood, Letters());
  EXPECT_THAT(report.Text(), HasSubstr("  endless   1 of the good ones have an answer that no"));
  EXPECT_EQ(nlohmann::json::parse(report.Json())["endless"], 1);
}

TEST(Report, NothingOfUseIsNoSuccess) {
  Report report((ReportSettings()));
  report.Describe("token ids", "TOKENS", 1);
  report.Add("f:1", Of("a"), Fate::kShort, Letters());
  EXPECT_THAT(std::string(report.Verdict().message()), HasSubstr("none of 1 example"));
}

}  // namespace
}  // namespace engine::data
