// Random schemas: whatever follows the masks to the end parses and is valid.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "test_forms.h"
#include "test_schemas.h"

namespace engine::guided {
namespace {

using Json = nlohmann::ordered_json;

TEST(SchemaProperty, WhatFollowsTheMasksIsValid) {
  std::mt19937 random(20);
  int refused = 0, longest = 0;
  constexpr int kSchemas = 3000;
  for (int i = 0; i < kSchemas; ++i) {
    const Json schema = RandomSchema(&random);
    std::shared_ptr<Guide> guide;
    const Status status = Guide::Compile(Kind::kSchema, schema.dump(), TestVocabulary(),
                                         {kEndToken}, TestLimits(), &guide);
    if (!status.ok()) {
      EXPECT_EQ(status.code(), ENGINE_INVALID_ARGUMENT) << status.message();
      ++refused;
      continue;
    }
    for (uint64_t stream = 0; stream < 2; ++stream) {
      std::string text, problem;
      ASSERT_TRUE(RandomOutput(guide.get(), *TestVocabulary(), stream, &random, &text, &problem))
          << problem << " under " << schema << " after " << text.substr(0, 300);
      const Json value = Json::parse(text, nullptr, false);
      ASSERT_FALSE(value.is_discarded()) << text << " under " << schema;
      ASSERT_TRUE(IsValid(value, schema, schema)) << text << " under " << schema;
      longest = std::max(longest, static_cast<int>(text.size()));
    }
  }
  // The test would say little if most were refused or empty.
  EXPECT_LT(refused, kSchemas / 10);
  EXPECT_GT(longest, 200);
}

// A valid text that the form is known to hold must not be refused: what was generated is read
// again, byte by byte, and token by token in another split.
TEST(SchemaProperty, HowATextIsSplitMakesNoDifference) {
  std::mt19937 random(21);
  for (int i = 0; i < 300; ++i) {
    const Json schema = RandomSchema(&random);
    std::shared_ptr<Guide> guide;
    if (!Guide::Compile(Kind::kSchema, schema.dump(), TestVocabulary(), {kEndToken}, TestLimits(),
                        &guide)
             .ok()) {
      continue;
    }
    std::string text, problem;
    ASSERT_TRUE(RandomOutput(guide.get(), *TestVocabulary(), 0, &random, &text, &problem));
    std::vector<int32_t> bytes;
    for (const char c : text) bytes.push_back(static_cast<uint8_t>(c));
    bool fits = false, complete = false;
    ASSERT_TRUE(guide->Look(bytes.data(), bytes.size(), &fits, &complete).ok());
    EXPECT_TRUE(complete) << text << " under " << schema;
    // Each mask along the way holds exactly the tokens after which the text still fits.
    for (size_t n = 0; n <= bytes.size(); n += 1 + random() % 16) {
      const uint64_t* mask = nullptr;
      ASSERT_TRUE(guide->Allowed(1, bytes.data(), n, &mask).ok());
      ASSERT_NE(mask, nullptr);
      std::vector<int32_t> longer(bytes.begin(), bytes.begin() + static_cast<long>(n));
      longer.push_back(0);
      for (int32_t t = 0; t < static_cast<int32_t>(TestVocabulary()->size()); ++t) {
        longer.back() = t;
        ASSERT_TRUE(guide->Look(longer.data(), longer.size(), &fits, &complete).ok());
        if (t == kEndToken) {
          ASSERT_TRUE(guide->Look(bytes.data(), n, &fits, &complete).ok());
          fits = complete;
        }
        ASSERT_EQ((mask[t / 64] >> (t % 64) & 1) != 0, fits)
            << "token " << t << " after " << text.substr(0, n) << " under " << schema;
      }
    }
  }
}

}  // namespace
}  // namespace engine::guided
