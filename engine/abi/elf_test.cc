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

// A small file must not make its reader keep, or search, much more than it holds.
TEST(ElfTest, WhatMultipliesIsRefused) {
  const std::string whole = testing::ReadAll(testing::CasePath("good"));
  ElfFacts facts;
  ElfProblem problem;
  Elf64_Ehdr header;
  std::memcpy(&header, whole.data(), sizeof header);
  const auto segments = [&] {
    std::vector<Elf64_Phdr> out(header.e_phnum);
    std::memcpy(out.data(), whole.data() + header.e_phoff, out.size() * sizeof out[0]);
    return out;
  }();
  // The file with other program headers, and `more` behind its end.
  const auto with = [&](const std::vector<Elf64_Phdr>& table, const std::string& more) {
    std::string bytes = whole + more;
    Elf64_Ehdr changed = header;
    changed.e_phoff = bytes.size();
    changed.e_phnum = static_cast<uint16_t>(table.size());
    std::memcpy(bytes.data(), &changed, sizeof changed);
    bytes.append(reinterpret_cast<const char*>(table.data()), table.size() * sizeof table[0]);
    return bytes;
  };
  EXPECT_TRUE(ParseElf(with(segments, ""), &facts, &problem)) << problem.because;

  std::vector<Elf64_Phdr> many = segments;
  Elf64_Phdr load = {};
  load.p_type = PT_LOAD;
  load.p_vaddr = 1u << 30;
  many.insert(many.begin(), 1000, load);
  EXPECT_FALSE(ParseElf(with(many, ""), &facts, &problem));
  EXPECT_EQ(problem.because, "it is damaged: it has too many segments");

  // A list of 2000 folders, named 3000 times.
  std::string strings(1, '\0');
  for (int i = 0; i < 2000; ++i) strings += "a:";
  strings.push_back('\0');
  std::vector<Elf64_Dyn> entries(3000, Elf64_Dyn{DT_RUNPATH, {1}});
  const uint64_t at = uint64_t{1} << 30;
  entries.push_back({DT_STRTAB, {at}});
  entries.push_back({DT_STRSZ, {strings.size()}});
  entries.push_back({DT_SYMTAB, {at}});
  std::string more(reinterpret_cast<const char*>(entries.data()), entries.size() * 16);
  std::vector<Elf64_Phdr> table = segments;
  for (Elf64_Phdr& segment : table) {
    if (segment.p_type != PT_DYNAMIC) continue;
    segment.p_offset = whole.size();
    segment.p_filesz = more.size();
  }
  load.p_offset = whole.size() + more.size();
  load.p_filesz = strings.size();
  table.push_back(load);
  EXPECT_FALSE(ParseElf(with(table, more + strings), &facts, &problem));
  EXPECT_EQ(problem.because, "it is damaged: its RUNPATH has no end");
  EXPECT_LE(facts.search.size(), 4096u);
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
