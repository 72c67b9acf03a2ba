#include "engine/abi/elf.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "engine/abi/testing/case_files.h"
#include "engine/plugin.h"

namespace engine::abi {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ElfFacts Facts(const std::string& name) {
  ElfFacts facts;
  ElfProblem problem;
  EXPECT_TRUE(ReadElf(testing::CasePath(name), &facts, &problem)) << problem.because;
  return facts;
}

TEST(ElfTest, ReadsExportsAndManifest) {
  const ElfFacts facts = Facts("good");
  EXPECT_THAT(facts.exports, ElementsAre("engine_plugin_v1"));
  EXPECT_TRUE(facts.has_manifest);
  ASSERT_TRUE(facts.manifest.has_value());
  EXPECT_EQ(facts.manifest->magic, ENGINE_PLUGIN_MAGIC);
  EXPECT_EQ(facts.manifest->struct_size, sizeof(engine_plugin));
  EXPECT_EQ(facts.manifest->abi_major, ENGINE_ABI_MAJOR);
  EXPECT_EQ(facts.manifest->tier, ENGINE_TIER_NONE);
  EXPECT_THAT(Facts("throw_open").needed, Contains(HasSubstr("libstdc++.so")));
  EXPECT_TRUE(facts.search.empty());
}

TEST(ElfTest, ReadsOtherExportsNeededAndRunpath) {
  EXPECT_THAT(Facts("extra_export").exports, Contains("acme_helper"));
  EXPECT_FALSE(Facts("missing_symbol").has_manifest);
  const ElfFacts facts = Facts("second_torch");
  EXPECT_THAT(facts.needed, Contains("libtorch_cpu.so"));
  EXPECT_THAT(facts.search, Contains(HasSubstr("stubs")));
  EXPECT_EQ(facts.manifest->tier, ENGINE_TIER_NATIVE);
}

TEST(ElfTest, ProgramsAndObjectsAreNoLibraries) {
  std::string bytes = testing::ReadAll(testing::CasePath("good"));
  ElfFacts facts;
  ElfProblem problem;
  for (const auto& [type, words] : {std::pair<uint16_t, const char*>{ET_EXEC, "a program"},
                                    {ET_REL, "an object file"},
                                    {ET_CORE, "a core dump"},
                                    {77, "not a shared library"}}) {
    std::memcpy(&bytes[16], &type, sizeof type);
    EXPECT_FALSE(ParseElf(bytes, &facts, &problem));
    EXPECT_THAT(problem.because, HasSubstr(words));
    EXPECT_THAT(problem.fix, HasSubstr("-shared"));
  }
}

// Every beginning of a file is either refused with a reason, or tells the same as the whole.
TEST(ElfTest, EveryBeginningIsReadWithinBounds) {
  const std::string whole = testing::ReadAll(testing::CasePath("good"));
  for (size_t size = 0; size < whole.size(); size += size < 2048 ? 1 : 37) {
    // Of its own size on the heap, so that reading past it is seen by a sanitizer.
    const std::vector<char> bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    ElfFacts facts;
    ElfProblem problem;
    EXPECT_FALSE(ParseElf({bytes.data(), bytes.size()}, &facts, &problem)) << size;
    EXPECT_FALSE(problem.because.empty());
    EXPECT_FALSE(problem.fix.empty());
  }
}

// Whatever the bytes are, reading ends, and a failure has a reason.
TEST(ElfTest, ChangedBytesAreReadWithinBounds) {
  const std::string whole = testing::ReadAll(testing::CasePath("good"));
  std::mt19937 random(7);
  size_t refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = whole;
    const int changes = 1 + static_cast<int>(random() % 4);
    for (int k = 0; k < changes; ++k) {
      // Headers and tables lie at the beginning.
      const size_t at = random() % (random() % 2 ? 1024 : std::min<size_t>(bytes.size(), 8192));
      const char values[] = {'\0', '\xff', '\x7f', static_cast<char>(random())};
      bytes[at] = values[random() % 4];
    }
    ElfFacts facts;
    ElfProblem problem;
    if (ParseElf(bytes, &facts, &problem)) continue;
    ++refused;
    ASSERT_FALSE(problem.because.empty());
    ASSERT_FALSE(problem.fix.empty());
  }
  EXPECT_GT(refused, 1000u);
}

}  // namespace
}  // namespace engine::abi
