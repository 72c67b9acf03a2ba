#include "guide.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "guide_cache.h"
#include "test_forms.h"

namespace engine::guided {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

std::shared_ptr<Guide> Compiled(Kind kind, std::string_view form,
                                const Limits& limits = TestLimits(),
                                std::shared_ptr<const Vocabulary> vocabulary = TestVocabulary()) {
  std::shared_ptr<Guide> guide;
  const Status status =
      Guide::Compile(kind, form, std::move(vocabulary), {kEndToken}, limits, &guide);
  EXPECT_TRUE(status.ok()) << status.message();
  return guide;
}

std::vector<int32_t> Tokens(std::string_view text) {
  std::vector<int32_t> tokens;
  for (const char c : text) tokens.push_back(static_cast<uint8_t>(c));
  return tokens;
}

// The texts that may follow, the end as "$"; nothing and false without a mask.
std::vector<std::string> After(Guide* guide, uint64_t stream, const std::vector<int32_t>& tokens,
                               bool* has_mask = nullptr) {
  const uint64_t* mask = nullptr;
  const Status status = guide->Allowed(stream, tokens.data(), tokens.size(), &mask);
  EXPECT_TRUE(status.ok()) << status.message();
  if (has_mask != nullptr) *has_mask = mask != nullptr;
  std::vector<std::string> texts;
  for (int32_t t = 0; mask != nullptr && t < static_cast<int32_t>(TestVocabulary()->size()); ++t) {
    if ((mask[t / 64] >> (t % 64) & 1) == 0) continue;
    texts.push_back(t == kEndToken       ? "$"
                    : t == kSpecialToken ? "special"
                                         : std::string(TestVocabulary()->bytes(t)));
  }
  return texts;
}

TEST(Guide, MasksHoldTokensOfSeveralBytes) {
  const auto guide = Compiled(Kind::kRegex, "abc|ab");
  EXPECT_THAT(After(guide.get(), 1, {}), UnorderedElementsAre("a", "ab", "abc"));
  EXPECT_THAT(After(guide.get(), 1, Tokens("a")), ElementsAre("b"));
  EXPECT_THAT(After(guide.get(), 1, Tokens("ab")), UnorderedElementsAre("c", "$"));
  EXPECT_THAT(After(guide.get(), 1, Tokens("abc")), ElementsAre("$"));
}

TEST(Guide, TokensMayEndWithinACharacter) {
  const auto guide = Compiled(Kind::kRegex, "\xe2\x82\xac|\xc3\xa9");
  EXPECT_THAT(After(guide.get(), 1, {}),
              UnorderedElementsAre("\xe2", "\xc3", "\xe2\x82", "\xc3\xa9", "\xc3"));
  EXPECT_THAT(After(guide.get(), 1, Tokens("\xe2")), UnorderedElementsAre("\x82", "\x82\xac"));
}

TEST(Guide, WhatDoesNotFitHasNoMask) {
  const auto guide = Compiled(Kind::kRegex, "a*b");
  bool has = true;
  for (const std::vector<int32_t>& tokens : {std::vector<int32_t>{'c'},
                                             {'a', 'b', 'b'},
                                             {'b', kEndToken},
                                             {kSpecialToken},
                                             {-1},
                                             {1 << 30},
                                             {'a', kEndToken, 'a'}}) {
    After(guide.get(), 1, tokens, &has);
    EXPECT_FALSE(has);
  }
  // A draft that was rejected leaves no trace.
  EXPECT_THAT(After(guide.get(), 1, Tokens("aa")), UnorderedElementsAre("a", "b", "ab", "aaaa"));
}

TEST(Guide, TokensMayBeTakenBackAndExchanged) {
  const auto guide = Compiled(Kind::kSchema, R"({"enum":["abc","abd","xyz"]})");
  const auto last = [&](std::string_view text) { return After(guide.get(), 1, Tokens(text)); };
  EXPECT_THAT(last("\"abc"), ElementsAre("\""));
  EXPECT_THAT(last("\"ab"), UnorderedElementsAre("c", "d"));
  EXPECT_THAT(last("\"xy"), ElementsAre("z"));
  EXPECT_THAT(last("\"ab"), UnorderedElementsAre("c", "d"));
  EXPECT_THAT(last(""), ElementsAre("\""));
}

TEST(Guide, EndTokensAreAllowedExactlyWhenComplete) {
  std::shared_ptr<Guide> guide;
  // Token 'z' ends a text as well, and so never stands within one.
  ASSERT_TRUE(Guide::Compile(Kind::kRegex, "[x-z]{1,2}", TestVocabulary(), {kEndToken, 'z'},
                             Limits(), &guide)
                  .ok());
  EXPECT_THAT(After(guide.get(), 1, {}), UnorderedElementsAre("x", "y"));
  EXPECT_THAT(After(guide.get(), 1, Tokens("x")), UnorderedElementsAre("x", "y", "z", "$"));
  EXPECT_THAT(After(guide.get(), 1, Tokens("xy")), UnorderedElementsAre("z", "$"));
  EXPECT_THAT(
      std::string(
          Guide::Compile(Kind::kRegex, "a", TestVocabulary(), {}, Limits(), &guide).message()),
      HasSubstr("a guide needs an end token"));
  EXPECT_THAT(
      std::string(Guide::Compile(Kind::kRegex, "a", TestVocabulary(), {1 << 20}, Limits(), &guide)
                      .message()),
      HasSubstr("end token 1048576 is not in the vocabulary"));
}

TEST(Guide, NoMaskWhereEveryTokenMayFollow) {
  std::shared_ptr<const Vocabulary> vocabulary;
  ASSERT_TRUE(Vocabulary::Make({"a", "b", "ab"}, &vocabulary).ok());
  std::shared_ptr<Guide> guide;
  ASSERT_TRUE(Guide::Compile(Kind::kRegex, "[ab]*", vocabulary, {0}, Limits(), &guide).ok());
  const uint64_t* mask = nullptr;
  ASSERT_TRUE(guide->Allowed(1, nullptr, 0, &mask).ok());
  EXPECT_EQ(mask, nullptr);
}

// Bytes that no token spells alone are not asked for; unless there is no other way.
TEST(Guide, VocabulariesMayLackBytes) {
  std::vector<std::string> tokens = {"a", "b", "bc", ""};
  std::shared_ptr<const Vocabulary> vocabulary;
  ASSERT_TRUE(Vocabulary::Make(tokens, &vocabulary).ok());
  std::shared_ptr<Guide> guide;
  ASSERT_TRUE(Guide::Compile(Kind::kRegex, "ab|ac", vocabulary, {3}, Limits(), &guide).ok());
  const uint64_t* mask = nullptr;
  const int32_t a = 0;
  ASSERT_TRUE(guide->Allowed(1, &a, 1, &mask).ok());
  ASSERT_NE(mask, nullptr);
  EXPECT_EQ(mask[0], 2u);
  const Status status = Guide::Compile(Kind::kRegex, "ac", vocabulary, {3}, Limits(), &guide);
  EXPECT_EQ(status.code(), ENGINE_FAILED_PRECONDITION);
  EXPECT_THAT(std::string(status.message()), HasSubstr("only 2 of 256 bytes"));
  EXPECT_FALSE(Vocabulary::Make({}, &vocabulary).ok());
}

TEST(Vocabulary, ItsTrieHoldsEachTokenOnce) {
  const auto vocabulary = TestVocabulary();
  const auto& trie = vocabulary->trie();
  std::vector<std::string> way;
  std::vector<int32_t> seen;
  std::string text;
  for (uint32_t i = 0; i + 1 < trie.size(); ++i) {
    text.resize(trie[i].depth - 1);
    text += static_cast<char>(trie[i].byte);
    for (uint32_t t = trie[i].first_token; t < trie[i + 1].first_token; ++t) {
      EXPECT_EQ(vocabulary->bytes(vocabulary->order()[t]), text);
      seen.push_back(vocabulary->order()[t]);
    }
    uint64_t below = 0;
    for (uint32_t j = i + 1; j < trie[i].end; ++j) {
      EXPECT_GT(trie[j].depth, trie[i].depth);
      below |= uint64_t{1} << Vocabulary::KindOf(trie[j].byte);
    }
    EXPECT_EQ(trie[i].below, below);
    EXPECT_LE(trie[trie[i].end].depth, trie[i].depth);
  }
  EXPECT_EQ(seen.size(), vocabulary->size() - 2);
  for (int b = 0; b < 256; ++b) EXPECT_LT(Vocabulary::KindOf(static_cast<uint8_t>(b)), 64u);
}

// With next to no memory it comes to the same: what is forgotten is found again.
TEST(Guide, SmallBudgetsChangeNothing) {
  Limits small;
  small.state_bytes = 20'000;
  small.mask_bytes = 200;
  small.streams = 2;
  const char* schema = R"({"type":"object","properties":{"a":{"type":"string","maxLength":300},
      "b":{"type":"array","items":{"type":"string","pattern":"^(ab|a[a-c]{3,90})*$"}}}})";
  const auto tight = Compiled(Kind::kSchema, schema, small), wide = Compiled(Kind::kSchema, schema);
  std::mt19937 random(2);
  for (uint64_t i = 0; i < 20; ++i) {
    std::string text, problem;
    ASSERT_TRUE(RandomOutput(wide.get(), *TestVocabulary(), 1, &random, &text, &problem))
        << problem;
    const std::vector<int32_t> tokens = Tokens(text);
    for (size_t n = 0; n <= tokens.size(); n += 1 + random() % 3) {
      const std::vector<int32_t> some(tokens.begin(), tokens.begin() + static_cast<long>(n));
      ASSERT_EQ(After(tight.get(), i % 3, some), After(wide.get(), 7, some)) << text.substr(0, n);
    }
    EXPECT_LT(tight->Bytes(), 400'000u);
  }
}

TEST(Guide, WorkIsBounded) {
  Limits limits;
  limits.work = 100;
  const auto guide = Compiled(Kind::kRegex, "(a|aa|aaa|a[ab]{1,90}|b.{0,90}a){1,90}c", limits);
  const uint64_t* mask = nullptr;
  const std::vector<int32_t> tokens = Tokens("aaaaaaaaaaaaaaaaaa");
  const Status status = guide->Allowed(1, tokens.data(), tokens.size(), &mask);
  EXPECT_EQ(status.code(), ENGINE_RESOURCE_EXHAUSTED);
  EXPECT_THAT(std::string(status.message()), HasSubstr("too many ways"));
  EXPECT_EQ(mask, nullptr);
}

// Where a state would have too many places some are left out, and texts still end.
TEST(Guide, FewPlacesAreStillRight) {
  Limits limits;
  limits.configurations = 3;
  const char* regex = "(a|aa|aaa|b[ab]{1,60}|b.{0,60}a){1,20}c";
  const auto guide = Compiled(Kind::kRegex, regex, limits);
  std::mt19937 random(4);
  for (uint64_t i = 0; i < 50; ++i) {
    std::string text, problem;
    ASSERT_TRUE(RandomOutput(guide.get(), *TestVocabulary(), i, &random, &text, &problem))
        << problem;
    EXPECT_TRUE(Fits(Kind::kRegex, regex, text)) << text;
  }
}

TEST(Guide, ThreadsAskAtOnce) {
  const auto guide = Compiled(Kind::kAnyObject, "");
  std::vector<std::thread> threads;
  std::vector<std::string> problems(4);
  for (uint32_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      std::mt19937 random(i);
      std::string text;
      for (int n = 0; n < 10 && problems[i].empty(); ++n) {
        RandomOutput(guide.get(), *TestVocabulary(), i, &random, &text, &problems[i]);
      }
      guide->Forget(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& problem : problems) EXPECT_THAT(problem, IsEmpty());
}

TEST(Guide, FormsThatCallThemselvesFirstAreRefused) {
  Budget budget(std::chrono::seconds(10));
  Grammar grammar(Limits(), &budget);
  const Rule a = grammar.NewRule("a"), b = grammar.NewRule("b"), gap = grammar.NewRule("gap");
  grammar.Define(gap, grammar.Optional(grammar.Text(" ")));
  grammar.Define(a, grammar.Either({grammar.Text("x"), grammar.Call(b)}));
  grammar.Define(b, grammar.Sequence({grammar.Call(gap), grammar.Call(a), grammar.Text("y")}));
  std::shared_ptr<const Program> program;
  const Status status = BuildProgram(&grammar, grammar.Call(a), ByteSet().set(), &program);
  EXPECT_EQ(status.code(), ENGINE_INVALID_ARGUMENT);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("stands for itself before anything is written"));
}

TEST(GuideCache, OneTextIsCompiledOnce) {
  GuideCache cache(TestVocabulary(), {kEndToken}, TestLimits(), size_t{1} << 20);
  std::vector<std::thread> threads;
  std::vector<std::shared_ptr<Guide>> guides(8);
  for (auto& guide : guides) {
    threads.emplace_back([&] { EXPECT_TRUE(cache.Get(Kind::kRegex, "a{0,99999}", &guide).ok()); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& guide : guides) EXPECT_EQ(guide, guides[0]);
  EXPECT_EQ(cache.counts().compiled, 1u);
  EXPECT_EQ(cache.counts().found, 7u);
  // The same text of another kind is another form.
  std::shared_ptr<Guide> other;
  EXPECT_FALSE(cache.Get(Kind::kSchema, "a{0,99999}", &other).ok());
  EXPECT_EQ(other, nullptr);
}

TEST(GuideCache, RefusalsAreRemembered) {
  GuideCache cache(TestVocabulary(), {kEndToken}, TestLimits(), size_t{1} << 20);
  std::shared_ptr<Guide> guide;
  const Status first = cache.Get(Kind::kRegex, "(", &guide),
               second = cache.Get(Kind::kRegex, "(", &guide);
  EXPECT_EQ(first.message(), second.message());
  EXPECT_EQ(second.code(), ENGINE_INVALID_ARGUMENT);
  EXPECT_EQ(cache.counts().refused, 1u);
  EXPECT_EQ(cache.counts().found, 1u);
  EXPECT_FALSE(cache.Get(Kind::kRegex, std::string(size_t{1} << 20, 'a'), &guide).ok());
  EXPECT_EQ(cache.counts().kept, 1u);
}

TEST(GuideCache, TheLeastUsedGoFirst) {
  GuideCache cache(TestVocabulary(), {kEndToken}, TestLimits(), 40'000);
  std::shared_ptr<Guide> kept, guide;
  ASSERT_TRUE(cache.Get(Kind::kRegex, "kept", &kept).ok());
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(cache.Get(Kind::kRegex, "form " + std::to_string(i), &guide).ok());
    ASSERT_TRUE(cache.Get(Kind::kRegex, "kept", &guide).ok());
    EXPECT_EQ(guide, kept);
  }
  EXPECT_EQ(cache.counts().compiled, 201u);
  EXPECT_GT(cache.counts().evicted, 150u);
  EXPECT_LT(cache.counts().kept, 50u);
}

}  // namespace
}  // namespace engine::guided
