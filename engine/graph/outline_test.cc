#include "engine/graph/outline.h"

#include <gtest/gtest.h>

#include "engine/graph/diagnostic.h"

namespace engine::graph {
namespace {

std::string Shown(const OutlineBlock& block) {
  std::string out;
  for (const OutlineField& field : block.fields) {
    out += field.name + "=";
    for (const OutlineValue& value : field.values) {
      out += value.block ? "{" + Shown(*value.block) + "}" : value.text;
      out += ",";
    }
  }
  return out;
}

std::string Parse(const std::string& text) {
  const SourceFile file("f", text, 0);
  OutlineBlock root;
  Reporter reporter;
  if (ParseOutline(file, &root, &reporter)) return Shown(root);
  const auto all = reporter.Take();
  return std::to_string(all[0].line) + ":" + std::to_string(all[0].column) + " " + all[0].message;
}

TEST(Outline, Forms) {
  EXPECT_EQ(Parse("a: 1; b { c: \"x\" 'y' d: -3 }, e < f: [1, 2] > # end"),
            "a=1,b={c=xy,d=-3,},e={f=1,2,},");
  EXPECT_EQ(Parse("a: \"\\n\\x41\\102\\u00e9\\\"\""), "a=\nAB\xC3\xA9\",");
  EXPECT_EQ(Parse("a: 1.5e-3f b: 0x1F c: .5"), "a=1.5e-3f,b=0x1F,c=.5,");
  EXPECT_EQ(Parse("a: []"), "a=");
}

TEST(Outline, SyntaxErrorsHaveTheirPlace) {
  EXPECT_EQ(Parse("a {\n b: }"), "2:5 expected a value, found \"}\"");
  EXPECT_EQ(Parse("}"), "1:1 this '}' closes nothing");
  EXPECT_EQ(Parse("a: [1 2]"), "1:7 expected ',' or ']', found \"2\"");
  EXPECT_EQ(Parse("a: \"x\\q\""), "1:6 an escape that does not exist");
  EXPECT_EQ(Parse("a: \"\xff\""), "1:5 this is not UTF-8 text");
  EXPECT_EQ(Parse(std::string("a: 1\0", 5)), "1:5 a control character");
  EXPECT_EQ(Parse("a"), "1:2 expected ':' or '{' after \"a\", found the end of the file");
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "a{";
  EXPECT_NE(Parse(deep).find("deeper than 64"), std::string::npos);
}

}  // namespace
}  // namespace engine::graph
