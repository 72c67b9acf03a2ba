// The real model: config, rows and sums that transformers and the gguf Python package give.
#include <chrono>
#include <cmath>
#include <cstdio>

#include "engine/model/formats/checkpoint.h"
#include "engine/model/formats/test_model.h"
#include "engine/model/formats/tokenizer.h"

namespace engine::model {
namespace {

TEST(SmolLm2, ConfigIsRead) {
  std::unique_ptr<Checkpoint> checkpoint;
  ASSERT_STATUS_OK(OpenCheckpoint(TestModelPath(), &checkpoint));
  const ModelConfig& c = checkpoint->config();
  EXPECT_EQ(c.hidden, 576);
  EXPECT_EQ(c.heads, 9);
  EXPECT_EQ(c.kv_heads, 3);
  EXPECT_EQ(c.head_dim, 64);
  EXPECT_EQ(c.blocks, 30);
  EXPECT_EQ(c.mlp, 1536);
  EXPECT_EQ(c.vocab, 49152);
  EXPECT_EQ(c.context, 8192);
  EXPECT_EQ(c.rope_theta, 100000.0);
  EXPECT_FLOAT_EQ(static_cast<float>(c.norm_eps), 1e-5f);
  EXPECT_TRUE(c.tied_embedding);
  EXPECT_TRUE(c.rope_divisors.empty());
  EXPECT_EQ(c.bos, 1);
  EXPECT_EQ(c.eos, 2);
  EXPECT_EQ(c.stop_ids, (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(c.eos_token, "<|im_end|>");
  EXPECT_NE(c.chat_template.find("<|im_start|>assistant"), std::string::npos);
  EXPECT_EQ(checkpoint->tensors().size(), 272u);
  EXPECT_EQ(checkpoint->Find("lm_head.weight"), nullptr);
  std::unique_ptr<Tokenizer> tokenizer;
  ASSERT_STATUS_OK(OpenTokenizer(*checkpoint, &tokenizer));
  EXPECT_EQ(tokenizer->vocab_size(), c.vocab);
}

// Of transformers' state dict of the same file: three elements, and the sum of w[r][c] * (1 + r %
// 7) * (1 + c % 5) over all elements, which a permuted row or column changes.
struct Expected {
  const char* name;
  int64_t rows, columns;
  float first, middle, last;  // [0][0], [rows / 2][columns / 2], [rows - 1][columns - 1]
  double sum;
};
constexpr Expected kExpected[] = {
#include "engine/model/formats/model_test_values.inc"
};

TEST(SmolLm2, WeightsEqualTransformers) {
  std::unique_ptr<Checkpoint> checkpoint;
  ASSERT_STATUS_OK(OpenCheckpoint(TestModelPath(), &checkpoint));
  for (const Expected& e : kExpected) {
    SCOPED_TRACE(e.name);
    const TensorInfo* t = checkpoint->Find(e.name);
    ASSERT_NE(t, nullptr);
    ASSERT_EQ(t->rows(), e.rows);
    ASSERT_EQ(t->columns(), e.columns);
    std::vector<float> w(static_cast<size_t>(e.rows * e.columns));
    std::vector<double> wide(w.size());
    std::vector<uint16_t> narrow(w.size());
    ASSERT_STATUS_OK(checkpoint->ReadRows(*t, 0, e.rows, w.data()));
    ASSERT_STATUS_OK(checkpoint->ReadRows(*t, 0, e.rows, wide.data()));
    ASSERT_STATUS_OK(checkpoint->ReadRowsBf16(*t, 0, e.rows, narrow.data()));
    EXPECT_EQ(w.front(), e.first);
    EXPECT_EQ(w[static_cast<size_t>(e.rows / 2 * e.columns + e.columns / 2)], e.middle);
    EXPECT_EQ(w.back(), e.last);
    double sum = 0;
    for (size_t k = 0; k < w.size(); ++k) {
      const auto r = static_cast<int64_t>(k) / e.columns, c = static_cast<int64_t>(k) % e.columns;
      sum += static_cast<double>(w[k]) * static_cast<double>((1 + r % 7) * (1 + c % 5));
      ASSERT_EQ(wide[k], static_cast<double>(w[k]));
      ASSERT_EQ(narrow[k], FloatToBf16(w[k]));
    }
    EXPECT_NEAR(sum, e.sum, 1e-6 * std::max(1.0, std::abs(e.sum)));
    // A part of the rows is the same as in the whole.
    std::vector<float> part(static_cast<size_t>(e.columns));
    const int64_t row = e.rows / 3;
    ASSERT_STATUS_OK(checkpoint->ReadRows(*t, row, row + 1, part.data()));
    EXPECT_TRUE(std::equal(part.begin(), part.end(), w.begin() + row * e.columns));
  }
}

TEST(SmolLm2, RowsOutsideTheTensorAreRefused) {
  std::unique_ptr<Checkpoint> checkpoint;
  ASSERT_STATUS_OK(OpenCheckpoint(TestModelPath(), &checkpoint));
  const TensorInfo* t = checkpoint->Find("model.layers.0.self_attn.k_proj.weight");
  ASSERT_NE(t, nullptr);
  std::vector<float> row(576);
  EXPECT_REFUSED(checkpoint->ReadRows(*t, -1, 0, row.data()), "rows [-1, 0)");
  EXPECT_REFUSED(checkpoint->ReadRows(*t, 192, 193, row.data()), "it has 192");
  EXPECT_REFUSED(checkpoint->ReadRows(*t, 2, 1, row.data()), "were asked for");
  const TensorInfo stranger = *t;
  EXPECT_REFUSED(checkpoint->ReadRows(stranger, 0, 1, row.data()), "is not one of");
}

TEST(SmolLm2, AllWeightsDecodeQuickly) {
  std::unique_ptr<Checkpoint> checkpoint;
  ASSERT_STATUS_OK(OpenCheckpoint(TestModelPath(), &checkpoint));
  int64_t total = 0;
  for (const TensorInfo& t : checkpoint->tensors()) total += t.rows() * t.columns();
  for (int round = 0; round < 3; ++round) {
    std::unique_ptr<float[]> weights(new float[static_cast<size_t>(total)]);
    const auto start = std::chrono::steady_clock::now();
    float* at = weights.get();
    for (const TensorInfo& t : checkpoint->tensors()) {
      ASSERT_STATUS_OK(checkpoint->ReadRows(t, 0, t.rows(), at));
      checkpoint->Drop(t);
      at += t.rows() * t.columns();
    }
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("%lld weights in %.3f s\n", static_cast<long long>(total), seconds);
    EXPECT_LT(seconds, 10.0);
  }
  EXPECT_EQ(total, 134515008);
}

}  // namespace
}  // namespace engine::model
