#include "pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test_forms.h"

namespace engine::guided {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct Case {
  const char* regex;
  std::vector<std::string> yes, no;
};

TEST(Pattern, TheWholeTextMatches) {
  const Case cases[] = {
      {"", {""}, {"a"}},
      {"abc", {"abc"}, {"", "ab", "abcd", "Abc"}},
      {"a|bc|", {"a", "bc", ""}, {"b", "abc"}},
      {"^a$|^b$", {"a", "b"}, {"", "ab"}},
      {"a*", {"", "a", "aaaaaaaa"}, {"b", "ab"}},
      {"a+?b??", {"a", "ab", "aab"}, {"", "b", "abb"}},
      {"a{3}", {"aaa"}, {"aa", "aaaa"}},
      {"a{2,}", {"aa", "aaaaa"}, {"a", ""}},
      {"a{0,2}", {"", "a", "aa"}, {"aaa"}},
      {"(ab){2,3}", {"abab", "ababab"}, {"ab", "abababab", "aba"}},
      {"(?:a|b)+c", {"ac", "abbac"}, {"c", "ab"}},
      {"(?<x>a)(?P<y_1>b)", {"ab"}, {"a"}},
      {"[a-c]", {"a", "b", "c"}, {"d", "", "ab"}},
      {"[^a-c]", {"d", "\xc3\xa9", "\n", "\xf0\x9f\x98\x80"}, {"a", "", "\xc3"}},
      {"[-a]", {"-", "a"}, {"b"}},
      {"[a-]", {"-", "a"}, {"b"}},
      {"[\\]\\[\\\\]", {"]", "[", "\\"}, {"a"}},
      {"[\\d_]+", {"12_3"}, {"a"}},
      {"\\d\\w\\s", {"1a ", "9_\t"}, {"aa ", "1a", "1a1"}},
      {"\\D\\W\\S", {"a-b", "x!\xc3\xa9"}, {"1-b", "aab", "a- "}},
      {"[^\\d]", {"a", "\xc3\xa9"}, {"5", "\xd9\xa1"}},
      {"[^\\W]", {"a", "5", "_"}, {"-", "\xc3\xa9"}},
      {"[^\\s]", {"a", "\xc3\xa9"}, {" ", "\xc2\xa0"}},
      {".", {"a", "\xe2\x82\xac"}, {"\n", "\r", "\xe2\x80\xa8", ""}},
      {"\\x41\\u00e9\\u{1F600}\\ud83d\\ude00",
       {"A\xc3\xa9\xf0\x9f\x98\x80\xf0\x9f\x98\x80"},
       {"A"}},
      {"\\t\\n\\r\\f\\v\\0", {std::string("\t\n\r\f\v\0", 6)}, {"t"}},
      {"\\.\\*\\/\\-\\ ", {".*/- "}, {"a"}},
      {"\xc3\xa9+", {"\xc3\xa9", "\xc3\xa9\xc3\xa9"}, {"\xc3", "e"}},
      {"(a+)+", {"a", "aaaa"}, {"", "b"}},
      {"((a|b)*)*c", {"c", "abbac"}, {"ab"}},
      {"(a?){3}", {"", "a", "aaa"}, {"aaaa"}},
      {"}]", {"}]"}, {"}"}},
  };
  for (const Case& c : cases) {
    for (const std::string& text : c.yes) {
      EXPECT_TRUE(Fits(Kind::kRegex, c.regex, text)) << c.regex << " and " << text;
    }
    for (const std::string& text : c.no) {
      EXPECT_FALSE(Fits(Kind::kRegex, c.regex, text)) << c.regex << " and " << text;
    }
  }
}

// Bounds too large to be written out are counted.
TEST(Pattern, LargeBoundsAreExact) {
  const auto as = [](size_t n) { return std::string(n, 'a'); };
  for (const auto& [regex, least, most] :
       {std::tuple<const char*, size_t, size_t>{"a{100,200}", 100, 200},
        {"(?:a{10}){10,20}", 0, 0},
        {"a{1000}", 1000, 1000},
        {"(a|aa){50,100}", 50, 200},
        {"(a{0,99}b?){60}", 0, 5940},
        {"(a{1,99}){60,99}", 60, 9801}}) {
    if (least == 0 && most == 0) continue;
    if (least > 0) {
      EXPECT_FALSE(Fits(Kind::kRegex, regex, as(least - 1))) << regex;
    }
    EXPECT_TRUE(Fits(Kind::kRegex, regex, as(least))) << regex;
    EXPECT_TRUE(Fits(Kind::kRegex, regex, as(most))) << regex;
    EXPECT_FALSE(Begins(Kind::kRegex, regex, as(most + 1))) << regex;
  }
  for (size_t n = 90; n <= 210; ++n) {
    EXPECT_EQ(Fits(Kind::kRegex, "(?:a{10}){10,20}", as(n)), n >= 100 && n <= 200 && n % 10 == 0)
        << n;
  }
  EXPECT_TRUE(Fits(Kind::kRegex, "a{0,99999}", as(99999)));
  EXPECT_FALSE(Begins(Kind::kRegex, "a{0,99999}", as(100000)));
  EXPECT_TRUE(Fits(Kind::kRegex, "a{70000,}", as(80000)));
  EXPECT_FALSE(Fits(Kind::kRegex, "a{70000,}", as(69999)));
}

TEST(Pattern, WhatCannotEndIsNotBegun) {
  // The second alternative holds a class without members.
  EXPECT_FALSE(Begins(Kind::kRegex, "a|b[^\\x00-\\u{10ffff}]", "b"));
  EXPECT_THAT(RefusalOf(Kind::kRegex, "[^\\x00-\\u{10ffff}]"), StartsWith("no text fits the form"));
}

TEST(Pattern, RefusalsNameThePlace) {
  const std::pair<std::string, const char*> cases[] = {
      {std::string(60000, '('), "byte 200: groups are nested deeper than 200 levels"},
      {std::string(60000, '(') + std::string(60000, ')'), "byte 200: groups are nested deeper"},
      {"^+a", "byte 1: a quantifier needs something to repeat, and '^' is no such thing"},
      {"^{2}a", "byte 1: a quantifier needs something to repeat, and '^' is no such thing"},
      {"^*", "byte 1: a quantifier needs something"},
      {"ab**", "byte 3: a quantifier needs something to repeat before it"},
      {"a{2}{3}", "byte 4: a quantifier needs"},
      {"a|*b", "byte 2: a quantifier needs"},
      {"(*b)", "byte 1: a quantifier needs"},
      {"a*+", "byte 2: '+' behind a quantifier"},
      {"a{1", "byte 1: '{' must begin {m}, {m,} or {m,n}"},
      {"a{,3}", "byte 1: '{' must begin"},
      {"{", "byte 0: '{' must begin"},
      {"x{3,2}", "byte 1: a repetition's first bound exceeds its second"},
      {"x{100001}", "byte 1: repetitions are counted up to 100000 only"},
      {"x{99999999999999999999}", "byte 1: repetitions are counted"},
      {"(a", "byte 0: '(' is not closed"},
      {"a)", "byte 1: ')' closes nothing"},
      {"(a(b)", "byte 0: '(' is not closed"},
      {"[a", "byte 0: '[' is not closed"},
      {"[]a]", "byte 1: ']' right behind '['"},
      {"[^]", "byte 2: ']' right behind '['"},
      {"[z-a]", "byte 2: a range's first character comes after"},
      {"[\\d-z]", "byte 3: a range cannot begin with a class"},
      {"[a-\\d]", "byte 2: a range cannot end with a class"},
      {"\\", "byte 0: '\\' stands at the end"},
      {"\\1", "byte 0: back-references"},
      {"\\k<a>", "byte 0: back-references"},
      {"a\\bb", "byte 1: word boundaries"},
      {"\\B", "byte 0: word boundaries"},
      {"\\p{L}", "byte 0: properties"},
      {"\\q", "byte 0: this escape is not known"},
      {"\\x4", "byte 3: a hexadecimal digit is missing"},
      {"\\u{110000}", "byte 0: this escape is not a code point"},
      {"\\u{}", "byte 0: \\u{...} has one to six"},
      {"\\ud800", "byte 0: this escape is not a code point"},
      {"(?=a)", "byte 0: look-around"},
      {"(?<!a)b", "byte 0: look-around"},
      {"(?i)a", "byte 0: '(?' must go on as"},
      {"(?<é>a)", "byte 3: a group's name is letters"},
      {"a^", "byte 1: '^' may stand at the begin"},
      {"(^a)", "byte 1: '^' may stand at the begin"},
      {"(a$)", "byte 2: '$' may stand at the end"},
      {"a$b", "byte 3: nothing can follow '$'"},
      {"a$*", "byte 2: a quantifier needs something"},
      {"a$$", "byte 2: '$' stands here twice"},
      {"a\xff", "the regular expression is not UTF-8"},
      {std::string(300000, 'a'), "the form's text has 300000 bytes; it can have 262144"},
  };
  for (const auto& [regex, message] : cases) {
    EXPECT_THAT(RefusalOf(Kind::kRegex, regex), HasSubstr(message)) << regex.substr(0, 40);
    EXPECT_EQ(CodeOf(Kind::kRegex, regex), ENGINE_INVALID_ARGUMENT) << regex.substr(0, 40);
  }
}

// Hostile ones that are fine: they compile small, and their states stay few.
TEST(Pattern, NestedRepetitionsStaySmall) {
  std::string nested;
  for (int i = 0; i < 190; ++i) nested += "(a?";
  for (int i = 0; i < 190; ++i) nested += ")";
  for (const std::string& regex :
       {std::string("(a+)+$"), std::string("(\"a\"*)*"), std::string("a{0,99999}"),
        std::string("((((((a*)*)*)*)*)*)*"),
        std::string("(((a{0,99999}){0,99999}){0,99999}){0,99999}"),
        std::string("(.{1,1000}){1,1000}"), std::string("([ab].{0,99}){50,99}"), nested}) {
    std::shared_ptr<Guide> guide;
    ASSERT_TRUE(
        Guide::Compile(Kind::kRegex, regex, TestVocabulary(), {kEndToken}, TestLimits(), &guide)
            .ok())
        << regex;
    EXPECT_LT(guide->Bytes(), 64u << 10) << regex;
    std::vector<int32_t> tokens;
    for (int i = 0; i < 100; ++i) {
      const uint64_t* mask = nullptr;
      ASSERT_TRUE(guide->Allowed(1, tokens.data(), tokens.size(), &mask).ok()) << regex;
      ASSERT_NE(mask, nullptr) << regex << ' ' << i;
      tokens.push_back((mask['a' / 64] >> ('a' % 64) & 1) != 0 ? 'a' : '"');
    }
    EXPECT_LT(guide->Bytes(), 24u << 20) << regex;
  }
}

TEST(Pattern, TooMuchIsRefused) {
  std::string many;
  for (int i = 0; i < 2000; ++i) many += "[a-f]x|";
  EXPECT_EQ(RefusalOf(Kind::kRegex, many), "");
  Limits limits;
  limits.instructions = 1000;
  EXPECT_THAT(RefusalOf(Kind::kRegex, many, limits), HasSubstr("more than 1000 instructions"));
  limits = Limits();
  limits.nodes = 1000;
  EXPECT_THAT(RefusalOf(Kind::kRegex, many, limits), HasSubstr("more than 1000 nodes"));
  limits = Limits();
  limits.compile = std::chrono::milliseconds(0);
  EXPECT_THAT(RefusalOf(Kind::kRegex, many, limits), HasSubstr("took longer than 0 ms"));
  EXPECT_EQ(CodeOf(Kind::kRegex, many, limits), ENGINE_DEADLINE_EXCEEDED);
}

}  // namespace
}  // namespace engine::guided
