// What tests of the command line share: a folder of their own, and the words of the shipped
// pipelines.
#ifndef ENGINE_TESTS_CLI_H_
#define ENGINE_TESTS_CLI_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/process.h"

namespace engine::tests {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
namespace fs = std::filesystem;

using Words = std::vector<std::string>;

inline std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// A folder of one test, removed at its end.
class CliTest : public testing::Test {
 protected:
  CliTest() {
    std::string pattern = testing::TempDir() + "engine_cli_XXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  ~CliTest() override { fs::remove_all(folder_); }
  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  // Writes a file of the test and answers its path.
  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(Path(name)) << text;
    return Path(name);
  }

 private:
  std::string folder_;
};

inline Words Generate(const std::string& prompt, Words sets, Words more = {},
                      const std::string& file = "pipelines/generate.pbtxt") {
  Words words = {"run", file};
  if (!prompt.empty()) words.push_back(prompt);
  for (std::string& set : sets) words.insert(words.end(), {"--set", std::move(set)});
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// The only object of a run with format=JSONL.
inline json Object(const std::string& prompt, Words sets,
                   const std::string& file = "pipelines/generate.pbtxt") {
  sets.push_back("format=JSONL");
  const Outcome run = RunEngine(Generate(prompt, std::move(sets), {}, file));
  EXPECT_EQ(run.code, 0) << run.err;
  const std::vector<std::string> lines = Lines(run.out);
  EXPECT_EQ(lines.size(), 1u) << run.out;
  return lines.empty() ? json() : json::parse(lines[0]);
}

}  // namespace engine::tests

#endif  // ENGINE_TESTS_CLI_H_
