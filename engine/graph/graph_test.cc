#include "engine/graph/graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/graph/testing/fake_kinds.h"

namespace engine::graph {
namespace {

using testing::DesignExample;
using ::testing::ElementsAre;
using testing::FakeKinds;
using ::testing::HasSubstr;

Plan Load(const std::string& text, const Overrides& overrides = {}) {
  Plan plan;
  std::vector<Diagnostic> diagnostics;
  EXPECT_TRUE(LoadPipeline({.path = "test.pbtxt", .text = text}, FakeKinds(), overrides, &plan,
                           &diagnostics))
      << Render(diagnostics);
  EXPECT_EQ(Render(diagnostics), "");
  return plan;
}

const PlanNode& NodeOf(const Plan& plan, const std::string& name) {
  for (const PlanNode& node : plan.nodes) {
    if (node.name == name) return node;
  }
  ADD_FAILURE() << "no node " << name;
  static const PlanNode* none = new PlanNode;
  return *none;
}

TEST(LoadPipeline, ReadsTheDesignsExample) {
  const Plan plan = Load(DesignExample());
  EXPECT_EQ(plan.name, "chat");
  std::vector<std::string> resources;
  for (const PlanResource& r : plan.resources) resources.push_back(r.name);
  ASSERT_THAT(resources, ElementsAre("base", "small", "tuned", "chat"));
  EXPECT_EQ(plan.resources[3].from, 2);
  EXPECT_EQ(plan.resources[0].options, "\n\x15smollm2-135m-instruct");  // by the param's default
  EXPECT_EQ(plan.resources[1].options, std::string("\x08\0", 2));
  ASSERT_EQ(plan.nodes.size(), 7u);
  ASSERT_EQ(plan.edges.size(), 7u);
  std::vector<std::string> nodes;
  for (const PlanNode& n : plan.nodes) nodes.push_back(n.name);
  EXPECT_THAT(nodes, ElementsAre("api", "encode", "batch", "forward", "sample", "decode", "watch"));
  const PlanNode& batch = NodeOf(plan, "batch");
  EXPECT_EQ(batch.options, "\x08 ");  // max_batch: 32
  ASSERT_EQ(batch.inputs.size(), 2u);
  EXPECT_FALSE(batch.inputs[0].feedback);
  EXPECT_TRUE(batch.inputs[1].feedback);
  EXPECT_EQ(batch.policy, abi::Policy::kAny);
  EXPECT_THAT(batch.uses, ElementsAre(3));
  EXPECT_EQ(batch.location.line, 16);
  EXPECT_EQ(batch.location.column, 14);
  EXPECT_EQ(plan.executors[NodeOf(plan, "api").executor].name, "io");
  // Topological but for feedback.
  for (const PlanEdge& edge : plan.edges) {
    for (const PlanConsumer& c : edge.consumers) {
      EXPECT_TRUE(plan.nodes[c.node].inputs[c.input].feedback || edge.producer < c.node);
    }
  }
}

TEST(LoadPipeline, RendersAnErrorAsTheDesignShowsIt) {
  std::string text = DesignExample();
  text.replace(text.find("kv_cache {"), 8, "kv_cahe");
  Plan plan;
  std::vector<Diagnostic> diagnostics;
  EXPECT_FALSE(
      LoadPipeline({.path = "chat.pbtxt", .text = text}, FakeKinds(), {}, &plan, &diagnostics));
  ASSERT_EQ(diagnostics.size(), 1u) << Render(diagnostics);
  EXPECT_EQ(Render(diagnostics),
            "chat.pbtxt:12:42: error: unknown kind \"kv_cahe\"\n"
            " 12 | resource { name: \"chat\"   from: \"tuned\"  kv_cahe { page_tokens: 16 budget: "
            "\"1GiB\" } }\n"
            "    |                                          ^~~~~~~\n"
            "    = did you mean \"kv_cache\" (plugin engine.kv_cache 0.1.0)?\n");
}

TEST(LoadPipeline, ExpandsSubgraphs) {
  const Plan plan = Load(R"(
    subgraph {
      name: "twice"  in: "IN:x"  out: "OUT:y"
      param { name: "wide" type: INTEGER default: "3" sets: "g.max_in_flight" }
      node { name: "first" same { } in: "x" out: "mid" }
      node { name: "g" gather { } in: "mid" }
      node { name: "second" same { } in: "mid" out: "y" }
    }
    subgraph { name: "four" in: "IN:a" out: "OUT:c"
      node { name: "one" twice { } in: "a" out: "b" }
      node { name: "two" twice { wide: 2 } in: "b" out: "c" } }
    node { name: "n" numbers { } out: "x" }
    node { name: "f" four { } in: "x" out: "z" }
    node { name: "s" sink { } in: "z" })");
  EXPECT_EQ(plan.nodes.size(), 8u);
  EXPECT_EQ(NodeOf(plan, "f/one/g").max_in_flight, 3u);
  EXPECT_EQ(NodeOf(plan, "f/two/g").max_in_flight, 2u);
  const PlanNode& second = NodeOf(plan, "f/two/second");
  EXPECT_EQ(plan.edges[second.outputs[0][0]].name, "z");
  EXPECT_EQ(plan.edges[second.inputs[0].edge].name, "f/two/mid");
  EXPECT_EQ(plan.edges[second.outputs[0][0]].shape, "[n, 576]");  // through four nodes
}

TEST(LoadPipeline, SubgraphsTakeFeedbackAndResources) {
  const Plan plan = Load(R"(
    resource { name: "m" load { path: "x" } }
    subgraph { name: "loop" in: "NEW:n" in: "BACK:b" out: "OUT:o" out: "TOK:t" use: "MODEL:mm"
      node { name: "core" batcher { } use: "mm" in: "n" in: "b" out: "o" out: "t" } }
    node { name: "api" http_api { } in: "e" feedback: "EVENT" out: "r" }
    node { name: "tok" tokenize { } use: "m" in: "r" out: "p" }
    node { name: "l" loop { } use: "m" in: "p" in: "s" feedback: "BACK" out: "st" out: "k" }
    node { name: "f" forward { } use: "m" in: "st" out: "lo" }
    node { name: "s" sample { } in: "lo" out: "s2" }
    node { name: "d" detokenize { } use: "m" in: "k" out: "e" })"
                         "node { name: \"x\" sink { } in: \"s2\" }"
                         "node { name: \"y\" sample { } in: \"lo\" out: \"s\" }");
  const PlanNode& core = NodeOf(plan, "l/core");
  EXPECT_TRUE(core.inputs[1].feedback);
  EXPECT_THAT(core.uses, ElementsAre(0));
}

TEST(LoadPipeline, BypassKeepsTheRestOfTheGraph) {
  std::string text = DesignExample();
  const Plan plan =
      Load(text, {.sets = {"small.bypass=true", "batch.bypass=true", "batch.fairness.weight=0.5"}});
  EXPECT_TRUE(plan.resources[1].bypassed);
  const PlanNode& batch = NodeOf(plan, "batch");
  EXPECT_TRUE(batch.bypassed);
  EXPECT_EQ(batch.kind->name, "batcher");
  EXPECT_EQ(batch.runs->name, "plain_batcher");
  // max_batch of 32, which both have; fairness is something else to the stand-in.
  EXPECT_EQ(batch.options, "\x38\x20");
}

TEST(LoadPipeline, QueuesAndPolicies) {
  const Plan plan = Load(R"(
    limits { max_in_flight: 6 drain_ms: 100 }
    trace { file: "t.json" }
    executor { name: "slow" threads: 1 kind: IO }
    require { plugin: "engine.int8" version: ">=1.2 <2" }
    node { name: "a" numbers { } out: "x" }
    node { name: "b" pair { } policy: ANY in: "LEFT:x" in: "RIGHT:y" out: "z" feedback: "RIGHT"
           queue { size: 3 overflow: DROP_OLDEST } queue { port: "RIGHT" size: 4 } }
    node { name: "c" same { } in: "z" out: "y" executor: "slow" }
    node { name: "d" pair { } policy: BATCH batch_max: 8 in: "x" in: "z" out: "w" }
    node { name: "e" gather { } in: "w" in: "z" })");
  const PlanNode& b = NodeOf(plan, "b");
  EXPECT_EQ(b.inputs[0].capacity, 3u);
  EXPECT_EQ(b.inputs[1].capacity, 4u);
  EXPECT_EQ(b.inputs[1].overflow, Overflow::kDropOldest);
  EXPECT_EQ(NodeOf(plan, "d").batch_max, 8u);
  EXPECT_EQ(NodeOf(plan, "d").policy, abi::Policy::kBatch);
  EXPECT_EQ(NodeOf(plan, "e").inputs.size(), 2u);
  EXPECT_EQ(plan.executors.back().name, "slow");
  EXPECT_TRUE(plan.executors.back().io);
  EXPECT_EQ(plan.limits.max_in_flight, 6u);
  EXPECT_EQ(plan.limits.drain_ms, 100u);
  EXPECT_EQ(plan.trace.file, "t.json");
  EXPECT_EQ(plan.requirements.size(), 1u);
}

TEST(LoadPipeline, ImportsAreRelativeToTheFileAndReadOnce) {
  Plan plan;
  std::vector<Diagnostic> diagnostics;
  const std::string folder = std::string(ENGINE_SOURCE_DIR) + "/engine/graph/testdata/good/";
  EXPECT_TRUE(
      LoadPipeline({.path = folder + "imports.pbtxt"}, FakeKinds(), {}, &plan, &diagnostics))
      << Render(diagnostics);
  EXPECT_EQ(plan.name, "imports");
  NodeOf(plan, "b/s");
  EXPECT_EQ(plan.params.size(), 1u);
}

TEST(LoadPipeline, ErrorsOfImportedFilesPointIntoThem) {
  Plan plan;
  std::vector<Diagnostic> diagnostics;
  const std::string folder = std::string(ENGINE_SOURCE_DIR) + "/engine/graph/testdata/good/";
  const std::string text =
      "import { path: \"parts/broken.pbtxt\" }\nnode { name: \"a\" moniter { } }";
  EXPECT_FALSE(LoadPipeline({.path = folder + "main.pbtxt", .text = text}, FakeKinds(), {}, &plan,
                            &diagnostics));
  ASSERT_EQ(diagnostics.size(), 2u) << Render(diagnostics);
  EXPECT_THAT(diagnostics[0].message, HasSubstr("moniter"));
  EXPECT_THAT(diagnostics[1].file, HasSubstr("parts/broken.pbtxt"));
  EXPECT_EQ(diagnostics[1].line, 2);
}

TEST(LoadPipeline, MissingFileAndFolder) {
  Plan plan;
  std::vector<Diagnostic> diagnostics;
  EXPECT_FALSE(LoadPipeline({.path = "/no/such.pbtxt"}, FakeKinds(), {}, &plan, &diagnostics));
  EXPECT_THAT(Render(diagnostics),
              HasSubstr("/no/such.pbtxt:1:1: error: the pipeline file does not"));
  EXPECT_FALSE(LoadPipeline({.path = "/tmp"}, FakeKinds(), {}, &plan, &diagnostics));
  EXPECT_THAT(Render(diagnostics), HasSubstr("is a folder"));
}

}  // namespace
}  // namespace engine::graph
