#include "engine/graph/render.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/graph/explain.h"
#include "engine/graph/graph.h"
#include "engine/graph/testing/fake_kinds.h"

namespace engine::graph {
namespace {

using ::testing::HasSubstr;

Plan Example() {
  Plan plan;
  std::vector<Diagnostic> diagnostics;
  EXPECT_TRUE(LoadPipeline({.path = "chat.pbtxt", .text = testing::DesignExample()},
                           testing::FakeKinds(), {}, &plan, &diagnostics));
  return plan;
}

TEST(Explain, CanonicalText) {
  const std::string text = Explain(Example(), {{"small", "210 sites: Linear -> int8\n"}});
  EXPECT_THAT(text, HasSubstr("pipeline chat\n\nparams\n  model = smollm2-135m-instruct\n"
                              "  batch = 32\n"));
  EXPECT_THAT(text, HasSubstr("  small  int8  from base  phase codec  -> engine.Model/1\n"
                              "      210 sites: Linear -> int8\n"));
  EXPECT_THAT(text, HasSubstr("logits   forward.LOGITS -> sample.LOGITS (2)  engine.Tensor/1 "
                              "[rows, vocab] f32\n"));
  EXPECT_THAT(text, HasSubstr("batch.RUNNING (2, feedback)"));
}

TEST(Explain, CriticalPath) {
  const Plan plan = Example();
  std::string names;
  for (uint32_t n : CriticalPath(plan)) names += plan.nodes[n].name + " ";
  EXPECT_EQ(names, "api encode batch forward sample ");
  std::vector<double> weights(plan.nodes.size(), 0.1);
  for (size_t i = 0; i < plan.nodes.size(); ++i) {
    if (plan.nodes[i].name == "decode") weights[i] = 10;
  }
  names.clear();
  for (uint32_t n : CriticalPath(plan, weights)) names += plan.nodes[n].name + " ";
  EXPECT_EQ(names, "api encode batch decode ");
}

TEST(Render, Dot) {
  const std::string text = RenderDot(Example());
  EXPECT_THAT(text, HasSubstr("label=\"batch\\nbatcher\", shape=box"));
  EXPECT_THAT(text, HasSubstr("label=\"sampled\", style=dashed"));
  EXPECT_THAT(text, HasSubstr("style=\"rounded\""));
}

TEST(Render, Mermaid) {
  const std::string text = RenderMermaid(Example());
  EXPECT_THAT(text, HasSubstr("flowchart LR\n"));
  EXPECT_THAT(text, HasSubstr("(\"base<br/>load\")"));
  EXPECT_THAT(text, HasSubstr("-.->|\"sampled\"|"));
}

TEST(Render, SvgDrawsAllAndEscapes) {
  Plan plan = Example();
  plan.name = "a<b>&\"c\"";
  const std::string text = RenderSvg(plan);
  EXPECT_THAT(text, HasSubstr("a&lt;b&gt;&amp;&quot;c&quot;"));
  EXPECT_EQ(text.find("a<b>"), std::string::npos);
  for (const PlanNode& node : plan.nodes) EXPECT_THAT(text, HasSubstr(">" + node.name + "<"));
  for (const PlanResource& r : plan.resources) EXPECT_THAT(text, HasSubstr(">" + r.name + "<"));
  EXPECT_THAT(text, HasSubstr("edge feedback"));
  EXPECT_THAT(RenderSvg(Plan()), HasSubstr("</svg>"));
}

}  // namespace
}  // namespace engine::graph
