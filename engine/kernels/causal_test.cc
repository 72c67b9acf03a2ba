// Attention of training against its definition in double, gradients against those of the softmax
// written out; sequences do not see each other, to the bit.
#include "engine/kernels/causal.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "engine/kernels/parallel.h"
#include "engine/kernels/pool.h"
#include "engine/kernels/testing.h"

namespace engine::kernels {
namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

struct Shape {
  int64_t heads, kv_heads, head_dim;
};

struct Result {
  Floats out, log_sums, dq, dk, dv;
};

Result AttendBoth(const Shape& s, const std::vector<CausalStretch>& stretches, int64_t rows,
                  const Floats& q, const Floats& k, const Floats& v, const Floats& dout) {
  Result r;
  r.out = r.dq = Floats(q.size());
  r.dk = r.dv = Floats(k.size());
  r.log_sums = Floats(static_cast<size_t>(rows * s.heads));
  const CausalArgs args = {s.heads,  s.kv_heads, s.head_dim, stretches,
                           q.data(), k.data(),   v.data()};
  CausalForward(args, r.out.data(), r.log_sums.data());
  CausalBackward(args, r.out.data(), r.log_sums.data(), dout.data(), r.dq.data(), r.dk.data(),
                 r.dv.data());
  return r;
}

// The same by loops.
void Reference(const Shape& s, const std::vector<CausalStretch>& stretches, const Floats& q,
               const Floats& k, const Floats& v, const Floats& dout, Doubles* out, Doubles* dq,
               Doubles* dk, Doubles* dv) {
  out->assign(q.size(), 0);
  dq->assign(q.size(), 0);
  dk->assign(k.size(), 0);
  dv->assign(k.size(), 0);
  const int64_t d = s.head_dim, group = s.heads / s.kv_heads;
  const double scale = 1 / std::sqrt(static_cast<double>(d));
  for (const CausalStretch& stretch : stretches) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const auto query = [&](int64_t i, int64_t j) {
        return static_cast<size_t>(i * s.heads * d + h * d + j);
      };
      const auto key = [&](int64_t i, int64_t j) {
        return static_cast<size_t>(i * s.kv_heads * d + h / group * d + j);
      };
      for (int64_t i = stretch.begin; i < stretch.end; ++i) {
        Doubles p, dp;
        double sum = 0, along = 0;
        for (int64_t t = stretch.begin; t <= i; ++t) {
          double score = 0, grad = 0;
          for (int64_t j = 0; j < d; ++j) {
            score += double{q[query(i, j)]} * double{k[key(t, j)]};
            grad += double{dout[query(i, j)]} * double{v[key(t, j)]};
          }
          p.push_back(std::exp(score * scale));
          dp.push_back(grad);
          sum += p.back();
        }
        for (double& w : p) w /= sum;
        for (size_t t = 0; t < p.size(); ++t) along += p[t] * dp[t];
        for (size_t t = 0; t < p.size(); ++t) {
          const int64_t at = stretch.begin + static_cast<int64_t>(t);
          const double slope = p[t] * (dp[t] - along) * scale;
          for (int64_t j = 0; j < d; ++j) {
            (*out)[query(i, j)] += p[t] * double{v[key(at, j)]};
            (*dq)[query(i, j)] += slope * double{k[key(at, j)]};
            (*dk)[key(at, j)] += slope * double{q[query(i, j)]};
            (*dv)[key(at, j)] += p[t] * double{dout[query(i, j)]};
          }
        }
      }
    }
  }
}

void ExpectNear(const Floats& got, const Doubles& want, const char* what) {
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 3e-5) << what << " " << i;
}

class Causal : public testing::Test {
 protected:
  Causal() {
    SetPoolThreads(2);
    SetParallel(&PoolParallel);
  }
  ~Causal() override { SetParallel(nullptr); }
};

TEST_F(Causal, IsTheDefinition) {
  for (const Shape& s : {Shape{3, 1, 64}, Shape{4, 2, 16}, Shape{2, 2, 40}}) {
    const std::vector<CausalStretch> stretches = {{0, 1}, {1, 60}, {60, 97}, {99, 210}};
    constexpr int64_t kRows = 210;
    const Floats q = Random(kRows * s.heads * s.head_dim, 1),
                 k = Random(kRows * s.kv_heads * s.head_dim, 2),
                 v = Random(kRows * s.kv_heads * s.head_dim, 3),
                 dout = Random(kRows * s.heads * s.head_dim, 4);
    const Result got = AttendBoth(s, stretches, kRows, q, k, v, dout);
    Doubles out, dq, dk, dv;
    Reference(s, stretches, q, k, v, dout, &out, &dq, &dk, &dv);
    ExpectNear(got.out, out, "out");
    ExpectNear(got.dq, dq, "dq");
    ExpectNear(got.dk, dk, "dk");
    ExpectNear(got.dv, dv, "dv");
  }
}

TEST_F(Causal, SequencesAreAlone) {
  const Shape s = {3, 1, 32};
  const std::vector<CausalStretch> both = {{0, 70}, {70, 150}};
  const Floats q = Random(150 * 96, 1), k = Random(150 * 32, 2), v = Random(150 * 32, 3),
               dout = Random(150 * 96, 4);
  const Result together = AttendBoth(s, both, 150, q, k, v, dout);
  const auto part = [](const Floats& x, int64_t width) {
    return Floats(x.begin() + 70 * width, x.end());
  };
  const Result alone =
      AttendBoth(s, {{0, 80}}, 80, part(q, 96), part(k, 32), part(v, 32), part(dout, 96));
  EXPECT_EQ(part(together.out, 96), alone.out);
  EXPECT_EQ(part(together.dq, 96), alone.dq);
  EXPECT_EQ(part(together.dk, 32), alone.dk);
  EXPECT_EQ(part(together.dv, 32), alone.dv);
}

}  // namespace
}  // namespace engine::kernels
