#include "engine/graph/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/graph/testing/fake_kinds.h"

namespace engine::graph {
namespace {

using ::testing::HasSubstr;

const Schema& Fakes() {
  static std::unique_ptr<Schema>* schema = [] {
    auto* s = new std::unique_ptr<Schema>;
    EXPECT_TRUE(Schema::Build(testing::FakeKinds(), {}, s).ok());
    return s;
  }();
  return **schema;
}

std::string Of(const std::string& what) {
  std::string text;
  const Status status = Inspect(Fakes(), what, &text);
  return status.ok() ? text : "error: " + std::string(status.message());
}

TEST(Inspect, Option) {
  EXPECT_EQ(Of("kv_cache.page_tokens"),
            "kv_cache.page_tokens\n"
            "  page_tokens: whole number, default 16, 1 to 256 tokens\n"
            "      Tokens of a page.\n");
  EXPECT_THAT(Of("int8.scheme"), HasSubstr("PER_GROUP  One scale for each group of inputs."));
  EXPECT_THAT(Of("batcher.fairness.strict"), HasSubstr("Looks ahead."));
}

TEST(Inspect, Kind) {
  const std::string text = Of("batcher");
  EXPECT_THAT(text, HasSubstr("batcher  (node of plugin engine.serving 0.1.0)"));
  EXPECT_THAT(text, HasSubstr("NEW  engine.Prompt/1"));
  EXPECT_THAT(text, HasSubstr("MODEL  engine.Model/1  (changes it)"));
  EXPECT_THAT(text, HasSubstr("policy ANY"));
  EXPECT_THAT(text, HasSubstr("bypass: runs as plain_batcher"));
  EXPECT_THAT(text, HasSubstr("max_batch: whole number, default 16, 1 to 512 sequences"));
  EXPECT_THAT(text, HasSubstr("node { name: \"my_batcher\"  batcher { }  use: \"MODEL:...\""));
  EXPECT_THAT(Of("lora"), HasSubstr("phase     adapters"));
}

TEST(Inspect, PluginAndList) {
  EXPECT_THAT(Of("engine.kv_cache"), HasSubstr("kinds\n  kv_cache  The kv_cache of tests."));
  EXPECT_THAT(Of(""), HasSubstr("engine.int8 1.4.2"));
}

TEST(Inspect, Markdown) {
  std::string text;
  ASSERT_TRUE(InspectMarkdown(Fakes(), "batcher", &text).ok());
  EXPECT_THAT(text, HasSubstr("## batcher\n\nNode. "));
  EXPECT_THAT(text, HasSubstr("| `max_batch` | whole number | `16` | 1 to 512 sequences |"));
  EXPECT_THAT(text, HasSubstr("| `fairness.strict` |"));
  EXPECT_FALSE(InspectMarkdown(Fakes(), "kv_cahe", &text).ok());
}

TEST(Inspect, ReferenceHasAPageForEachPluginAndARowForEachKind) {
  const auto pages = ReferencePages(Fakes());
  EXPECT_EQ(pages.size(), Fakes().index().plugins.size() + 1);
  for (const auto& [name, page] : pages) {
    if (name != "README.md") continue;
    for (const auto& [kind, each] : Fakes().index().kinds) {
      EXPECT_THAT(page, HasSubstr("| [`" + kind + "`](" + each.plugin + ".md#" + kind + ") |"));
    }
  }
}

TEST(Inspect, UnknownNames) {
  EXPECT_THAT(Of("kv_cahe"), HasSubstr("did you mean \"kv_cache\"?"));
  EXPECT_THAT(Of("kv_cache.page"), HasSubstr("did you mean \"page_tokens\"?"));
  EXPECT_THAT(Of("acme_moe"), HasSubstr("was refused: built for torch"));
}

}  // namespace
}  // namespace engine::graph
