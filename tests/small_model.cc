#include "tests/small_model.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

#include "engine/model/formats/byte_alphabet.h"
#include "engine/util.hpp"

namespace engine::tests {
namespace {

constexpr size_t kBlock = 32, kAlignment = 32;

// Little-endian bytes one after the other, as GGUF has them.
class Bytes {
 public:
  template <typename T>
  void Add(T value) {
    const size_t at = out_.size();
    out_.resize(at + sizeof value);
    std::memcpy(out_.data() + at, &value, sizeof value);
  }
  void Text(const std::string& text) {
    Add<uint64_t>(text.size());
    out_ += text;
  }
  void Align() { out_.resize((out_.size() + kAlignment - 1) / kAlignment * kAlignment); }
  std::string& out() { return out_; }

 private:
  std::string out_;
};

enum ValueType : uint32_t { kUint32 = 4, kFloat32 = 6, kText = 8, kArray = 9 };

uint32_t TypeOf(Stored stored) {
  switch (stored) {
    case Stored::kF32:
      return 0;
    case Stored::kQ4_0:
      return 2;
    case Stored::kQ4_1:
      return 3;
    case Stored::kQ8_0:
      return 8;
  }
  return 0;
}

// One block of 32, as ggml's reference quantizers round it.
void AddBlock(Stored stored, const float* x, Bytes* to) {
  const auto [least, most] = std::minmax_element(x, x + kBlock);
  if (stored == Stored::kQ8_0) {
    const float scale = std::max(std::fabs(*least), std::fabs(*most)) / 127.0f;
    to->Add(FloatToHalf(scale));
    for (size_t i = 0; i < kBlock; ++i) {
      to->Add(static_cast<int8_t>(scale > 0 ? std::round(x[i] / scale) : 0));
    }
    return;
  }
  const bool minimum = stored == Stored::kQ4_1;
  // Q4_0: the value of greatest size becomes code 0, which stands for -8.
  const float peak = std::fabs(*least) > std::fabs(*most) ? *least : *most;
  const float scale = minimum ? (*most - *least) / 15.0f : peak / -8.0f;
  to->Add(FloatToHalf(scale));
  if (minimum) to->Add(FloatToHalf(*least));
  const auto code = [&](float v) {
    const float at = scale == 0 ? 0 : (v - (minimum ? *least : 0)) / scale + (minimum ? 0 : 8);
    return static_cast<uint8_t>(std::clamp(at + 0.5f, 0.0f, 15.0f));
  };
  for (size_t i = 0; i < kBlock / 2; ++i) {
    to->Add(static_cast<uint8_t>(code(x[i]) | code(x[i + kBlock / 2]) << 4));
  }
}

struct Matrix {
  std::string name;
  std::vector<uint64_t> shape;  // rows first; one dimension: a norm
  std::vector<float> values;
};

// The characters of GPT-2's byte alphabet and made-up tokens after them.
std::vector<std::string> Vocabulary() {
  std::vector<std::string> tokens;
  for (int b = 0; b < 256; ++b) tokens.push_back(model::TokenOfByte(static_cast<uint8_t>(b)));
  while (static_cast<int64_t>(tokens.size()) < SmallModel::kVocab) {
    tokens.push_back("<extra_" + std::to_string(tokens.size()) + ">");
  }
  return tokens;
}

using Order = std::vector<size_t>;

Order OrderOf(int64_t count, bool changed, uint32_t seed) {
  Order order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), size_t{0});
  std::mt19937 random(seed);
  if (changed) std::shuffle(order.begin(), order.end(), random);
  return order;
}

std::vector<Matrix> Weights(bool reordered) {
  using M = SmallModel;
  const Order hidden = OrderOf(M::kHidden, reordered, 1), mlp = OrderOf(M::kMlp, reordered, 2);
  const Order none;
  std::vector<Matrix> all;
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  // Values are drawn in one order, whatever order they are written in.
  const auto add = [&](const std::string& name, int64_t rows, int64_t columns, float spread,
                       const Order& row_order, const Order& column_order) {
    Matrix m;
    m.name = name;
    if (rows > 1) m.shape.push_back(static_cast<uint64_t>(rows));
    m.shape.push_back(static_cast<uint64_t>(columns));
    std::vector<float> drawn(static_cast<size_t>(rows * columns));
    const float middle = rows > 1 ? 0.0f : 1.0f;
    for (float& v : drawn) v = middle + spread * normal(random);
    const auto width = static_cast<size_t>(columns);
    for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
      const size_t row = row_order.empty() ? r : row_order[r];
      for (size_t c = 0; c < width; ++c) {
        m.values.push_back(drawn[row * width + (column_order.empty() ? c : column_order[c])]);
      }
    }
    all.push_back(std::move(m));
  };
  const auto spread = [](int64_t in) { return 1.2f / std::sqrt(static_cast<float>(in)); };
  constexpr int64_t kQ = M::kHeads * M::kHeadDim, kK = M::kKvHeads * M::kHeadDim;
  add("token_embd.weight", M::kVocab, M::kHidden, 0.2f, none, hidden);
  for (int64_t i = 0; i < M::kBlocks; ++i) {
    const std::string block = "blk." + std::to_string(i) + ".";
    add(block + "attn_norm.weight", 1, M::kHidden, 0.1f, none, hidden);
    add(block + "attn_q.weight", kQ, M::kHidden, spread(M::kHidden), none, hidden);
    add(block + "attn_k.weight", kK, M::kHidden, spread(M::kHidden), none, hidden);
    add(block + "attn_v.weight", kK, M::kHidden, spread(M::kHidden), none, hidden);
    add(block + "attn_output.weight", M::kHidden, kQ, spread(kQ), hidden, none);
    add(block + "ffn_norm.weight", 1, M::kHidden, 0.1f, none, hidden);
    add(block + "ffn_gate.weight", M::kMlp, M::kHidden, spread(M::kHidden), mlp, hidden);
    add(block + "ffn_up.weight", M::kMlp, M::kHidden, spread(M::kHidden), mlp, hidden);
    add(block + "ffn_down.weight", M::kHidden, M::kMlp, spread(M::kMlp), hidden, mlp);
  }
  add("output_norm.weight", 1, M::kHidden, 0.1f, none, hidden);
  return all;
}

}  // namespace

void WriteSmallModel(const std::string& path, Stored stored, bool reordered) {
  using M = SmallModel;
  const std::vector<Matrix> weights = Weights(reordered);
  const std::vector<std::pair<std::string, int64_t>> numbers = {
      {"llama.embedding_length", M::kHidden},    {"llama.block_count", M::kBlocks},
      {"llama.attention.head_count", M::kHeads}, {"llama.attention.head_count_kv", M::kKvHeads},
      {"llama.feed_forward_length", M::kMlp},    {"llama.context_length", M::kContext},
      {"llama.vocab_size", M::kVocab},           {"tokenizer.ggml.bos_token_id", 0},
      {"tokenizer.ggml.eos_token_id", 0}};
  const std::vector<std::pair<std::string, float>> floats = {
      {"llama.rope.freq_base", 10000.0f}, {"llama.attention.layer_norm_rms_epsilon", 1e-5f}};
  const std::vector<std::pair<std::string, std::string>> texts = {{"general.architecture", "llama"},
                                                                  {"tokenizer.ggml.model", "gpt2"},
                                                                  {"tokenizer.ggml.pre", "gpt-2"}};

  Bytes data;
  std::vector<uint64_t> offsets;
  for (const Matrix& m : weights) {
    offsets.push_back(data.out().size());
    if (m.shape.size() < 2 || stored == Stored::kF32) {
      for (float v : m.values) data.Add(v);
    } else {
      for (size_t i = 0; i < m.values.size(); i += kBlock) {
        AddBlock(stored, m.values.data() + i, &data);
      }
    }
    data.Align();
  }

  Bytes file;
  file.out() = "GGUF";
  file.Add<uint32_t>(3);
  file.Add<uint64_t>(weights.size());
  file.Add<uint64_t>(numbers.size() + floats.size() + texts.size() + 2);
  for (const auto& [key, text] : texts) {
    file.Text(key);
    file.Add<uint32_t>(kText);
    file.Text(text);
  }
  for (const auto& [key, number] : numbers) {
    file.Text(key);
    file.Add<uint32_t>(kUint32);
    file.Add(static_cast<uint32_t>(number));
  }
  for (const auto& [key, number] : floats) {
    file.Text(key);
    file.Add<uint32_t>(kFloat32);
    file.Add(number);
  }
  for (const auto& [key, list] : {std::pair{"tokenizer.ggml.tokens", Vocabulary()},
                                  std::pair{"tokenizer.ggml.merges", std::vector<std::string>()}}) {
    file.Text(key);
    file.Add<uint32_t>(kArray);
    file.Add<uint32_t>(kText);
    file.Add<uint64_t>(list.size());
    for (const std::string& text : list) file.Text(text);
  }
  for (size_t i = 0; i < weights.size(); ++i) {
    const Matrix& m = weights[i];
    file.Text(m.name);
    file.Add(static_cast<uint32_t>(m.shape.size()));
    for (size_t d = m.shape.size(); d-- > 0;) file.Add(m.shape[d]);
    file.Add(m.shape.size() < 2 ? TypeOf(Stored::kF32) : TypeOf(stored));
    file.Add(offsets[i]);
  }
  file.Align();
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << file.out() << data.out();
  if (!out.flush()) throw std::runtime_error("'" + path + "' cannot be written");
}

}  // namespace engine::tests
