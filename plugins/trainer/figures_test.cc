#include "figures.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "loss_svg.h"

namespace engine::trainer {
namespace {

engine_train_step Step() {
  engine_train_step s = {};
  s.step = 15;
  s.steps = 60;
  s.loss = 0.3812;
  s.tokens = 690;
  s.seconds = 2;
  s.grad_norm = 1.5;
  s.lr = 1e-3;
  return s;
}

TEST(Figures, AreALineOfText) {
  EXPECT_EQ(StepLine(Step(), 812u << 20, 75.4),
            "step 15 of 60: loss 0.381200, gradient norm 1.5000, lr 0.001, 345.0 tokens/s, 812 "
            "MiB, 75 s left");
}

TEST(Figures, AreABarThatFitsTheTerminal) {
  EXPECT_EQ(ProgressLine(Step(), 812u << 20, 75.4, 80),
            "[#####               ] 15/60  loss 0.3812  345 tokens/s  812 MiB  1:15 left");
  engine_train_step s = Step();
  s.step = 60;
  const std::string done = ProgressLine(s, 812u << 20, 7384, 200);
  EXPECT_NE(done.find("[####"), std::string::npos);
  EXPECT_EQ(done.find("# ]"), std::string::npos) << done;
  EXPECT_NE(done.find("2:03:04 left"), std::string::npos) << done;
  for (const int columns : {1, 20, 40, 60, 79}) {
    EXPECT_LE(ProgressLine(s, 812u << 20, 7384, columns).size(), static_cast<size_t>(columns));
  }
}

TEST(LossSvg, TicksAreRoundAndSpanTheValues) {
  EXPECT_EQ(internal::Ticks(0, 1, 5),
            (std::vector<double>{0, 0.2, 0.4, 0.6000000000000001, 0.8, 1}));
  EXPECT_EQ(internal::Ticks(3, 3, 5), (std::vector<double>{1, 2, 3, 4, 5}));
  for (const auto& [low, high] : {std::pair(0.013, 0.094), {-3.0, 8.0}, {1e-7, 9e-4}, {2.0, 2.0}}) {
    const std::vector<double> ticks = internal::Ticks(low, high, 5);
    EXPECT_LE(ticks.front(), low);
    EXPECT_GE(ticks.back(), high);
    EXPECT_GE(ticks.size(), 2u);
    EXPECT_LE(ticks.size(), 9u);
  }
}

TEST(LossSvg, SmoothedIsAMeanFromTheFirstOn) {
  EXPECT_EQ(internal::Smooth({4, 4, 4}, 0.9).at(0), 4);
  const std::vector<double> s = internal::Smooth({1, 3}, 0.5);
  EXPECT_DOUBLE_EQ(s[0], 1);
  EXPECT_DOUBLE_EQ(s[1], (0.25 * 1 + 0.5 * 3) / 0.75);
}

TEST(LossSvg, HasAxesLinesAndBothSchemes) {
  std::vector<CurvePoint> points;
  for (uint32_t i = 1; i <= 60; ++i) points.push_back({i, 4.0 / i, 1e-3 * (60 - i) / 60});
  points[30].loss = std::numeric_limits<double>::quiet_NaN();
  const std::string svg = LossSvg("tuned <a> & b", points);
  for (const char* part :
       {"<svg xmlns=\"http://www.w3.org/2000/svg\"", "tuned &lt;a&gt; &amp; b", ">step</text>",
        ">loss, nats per token</text>", ">learning rate</text>", "prefers-color-scheme: dark",
        "class=\"loss\"", "class=\"rate\"", ">60</text>", ">4</text>", ">0.001</text>",
        "loss 0.06667 at step 60", "</svg>"}) {
    EXPECT_NE(svg.find(part), std::string::npos) << part << "\n" << svg;
  }
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  // The first loss stands at the left, at the top of its axis.
  EXPECT_NE(svg.find("stroke-opacity=\"0.4\" points=\"70.0,44.0 "), std::string::npos) << svg;
}

TEST(LossSvg, ManyAndFewStepsAreDrawn) {
  std::vector<CurvePoint> points;
  for (uint32_t i = 1; i <= 100000; ++i) points.push_back({i, i == 54321 ? 9.0 : 1.0, 1e-3});
  const std::string many = LossSvg("many", points);
  EXPECT_LT(many.size(), 100000u);
  EXPECT_NE(many.find(",76.2 "), std::string::npos) << "the one peak is not drawn";
  const std::string one = LossSvg("one", {{1, 2.5, 0}});
  EXPECT_NE(one.find("loss 2.5 at step 1"), std::string::npos);
  EXPECT_EQ(one.find("nan"), std::string::npos) << one;
}

}  // namespace
}  // namespace engine::trainer
