#include "engine/graph/diagnostic.h"

#include <gtest/gtest.h>

namespace engine::graph {
namespace {

TEST(Diagnostic, CaretStandsUnderTheWordWithTabsAndOtherScripts) {
  const SourceFile file("a.pbtxt", "x\n\tname: \"größe\" kin { }\n", 0);
  Reporter reporter;
  const auto at = static_cast<uint32_t>(file.text().find("kin"));
  reporter.Error({&file, at, 3}, "what").Hint("why").At({&file, 0, 1}, "the other line");
  EXPECT_EQ(Render(reporter.Take()),
            "a.pbtxt:2:16: error: what\n"
            " 2 | \tname: \"größe\" kin { }\n"
            "   | \t              ^~~\n"
            "   = why\n"
            "a.pbtxt:1:1: note: the other line\n"
            " 1 | x\n"
            "   | ^\n");
}

TEST(Diagnostic, LongLinesAreCut) {
  const SourceFile file("a", std::string(10000, 'a') + "BAD" + std::string(10000, 'b'), 0);
  Reporter reporter;
  reporter.Error({&file, 10000, 3}, "what");
  const std::string text = Render(reporter.Take());
  EXPECT_LT(text.size(), 500u);
  EXPECT_NE(text.find("BAD"), std::string::npos);
}

TEST(Diagnostic, SortedByPlaceAndEachOnce) {
  const SourceFile first("a", "1\n2\n3\n", 0), second("b", "1\n", 1);
  Reporter reporter;
  reporter.Error({&second, 0, 1}, "d");
  reporter.Error({&first, 4, 1}, "c");
  reporter.Warning({&first, 0, 1}, "a");
  reporter.Error({&first, 4, 1}, "c");
  const auto all = reporter.Take();
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].message + all[1].message + all[2].message, "acd");
}

}  // namespace
}  // namespace engine::graph
