#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/graph/graph.h"
#include "engine/graph/testing/fake_kinds.h"

namespace engine::graph {
namespace {

using ::testing::HasSubstr;

constexpr char kText[] =
    R"(param { name: "model"  default: "small"  sets: "base.load.path"  positional: true }
param { name: "depth"  default: "4"  sets: "kv.page_tokens"  type: INTEGER }
param { name: "mode"  sets: "base.precision"  choices: "F32"  choices: "BF16" }
resource { name: "base"  load { } }
resource { name: "kv"  from: "base"  kv_cache { } }
node { name: "n"  numbers { }  out: "x" }
node { name: "t"  train { }  in: "x"  use: "kv" }
)";

struct Result {
  Plan plan;
  std::string text;
};

Result Load(const Overrides& overrides, const std::string& text = kText) {
  Result result;
  std::vector<Diagnostic> diagnostics;
  LoadPipeline({.path = "p.pbtxt", .text = text}, testing::FakeKinds(), overrides, &result.plan,
               &diagnostics);
  result.text = Render(diagnostics);
  return result;
}

TEST(Params, DefaultsApply) {
  const Result r = Load({});
  ASSERT_EQ(r.text, "");
  EXPECT_EQ(r.plan.resources[0].options, "\n\x05small");
  EXPECT_EQ(r.plan.resources[1].options, "\x08\x04");
  EXPECT_EQ(r.plan.params[0].value, "small");
  EXPECT_FALSE(r.plan.params[2].given);
}

TEST(Params, CommandLineIsStronger) {
  const Result r = Load({.sets = {"depth=8", "mode=BF16"}, .positional = {"big"}});
  ASSERT_EQ(r.text, "");
  EXPECT_EQ(r.plan.resources[0].options,
            "\n\x03"
            "big\x10\x02");
  EXPECT_EQ(r.plan.resources[1].options, "\x08\x08");
  EXPECT_TRUE(r.plan.params[1].from_command_line);
}

TEST(Params, OrderOfStrength) {
  std::string text = kText;
  text.replace(text.find("kv_cache { }"), 12, "kv_cache { page_tokens: 5 }");
  Result r = Load({}, text);  // the file over the default, with a warning
  EXPECT_THAT(r.text, HasSubstr("warning: the default of param \"depth\" has no effect"));
  EXPECT_EQ(r.plan.resources[1].options, "\x08\x05");
  r = Load({.sets = {"depth=6"}}, text);  // the param over the file
  EXPECT_EQ(r.plan.resources[1].options, "\x08\x06");
  r = Load({.sets = {"kv.page_tokens=7", "depth=6"}}, text);  // --set of the option over all
  EXPECT_EQ(r.plan.resources[1].options, "\x08\x07");
}

TEST(Params, SetReachesNestedOptionsListsAndLimits) {
  const Result r = Load(
      {.sets = {"b.fairness.weight=0.5", "b.batcher.fairness.tenants=a,b", "b.fairness.strict=true",
                "limits.max_in_flight=3", "trace.file=t.json", "b.executor=io"}},
      R"(resource { name: "m" load { path: "m" } }
node { name: "a" http_api { } in: "e" out: "r" feedback: "EVENT" }
node { name: "t" tokenize { } use: "m" in: "r" out: "p" }
node { name: "b" batcher { } use: "m" in: "p" in: "s" out: "st" out: "k" feedback: "RUNNING" }
node { name: "f" forward { } use: "m" in: "st" out: "l" }
node { name: "s" sample { } in: "l" out: "s" }
node { name: "d" detokenize { } use: "m" in: "k" out: "e" }
)");
  ASSERT_EQ(r.text, "");
  EXPECT_EQ(r.plan.limits.max_in_flight, 3u);
  EXPECT_EQ(r.plan.trace.file, "t.json");
  for (const PlanNode& n : r.plan.nodes) {
    if (n.name != "b") continue;
    EXPECT_EQ(n.options.size(), 2u + 9 + 3 + 3 + 2);
    EXPECT_EQ(r.plan.executors[n.executor].name, "io");
  }
}

TEST(Params, ErrorsShowTheCommandLine) {
  EXPECT_EQ(Load({.sets = {"dpeth=8"}}).text,
            "command line:1:1: error: the pipeline has no param \"dpeth\"\n"
            " 1 | dpeth=8\n"
            "   | ^~~~~\n"
            "   = did you mean \"depth\"?\n");
  EXPECT_EQ(Load({.sets = {"depth=8", "kv.kv_cache.page_tokns=4"}}).text,
            "command line:2:13: error: \"kv_cache\" has no option \"page_tokns\"\n"
            " 2 | kv.kv_cache.page_tokns=4\n"
            "   |             ^~~~~~~~~~\n"
            "   = did you mean \"page_tokens\"?\n");
  EXPECT_THAT(Load({.sets = {"depth=0"}}).text,
              HasSubstr("command line:1:7: error: \"page_tokens\" must be 1 to 256 tokens"));
  EXPECT_THAT(Load({.sets = {"depth=x"}}).text, HasSubstr("takes a whole number"));
  EXPECT_THAT(Load({.sets = {"mode=F16"}}).text, HasSubstr("did you mean \"BF16\"?"));
  EXPECT_THAT(Load({.sets = {"kvv.page_tokens=4"}}).text,
              HasSubstr("command line:1:1: error: no node or resource has the name \"kvv\""));
  EXPECT_THAT(Load({.sets = {"depth"}}).text, HasSubstr("has no '='"));
  EXPECT_THAT(Load({.sets = {"base.precision=F31"}}).text, HasSubstr("did you mean \"F32\"?"));
  EXPECT_THAT(Load({.sets = {"kv.budget=much"}}).text,
              HasSubstr("command line:1:11: error: \"much\" is not a size"));
  EXPECT_THAT(Load({.sets = {"limits.max_flight=3"}}).text,
              HasSubstr("command line:1:8: error: limits has no field \"max_flight\""));
  EXPECT_THAT(Load({.positional = {"a", "b"}}).text, HasSubstr("command line:2:1: error"));
}

TEST(Params, ErrorsOfFileAndCommandLineComeTogether) {
  std::string text = kText;
  text += "node { name: \"z\" moniter { } }\n";
  const std::string all = Load({.sets = {"dpeth=8"}}, text).text;
  EXPECT_THAT(all, HasSubstr("p.pbtxt:8:18: error"));
  EXPECT_THAT(all, HasSubstr("command line:1:1: error"));
}

}  // namespace
}  // namespace engine::graph
