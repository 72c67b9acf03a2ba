// Against plain loops in double, and each row against itself among other rows, bit for bit.
#include "engine/kernels/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "engine/kernels/parallel.h"
#include "engine/kernels/pool.h"
#include "engine/kernels/testing.h"

namespace engine::kernels {
namespace {

struct Operand {
  int64_t in;
  bool transposed;
  float scale;
};

class GemmTest : public testing::Test {
 protected:
  GemmTest() {
    SetPoolThreads(2);
    SetParallel(&PoolParallel);
  }
  ~GemmTest() override { SetParallel(nullptr); }
};

void Compare(const std::vector<Operand>& operands, int64_t rows, int64_t out, bool add) {
  std::vector<std::vector<float>> xs, ws;
  std::vector<GemmTerm> terms;
  for (const Operand& o : operands) {
    xs.push_back(Random(rows * (o.in + 3), static_cast<uint32_t>(o.in)));
    ws.push_back(Random(out * o.in, static_cast<uint32_t>(o.in + 1)));
    terms.push_back({xs.back().data(), o.in + 3, o.in, ws.back().data(), o.transposed ? out : o.in,
                     o.transposed, o.scale});
  }
  const int64_t ldy = out + 5;
  const std::vector<float> before = Random(rows * ldy, 77);
  std::vector<float> y = before;
  Gemm(terms, rows, out, y.data(), ldy, add);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t n = 0; n < out; ++n) {
      const auto at = static_cast<size_t>(r * ldy + n);
      double want = add ? double{before[at]} : 0, size = std::abs(want);
      for (const GemmTerm& t : terms) {
        for (int64_t k = 0; k < t.in; ++k) {
          const double product = double{t.scale} * double{t.x[r * t.ldx + k]} *
                                 double{t.transposed ? t.w[k * t.ldw + n] : t.w[n * t.ldw + k]};
          want += product;
          size += std::abs(product);
        }
      }
      ASSERT_NEAR(y[at], want, 1e-5 * size) << "row " << r << ", output " << n;
    }
    for (int64_t n = out; n < ldy; ++n) {
      ASSERT_EQ(y[static_cast<size_t>(r * ldy + n)], before[static_cast<size_t>(r * ldy + n)]);
    }
  }
  // Any one row alone.
  for (const int64_t r : {int64_t{0}, rows / 2, rows - 1}) {
    std::vector<GemmTerm> one = terms;
    for (GemmTerm& t : one) t.x += r * t.ldx;
    std::vector<float> alone(before.begin() + r * ldy, before.begin() + (r + 1) * ldy);
    Gemm(one, 1, out, alone.data(), ldy, add);
    for (int64_t n = 0; n < out; ++n) {
      ASSERT_EQ(alone[static_cast<size_t>(n)], y[static_cast<size_t>(r * ldy + n)]);
    }
  }
}

TEST_F(GemmTest, IsTheSumOfItsTerms) {
  for (const int64_t rows : {1, 5, 12, 13, 131}) {
    Compare({{17, false, 1}}, rows, 33, false);
    Compare({{64, true, 1}}, rows, 40, false);
    Compare({{48, false, 0.5f}}, rows, 96, true);
    Compare({{40, false, 1}, {8, false, 0.25f}}, rows, 70, false);
    Compare({{40, true, 1}, {8, true, 2.0f}, {24, true, 1}}, rows, 31, true);
  }
}

TEST_F(GemmTest, LongSumsAndManyOutputs) {
  Compare({{2 * kGemmInner + 37, true, 1}}, 30, 40, false);
  Compare({{700, false, 1}, {4, false, 3}}, 7, 5000, false);
}

TEST_F(GemmTest, ThinProductsSumOverRows) {
  for (const int64_t rows : {1, 130, 700}) {
    for (const int64_t ra : {1, 8, 13}) {
      for (const int64_t cb : {5, 64, 333}) {
        const std::vector<float> a = Random(rows * ra, 1), b = Random(rows * cb, 2);
        std::vector<float> y(static_cast<size_t>(ra * cb), 9.0f);
        ThinProduct(a.data(), ra, b.data(), cb, rows, y.data());
        for (int64_t r = 0; r < ra; ++r) {
          for (int64_t c = 0; c < cb; ++c) {
            double want = 0;
            for (int64_t i = 0; i < rows; ++i) {
              want += double{a[static_cast<size_t>(i * ra + r)]} *
                      double{b[static_cast<size_t>(i * cb + c)]};
            }
            ASSERT_NEAR(y[static_cast<size_t>(r * cb + c)], want, 1e-4);
          }
        }
      }
    }
  }
}

TEST_F(GemmTest, NothingIsNothing) {
  float y = 3;
  const GemmTerm term{&y, 1, 1, &y, 1};
  Gemm({&term, 1}, 0, 1, &y, 1);
  Gemm({&term, 1}, 1, 0, &y, 1);
  EXPECT_EQ(y, 3);
}

}  // namespace
}  // namespace engine::kernels
