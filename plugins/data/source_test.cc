// Files of all forms, written anew for each test.
#include "source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

namespace engine::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// All objects of a text, each behind its place, or the error.
std::string Objects(std::string_view text, Form form, size_t longest = 1000) {
  ObjectIndex index;
  Status status = index.Build("f", text, form, longest);
  std::string out;
  for (uint64_t i = 0; status.ok() && i < index.size(); ++i) {
    std::string_view object;
    status = index.At(i, &object);
    if (status.ok()) out += index.Where(i) + " " + std::string(object) + "; ";
    if (!status.ok()) status = status.Prefix(index.Where(i) + ": ");
  }
  return status.ok() ? out : out + "error " + std::string(status.message());
}

TEST(ObjectIndex, LinesWithoutTheEmptyOnes) {
  EXPECT_EQ(Objects("\n{\"a\":1}\r\n  \n\n {\"b\":2} \n{\"c\":3}", Form::kLines),
            "f:2 {\"a\":1}; f:5 {\"b\":2}; f:6 {\"c\":3}; ");
  EXPECT_EQ(Objects("\xef\xbb\xbf{}\n", Form::kLines), "f:1 {}; ");
  EXPECT_EQ(Objects("\n \r\n", Form::kLines), "error file 'f' has no example");
}

TEST(ObjectIndex, AListOfObjects) {
  EXPECT_EQ(Objects("[ {\"a\":[{}, \"]}\\\"\"]},\n{\"b\":2}\n]\n", Form::kList),
            "f:1 {\"a\":[{}, \"]}\\\"\"]}; f:2 {\"b\":2}; ");
  EXPECT_EQ(Objects("[]", Form::kList), "error file 'f' has no example");
}

TEST(ObjectIndex, PlacesOfManyObjects) {
  std::string lines, list = "[\n";
  for (int i = 0; i < 3000; ++i) {
    lines += i % 3 == 0 ? "\n{}\n" : "{}\n";
    list += std::string(i == 0 ? "" : ",") + (i % 3 == 0 ? "\n{}\n" : "{}\n");
  }
  list += "]";
  for (const Form form : {Form::kLines, Form::kList}) {
    const std::string& text = form == Form::kLines ? lines : list;
    const int before = form == Form::kLines ? 1 : 2;  // the line of the first object, less one
    ObjectIndex index;
    ASSERT_TRUE(index.Build("f", text, form, 100).ok());
    ASSERT_EQ(index.size(), 3000u);
    for (const int i : {0, 1, 3, 1022, 1023, 1024, 1025, 2047, 2048, 2999}) {
      EXPECT_EQ(index.Where(static_cast<uint64_t>(i)),
                "f:" + std::to_string(before + i + 1 + i / 3))
          << i;
    }
  }
}

TEST(CheckUtf8, NamesTheLine) {
  EXPECT_TRUE(CheckUtf8("f", "").ok());
  EXPECT_TRUE(CheckUtf8("f", "\xef\xbb\xbfgr\xc3\xbc\xc3\x9f\n\xf0\x9f\x98\x80").ok());
  for (const char* bad : {"\xfc", "a\xc3", "\xed\xa0\x80", "\xc0\x80"}) {
    EXPECT_THAT(std::string(CheckUtf8("f", "good\n\n" + std::string(bad) + "\n").message()),
                HasSubstr("f:3: this line is no UTF-8; convert the file"));
  }
}

TEST(ObjectIndex, BrokenListsAreNamed) {
  EXPECT_THAT(Objects("[{}\n", Form::kList), HasSubstr("f:2: the list does not end"));
  EXPECT_THAT(Objects("[\n{\"a\": \"b}", Form::kList), HasSubstr("f:2: this object does not end"));
  EXPECT_THAT(Objects("[{}, 5]", Form::kList), HasSubstr("f:1: the list must hold objects"));
  EXPECT_THAT(Objects("[{} {}]", Form::kList), HasSubstr("f:1: between two objects"));
  EXPECT_THAT(Objects("[{}]\n]", Form::kList), HasSubstr("f:2: something follows the list"));
  EXPECT_THAT(Objects("[", Form::kList), HasSubstr("the list does not end"));
  EXPECT_THAT(Objects("[{},", Form::kList), HasSubstr("the list does not end"));
}

TEST(ObjectIndex, LongOnesAreRefusedAndTheNextIsFound) {
  const std::string exact = "{\"a\":\"" + std::string(10, 'x') + "\"}";
  for (const Form form : {Form::kLines, Form::kList}) {
    const bool list = form == Form::kList;
    const std::string text = list ? "[" + exact + "]" : exact + "\n";
    EXPECT_EQ(Objects(text, form, exact.size()), "f:1 " + exact + "; ");
    EXPECT_THAT(Objects(text, form, exact.size() - 1),
                HasSubstr("f:1: the example is longer than 17 bytes; max_line_bytes"));
  }
  ObjectIndex index;
  const std::string text = std::string(1 << 20, '{') + "\n{}";
  ASSERT_TRUE(index.Build("f", text, Form::kLines, 100).ok());
  std::string_view object;
  EXPECT_EQ(index.At(0, &object).code(), ENGINE_OUT_OF_RANGE);
  ASSERT_TRUE(index.At(1, &object).ok());
  EXPECT_EQ(object, "{}");
}

TEST(FormOf, ByNameThenByContent) {
  EXPECT_EQ(FormOf("a.bin", "{"), Form::kTokens);
  EXPECT_EQ(FormOf("a.TXT", "{"), Form::kText);
  EXPECT_EQ(FormOf("a.jsonl", "x"), Form::kLines);
  EXPECT_EQ(FormOf("a.json", " [{}]"), Form::kList);
  EXPECT_EQ(FormOf("a.json", "{}"), Form::kLines);
  EXPECT_EQ(FormOf("a.data", "\n{}"), Form::kLines);
  EXPECT_EQ(FormOf("LICENSE", "  Apache"), Form::kText);
  EXPECT_EQ(FormOf("a.data", ""), Form::kText);
}

TEST(TokenFile, StretchesOfBothWidths) {
  const std::string narrow("HH\x01\x00\x00\x01\xff\x7f", 8);  // a header of two bytes
  TokenFile file;
  std::vector<int32_t> ids;
  ASSERT_TRUE(file.Build("f", narrow, 2, 2, 32768, 2).ok());
  ASSERT_EQ(file.size(), 2u);
  ASSERT_TRUE(file.At(0, &ids).ok());
  EXPECT_THAT(ids, ElementsAre(1, 256));
  ASSERT_TRUE(file.At(1, &ids).ok());
  EXPECT_THAT(ids, ElementsAre(32767));
  const std::string wide("\x00\x00\x01\x00\xff\xff\xff\xff", 8);
  ASSERT_TRUE(file.Build("f", wide, 0, 4, 70000, 1).ok());
  ASSERT_TRUE(file.At(0, &ids).ok());
  EXPECT_THAT(ids, ElementsAre(65536));
  EXPECT_THAT(std::string(file.At(1, &ids).message()),
              HasSubstr("f: token 1 is 4294967295; the model has ids 0 to 69999"));
}

TEST(TokenFile, SizesThatAreNoIds) {
  TokenFile file;
  EXPECT_FALSE(file.Build("f", "abc", 0, 2, 10, 2).ok());
  EXPECT_FALSE(file.Build("f", "abcd", 4, 2, 10, 2).ok());
  EXPECT_FALSE(file.Build("f", "abcd", 9, 2, 10, 2).ok());
}

TEST(MappedFile, WhatCannotBeMappedIsNamed) {
  const std::string path = ::testing::TempDir() + "data_source_test";
  std::ofstream(path) << "abc";
  {
    MappedFile file;
    ASSERT_TRUE(file.Open(path).ok());
    EXPECT_EQ(file.bytes(), "abc");
  }
  std::ofstream(path, std::ios::trunc).flush();
  MappedFile empty, folder, missing;
  EXPECT_THAT(std::string(empty.Open(path).message()), HasSubstr("is empty"));
  EXPECT_THAT(std::string(folder.Open(::testing::TempDir()).message()), HasSubstr("is no file"));
  std::remove(path.c_str());
  EXPECT_EQ(missing.Open(path).code(), ENGINE_NOT_FOUND);
}

}  // namespace
}  // namespace engine::data
