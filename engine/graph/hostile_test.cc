// Texts that nobody would write: cut, changed, doubled, deep and great ones. None may crash, hang,
// or give an error without a place.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "engine/graph/graph.h"
#include "engine/graph/testing/fake_kinds.h"

namespace engine::graph {
namespace {

void LoadAnything(const std::string& text, const Overrides& overrides = {}) {
  Plan plan;
  std::vector<Diagnostic> diagnostics;
  const bool good = LoadPipeline({.path = "m.pbtxt", .text = text, .check_paths = false},
                                 testing::FakeKinds(), overrides, &plan, &diagnostics);
  ASSERT_EQ(good, !HasErrors(diagnostics));
  for (const Diagnostic& d : diagnostics) {
    ASSERT_GE(d.line, 1) << d.message << "\n" << text;
    ASSERT_GE(d.column, 1) << d.message;
    ASSERT_FALSE(d.file.empty());
    ASSERT_FALSE(d.message.empty());
  }
  Render(diagnostics);
}

std::vector<std::string> GoodTexts() {
  return {testing::DesignExample(), R"(
    param { name: "p" default: "2" sets: "f.depth" type: INTEGER choices: ["2", "3"] }
    subgraph { name: "two" in: "IN:x" out: "OUT:y" param { name: "depth" type: INTEGER sets: "g.max_in_flight" }
      node { name: "s" same { } in: "x" out: "y" } node { name: "g" gather { } in: "y" } }
    require { plugin: "engine.int8" version: "^1" }
    executor { name: "e" threads: 2 }
    limits { max_in_flight: 4 }
    node { name: "n" numbers { } out: "x" }
    node { name: "f" two { } in: "x" out: "z" }
    node { name: "b" pair { } policy: ANY in: "LEFT:z" in: "RIGHT:r" feedback: "RIGHT" out: "w"
           queue { port: "RIGHT" size: 4 overflow: REJECT } executor: "e" }
    node { name: "c" same { } in: "w" out: "r" })"};
}

TEST(Hostile, EveryTruncation) {
  for (const std::string& text : GoodTexts()) {
    for (size_t n = 0; n < text.size(); n += 3) LoadAnything(text.substr(0, n));
  }
}

TEST(Hostile, SeededMutations) {
  std::mt19937 random(20240611);
  const std::string alphabet = "{}<>[]:;,\"'\\#-.0159azAZ_ \n\t\xff\xc3\xa9";
  const auto texts = GoodTexts();
  for (int i = 0; i < 2500; ++i) {
    std::string text = texts[random() % texts.size()];
    for (unsigned k = 0, n = 1 + random() % 4; k < n && !text.empty(); ++k) {
      const size_t at = random() % text.size();
      switch (random() % 5) {
        case 0:
          text[at] = alphabet[random() % alphabet.size()];
          break;
        case 1:
          text.erase(at, 1 + random() % 12);
          break;
        case 2:
          text.insert(at, 1, alphabet[random() % alphabet.size()]);
          break;
        case 3:  // some part, once more, somewhere
          text.insert(random() % text.size(), text.substr(at, random() % 60));
          break;
        case 4: {  // two words change places
          const size_t a = text.find('"', at), b = text.find('"', text.size() / 2);
          if (a != std::string::npos && b != std::string::npos) std::swap(text[a], text[b]);
        }
      }
    }
    LoadAnything(text);
    if (HasFatalFailure()) FAIL() << text;
  }
}

TEST(Hostile, CommandLines) {
  std::mt19937 random(7);
  const std::string parts[] = {"batch", ".",      "=",     "max_batch", "",       "limits",
                               "1e9",   "\n",     "small", "int8",      "scheme", "..",
                               "\xff",  "bypass", "true",  "fairness"};
  for (int i = 0; i < 500; ++i) {
    Overrides overrides;
    for (unsigned k = 0; k < 1 + random() % 2; ++k) {
      std::string set;
      for (unsigned j = 0; j < random() % 8; ++j) set += parts[random() % std::size(parts)];
      overrides.sets.push_back(set);
    }
    LoadAnything(testing::DesignExample(), overrides);
    if (HasFatalFailure()) FAIL() << overrides.sets[0];
  }
}

TEST(Hostile, GreatFiles) {
  std::string nodes;
  for (int i = 0; i < 10050; ++i) {
    nodes += "node { name: \"n" + std::to_string(i) + "\" monitor { } }\n";
  }
  Plan plan;
  std::vector<Diagnostic> diagnostics;
  EXPECT_FALSE(LoadPipeline({.path = "m.pbtxt", .text = nodes}, testing::FakeKinds(), {}, &plan,
                            &diagnostics));
  ASSERT_EQ(diagnostics.size(), 1u);
  EXPECT_NE(diagnostics[0].message.find("more than 10000"), std::string::npos);
  EXPECT_EQ(diagnostics[0].line, 10001);

  EXPECT_FALSE(LoadPipeline({.path = "m.pbtxt", .text = std::string(5u << 20, ' ')},
                            testing::FakeKinds(), {}, &plan, &diagnostics));
  EXPECT_NE(Render(diagnostics).find("greater than 4 MiB"), std::string::npos);

  // Sixteen levels of subgraphs, each with the one below twice: 65536 nodes if nobody counted.
  std::string bomb = "subgraph { name: \"g0\" node { name: \"m\" monitor { } } }\n";
  for (int i = 1; i <= 15; ++i) {
    const std::string below = "g" + std::to_string(i - 1);
    bomb += "subgraph { name: \"g" + std::to_string(i) + "\" node { name: \"a\" " + below +
            " { } } node { name: \"b\" " + below + " { } } }\n";
  }
  LoadAnything(bomb + "node { name: \"top\" g15 { } }");

  std::string chain = "node { name: \"a0\" numbers { } out: \"e0\" }\n";
  for (int i = 1; i < 3000; ++i) {
    chain += "node { name: \"a" + std::to_string(i) + "\" same { } in: \"e" +
             std::to_string(i - 1) + "\" out: \"e" + std::to_string(i) + "\" }\n";
  }
  LoadAnything(chain + "node { name: \"z\" sink { } in: \"e2999\" }");
}

}  // namespace
}  // namespace engine::graph
