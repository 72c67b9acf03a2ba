// Every file of testdata/wrong says by itself which errors it must give. A line of the form
//   #          ^ words | more words
// expects an error on the last line before it that is not such a line, in the caret's column, that
// holds each of the words; "#@7 words" gives the column as a number, and "#@0" any place. Words
// that begin with "warning:" expect a warning. Nothing else may be reported, and the order is that
// of the file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/graph/graph.h"
#include "engine/graph/testing/fake_kinds.h"

namespace engine::graph {
namespace {

namespace fs = std::filesystem;

struct Expected {
  int line = 0, column = 0;
  bool warning = false;
  std::vector<std::string> words;
};

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path);
  std::stringstream all;
  all << in.rdbuf();
  return all.str();
}

std::vector<Expected> Expectations(const std::string& text) {
  std::vector<Expected> result;
  std::istringstream lines(text);
  int line = 0, last = 0;
  for (std::string row; std::getline(lines, row);) {
    ++line;
    Expected e;
    size_t words = 0;
    const size_t mark =
        row.empty() || row[0] != '#' ? std::string::npos : row.find_first_not_of(' ', 1);
    if (mark != std::string::npos && row[mark] == '^') {
      e.column = static_cast<int>(mark) + 1;
      words = mark + 1;
    } else if (row.rfind("#@", 0) == 0) {
      e.column = std::stoi(row.substr(2));
      words = row.find(' ');
    } else {
      last = line;
      continue;
    }
    e.line = last;
    std::string rest = row.substr(words + 1);
    if (rest.rfind("warning: ", 0) == 0) {
      e.warning = true;
      rest = rest.substr(9);
    }
    while (true) {
      const size_t bar = rest.find(" | ");
      e.words.push_back(rest.substr(0, bar));
      if (bar == std::string::npos) break;
      rest = rest.substr(bar + 3);
    }
    result.push_back(e);
  }
  std::stable_sort(result.begin(), result.end(), [](const Expected& a, const Expected& b) {
    return std::tie(a.line, a.column) < std::tie(b.line, b.column);
  });
  return result;
}

// Empty when the diagnostics are those expected.
std::string Compare(const std::vector<Expected>& expected, const std::vector<Diagnostic>& got) {
  std::ostringstream out;
  if (expected.size() != got.size()) {
    out << "expected " << expected.size() << " diagnostics, got " << got.size() << "\n";
  }
  for (size_t i = 0; i < std::min(expected.size(), got.size()); ++i) {
    const Expected& e = expected[i];
    const Diagnostic& d = got[i];
    if (e.column != 0 && (e.line != d.line || e.column != d.column)) {
      out << "expected at " << e.line << ":" << e.column << ", got " << d.line << ":" << d.column
          << "\n";
    }
    if (e.warning != (d.severity == Severity::kWarning)) out << "the severity differs\n";
    std::string all = d.message;
    for (const Note& note : d.notes) all += "\n" + note.message;
    for (const std::string& word : e.words) {
      if (all.find(word) == std::string::npos) out << "missing words: " << word << "\n";
    }
  }
  return out.str();
}

std::vector<fs::path> Files() {
  std::vector<fs::path> files;
  const fs::path folder = fs::path(ENGINE_SOURCE_DIR) / "engine/graph/testdata/wrong";
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".pbtxt") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

class WrongFile : public ::testing::TestWithParam<fs::path> {};

TEST_P(WrongFile, GivesTheErrorsThatItSays) {
  const std::vector<Expected> expected = Expectations(ReadAll(GetParam()));
  ASSERT_FALSE(expected.empty()) << "the file expects nothing";
  Plan plan;
  std::vector<Diagnostic> got;
  const bool good =
      LoadPipeline({.path = GetParam().string()}, testing::FakeKinds(), {}, &plan, &got);
  const bool only_warnings =
      std::all_of(expected.begin(), expected.end(), [](const Expected& e) { return e.warning; });
  EXPECT_EQ(good, only_warnings);
  EXPECT_EQ(Compare(expected, got), "") << Render(got);
}

INSTANTIATE_TEST_SUITE_P(All, WrongFile, ::testing::ValuesIn(Files()), [](const auto& info) {
  std::string name = info.param.stem().string();
  return name;
});

TEST(WrongFiles, AreMany) { EXPECT_GE(Files().size(), 60u); }

// The comparison itself can fail: each expectation, changed a little, is noticed.
TEST(WrongFiles, ComparisonNoticesEachMutation) {
  for (const fs::path& path : Files()) {
    const std::vector<Expected> expected = Expectations(ReadAll(path));
    Plan plan;
    std::vector<Diagnostic> got;
    LoadPipeline({.path = path.string()}, testing::FakeKinds(), {}, &plan, &got);
    for (size_t i = 0; i < expected.size(); ++i) {
      std::vector<Expected> changed = expected;
      changed.erase(changed.begin() + static_cast<std::ptrdiff_t>(i));
      EXPECT_NE(Compare(changed, got), "") << path;
      changed = expected;
      changed[i].words.push_back("words that no message has");
      EXPECT_NE(Compare(changed, got), "") << path;
      if (expected[i].column == 0) continue;
      changed = expected;
      ++changed[i].column;
      EXPECT_NE(Compare(changed, got), "") << path;
      changed = expected;
      ++changed[i].line;
      EXPECT_NE(Compare(changed, got), "") << path;
    }
  }
}

}  // namespace
}  // namespace engine::graph
