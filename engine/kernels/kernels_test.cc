// Each road against plain loops in double, and each against itself at other numbers of rows: the
// second must be equal bit for bit.
#include "engine/kernels/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "engine/kernels/isa.h"

namespace engine::kernels {
namespace {

std::vector<float> Random(int64_t count, uint32_t seed) {
  std::mt19937 gen(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(static_cast<size_t>(count));
  for (float& x : v) x = normal(gen);
  return v;
}

std::shared_ptr<PackedMatrix> Pack(Format format, int64_t out, int64_t in,
                                   const std::vector<float>& w) {
  std::shared_ptr<PackedMatrix> m;
  EXPECT_TRUE(PackedMatrix::Make(format, out, in, &m).ok());
  for (int64_t r = 0; r < out; r += kPanel) {
    const int64_t count = std::min(kPanel, out - r);
    if (format != Format::kS8) {
      m->SetRows(r, count, w.data() + r * in);
      continue;
    }
    for (int64_t i = r; i < r + count; ++i) {
      std::vector<int8_t> q(static_cast<size_t>(in));
      const float scale = QuantizeRow(w.data() + i * in, in, q.data());
      m->SetRowS8(i, q.data(), scale);
    }
  }
  return m;
}

class Roads : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const Isa before = ActiveIsa();
    if (!ForceIsa(GetParam()).ok()) GTEST_SKIP() << "this machine has no " << GetParam();
    restore_ = IsaName(before);
  }
  void TearDown() override {
    if (!restore_.empty()) {
      EXPECT_TRUE(ForceIsa(restore_).ok());
    }
  }
  std::string restore_;
};

struct Shape {
  int64_t out, in;
};
constexpr Shape kShapes[] = {{576, 576}, {96, 1536}, {33, 7}, {1, 1}, {200, 130}};

TEST_P(Roads, ProductsAreRightAndTheSameAtEveryNumberOfRows) {
  for (const Shape& s : kShapes) {
    for (Format format : {Format::kF32, Format::kBf16, Format::kS8}) {
      const std::vector<float> w = Random(s.out * s.in, 1), x = Random(40 * s.in, 2);
      const auto m = Pack(format, s.out, s.in, w);
      Scratch scratch;
      std::vector<float> all(static_cast<size_t>(40 * s.out), -1.0f);
      const Product product{m.get(), all.data(), s.out};
      Multiply(x.data(), s.in, 40, {&product, 1}, &scratch);
      std::vector<float> row(static_cast<size_t>(s.in));
      double worst = 0;
      for (int64_t r = 0; r < 40; ++r) {
        std::vector<int8_t> q(static_cast<size_t>(s.in));
        const float xs = QuantizeRow(x.data() + r * s.in, s.in, q.data());
        for (int64_t n = 0; n < s.out; n += 7) {
          m->GetRow(n, row.data());
          double sum = 0;
          for (int64_t k = 0; k < s.in; ++k) {
            const auto i = static_cast<size_t>(k);
            double xv = static_cast<double>(x[static_cast<size_t>(r * s.in + k)]);
            if (format == Format::kBf16) xv = FromBf16(ToBf16(static_cast<float>(xv)));
            if (format == Format::kS8) xv = static_cast<double>(xs) * q[i];
            sum += xv * static_cast<double>(row[i]);
          }
          worst = std::max(
              worst, std::abs(sum - static_cast<double>(all[static_cast<size_t>(r * s.out + n)])));
        }
      }
      EXPECT_LT(worst, 2e-5 * std::sqrt(static_cast<double>(s.in)) + 1e-6)
          << s.out << "x" << s.in << " format " << static_cast<int>(format);
      for (int64_t rows : {1, 2, 3, 4, 5, 11, 12, 13, 31}) {
        std::vector<float> some(static_cast<size_t>(rows * s.out));
        const Product p{m.get(), some.data(), s.out};
        Multiply(x.data() + s.in, s.in, rows, {&p, 1}, &scratch);
        ASSERT_EQ(0, std::memcmp(some.data(), all.data() + s.out, some.size() * 4))
            << "rows " << rows << " of " << s.out << "x" << s.in;
      }
    }
  }
}

TEST_P(Roads, AddScalesTheProductOnce) {
  const std::vector<float> w = Random(40 * 16, 3), x = Random(2 * 16, 4);
  const auto m = Pack(Format::kF32, 40, 16, w);
  Scratch scratch;
  std::vector<float> plain(80), added(80, 1.5f);
  const Product p{m.get(), plain.data(), 40};
  Multiply(x.data(), 16, 2, {&p, 1}, &scratch);
  const Product q{m.get(), added.data(), 40, true, 0.25f};
  Multiply(x.data(), 16, 2, {&q, 1}, &scratch);
  for (size_t i = 0; i < 80; ++i) EXPECT_EQ(added[i], 1.5f + 0.25f * plain[i]);
}

TEST_P(Roads, NormAndActivation) {
  const std::vector<float> x = Random(2 * 577, 5), w = Random(577, 6);
  std::vector<float> y(2 * 577);
  RmsNorm(x.data(), 2, 577, w.data(), 1e-5f, y.data());
  for (size_t r = 0; r < 2; ++r) {
    double sum = 0;
    for (size_t i = 0; i < 577; ++i) sum += static_cast<double>(x[r * 577 + i]) * x[r * 577 + i];
    const double f = 1 / std::sqrt(sum / 577 + 1e-5);
    for (size_t i = 0; i < 577; ++i) EXPECT_NEAR(y[r * 577 + i], x[r * 577 + i] * f * w[i], 1e-4);
  }
  std::vector<float> gate = Random(1000, 7), up = Random(1000, 8), want(1000);
  for (float& g : gate) g *= 20;
  for (size_t i = 0; i < 1000; ++i) {
    want[i] = static_cast<float>(static_cast<double>(gate[i]) /
                                 (1 + std::exp(-static_cast<double>(gate[i]))) * up[i]);
  }
  SiluMultiply(gate.data(), up.data(), 1000);
  for (size_t i = 0; i < 1000; ++i) EXPECT_NEAR(gate[i], want[i], 1e-5 * std::abs(want[i]) + 1e-6);
}

TEST_P(Roads, AttentionIsRightAndKnowsNoChunks) {
  constexpr int64_t kHeads = 9, kKvHeads = 3, kDim = 64, kTokens = 50, kPage = 16;
  const std::vector<float> q = Random(kTokens * kHeads * kDim, 9);
  const std::vector<float> k = Random(kTokens * kKvHeads * kDim, 10);
  const std::vector<float> v = Random(kTokens * kKvHeads * kDim, 11);
  std::vector<std::vector<float>> memory(4, std::vector<float>(2 * kKvHeads * kDim * kPage));
  std::vector<float*> pages;
  for (auto& m : memory) pages.push_back(m.data());
  const PagedKv kv{kPage, kKvHeads, kDim, pages};
  for (int64_t t = 0; t < kTokens; ++t) {
    KvWrite(kv, t, k.data() + t * kKvHeads * kDim, v.data() + t * kKvHeads * kDim);
  }
  std::vector<float> out(q.size()), scratch;
  constexpr int64_t kLd = kHeads * kDim;
  const AttentionJob whole{kv, q.data(), out.data(), kLd, kLd, kTokens, 0, kHeads};
  Attention({&whole, 1}, &scratch);
  double worst = 0;
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t h = 0; h < kHeads; ++h) {
      std::vector<double> p(static_cast<size_t>(t + 1));
      double sum = 0;
      for (int64_t j = 0; j <= t; ++j) {
        double s = 0;
        for (int64_t d = 0; d < kDim; ++d) {
          s += static_cast<double>(q[static_cast<size_t>(t * kLd + h * kDim + d)]) *
               k[static_cast<size_t>((j * kKvHeads + h / 3) * kDim + d)];
        }
        p[static_cast<size_t>(j)] = std::exp(s / 8);
        sum += p[static_cast<size_t>(j)];
      }
      for (int64_t d = 0; d < kDim; ++d) {
        double o = 0;
        for (int64_t j = 0; j <= t; ++j) {
          o += p[static_cast<size_t>(j)] / sum *
               v[static_cast<size_t>((j * kKvHeads + h / 3) * kDim + d)];
        }
        worst = std::max(worst, std::abs(o - out[static_cast<size_t>(t * kLd + h * kDim + d)]));
      }
    }
  }
  EXPECT_LT(worst, 1e-5);
  for (int64_t chunk : {1, 7, 16}) {
    std::vector<float> pieces(q.size());
    for (int64_t t = 0; t < kTokens; t += chunk) {
      const AttentionJob job{kv,
                             q.data() + t * kLd,
                             pieces.data() + t * kLd,
                             kLd,
                             kLd,
                             std::min(chunk, kTokens - t),
                             t,
                             kHeads};
      Attention({&job, 1}, &scratch);
    }
    EXPECT_EQ(0, std::memcmp(pieces.data(), out.data(), out.size() * 4)) << "chunk " << chunk;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Roads, testing::Values("plain", "avx2", "avx512"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Rope, RotatesHalvesAndKeepsLength) {
  const RopeTable table = RopeTable::Make(10, 4, 10000);
  std::vector<float> x = {1, 2, 3, 4};
  Rope(x.data(), 1, 4, 3, table);
  EXPECT_NEAR(x[0], std::cos(3.0) * 1 - std::sin(3.0) * 3, 1e-6);
  EXPECT_NEAR(x[2], std::cos(3.0) * 3 + std::sin(3.0) * 1, 1e-6);
  EXPECT_NEAR(x[1] * x[1] + x[3] * x[3], 20, 1e-5);
}

TEST(Isa, RefusesWhatItDoesNotKnow) {
  EXPECT_NE(ForceIsa("sse9").message().find("plain, avx2, avx512"), std::string_view::npos);
}

}  // namespace
}  // namespace engine::kernels
