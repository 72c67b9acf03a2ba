#include "engine/model/formats/gguf.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>

#include "engine/model/formats/checkpoint.h"
#include "engine/model/formats/test_model.h"

namespace engine::model {
namespace {

// Bytes of a GGUF file, every field of which a test can spoil.
class Bytes {
 public:
  template <typename T>
  Bytes& Put(T value) {
    out_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& Raw(std::string_view s) {
    out_ += s;
    return *this;
  }
  Bytes& Str(std::string_view s) { return Put<uint64_t>(s.size()).Raw(s); }
  Bytes& Header(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    return Raw("GGUF").Put(version).Put(tensors).Put(keys);
  }
  Bytes& KeyU32(std::string_view key, uint32_t v) { return Str(key).Put<uint32_t>(4).Put(v); }
  Bytes& KeyF32(std::string_view key, float v) { return Str(key).Put<uint32_t>(6).Put(v); }
  Bytes& KeyStr(std::string_view key, std::string_view v) {
    return Str(key).Put<uint32_t>(8).Str(v);
  }
  Bytes& Tensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                uint64_t offset) {
    Str(name).Put(static_cast<uint32_t>(dims.size()));
    for (uint64_t d : dims) Put(d);
    return Put(type).Put(offset);
  }
  Bytes& Align(size_t alignment = 32) {
    out_.resize((out_.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  Bytes& Data(size_t n) {
    Align().out_.append(n, '\1');
    return *this;
  }
  const std::string& str() const { return out_; }

 private:
  std::string out_;
};

Status OpenBytes(const std::string& bytes, std::unique_ptr<GgufFile>* file) {
  TempPath path(".gguf");
  path.Write(bytes);
  return GgufFile::Open(path.str(), file);
}

TEST(Gguf, ReadsValuesAndTensors) {
  for (uint32_t version : {2u, 3u}) {
    Bytes b;
    b.Header(2, 6, version).KeyU32("a", 7).KeyF32("f", 0.5f).KeyStr("s", "text");
    b.Str("list").Put<uint32_t>(9).Put<uint32_t>(5).Put<uint64_t>(2).Put<int32_t>(-1).Put(3);
    b.Str("names").Put<uint32_t>(9).Put<uint32_t>(8).Put<uint64_t>(2).Str("x").Str("");
    b.Str("yes").Put<uint32_t>(7).Put<uint8_t>(1);
    b.Tensor("t", {4, 2}, 0, 0).Tensor("u", {32}, 8, 32).Align();
    for (int k = 0; k < 8; ++k) b.Put(static_cast<float>(k));
    b.Data(34);
    std::unique_ptr<GgufFile> f;
    ASSERT_STATUS_OK(OpenBytes(b.str(), &f));
    int64_t a = 0;
    double d = 0;
    bool yes = false;
    std::string s;
    ASSERT_STATUS_OK(f->GetInt("a", GgufFile::kRequired, &a));
    ASSERT_STATUS_OK(f->GetFloat("f", GgufFile::kRequired, &d));
    ASSERT_STATUS_OK(f->GetString("s", GgufFile::kRequired, &s));
    ASSERT_STATUS_OK(f->GetBool("yes", GgufFile::kRequired, &yes));
    EXPECT_EQ(a, 7);
    EXPECT_EQ(d, 0.5);
    EXPECT_EQ(s, "text");
    EXPECT_TRUE(yes);
    EXPECT_EQ(f->Find("list")->integers, (std::vector<int64_t>{-1, 3}));
    EXPECT_EQ(f->Find("names")->strings, (std::vector<std::string_view>{"x", ""}));
    EXPECT_REFUSED(f->GetInt("s", GgufFile::kRequired, &a), "must be an integer");
    EXPECT_REFUSED(f->GetInt("none", GgufFile::kRequired, &a), "has no metadata 'none'");
    ASSERT_STATUS_OK(f->GetInt("none", GgufFile::kOptional, &a));
    EXPECT_EQ(a, 7);
    ASSERT_EQ(f->tensors().size(), 2u);
    EXPECT_EQ(f->tensors()[0].shape, (std::vector<int64_t>{2, 4}));
    float last = 0;
    std::memcpy(&last, f->file().data() + f->tensors()[0].offset + 28, 4);
    EXPECT_EQ(last, 7.0f);
  }
}

struct Vector {
  const char* words;  // of the refusal
  std::function<void(Bytes&)> build;
};

const uint64_t kHuge = 0x7FFFFFFFFFFFFFC0u;

const Vector kHostile[] = {
    {"magic", [](Bytes& b) { b.Raw("GGML").Put(3); }},
    {"magic", [](Bytes& b) { b.Raw("GG"); }},
    {"ends inside the version", [](Bytes& b) { b.Raw("GGUF").Raw("\3"); }},
    {"version 0", [](Bytes& b) { b.Header(0, 0, 0); }},
    {"version 1", [](Bytes& b) { b.Header(0, 0, 1); }},
    {"version 4", [](Bytes& b) { b.Header(0, 0, 4); }},
    {"byte-swapped", [](Bytes& b) { b.Header(0, 0, 0x03000000); }},
    {"ends inside the number of tensors", [](Bytes& b) { b.Raw("GGUF").Put(3); }},
    {"the number of tensors is 18446744073709551615", [](Bytes& b) { b.Header(~0ull, 0); }},
    {"the number of metadata keys is 18446744073709551615", [](Bytes& b) { b.Header(0, ~0ull); }},
    {"the number of tensors is 100", [](Bytes& b) { b.Header(100, 0).Data(1000); }},
    {"the length of metadata key 0 is 18446744073709551615",
     [](Bytes& b) { b.Header(0, 1).Put(~0ull).Data(64); }},
    {"the length of metadata key 0 is 70000",
     [](Bytes& b) { b.Header(0, 1).Str(std::string(70000, 'k')).Data(64); }},
    {"only", [](Bytes& b) { b.Header(0, 1).Put<uint64_t>(5000).Data(64); }},
    {"key 0 is empty", [](Bytes& b) { b.Header(0, 1).KeyU32("", 1).Data(64); }},
    {"has type 13", [](Bytes& b) { b.Header(0, 1).Str("k").Put<uint32_t>(13).Data(64); }},
    {"has type 4294967295", [](Bytes& b) { b.Header(0, 1).Str("k").Put(~0u).Data(64); }},
    {"appears twice", [](Bytes& b) { b.Header(0, 2).KeyU32("k", 1).KeyU32("k", 1); }},
    {"bool with the byte 2",
     [](Bytes& b) { b.Header(0, 1).Str("k").Put<uint32_t>(7).Put<uint8_t>(2).Data(8); }},
    {"array of type 9",
     [](Bytes& b) { b.Header(0, 1).Str("k").Put<uint32_t>(9).Put<uint32_t>(9).Put(1ull).Data(8); }},
    {"array of type 99",
     [](Bytes& b) {
       b.Header(0, 1).Str("k").Put<uint32_t>(9).Put<uint32_t>(99).Put(1ull).Data(8);
     }},
    {"array of 18446744073709551615 elements",
     [](Bytes& b) {
       b.Header(0, 1).Str("k").Put<uint32_t>(9).Put<uint32_t>(4).Put(~0ull).Data(8);
     }},
    {"array of 4611686018427387904 elements",  // times 8 is 0
     [](Bytes& b) {
       b.Header(0, 1).Str("k").Put<uint32_t>(9).Put<uint32_t>(10).Put(1ull << 62).Data(8);
     }},
    {"array of 9223372036854775744 elements",
     [](Bytes& b) {
       b.Header(0, 1).Str("k").Put<uint32_t>(9).Put<uint32_t>(8).Put(kHuge).Data(8);
     }},
    {"the length of metadata 'k' is",
     [](Bytes& b) {
       b.Header(0, 1).Str("k").Put<uint32_t>(9).Put<uint32_t>(8).Put(1ull).Put(kHuge).Data(8);
     }},
    {"does not fit in 63 bits",
     [](Bytes& b) {
       b.Header(0, 1).Str("k").Put<uint32_t>(9).Put<uint32_t>(10).Put(1ull).Put(~0ull).Data(8);
     }},
    {"power of two", [](Bytes& b) { b.Header(0, 1).KeyU32("general.alignment", 13); }},
    {"power of two", [](Bytes& b) { b.Header(0, 1).KeyU32("general.alignment", 0); }},
    {"power of two", [](Bytes& b) { b.Header(0, 1).KeyU32("general.alignment", 1u << 31); }},
    {"power of two", [](Bytes& b) { b.Header(0, 1).KeyStr("general.alignment", "32"); }},
    {"the length of the name of tensor 0 is 64",
     [](Bytes& b) { b.Header(1, 0).Tensor(std::string(64, 'n'), {32}, 0, 0).Data(128); }},
    {"is empty", [](Bytes& b) { b.Header(1, 0).Tensor("", {32}, 0, 0).Data(128); }},
    {"printable", [](Bytes& b) { b.Header(1, 0).Tensor("a\033[1m", {32}, 0, 0).Data(128); }},
    {"has 0 dimensions", [](Bytes& b) { b.Header(1, 0).Tensor("t", {}, 0, 0).Data(128); }},
    {"has 5 dimensions",
     [](Bytes& b) {
       b.Header(1, 0).Tensor("t", {1, 1, 1, 1, 1}, 0, 0).Data(128);
     }},
    {"has 4294967295 dimensions", [](Bytes& b) { b.Header(1, 0).Str("t").Put(~0u).Data(128); }},
    {"of 0 elements",
     [](Bytes& b) {
       b.Header(1, 0).Tensor("t", {32, 0}, 0, 0).Data(128);
     }},
    {"overflows 63 bits", [](Bytes& b) { b.Header(1, 0).Tensor("t", {~0ull}, 0, 0).Data(128); }},
    {"overflows 63 bits",
     [](Bytes& b) {
       b.Header(1, 0).Tensor("t", {1ull << 32, 1ull << 32}, 0, 0).Data(128);
     }},
    {"overflows 63 bits",
     [](Bytes& b) {
       b.Header(1, 0).Tensor("t", {4194305, 4194305, 211106198978564}, 0, 0).Data(128);
     }},
    {"bytes overflows 64 bits",
     [](Bytes& b) { b.Header(1, 0).Tensor("t", {1ull << 62}, 0, 0).Data(128); }},
    {"an unknown type (type 999)",
     [](Bytes& b) { b.Header(1, 0).Tensor("t", {32}, 999, 0).Data(128); }},
    {"Q6_K (type 14)", [](Bytes& b) { b.Header(1, 0).Tensor("t", {256}, 14, 0).Data(256); }},
    {"whole blocks of 32", [](Bytes& b) { b.Header(1, 0).Tensor("t", {33}, 8, 0).Data(128); }},
    {"not a multiple of the alignment",
     [](Bytes& b) { b.Header(1, 0).Tensor("t", {8}, 0, 4).Data(128); }},
    {"not a multiple of the alignment 64",
     [](Bytes& b) {
       b.Header(1, 1).KeyU32("general.alignment", 64).Tensor("t", {8}, 0, 32).Align(64).Data(128);
     }},
    {"appears twice",
     [](Bytes& b) { b.Header(2, 0).Tensor("t", {8}, 0, 0).Tensor("t", {8}, 0, 32).Data(128); }},
    {"overlap",
     [](Bytes& b) { b.Header(2, 0).Tensor("t", {16}, 0, 0).Tensor("u", {8}, 0, 32).Data(128); }},
    {"needs 1024 bytes", [](Bytes& b) { b.Header(1, 0).Tensor("t", {256}, 0, 0).Data(1023); }},
    {"needs 32 bytes at offset 18446744073709551584",
     [](Bytes& b) { b.Header(1, 0).Tensor("t", {8}, 0, ~31ull).Data(128); }},
    {"the data section has",
     [](Bytes& b) {
       b.Header(2, 0).Tensor("t", {kHuge / 4}, 0, 0).Tensor("u", {kHuge / 4}, 0, kHuge).Data(128);
     }},
    {"before its data section", [](Bytes& b) { b.Header(1, 0).Tensor("t", {8}, 0, 0).Raw("x"); }},
};

TEST(Gguf, HostileFilesAreRefused) {
  for (const Vector& v : kHostile) {
    SCOPED_TRACE(v.words);
    Bytes b;
    v.build(b);
    std::unique_ptr<GgufFile> file;
    EXPECT_REFUSED(OpenBytes(b.str(), &file), v.words);
    EXPECT_EQ(file, nullptr);
  }
}

// A valid small model that tests then spoil. q has 2 heads of 4, k and v 1.
struct SmallModel {
  uint32_t hidden = 32, heads = 2, kv_heads = 1, head_dim = 4, mlp = 32, vocab = 3;
  float theta = 10000, epsilon = 1e-5f;
  std::string architecture = "llama", drop, extra, scaling;

  std::string Build() const {
    struct T {
      std::string name;
      std::vector<uint64_t> dims;
    };
    std::vector<T> tensors = {
        {"token_embd.weight", {hidden, 3}},      {"output_norm.weight", {hidden}},
        {"blk.0.attn_norm.weight", {hidden}},    {"blk.0.ffn_norm.weight", {hidden}},
        {"blk.0.attn_q.weight", {hidden, 8}},    {"blk.0.attn_k.weight", {hidden, 4}},
        {"blk.0.attn_v.weight", {hidden, 4}},    {"blk.0.attn_output.weight", {8, hidden}},
        {"blk.0.ffn_gate.weight", {hidden, 32}}, {"blk.0.ffn_up.weight", {hidden, 32}},
        {"blk.0.ffn_down.weight", {32, hidden}}};
    std::erase_if(tensors, [this](const T& t) { return t.name == drop; });
    if (!extra.empty()) tensors.push_back({extra, {hidden}});
    Bytes b;
    b.Header(tensors.size(), scaling.empty() ? 11 : 12)
        .KeyStr("general.architecture", architecture);
    b.KeyU32("llama.embedding_length", hidden).KeyU32("llama.block_count", 1);
    b.KeyU32("llama.attention.head_count", heads).KeyU32("llama.attention.head_count_kv", kv_heads);
    b.KeyU32("llama.attention.key_length", head_dim).KeyU32("llama.feed_forward_length", mlp);
    b.KeyU32("llama.context_length", 64).KeyU32("llama.vocab_size", vocab);
    b.KeyF32("llama.rope.freq_base", theta);
    b.KeyF32("llama.attention.layer_norm_rms_epsilon", epsilon);
    if (!scaling.empty()) b.KeyStr("llama.rope.scaling.type", scaling);
    uint64_t offset = 0;
    for (const T& t : tensors) {
      b.Tensor(t.name, t.dims, 0, offset);
      uint64_t n = 4;
      for (uint64_t d : t.dims) n *= d;
      offset += (n + 31) / 32 * 32;
    }
    b.Align();
    for (uint64_t k = 0; k < offset / 4; ++k) b.Put(static_cast<float>(k / hidden));
    return b.str();
  }

  Status Open(std::unique_ptr<Checkpoint>* out) const {
    TempPath path(".gguf");
    path.Write(Build());
    return OpenCheckpoint(path.str(), out);
  }
};

TEST(GgufCheckpoint, RowsOfQueriesAreInHuggingFaceOrder) {
  std::unique_ptr<Checkpoint> c;
  ASSERT_STATUS_OK(SmallModel().Open(&c));
  const TensorInfo* q = c->Find("model.layers.0.self_attn.q_proj.weight");
  ASSERT_NE(q, nullptr);
  std::vector<float> rows(8 * 32);
  ASSERT_STATUS_OK(c->ReadRows(*q, 0, 8, rows.data()));
  // Each stored row holds its number. Stored pairs (0,1) (2,3) are rows (0,2) (1,3) of a head.
  const float base = rows[0];
  const float want[] = {0, 2, 1, 3, 4, 6, 5, 7};
  for (size_t r = 0; r < 8; ++r) EXPECT_EQ(rows[r * 32] - base, want[r]) << "row " << r;
  const TensorInfo* v = c->Find("model.layers.0.self_attn.v_proj.weight");
  ASSERT_STATUS_OK(c->ReadRows(*v, 0, 4, rows.data()));
  for (size_t r = 0; r < 4; ++r) EXPECT_EQ(rows[r * 32] - rows[0], static_cast<float>(r));
}

TEST(GgufCheckpoint, InconsistentModelsAreRefused) {
  const auto refused = [](auto change, const char* words) {
    SmallModel m;
    change(m);
    std::unique_ptr<Checkpoint> c;
    EXPECT_REFUSED(m.Open(&c), words);
  };
  using M = SmallModel&;
  refused([](M m) { m.architecture = "mamba"; }, "'mamba' is not supported; 'llama' is");
  refused([](M m) { m.heads = 0; }, "number of attention heads is 0");
  refused([](M m) { m.kv_heads = 0; }, "number of key/value heads is 0");
  refused(
      [](M m) {
        m.heads = 3;
        m.kv_heads = 2;
      },
      "do not divide");
  refused([](M m) { m.heads = 4; },
          "q_proj.weight' has shape [8, 32]; the config implies [16, 32]");
  refused([](M m) { m.head_dim = 3; }, "must be even");
  refused([](M m) { m.head_dim = 16; }, "whole heads");
  refused([](M m) { m.mlp = 0; }, "MLP size is 0");
  refused([](M m) { m.mlp = 0xFFFFFFFFu; }, "MLP size is 4294967295");
  refused([](M m) { m.vocab = 4; }, "embed_tokens.weight' has shape [3, 32]");
  refused([](M m) { m.theta = 0; }, "rope theta is 0");
  refused([](M m) { m.theta = -1; }, "rope theta is -1");
  refused([](M m) { m.epsilon = 0; }, "epsilon is 0");
  refused([](M m) { m.drop = "blk.0.ffn_up.weight"; }, "up_proj.weight' [32, 32] is missing");
  refused([](M m) { m.extra = "blk.0.attn_q.bias"; }, "'blk.0.attn_q.bias' is not one of");
  refused([](M m) { m.extra = "blk.1.attn_norm.weight"; }, "beyond the config's 1 blocks");
  refused([](M m) { m.scaling = "yarn"; }, "rope scaling 'yarn' is not supported");
}

TEST(GgufCheckpoint, FileTruncatedWhileOpenIsAnErrorAndNotACrash) {
  TempPath path(".gguf");
  path.Write(SmallModel().Build());
  std::unique_ptr<Checkpoint> c;
  ASSERT_STATUS_OK(OpenCheckpoint(path.str(), &c));
  ASSERT_EQ(truncate(path.str().c_str(), 100), 0);
  std::vector<float> row(32);
  EXPECT_REFUSED(c->ReadRows(c->tensors()[0], 0, 1, row.data()), "was truncated while in use");
}

// Every prefix of a valid file is refused; every byte spoiled is refused or read, without a crash.
TEST(GgufCheckpoint, PrefixesAndSpoiledBytes) {
  const std::string whole = SmallModel().Build();
  const size_t head = whole.find("ffn_down") + 60;
  TempPath path(".gguf");
  for (size_t n = 1; n < head; n += 3) {
    path.Write(whole.substr(0, n));
    std::unique_ptr<Checkpoint> c;
    EXPECT_FALSE(OpenCheckpoint(path.str(), &c).ok()) << n;
  }
  for (size_t at = 0; at < head; ++at) {
    for (char value : {'\0', '\x7f', '\xff'}) {
      std::string spoiled = whole;
      spoiled[at] = value;
      path.Write(spoiled);
      std::unique_ptr<Checkpoint> c;
      if (!OpenCheckpoint(path.str(), &c).ok()) continue;
      std::vector<float> w(64 * 64);
      for (const TensorInfo& t : c->tensors()) {
        ASSERT_STATUS_OK(c->ReadRows(t, 0, t.rows(), w.data()));
      }
    }
  }
}

TEST(OpenCheckpoint, NamesWhatIsWrongWithThePath) {
  std::unique_ptr<Checkpoint> c;
  EXPECT_REFUSED(OpenCheckpoint("", &c), "does not exist");
  EXPECT_REFUSED(OpenCheckpoint("/no/such/model.gguf", &c), "does not exist");
  std::string folder = ::testing::TempDir() + "no_model_XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  EXPECT_REFUSED(OpenCheckpoint(folder, &c), "has no config.json and 0 .gguf files");
  std::filesystem::remove(folder);
  EXPECT_REFUSED(OpenCheckpoint("/dev/null", &c), "not a regular file");
  TempPath empty(".gguf");
  empty.Write("");
  EXPECT_REFUSED(OpenCheckpoint(empty.str(), &c), "is empty");
}

}  // namespace
}  // namespace engine::model
