// Each road against plain loops in double, and each against itself at other numbers of rows: the
// second must be equal bit for bit.
#include "engine/kernels/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "engine/kernels/isa.h"
#include "engine/kernels/parallel.h"
#include "engine/kernels/pool.h"
#include "engine/kernels/testing.h"
#include "engine/util.hpp"

namespace engine::kernels {
namespace {

// A packed matrix of random weights, by name of its format.
std::shared_ptr<PackedMatrix> Pack(const std::string& format, int64_t out, int64_t in,
                                   uint32_t seed) {
  std::shared_ptr<PackedMatrix> m;
  if (format == "f32" || format == "bf16") {
    const std::vector<float> w = Random(out * in, seed);
    EXPECT_TRUE(
        PackedMatrix::Make(format == "f32" ? Format::kF32 : Format::kBf16, out, in, &m).ok());
    for (int64_t r = 0; r < out; r += kPanel) {
      m->SetRows(r, std::min(kPanel, out - r), w.data() + r * in);
    }
    return m;
  }
  std::mt19937 gen(seed);
  IntScheme scheme;
  if (format == "s8 row" || format == "s8 group 64") {
    scheme.group = format == "s8 row" ? 0 : 64;
    EXPECT_TRUE(PackedMatrix::MakeInt(scheme, out, in, &m).ok());
    for (int64_t r = 0; r < out; ++r) {
      std::vector<int8_t> q(static_cast<size_t>(in));
      for (int8_t& v : q) v = static_cast<int8_t>(static_cast<int>(gen() % 255) - 127);
      std::vector<float> scales(static_cast<size_t>(m->groups()));
      for (float& v : scales)
        v = HalfToFloat(FloatToHalf(0.001f + 1e-5f * static_cast<float>(gen() % 1000)));
      m->SetRowInt8(r, q.data(), scales.data());
    }
    return m;
  }
  // ggml's blocks of random bytes, with scales that are no extremes.
  scheme.bits = format == "q8_0" ? 8 : 4;
  scheme.minimum = format == "q4_1";
  scheme.group = 32;
  EXPECT_TRUE(PackedMatrix::MakeInt(scheme, out, in, &m).ok());
  const int64_t data = scheme.bits == 8 ? 32 : 16, head = scheme.minimum ? 4 : 2;
  const int64_t row_bytes = in / 32 * (data + head);
  std::vector<uint8_t> blocks(static_cast<size_t>(out * row_bytes));
  for (uint8_t& byte : blocks) byte = static_cast<uint8_t>(gen());
  std::vector<const uint8_t*> rows;
  for (int64_t r = 0; r < out; ++r) {
    uint8_t* row = blocks.data() + r * row_bytes;
    rows.push_back(row);
    for (int64_t at = 0; at < row_bytes; at += data + head) {
      const uint16_t scale = FloatToHalf(0.01f + 1e-5f * static_cast<float>(gen() % 1000));
      const uint16_t least = FloatToHalf(-0.05f + 1e-4f * static_cast<float>(gen() % 1000));
      std::memcpy(row + at, &scale, 2);
      if (scheme.minimum) std::memcpy(row + at + 2, &least, 2);
    }
  }
  for (int64_t r = 0; r < out; r += kPanel) {
    m->SetRowsBlocks(r, std::min(kPanel, out - r), rows.data() + r);
  }
  // Every code and scale must have come to its place.
  std::vector<float> row(static_cast<size_t>(in));
  for (int64_t r = 0; r < out; r += 5) {
    m->GetRow(r, row.data());
    for (int64_t k = 0; k < in; ++k) {
      const uint8_t* block = rows[static_cast<size_t>(r)] + k / 32 * (data + head);
      uint16_t scale, least = 0;
      std::memcpy(&scale, block, 2);
      if (scheme.minimum) std::memcpy(&least, block + 2, 2);
      const uint8_t* codes = block + head;
      const int64_t j = k % 32;
      float want;
      if (scheme.bits == 8) {
        want = HalfToFloat(scale) * static_cast<float>(static_cast<int8_t>(codes[j]));
      } else {
        const int nibble = j < 16 ? codes[j] & 15 : codes[j - 16] >> 4;
        want = HalfToFloat(scale) * static_cast<float>(scheme.minimum ? nibble : nibble - 8) +
               HalfToFloat(least);
      }
      EXPECT_EQ(row[static_cast<size_t>(k)], want) << format << " row " << r << " at " << k;
    }
  }
  return m;
}

// What the format makes of a row of activations, in double.
std::vector<double> Activations(const PackedMatrix& m, const float* x) {
  std::vector<double> out(x, x + m.in());
  if (m.format() == Format::kBf16) {
    for (double& v : out) v = FromBf16(ToBf16(static_cast<float>(v)));
  }
  if (m.format() != Format::kInt) return out;
  for (int64_t first = 0; first < m.in(); first += m.group_size()) {
    const int64_t end = std::min(m.in(), first + m.group_size());
    float top = 0;
    for (int64_t k = first; k < end; ++k) top = std::max(top, std::abs(x[k]));
    const float scale = top / 127.0f, inverse = top > 0 ? 127.0f / top : 0.0f;
    for (int64_t k = first; k < end; ++k) {
      out[static_cast<size_t>(k)] =
          static_cast<double>(scale) * static_cast<double>(std::nearbyint(x[k] * inverse));
    }
  }
  return out;
}

class Roads : public EachRoad {};

struct Shape {
  int64_t out, in;
};

TEST_P(Roads, ProductsAreRightAndTheSameAtEveryNumberOfRows) {
  for (const std::string format :
       {"f32", "bf16", "s8 row", "s8 group 64", "q8_0", "q4_0", "q4_1"}) {
    const bool blocks = format[0] == 'q';
    for (const Shape& s :
         {Shape{576, 576}, Shape{96, 1536}, Shape{33, 7}, Shape{1, 1}, Shape{200, 130}}) {
      if (blocks && s.in % 32 != 0) continue;
      SCOPED_TRACE(format + " " + std::to_string(s.out) + "x" + std::to_string(s.in));
      const std::vector<float> x = Random(40 * s.in, 2);
      const auto m = Pack(format, s.out, s.in, 1);
      Scratch scratch;
      std::vector<float> all(static_cast<size_t>(40 * s.out), -1.0f);
      const Product product{m.get(), all.data(), s.out};
      Multiply({x.data(), s.in, 40}, {&product, 1}, &scratch);
      std::vector<float> row(static_cast<size_t>(s.in));
      double worst = 0, size = 0;
      for (int64_t r = 0; r < 40; ++r) {
        const std::vector<double> xs = Activations(*m, x.data() + r * s.in);
        for (int64_t n = 0; n < s.out; n += 7) {
          m->GetRow(n, row.data());
          double sum = 0, norm = 0;
          for (size_t k = 0; k < row.size(); ++k) {
            sum += xs[k] * static_cast<double>(row[k]);
            norm += std::abs(xs[k] * static_cast<double>(row[k]));
          }
          size = std::max(size, norm);
          worst = std::max(
              worst, std::abs(sum - static_cast<double>(all[static_cast<size_t>(r * s.out + n)])));
        }
      }
      EXPECT_LT(worst, 3e-7 * size + 1e-6);
      for (int64_t rows : {1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 31}) {
        std::vector<float> some(static_cast<size_t>(rows * s.out));
        const Product p{m.get(), some.data(), s.out};
        Multiply({x.data() + s.in, s.in, rows}, {&p, 1}, &scratch);
        ASSERT_EQ(0, std::memcmp(some.data(), all.data() + s.out, some.size() * 4))
            << "rows " << rows;
      }
    }
  }
}

TEST_P(Roads, ANormAndAPairAreWhatTheyAreAlone) {
  constexpr int64_t kRows = 9, kIn = 96, kOut = 70;
  const std::vector<float> x = Random(kRows * kIn, 12), norm = Random(kIn, 13);
  for (const std::string format : {"f32", "bf16", "q8_0", "q4_1"}) {
    const auto gate = Pack(format, kOut, kIn, 14), up = Pack(format, kOut, kIn, 15);
    Scratch scratch;
    std::vector<float> normed(kRows * kIn), g(kRows * kOut), u(g.size()), fused(g), spare(g);
    RmsNorm(x.data(), kRows, kIn, norm.data(), 1e-5f, normed.data());
    const Product apart[2] = {{gate.get(), g.data(), kOut}, {up.get(), u.data(), kOut}};
    Multiply({normed.data(), kIn, kRows}, apart, &scratch);
    for (int64_t r = 0; r < kRows; ++r) {
      SiluMultiply(g.data() + r * kOut, u.data() + r * kOut, kOut);
    }
    std::vector<float> inside(kRows * kIn);
    const Product pair[2] = {{gate.get(), fused.data(), kOut}, {up.get(), spare.data(), kOut}};
    Multiply({x.data(), kIn, kRows, norm.data(), 1e-5f, inside.data()}, pair, &scratch, true);
    EXPECT_EQ(0, std::memcmp(inside.data(), normed.data(), normed.size() * 4));
    EXPECT_EQ(0, std::memcmp(fused.data(), g.data(), g.size() * 4)) << format;
  }
}

TEST_P(Roads, InputScalesActBeforeInputsAreQuantized) {
  constexpr int64_t kRows = 9, kIn = 96, kOut = 70;
  const std::vector<float> x = Random(kRows * kIn, 12);
  std::vector<float> scales = Random(kIn, 13), other(kIn, 2.0f);
  for (float& s : scales) s = std::fabs(s) + 0.1f;
  std::vector<float> scaled(x);
  for (size_t i = 0; i < x.size(); ++i) scaled[i] *= scales[i % kIn];
  for (const std::string format : {"s8 row", "s8 group 64"}) {
    const auto plain = Pack(format, kOut, kIn, 14), a = Pack(format, kOut, kIn, 14),
               b = Pack(format, kOut, kIn, 15), c = Pack(format, kOut, kIn, 14);
    a->SetInputScales(scales);
    b->SetInputScales(scales);
    c->SetInputScales(other);
    EXPECT_EQ(a->input_scales(), b->input_scales()) << "equal scales are one object";
    Scratch scratch;
    std::vector<float> want(kRows * kOut), of_a(want), of_b(want), of_c(want), of_plain(want);
    const Product alone{plain.get(), want.data(), kOut};
    Multiply({scaled.data(), kIn, kRows}, {&alone, 1}, &scratch);
    // Beside others that take their inputs otherwise.
    const Product four[4] = {{plain.get(), of_plain.data(), kOut},
                             {a.get(), of_a.data(), kOut},
                             {c.get(), of_c.data(), kOut},
                             {b.get(), of_b.data(), kOut}};
    Multiply({x.data(), kIn, kRows}, four, &scratch);
    EXPECT_EQ(0, std::memcmp(of_a.data(), want.data(), want.size() * 4)) << format;
    EXPECT_NE(0, std::memcmp(of_plain.data(), want.data(), want.size() * 4)) << format;
    // Doubling changes no code of a row, only its scale.
    for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(of_c[i], 2 * of_plain[i]) << format;
    std::vector<float> row(kIn), unscaled(kIn);
    a->GetRow(3, row.data());
    plain->GetRow(3, unscaled.data());
    for (size_t k = 0; k < kIn; ++k) EXPECT_EQ(row[k], unscaled[k] * scales[k]);
  }
}

TEST_P(Roads, ANanInTheActivationsReachesTheResult) {
  const auto m = Pack("q8_0", 40, 64, 3);
  std::vector<float> x = Random(2 * 64, 4), y(80);
  x[64 + 40] = NAN;
  Scratch scratch;
  const Product p{m.get(), y.data(), 40};
  Multiply({x.data(), 64, 2}, {&p, 1}, &scratch);
  for (size_t i = 0; i < 40; ++i) {
    EXPECT_TRUE(std::isfinite(y[i]));
    EXPECT_TRUE(std::isnan(y[40 + i]));
  }
}

TEST_P(Roads, AddScalesTheProductOnce) {
  const std::vector<float> x = Random(2 * 16, 4);
  const auto m = Pack("f32", 40, 16, 3);
  Scratch scratch;
  std::vector<float> plain(80), added(80, 1.5f);
  const Product p{m.get(), plain.data(), 40};
  Multiply({x.data(), 16, 2}, {&p, 1}, &scratch);
  const Product q{m.get(), added.data(), 40, true, 0.25f};
  Multiply({x.data(), 16, 2}, {&q, 1}, &scratch);
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

// Attention of a whole sequence of kTokens over pages of 16 in shuffled order.
struct AttentionCase {
  static constexpr int64_t kHeads = 9, kKvHeads = 3, kDim = 64, kPage = 16;
  AttentionCase(KvFormat format, int64_t tokens)
      : tokens(tokens),
        q(Random(tokens * kHeads * kDim, 9)),
        k(Random(tokens * kKvHeads * kDim, 10)),
        v(Random(tokens * kKvHeads * kDim, 11)),
        rope(RopeTable::Make(tokens, kDim, 10000)) {
    const int64_t pages = (tokens + kPage - 1) / kPage;
    const int64_t stride = PagedKv::PageBytes(format, kPage, kKvHeads, kDim);
    EXPECT_TRUE(Pages::Make(static_cast<uint64_t>(pages * stride), &memory).ok());
    kv = {format, static_cast<char*>(memory.data()), stride, kPage, kKvHeads, kDim};
    for (int64_t p = 0; p < pages; ++p) blocks.push_back(static_cast<int32_t>(pages - 1 - p));
  }
  AttentionJob Job(int64_t start, int64_t count, float* out) const {
    return {blocks.data(),
            q.data() + start * kHeads * kDim,
            k.data() + start * kKvHeads * kDim,
            v.data() + start * kKvHeads * kDim,
            out + start * kHeads * kDim,
            count,
            start};
  }
  std::vector<float> Whole() {
    std::vector<float> out(q.size());
    AttentionScratch scratch;
    const AttentionJob job = Job(0, tokens, out.data());
    Attention(kv, kHeads, {&job, 1}, rope, &scratch);
    return out;
  }
  int64_t tokens;
  std::vector<float> q, k, v;
  RopeTable rope;
  Pages memory;
  PagedKv kv;
  std::vector<int32_t> blocks;
};

TEST_P(Roads, AttentionIsRight) {
  for (const KvFormat format : {KvFormat::kF32, KvFormat::kF16, KvFormat::kInt8}) {
    AttentionCase c(format, 300);
    constexpr int64_t kHeads = c.kHeads, kKvHeads = c.kKvHeads, kDim = c.kDim;
    const std::vector<float> out = c.Whole();
    // Keys and values as they are stored, so that only the arithmetic is compared.
    std::vector<float> keys(c.k.size()), values(c.v.size());
    for (int64_t t = 0; t < c.tokens; ++t) {
      KvRead(c.kv, c.blocks.data(), t, keys.data() + t * kKvHeads * kDim,
             values.data() + t * kKvHeads * kDim);
    }
    double off = 0, worst = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      off = std::max(off, static_cast<double>(std::abs(values[i] - c.v[i])));
    }
    EXPECT_LE(off, format == KvFormat::kF32 ? 0 : format == KvFormat::kF16 ? 2e-3 : 2e-2);
    for (const int64_t t : {0, 1, 15, 16, 127, 128, 129, 255, 256, 299}) {
      for (int64_t h = 0; h < kHeads; ++h) {
        std::vector<float> q(static_cast<size_t>(kDim));
        for (int64_t i = 0; i < kDim / 2; ++i) {
          const double angle =
              static_cast<double>(t) * std::pow(10000.0, -2.0 * static_cast<double>(i) / kDim);
          const float* x = c.q.data() + (t * kHeads + h) * kDim;
          q[static_cast<size_t>(i)] =
              static_cast<float>(x[i] * std::cos(angle) - x[i + kDim / 2] * std::sin(angle));
          q[static_cast<size_t>(i + kDim / 2)] =
              static_cast<float>(x[i + kDim / 2] * std::cos(angle) + x[i] * std::sin(angle));
        }
        std::vector<double> p(static_cast<size_t>(t + 1));
        double sum = 0;
        for (int64_t j = 0; j <= t; ++j) {
          double s = 0;
          for (int64_t d = 0; d < kDim; ++d) {
            s += static_cast<double>(q[static_cast<size_t>(d)]) *
                 keys[static_cast<size_t>((j * kKvHeads + h / 3) * kDim + d)];
          }
          sum += p[static_cast<size_t>(j)] = std::exp(s / 8);
        }
        for (int64_t d = 0; d < kDim; ++d) {
          double o = 0;
          for (int64_t j = 0; j <= t; ++j) {
            o += p[static_cast<size_t>(j)] / sum *
                 values[static_cast<size_t>((j * kKvHeads + h / 3) * kDim + d)];
          }
          worst =
              std::max(worst, std::abs(o - out[static_cast<size_t>((t * kHeads + h) * kDim + d)]));
        }
      }
    }
    // Quantized queries differ from exact ones by half a step of 1/127.
    EXPECT_LT(worst, format == KvFormat::kInt8 ? 3e-2 : 2e-5) << static_cast<int>(format);
  }
}

TEST_P(Roads, AttentionKnowsNoChunksNeighboursOrThreads) {
  SetParallel(&PoolParallel);
  for (const KvFormat format : {KvFormat::kF32, KvFormat::kF16, KvFormat::kInt8}) {
    AttentionCase whole(format, 300);
    const std::vector<float> want = whole.Whole();
    for (const int pool : {1, 2}) {
      SetPoolThreads(pool);
      for (const int64_t chunk : {1, 7, 128}) {
        AttentionCase c(format, 300);
        std::vector<float> pieces(c.q.size());
        AttentionScratch scratch;
        for (int64_t t = 0; t < c.tokens; t += chunk) {
          const int64_t count = std::min(chunk, c.tokens - t);
          const AttentionJob job = c.Job(t, count, pieces.data());
          Attention(c.kv, c.kHeads, {&job, 1}, c.rope, &scratch);
        }
        EXPECT_EQ(0, std::memcmp(pieces.data(), want.data(), want.size() * 4))
            << "chunk " << chunk << ", " << pool << " threads, format " << static_cast<int>(format);
      }
    }
  }
  SetPoolThreads(1);
  SetParallel(nullptr);
}

TEST_P(Roads, SequencesOfOneStepDoNotTouchEachOther) {
  SetParallel(&PoolParallel);
  SetPoolThreads(2);
  AttentionCase c(KvFormat::kF32, 200);
  const std::vector<float> want = c.Whole();
  // The same sequence again, as three in one pool at different positions of a step.
  for (const int64_t last : {17, 130, 199}) {
    std::vector<float> out(c.q.size());
    AttentionScratch scratch;
    std::vector<AttentionJob> jobs = {c.Job(last, 1, out.data()), c.Job(last - 3, 1, out.data()),
                                      c.Job(last - 9, 1, out.data())};
    Attention(c.kv, c.kHeads, jobs, c.rope, &scratch);
    for (const int64_t t : {last, last - 3, last - 9}) {
      EXPECT_EQ(0, std::memcmp(out.data() + t * c.kHeads * c.kDim,
                               want.data() + t * c.kHeads * c.kDim, c.kHeads * c.kDim * 4));
    }
  }
  SetPoolThreads(1);
  SetParallel(nullptr);
}

TEST_P(Roads, ChoosesTheFirstOfTheGreatest) {
  SampleScratch scratch;
  float margin = 0;
  std::vector<float> logits = Random(1001, 21);
  logits[500] = 9.5f;
  EXPECT_EQ(SampleRow(logits.data(), 1001, {}, &scratch, &margin), 500);
  EXPECT_GT(margin, 0);
  logits[700] = 9.5f;
  logits[1000] = 9.5f;
  EXPECT_EQ(SampleRow(logits.data(), 1001, {}, &scratch, &margin), 500);
  EXPECT_EQ(margin, 0);
  for (const size_t at : {0, 3, 999, 1000}) {
    std::vector<float> bad = logits;
    bad[at] = NAN;
    EXPECT_EQ(SampleRow(bad.data(), 1001, {}, &scratch, &margin), -1) << at;
  }
  std::fill(logits.begin(), logits.end(), -INFINITY);
  EXPECT_EQ(SampleRow(logits.data(), 1001, {}, &scratch, &margin), -1);
}

TEST_P(Roads, DrawsByTheProbabilities) {
  // Against the plain definition: sort, cut, add up.
  SampleScratch scratch;
  float margin = 0;
  const std::vector<float> logits = Random(3000, 22);
  for (const int64_t top_k : {0, 1, 7, 2999}) {
    for (const double top_p : {1.0, 0.9, 0.3, 0.0}) {
      std::vector<std::pair<double, int32_t>> all;
      for (size_t i = 0; i < logits.size(); ++i) {
        all.emplace_back(std::exp(static_cast<double>(logits[i]) / 0.7), static_cast<int32_t>(i));
      }
      const bool cut = top_k > 0 || top_p < 1;
      if (cut) std::sort(all.rbegin(), all.rend());
      if (top_k > 0) all.resize(static_cast<size_t>(top_k));
      double total = 0;
      for (const auto& [p, id] : all) total += p;
      if (top_p < 1) {
        double sum = 0;
        size_t n = 0;
        while (n < all.size() && (n == 0 || sum < top_p * total)) sum += all[n++].first;
        all.resize(n);
        total = sum;
      }
      int wrong = 0;
      for (int i = 0; i < 50; ++i) {
        const double draw = (i + 0.5) / 50;
        double sum = 0;
        int32_t want = all.back().second;
        for (const auto& [p, id] : all) {
          sum += p;
          if (draw * total < sum) {
            want = id;
            break;
          }
        }
        wrong +=
            want != SampleRow(logits.data(), 3000, {0.7, top_p, top_k, draw}, &scratch, &margin);
      }
      // A draw may fall within rounding of the border between two tokens.
      EXPECT_LE(wrong, 1) << "top_k " << top_k << " top_p " << top_p;
    }
  }
}

// min_p and typical_p, against the plain definitions; forbidden tokens are never drawn.
TEST_P(Roads, CutsByTypicalityAndLeastProbability) {
  SampleScratch scratch;
  float margin = 0;
  std::vector<float> logits = Random(3000, 23);
  for (size_t i = 0; i < logits.size(); i += 7) logits[i] = -INFINITY;
  for (const int64_t top_k : {0, 40}) {
    for (const double typical : {1.0, 0.8, 0.2}) {
      for (const double min_p : {0.0, 0.3}) {
        std::vector<std::pair<double, int32_t>> all;  // weight, token
        for (size_t i = 0; i < logits.size(); ++i) {
          const double w = std::exp(static_cast<double>(logits[i]) / 0.7);
          if (w > 0) all.emplace_back(w, static_cast<int32_t>(i));
        }
        if (top_k > 0 || typical < 1) std::sort(all.rbegin(), all.rend());
        const double greatest = std::max_element(all.begin(), all.end())->first;
        if (top_k > 0) all.resize(static_cast<size_t>(top_k));
        if (typical < 1) {
          double total = 0, entropy = 0, sum = 0;
          for (const auto& [w, id] : all) total += w;
          for (const auto& [w, id] : all) entropy -= w / total * std::log(w / total);
          std::stable_sort(all.begin(), all.end(), [&](const auto& a, const auto& b) {
            return std::abs(-std::log(a.first / total) - entropy) <
                   std::abs(-std::log(b.first / total) - entropy);
          });
          size_t n = 0;
          while (n < all.size() && (n == 0 || sum < typical * total)) sum += all[n++].first;
          all.resize(n);
          std::sort(all.rbegin(), all.rend());
        }
        const double best = typical < 1 ? all[0].first : 0;
        std::erase_if(all,
                      [&](const auto& c) { return c.first < min_p * greatest && c.first != best; });
        double total = 0;
        for (const auto& [w, id] : all) total += w;
        int wrong = 0;
        for (int i = 0; i < 50; ++i) {
          Sampling how{0.7, 1, top_k, (i + 0.5) / 50};
          how.typical_p = typical;
          how.min_p = min_p;
          double sum = 0;
          int32_t want = all.back().second;
          for (const auto& [w, id] : all) {
            sum += w;
            if (how.draw * total < sum) {
              want = id;
              break;
            }
          }
          const int64_t got = SampleRow(logits.data(), 3000, how, &scratch, &margin);
          EXPECT_NE(got % 7, 0);
          wrong += want != got;
        }
        EXPECT_LE(wrong, 1) << "top_k " << top_k << " typical " << typical << " min_p " << min_p;
      }
    }
  }
}

TEST_P(Roads, TellsLogProbabilities) {
  SampleScratch scratch;
  std::vector<float> logits = Random(3000, 24);
  logits[17] = -INFINITY;
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x));
  const double log_sum = LogSum(logits.data(), 3000, &scratch);
  EXPECT_NEAR(log_sum, std::log(sum), 1e-5);
  std::vector<int32_t> ids(3);
  std::vector<float> logprobs(3);
  TopTokens(logits.data(), 3000, 3, log_sum, &scratch, ids.data(), logprobs.data());
  std::vector<float> sorted = logits;
  std::sort(sorted.rbegin(), sorted.rend());
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(logits[static_cast<size_t>(ids[i])], sorted[i]);
    EXPECT_NEAR(logprobs[i], static_cast<double>(sorted[i]) - std::log(sum), 1e-5);
  }
  logits[5] = NAN;
  EXPECT_TRUE(std::isnan(LogSum(logits.data(), 3000, &scratch)));
}

INSTANTIATE_TEST_SUITE_P(All, Roads, testing::Values("plain", "avx2", "avx512"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Rope, RotatesHalvesAndKeepsLength) {
  const RopeTable table = RopeTable::Make(10, 4, 10000);
  const std::vector<float> x = {1, 2, 3, 4};
  std::vector<float> y(4);
  ActiveRoad().rope(x.data(), 1, 4, table.cos.data() + 6, table.sin.data() + 6, y.data());
  EXPECT_NEAR(y[0], std::cos(3.0) * 1 - std::sin(3.0) * 3, 1e-6);
  EXPECT_NEAR(y[2], std::cos(3.0) * 3 + std::sin(3.0) * 1, 1e-6);
  EXPECT_NEAR(y[1] * y[1] + y[3] * y[3], 20, 1e-5);
}

TEST(Half, RoundsToNearestEvenBothWays) {
  for (uint32_t h = 0; h < 65536; ++h) {
    const float f = HalfToFloat(static_cast<uint16_t>(h));
    if (std::isnan(f)) {
      EXPECT_TRUE(std::isnan(HalfToFloat(FloatToHalf(f))));
      continue;
    }
    ASSERT_EQ(FloatToHalf(f), h);
    // Halfway to the next goes to the even one.
    const float next = HalfToFloat(static_cast<uint16_t>(h + 1));
    if ((h & 0x7fff) >= 0x7bff || !std::isfinite(next)) continue;
    const float middle = (f + next) / 2;
    ASSERT_EQ(FloatToHalf(middle), h + (h & 1)) << h;
  }
  EXPECT_EQ(FloatToHalf(70000.0f), 0x7c00);
}

TEST(PackedMatrix, RefusesSchemesThatNoKernelHas) {
  std::shared_ptr<PackedMatrix> m;
  EXPECT_FALSE(PackedMatrix::MakeInt({8, false, 40}, 32, 64, &m).ok());
  EXPECT_FALSE(PackedMatrix::MakeInt({4, false, 64}, 32, 64, &m).ok());
  EXPECT_FALSE(PackedMatrix::MakeInt({8, true, 32}, 32, 64, &m).ok());
  EXPECT_FALSE(PackedMatrix::MakeInt({8, false, 0}, 1, 70000, &m).ok());
  EXPECT_FALSE(PackedMatrix::Make(Format::kF32, 0, 64, &m).ok());
}

TEST(Isa, RefusesWhatItDoesNotKnow) {
  EXPECT_NE(ForceIsa("sse9").message().find("plain, avx2, avx512"), std::string_view::npos);
}

}  // namespace
}  // namespace engine::kernels
