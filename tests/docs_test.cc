// The manual keeps its word: every command line in it runs, every pipeline and plugin in it is
// good.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/process.h"

namespace engine::tests {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// The Markdown files of the manual, relative to the sources.
std::vector<std::string> Pages() {
  std::vector<std::string> pages = {"README.md"};
  for (const auto& entry : fs::directory_iterator(ENGINE_SOURCE_DIR "/docs")) {
    if (entry.path().extension() == ".md") {
      pages.push_back("docs/" + entry.path().filename().string());
    }
  }
  std::sort(pages.begin(), pages.end());
  return pages;
}

struct Block {
  std::string page, language, text;
};

std::vector<Block> Blocks() {
  std::vector<Block> blocks;
  for (const std::string& page : Pages()) {
    bool inside = false;
    for (const std::string& line : Lines(ReadAll(ENGINE_SOURCE_DIR "/" + page))) {
      if (line.rfind("```", 0) == 0) {
        inside = !inside;
        if (inside) blocks.push_back({page, line.substr(3), ""});
      } else if (inside) {
        blocks.back().text += line + "\n";
      }
    }
  }
  return blocks;
}

// The text of the only block in that language of a page which holds `part`.
std::string BlockWith(const std::string& page, const std::string& language,
                      const std::string& part) {
  std::string found;
  for (const Block& block : Blocks()) {
    if (block.page != page || block.language != language ||
        block.text.find(part) == std::string::npos) {
      continue;
    }
    EXPECT_EQ(found, "") << page << " has two such blocks";
    found = block.text;
  }
  EXPECT_NE(found, "") << page << " has no " << language << " block with " << part;
  return found;
}

struct Command {
  std::string page, line;
};
void PrintTo(const Command& command, std::ostream* out) {
  *out << command.page << ": " << command.line;
}

std::vector<Command> Commands() {
  std::vector<Command> commands;
  for (const Block& block : Blocks()) {
    if (block.language != "sh") continue;
    for (const std::string& line : Lines(block.text)) {
      if (!line.empty()) commands.push_back({block.page, line});
    }
  }
  return commands;
}

// Files that one command writes and a later one reads are kept until all have run.
const std::string& Work() {
  static const std::string folder = [] {
    std::string pattern = testing::TempDir() + "engine_docs_XXXXXX";
    return std::string(mkdtemp(pattern.data()));
  }();
  return folder;
}
class RemoveWork : public testing::Environment {
  void TearDown() override { fs::remove_all(Work()); }
};
[[maybe_unused]] testing::Environment* const remove_work =
    testing::AddGlobalTestEnvironment(new RemoveWork);

// The line with the build folder of this test, and what it writes there put aside.
std::string Here(std::string line) {
  const std::string wanted = "build/";
  for (size_t at = 0; (at = line.find(wanted, at)) != std::string::npos;) {
    const bool binary = line.compare(at, 10, "build/bin/") == 0;
    const std::string with = (binary ? std::string(ENGINE_BINARY_DIR) : Work()) + "/";
    line.replace(at, wanted.size(), with);
    at += with.size();
  }
  return line;
}

Outcome Shell(const std::string& line, double limit_s = 400) {
  ProcessOptions options = EngineOptions();
  options.limit_s = limit_s;
  return Process({"bash", "-c", line}, options).Wait();
}

class CommandTest : public testing::TestWithParam<Command> {};

// In the order of the manual: a later one may use what an earlier one made.
TEST_P(CommandTest, RunsAsWritten) {
  const std::string& line = GetParam().line;
  const bool engine = line.rfind("build/bin/engine ", 0) == 0;
  const bool writes = line.rfind("printf ", 0) == 0 && line.find(" > build/") != std::string::npos;
  EXPECT_TRUE(engine || writes) << "a test does not know such a line";
  const Outcome run = Shell(Here(line));
  EXPECT_EQ(run.code, 0) << line << "\n" << run.out << run.err;
  const bool quiet = writes || line.find(" schema ") != std::string::npos;
  EXPECT_EQ(run.out.empty() && run.err.empty(), quiet) << run.out << run.err;
}

INSTANTIATE_TEST_SUITE_P(Manual, CommandTest, testing::ValuesIn(Commands()));

TEST(DocsTest, ThePipelinesShownAreGood) {
  int shown = 0;
  for (const Block& block : Blocks()) {
    if (block.language != "textproto") continue;
    const std::string file = Work() + "/shown" + std::to_string(++shown) + ".pbtxt";
    std::ofstream(file) << block.text;
    const Outcome check = RunEngine({"check", file});
    EXPECT_EQ(check.code, 0) << block.page << "\n" << check.err;
    const Outcome run = RunEngine({"run", file, "Hi", "--set", "loop.max_tokens=2"});
    EXPECT_EQ(run.code, 0) << block.page << "\n" << run.err;
  }
  EXPECT_GT(shown, 0);
}

TEST(DocsTest, EveryPipelineIsToldOf) {
  std::string all;
  for (const std::string& page : Pages()) all += ReadAll(ENGINE_SOURCE_DIR "/" + page);
  for (const auto& entry : fs::recursive_directory_iterator(ENGINE_SOURCE_DIR "/pipelines")) {
    if (entry.path().extension() != ".pbtxt") continue;
    const std::string name = entry.path().filename().string();
    EXPECT_NE(all.find(name), std::string::npos) << "no page speaks of " << name;
  }
}

TEST(DocsTest, LinksLeadSomewhere) {
  for (const std::string& page : Pages()) {
    const std::string text = ReadAll(ENGINE_SOURCE_DIR "/" + page);
    const fs::path folder = (fs::path(ENGINE_SOURCE_DIR) / page).parent_path();
    for (size_t at = 0; (at = text.find("](", at)) != std::string::npos; at += 2) {
      std::string target = text.substr(at + 2, text.find(')', at) - at - 2);
      if (target.rfind("http", 0) == 0) continue;
      target = target.substr(0, target.find('#'));
      EXPECT_TRUE(target.empty() || fs::exists(folder / target)) << page << " links to " << target;
    }
  }
}

TEST(DocsTest, CommandsAreThoseOfTheBinary) {
  const std::string help = RunEngine({"--help"}).out;
  const std::string page = ReadAll(ENGINE_SOURCE_DIR "/docs/pipelines.md");
  for (const char* command :
       {"run", "check", "explain", "graph", "bench", "inspect", "schema", "plugin"}) {
    EXPECT_THAT(help, HasSubstr(std::string("\n  ") + command + " "));
    EXPECT_THAT(page, HasSubstr(std::string("| `engine ") + command));
  }
}

// From an empty folder to a running node, with nothing but what the manual shows.
TEST(DocsTest, ThePluginOfTheManualBuildsAndRuns) {
  const std::string page = "docs/plugins.md", plugin = Work() + "/shout", prefix = Work() + "/sdk";
  fs::create_directories(plugin);
  std::ofstream(plugin + "/options.proto") << BlockWith(page, "proto", "ShoutOptions");
  std::ofstream(plugin + "/shout.cc") << BlockWith(page, "cpp", "ENGINE_PLUGIN");
  std::ofstream(plugin + "/CMakeLists.txt") << BlockWith(page, "cmake", "find_package(EngineSDK");
  const Outcome install = Shell("cmake --install " ENGINE_BINARY_DIR " --prefix " + prefix);
  ASSERT_EQ(install.code, 0) << install.err;
  const Outcome build = Shell("unset LIBTORCH Torch_DIR; cmake -S " + plugin + " -B " + plugin +
                              "/build -DCMAKE_PREFIX_PATH=" + prefix +
                              " -DCMAKE_BUILD_TYPE=Release && cmake --build " + plugin + "/build");
  ASSERT_EQ(build.code, 0) << build.out << build.err;
  const std::string pipeline = plugin + "/loud.pbtxt";
  std::ofstream(pipeline) << R"(
      node { name: "ask"   prompt { text: "The capital of France is" }  out: "text" }
      node { name: "loud"  shout { marks: 2 }  in: "text"  out: "louder" }
      resource { name: "model"  load { path: "smollm2-135m-instruct" } }
      node { name: "encode"  tokenize { }  use: "model"  in: "louder"  out: "tokens" }
      node { name: "loop"  serial_batcher { max_tokens: 1 }  use: "model"  in: "NEW:tokens"
             in: "RUNNING:sampled"  feedback: "RUNNING"  out: "STEP:step"  out: "TOKEN:token" }
      node { name: "forward"  forward { }  use: "model"  in: "step"  out: "logits" }
      node { name: "sample"  sample { }  in: "logits"  out: "sampled" }
      node { name: "decode"  detokenize { }  use: "model"  in: "token"  out: "event" }
      node { name: "show"  text_sink { format: JSONL }  in: "event" })";
  ProcessOptions options;
  options.env = {{"ENGINE_PLUGIN_PATH", plugin + "/build"}};
  const Outcome run = RunEngine({"run", pipeline}, options);
  ASSERT_EQ(run.code, 0) << run.err;
  const Outcome same =
      RunEngine({"run", "pipelines/generate-plain.pbtxt", "THE CAPITAL OF FRANCE IS!!", "--set",
                 "chat=false", "--set", "max_tokens=1", "--set", "format=JSONL"});
  ASSERT_EQ(same.code, 0) << same.err;
  const auto prompt = [](const std::string& line) {
    return line.substr(line.find("\"prompt_ids\""),
                       line.find("\"margins\"") - line.find("\"prompt_ids\""));
  };
  EXPECT_EQ(prompt(run.out), prompt(same.out));
  const Outcome many = RunEngine({"check", pipeline, "--set", "loud.marks=11"}, options);
  EXPECT_EQ(many.code, 2) << "the maximum of the options is not kept";
  EXPECT_THAT(RunEngine({"inspect", "shout.marks"}, options).out,
              HasSubstr("How many exclamation marks follow."));
}

}  // namespace
}  // namespace engine::tests
