// The kernels of training on each road: gradients against finite differences of the function in
// double, the loss against its definition.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "engine/kernels/road.h"
#include "engine/kernels/testing.h"

namespace engine::kernels {
namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

// d f / d x by central differences.
Doubles Slopes(const Floats& x, const std::function<double(const Doubles&)>& f) {
  Doubles at(x.begin(), x.end()), slopes;
  for (double& v : at) {
    const double before = v, h = 1e-5;
    v = before + h;
    const double up = f(at);
    v = before - h;
    slopes.push_back((up - f(at)) / (2 * h));
    v = before;
  }
  return slopes;
}

void ExpectNear(const Floats& got, const Doubles& want, double bound) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], bound) << "at " << i;
}

class TrainKernels : public EachRoad {};

TEST_P(TrainKernels, RmsNormGradient) {
  for (const int64_t width : {1, 19, 64, 77}) {
    const Floats x = Random(width, 1), w = Random(width, 2), dy = Random(width, 3);
    constexpr float kEps = 1e-5f;
    const auto f = [&](const Doubles& xs, const Doubles& ws) {
      double squares = 0, sum = 0;
      for (double v : xs) squares += v * v;
      const double r = 1 / std::sqrt(squares / static_cast<double>(width) + double{kEps});
      for (size_t i = 0; i < xs.size(); ++i) sum += double{dy[i]} * xs[i] * r * ws[i];
      return sum;
    };
    const Doubles xd(x.begin(), x.end()), wd(w.begin(), w.end());
    Floats dx(x.size()), dw(x.size(), 2.0f);
    ActiveRoad().rms_norm_grad(x.data(), width, w.data(), kEps, dy.data(), dx.data(), dw.data());
    ExpectNear(dx, Slopes(x, [&](const Doubles& v) { return f(v, wd); }), 2e-5);
    for (float& v : dw) v -= 2.0f;
    ExpectNear(dw, Slopes(w, [&](const Doubles& v) { return f(xd, v); }), 2e-5);
    Floats alone(x.size());
    ActiveRoad().rms_norm_grad(x.data(), width, w.data(), kEps, dy.data(), alone.data(), nullptr);
    EXPECT_EQ(alone, dx);
  }
}

TEST_P(TrainKernels, GatedGradient) {
  for (const int64_t count : {1, 16, 45}) {
    const Floats g = Random(count, 1), u = Random(count, 2), dh = Random(count, 3);
    const auto f = [&](const Doubles& gs, const Doubles& us) {
      double sum = 0;
      for (size_t i = 0; i < gs.size(); ++i) {
        sum += double{dh[i]} * gs[i] / (1 + std::exp(-gs[i])) * us[i];
      }
      return sum;
    };
    const Doubles gd(g.begin(), g.end()), ud(u.begin(), u.end());
    Floats h(g.size()), dg(g.size()), du(g.size());
    ActiveRoad().silu_multiply_grad(g.data(), u.data(), dh.data(), count, h.data(), dg.data(),
                                    du.data());
    ExpectNear(dg, Slopes(g, [&](const Doubles& v) { return f(v, ud); }), 2e-5);
    ExpectNear(du, Slopes(u, [&](const Doubles& v) { return f(gd, v); }), 2e-5);
    Floats forward = g;
    ActiveRoad().silu_multiply(forward.data(), u.data(), count);
    for (size_t i = 0; i < h.size(); ++i) EXPECT_NEAR(h[i], forward[i], 1e-6);
  }
}

TEST_P(TrainKernels, Loss) {
  for (const int64_t count : {2, 33, 5000}) {
    for (const float smoothing : {0.0f, 0.1f}) {
      const Floats z = Random(count, 4);
      const int64_t label = count / 2;
      const auto f = [&](const Doubles& zs) {
        double sum = 0, plain = 0;
        for (double v : zs) {
          sum += std::exp(v);
          plain += v;
        }
        const double share = double{smoothing} / static_cast<double>(count);
        return std::log(sum) - (1 - double{smoothing}) * zs[static_cast<size_t>(label)] -
               share * plain;
      };
      Floats grad = z;
      const double loss = ActiveRoad().loss(grad.data(), count, label, smoothing, true);
      EXPECT_NEAR(loss, f(Doubles(z.begin(), z.end())), 2e-6);
      if (count < 100) ExpectNear(grad, Slopes(z, f), 1e-5);
      double sum = 0;
      for (float v : grad) sum += double{v};
      EXPECT_NEAR(sum, 0, 1e-5);
      Floats kept = z;
      EXPECT_EQ(ActiveRoad().loss(kept.data(), count, label, smoothing, false), loss);
      EXPECT_EQ(kept, z);
    }
  }
  Floats bad = Random(40, 5);
  bad[7] = NAN;
  EXPECT_TRUE(std::isnan(ActiveRoad().loss(bad.data(), 40, 3, 0, false)));
}

INSTANTIATE_TEST_SUITE_P(All, TrainKernels, testing::Values("plain", "avx2", "avx512"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace engine::kernels
