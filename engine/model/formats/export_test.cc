#include "engine/model/formats/export.h"

#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "engine/model/formats/gguf_writer.h"
#include "engine/model/formats/quantize.h"
#include "engine/model/formats/safetensors.h"
#include "engine/model/formats/test_model.h"
#include "engine/model/formats/tokenizer.h"
#include "engine/util.hpp"
#include "nlohmann/json.hpp"

namespace engine::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

// A folder that goes with the test, and a small Llama in it as "model": hidden 64, 2 heads of 32,
// MLP 96, 270 tokens.
class Export : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/engine_export_XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    root_ = name;
    fs::create_directory(root_ / "model");
    config_ = {{"model_type", "llama"},    {"hidden_size", 64},
               {"intermediate_size", 96},  {"num_hidden_layers", 2},
               {"num_attention_heads", 2}, {"num_key_value_heads", 1},
               {"vocab_size", 272},        {"rms_norm_eps", 1e-5},
               {"rope_theta", 10000.0},    {"bos_token_id", 256},
               {"eos_token_id", 257},      {"tie_word_embeddings", true},
               {"torch_dtype", "float32"}, {"max_position_embeddings", 128}};
    json vocab = json::object(), merges = json::array();
    // 256 tokens of one byte each in GPT-2's alphabet, then the special ones, then merges' results.
    int id = 0;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      static int next = 0;
      if (b == 0) next = 0;
      const int point = printable ? b : 256 + next++;
      std::string text;
      if (point < 128) {
        text = static_cast<char>(point);
      } else {
        text = {static_cast<char>(0xc0 | point >> 6), static_cast<char>(0x80 | (point & 63))};
      }
      vocab[text] = id++;
    }
    vocab["<s>"] = id++;
    vocab["</s>"] = id++;
    for (const auto& [left, right] : {std::pair("t", "h"), std::pair("th", "e"), {"i", "n"}}) {
      merges.push_back(std::string(left) + " " + right);
      vocab[std::string(left) + right] = id++;
    }
    const auto special = [](const char* text, int n) {
      return json{{"id", n}, {"content", text}, {"special", true}, {"normalized", false}};
    };
    tokenizer_ = {{"added_tokens", {special("<s>", 256), special("</s>", 257)}},
                  {"pre_tokenizer",
                   {{"type", "Sequence"},
                    {"pretokenizers",
                     {{{"type", "Digits"}, {"individual_digits", true}},
                      {{"type", "ByteLevel"}, {"add_prefix_space", false}}}}}},
                  {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
    Add("model.embed_tokens", {272, 64});
    Add("model.norm", {64});
    for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
      Add(layer + "input_layernorm", {64});
      Add(layer + "post_attention_layernorm", {64});
      Add(layer + "self_attn.q_proj", {64, 64});
      Add(layer + "self_attn.k_proj", {32, 64});
      Add(layer + "self_attn.v_proj", {32, 64});
      Add(layer + "self_attn.o_proj", {64, 64});
      Add(layer + "mlp.gate_proj", {96, 64});
      Add(layer + "mlp.up_proj", {96, 64});
      Add(layer + "mlp.down_proj", {64, 96});
    }
  }
  void TearDown() override { fs::remove_all(root_); }

  void Add(const std::string& name, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (int64_t d : shape) count *= d;
    std::vector<float>& values = weights_[name + ".weight"].second;
    std::normal_distribution<float> normal(0, 0.1f);
    for (int64_t i = 0; i < count; ++i) values.push_back(normal(random_));
    weights_[name + ".weight"].first = std::move(shape);
  }

  Status OpenModel(std::unique_ptr<Checkpoint>* out) {
    const fs::path folder = root_ / "model";
    std::ofstream(folder / "config.json") << config_;
    std::ofstream(folder / "tokenizer.json") << tokenizer_;
    std::ofstream(folder / "tokenizer_config.json")
        << json{{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"chat_template", "{{ messages }}"}};
    std::vector<SafetensorsSource> tensors;
    for (const auto& [name, w] : weights_) {
      tensors.push_back({name, "F32", w.first, w.second.data()});
    }
    ENGINE_RETURN_IF_ERROR(WriteSafetensors((folder / "model.safetensors").string(), tensors));
    return OpenCheckpoint(folder.string(), out);
  }

  std::string Path(const char* name) const { return (root_ / name).string(); }
  // Names in the folder of the test, but for the source's.
  std::vector<std::string> Left() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(root_)) {
      if (entry.path().filename() != "model") names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  fs::path root_;
  json config_, tokenizer_;
  std::map<std::string, std::pair<std::vector<int64_t>, std::vector<float>>> weights_;
  std::mt19937 random_{7};
};

Status WriteAs(const Checkpoint& checkpoint, ExportFormat format, const std::string& path,
               bool replace) {
  return ExportCheckpoint(checkpoint, {path, format, replace, nullptr, {}, ""});
}

std::vector<float> Rows(const Checkpoint& c, const std::string& name) {
  const TensorInfo* t = c.Find(name);
  std::vector<float> out(static_cast<size_t>(t->rows() * t->columns()));
  const Status status = c.ReadRows(*t, 0, t->rows(), out.data());
  EXPECT_TRUE(status.ok()) << status.message();
  return out;
}

// A block by hand: absmax 254 makes d = 2, and halves round away from zero.
TEST(Quantize, Q8_0BlockIsGgmls) {
  float x[32] = {};
  x[0] = -254.0f;
  x[1] = 254.0f;
  x[2] = 3.0f;     // 1.5
  x[3] = -5.0f;    // -2.5
  x[4] = 0.99f;    // 0.495
  x[31] = 127.0f;  // 63.5
  uint8_t block[34];
  ASSERT_TRUE(EncodeQ8_0(x, 32, block));
  uint8_t want[34] = {0x00, 0x40};  // 2.0 in half precision
  const int8_t codes[] = {-127, 127, 2, -3, 0};
  std::memcpy(want + 2, codes, sizeof codes);
  want[33] = 64;
  EXPECT_EQ(std::memcmp(block, want, sizeof block), 0);

  std::fill(std::begin(x), std::end(x), 0.0f);
  ASSERT_TRUE(EncodeQ8_0(x, 32, block));
  EXPECT_EQ(std::count(block, block + 34, 0), 34);
}

// The codes are of the unrounded scale: 1.0009765625 + 2^-12 rounds down in half precision.
TEST(Quantize, Q8_0DividesByTheUnroundedScale) {
  float x[32] = {};
  const float d = 1.0f + 0x1p-12f;
  x[0] = 127.0f * d;
  x[1] = 100.5f * d - 0.01f;  // below 100.5 codes of d, above it in codes of the stored 1.0
  uint8_t block[34];
  ASSERT_TRUE(EncodeQ8_0(x, 32, block));
  EXPECT_EQ(block[0] | block[1] << 8, 0x3c00);
  EXPECT_EQ(static_cast<int8_t>(block[3]), 100);
}

TEST(Quantize, WhatCannotBeStoredIsRefused) {
  for (const float poison : {NAN, INFINITY, -INFINITY, 1e30f}) {
    float x[64] = {};
    x[63] = poison;
    uint8_t block[68];
    int8_t q[64];
    uint16_t scales[2];
    EXPECT_FALSE(EncodeQ8_0(x, 64, block)) << poison;
    EXPECT_FALSE(EncodeInt8Groups(x, 64, 32, q, scales)) << poison;
  }
  // Smaller than any scale: they become zero.
  float tiny[32];
  std::fill(std::begin(tiny), std::end(tiny), 1e-42f);
  uint8_t block[34];
  int8_t q[32];
  uint16_t scale;
  ASSERT_TRUE(EncodeQ8_0(tiny, 32, block));
  ASSERT_TRUE(EncodeInt8Groups(tiny, 32, 32, q, &scale));
  EXPECT_EQ(block[0] | block[1], 0);
  EXPECT_EQ(scale, 0);
}

TEST(Quantize, GroupsRoundByTheStoredScale) {
  const float x[5] = {127.0f, -2.5f, 1.0f, 10.0f, -20.0f};
  int8_t q[5];
  uint16_t scales[2];
  ASSERT_TRUE(EncodeInt8Groups(x, 5, 3, q, scales));
  EXPECT_EQ(HalfToFloat(scales[0]), 1.0f);
  EXPECT_EQ(q[0], 127);
  EXPECT_EQ(q[1], -2);  // halves to the nearest even
  EXPECT_EQ(q[2], 1);
  EXPECT_EQ(HalfToFloat(scales[1]), HalfToFloat(FloatToHalf(20.0f / 127.0f)));
  EXPECT_EQ(q[4], -127);
}

TEST_F(Export, FolderToGgufAndBack) {
  std::unique_ptr<Checkpoint> source, gguf, folder, again;
  ASSERT_STATUS_OK(OpenModel(&source));
  ASSERT_STATUS_OK(WriteAs(*source, kGgufQ8_0, Path("a.gguf"), false));
  ASSERT_STATUS_OK(OpenCheckpoint(Path("a.gguf"), &gguf));
  ASSERT_EQ(gguf->tensors().size(), source->tensors().size());
  for (const TensorInfo& t : source->tensors()) {
    const TensorInfo* copy = gguf->Find(t.name);
    ASSERT_NE(copy, nullptr) << t.name;
    EXPECT_EQ(copy->encoding, t.shape.size() == 2 ? Encoding::kQ8_0 : Encoding::kF32) << t.name;
    // Row by row what the reference makes of the source, in the source's order of rows.
    std::vector<float> want = Rows(*source, t.name);
    if (t.shape.size() == 2) {
      std::vector<uint8_t> blocks(want.size() / 32 * 34);
      ASSERT_TRUE(EncodeQ8_0(want.data(), static_cast<int64_t>(want.size()), blocks.data()));
      Decode(Encoding::kQ8_0, blocks.data(), static_cast<int64_t>(want.size()), want.data());
    }
    EXPECT_EQ(Rows(*gguf, t.name), want) << t.name;
  }
  // The file itself alternates the halves of each head's rows: its second row is logical row 16.
  const GgufTensor* q = nullptr;
  for (const GgufTensor& t : gguf->gguf()->tensors()) {
    if (t.name == "blk.0.attn_q.weight") q = &t;
  }
  ASSERT_NE(q, nullptr);
  std::vector<uint8_t> row(68);
  ASSERT_TRUE(EncodeQ8_0(weights_["model.layers.0.self_attn.q_proj.weight"].second.data() + 16 * 64,
                         64, row.data()));
  EXPECT_EQ(std::memcmp(gguf->gguf()->file().data() + q->offset + 68, row.data(), 68), 0);

  std::unique_ptr<Tokenizer> before, after;
  ASSERT_STATUS_OK(OpenTokenizer(*source, &before));
  ASSERT_STATUS_OK(OpenTokenizer(*gguf, &after));
  for (const char* text : {"the thin 12 cat</s>", "\xc3\xa9\xf0\x9f\x98\x80 in\n\n the"}) {
    std::vector<int32_t> a, b;
    ASSERT_STATUS_OK(before->Encode(text, true, true, &a));
    ASSERT_STATUS_OK(after->Encode(text, true, true, &b));
    EXPECT_EQ(a, b);
    EXPECT_FALSE(a.empty());
  }
  EXPECT_EQ(gguf->config().chat_template, "{{ messages }}");
  EXPECT_EQ(gguf->config().stop_ids, std::vector<int64_t>{257});

  // From there to a folder, and to GGUF again: metadata and blocks stay as they are.
  ASSERT_STATUS_OK(WriteAs(*gguf, kFolderInt8, Path("b"), false));
  ASSERT_STATUS_OK(OpenCheckpoint(Path("b"), &folder));
  std::unique_ptr<Tokenizer> last;
  ASSERT_STATUS_OK(OpenTokenizer(*folder, &last));
  EXPECT_EQ(last->spec().tokens, after->spec().tokens);
  ASSERT_STATUS_OK(WriteAs(*gguf, kGgufQ8_0, Path("c.gguf"), false));
  ASSERT_STATUS_OK(OpenCheckpoint(Path("c.gguf"), &again));
  for (const TensorInfo& t : gguf->tensors()) EXPECT_EQ(Rows(*again, t.name), Rows(*gguf, t.name));
  EXPECT_EQ(again->gguf()->entries().size(), gguf->gguf()->entries().size());
  for (const GgufFile::Entry& e : gguf->gguf()->entries()) {
    const auto& all = again->gguf()->entries();
    EXPECT_EQ(
        std::count_if(all.begin(), all.end(),
                      [&](const auto& f) { return f.key == e.key && f.encoded == e.encoded; }),
        1)
        << e.key;
  }
  EXPECT_EQ(Left(), (std::vector<std::string>{"a.gguf", "b", "c.gguf"}));
}

TEST_F(Export, FolderOfInt8) {
  std::unique_ptr<Checkpoint> source, copy;
  ASSERT_STATUS_OK(OpenModel(&source));
  ASSERT_STATUS_OK(WriteAs(*source, kFolderInt8, Path("out/"), false));
  ASSERT_STATUS_OK(OpenCheckpoint(Path("out"), &copy));
  for (const TensorInfo& t : source->tensors()) {
    const TensorInfo* stored = copy->Find(t.name);
    ASSERT_NE(stored, nullptr) << t.name;
    std::vector<float> want = Rows(*source, t.name);
    if (t.shape.size() == 2) {
      EXPECT_EQ(stored->encoding, Encoding::kI8);
      EXPECT_EQ(stored->group, 64);
      EXPECT_TRUE(stored->half_scales);
      const int64_t columns = t.columns(), groups = (columns + 63) / 64;
      std::vector<int8_t> q(static_cast<size_t>(columns));
      std::vector<uint16_t> scales(static_cast<size_t>(groups));
      for (int64_t r = 0; r < t.rows(); ++r) {
        float* row = want.data() + r * columns;
        ASSERT_TRUE(EncodeInt8Groups(row, columns, 64, q.data(), scales.data()));
        for (int64_t k = 0; k < columns; ++k) {
          row[k] = HalfToFloat(scales[static_cast<size_t>(k / 64)]) * q[static_cast<size_t>(k)];
        }
      }
      // As bf16 and as double, in parts, too.
      std::vector<uint16_t> bf16(static_cast<size_t>(columns));
      std::vector<double> wide(static_cast<size_t>(columns));
      ASSERT_STATUS_OK(copy->ReadRowsBf16(*stored, 5, 6, bf16.data()));
      ASSERT_STATUS_OK(copy->ReadRows(*stored, 5, 6, wide.data()));
      for (int64_t k = 0; k < columns; ++k) {
        EXPECT_EQ(bf16[static_cast<size_t>(k)],
                  FloatToBf16(want[static_cast<size_t>(5 * columns + k)]));
        EXPECT_EQ(static_cast<float>(wide[static_cast<size_t>(k)]),
                  want[static_cast<size_t>(5 * columns + k)]);
      }
    }
    EXPECT_EQ(Rows(*copy, t.name), want) << t.name;
  }
  std::unique_ptr<SafetensorsFile> file;
  ASSERT_STATUS_OK(SafetensorsFile::Open(Path("out/model.safetensors"), &file));
  EXPECT_EQ(file->Find("lm_head.weight"), nullptr);
  const SafetensorsTensor* scales = file->Find("model.layers.0.mlp.down_proj.weight_scale");
  ASSERT_NE(scales, nullptr);
  EXPECT_EQ(scales->shape, (std::vector<int64_t>{64, 2}));
  EXPECT_EQ(scales->dtype, "F16");
  const json written = json::parse(ReadAll(Path("out/config.json")));
  EXPECT_EQ(written["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"],
            64);
  EXPECT_EQ(written["torch_dtype"], "float32");
  EXPECT_EQ(json::parse(ReadAll(Path("out/tokenizer.json"))), tokenizer_);
}

// What others may hand us under that name.
TEST_F(Export, HostileInt8Folders) {
  std::unique_ptr<Checkpoint> source;
  ASSERT_STATUS_OK(OpenModel(&source));
  ASSERT_STATUS_OK(WriteAs(*source, kFolderInt8, Path("out"), false));
  const json good = json::parse(ReadAll(Path("out/config.json")));
  const struct {
    const char* pointer;
    json value;
    const char* words;
  } wrong[] = {
      {"/quantization_config/quant_method", "gptq", "gptq"},
      {"/quantization_config/format", "pack-quantized", "pack-quantized"},
      {"/quantization_config/config_groups", json::object(), "config_groups"},
      {"/quantization_config/config_groups", 3, "config_groups"},
      {"/quantization_config/config_groups/group_0", 3, "num_bits"},
      {"/quantization_config/config_groups/group_0/weights/num_bits", 4, "num_bits 4"},
      {"/quantization_config/config_groups/group_0/weights/type", "float", "type"},
      {"/quantization_config/config_groups/group_0/weights/symmetric", false, "symmetric"},
      {"/quantization_config/config_groups/group_0/weights/group_size", 0, "group_size 0"},
      {"/quantization_config/config_groups/group_0/weights/group_size", -64, "group_size -64"},
      {"/quantization_config/config_groups/group_0/weights/group_size", 32,
       "quantization_config implies"},
      {"/quantization_config/config_groups/group_0/weights/strategy", "tensor", "strategy"},
      {"/quantization_config/config_groups/group_0/weights/strategy", "channel",
       "quantization_config implies"},
      {"/quantization_config/config_groups/group_0/weights/actorder", "group", "actorder"},
      {"/quantization_config/kv_cache_scheme", json::object({{"num_bits", 8}}), "kv_cache_scheme"},
      {"/quantization_config", nullptr, "not a matrix or vector"},
  };
  for (const auto& w : wrong) {
    json config = good;
    config[json::json_pointer(w.pointer)] = w.value;
    std::ofstream(Path("out/config.json")) << config;
    std::unique_ptr<Checkpoint> copy;
    EXPECT_REFUSED(OpenCheckpoint(Path("out"), &copy), w.words);
  }
  std::ofstream(Path("out/config.json")) << good;
  // Scales that are missing, not finite, of another shape or no numbers.
  std::unique_ptr<SafetensorsFile> file;
  ASSERT_STATUS_OK(SafetensorsFile::Open(Path("out/model.safetensors"), &file));
  const std::string victim = "model.layers.1.mlp.up_proj.weight_scale";
  const std::vector<uint16_t> infinite(96, 0x7c00), one(96, 0x3c00);
  const struct {
    std::optional<SafetensorsSource> scales;
    const char* words;
  } spoiled[] = {{std::nullopt, "are missing"},
                 {SafetensorsSource{victim, "F16", {96, 1}, infinite.data()}, "not finite"},
                 {SafetensorsSource{victim, "F16", {1, 96}, one.data()}, "have 96 elements"},
                 {SafetensorsSource{victim, "I16", {96, 1}, one.data()}, "are missing"},
                 {SafetensorsSource{victim, "BF16", {96, 1}, one.data()}, ""}};
  for (const auto& s : spoiled) {
    std::vector<SafetensorsSource> tensors;
    for (const SafetensorsTensor& t : file->tensors()) {
      if (t.name != victim) tensors.push_back({t.name, t.dtype, t.shape, t.data});
    }
    if (s.scales) tensors.push_back(*s.scales);
    ASSERT_STATUS_OK(WriteSafetensors(Path("out/model.safetensors"), tensors));
    std::unique_ptr<Checkpoint> copy;
    if (*s.words != '\0') {
      EXPECT_REFUSED(OpenCheckpoint(Path("out"), &copy), s.words);
    } else {
      ASSERT_STATUS_OK(OpenCheckpoint(Path("out"), &copy));
      // 0x3c00 as BF16 is 2^-7: a number of half precision as well.
      EXPECT_TRUE(copy->Find("model.layers.1.mlp.up_proj.weight")->half_scales);
    }
  }
}

TEST_F(Export, WhatIsThereStays) {
  std::unique_ptr<Checkpoint> source, copy;
  ASSERT_STATUS_OK(OpenModel(&source));
  const auto gguf = kGgufQ8_0, folder = kFolderInt8;
  std::ofstream(Path("a.gguf")) << "mine";
  EXPECT_REFUSED(WriteAs(*source, gguf, Path("a.gguf"), false), "--force");
  EXPECT_EQ(ReadAll(Path("a.gguf")), "mine");
  fs::create_directory(Path("home"));
  std::ofstream(Path("home/thesis.txt")) << "mine";
  EXPECT_REFUSED(WriteAs(*source, folder, Path("home"), false), "--force");
  EXPECT_REFUSED(WriteAs(*source, folder, Path("home"), true), "'thesis.txt'");
  fs::rename(Path("home/thesis.txt"), Path("home/config.json"));
  fs::create_directory(Path("home/tokenizer.json"));
  EXPECT_REFUSED(WriteAs(*source, folder, Path("home"), true), "'tokenizer.json'");
  EXPECT_REFUSED(WriteAs(*source, folder, Path("a.gguf"), true), "not a folder");
  EXPECT_REFUSED(WriteAs(*source, gguf, Path("home"), true), "not a regular file");
  EXPECT_REFUSED(WriteAs(*source, gguf, Path("none/a.gguf"), false), "does not exist");
  EXPECT_REFUSED(WriteAs(*source, folder, Path("model"), true), "is the model that is read");
  EXPECT_EQ(ReadAll(Path("home/config.json")), "mine");
  EXPECT_EQ(Left(), (std::vector<std::string>{"a.gguf", "home"}));

  fs::remove(Path("home/tokenizer.json"));
  ASSERT_STATUS_OK(WriteAs(*source, gguf, Path("a.gguf"), true));
  ASSERT_STATUS_OK(WriteAs(*source, folder, Path("home"), true));
  ASSERT_STATUS_OK(OpenCheckpoint(Path("a.gguf"), &copy));
  EXPECT_REFUSED(WriteAs(*copy, gguf, Path("a.gguf"), true), "is the model that is read");
  ASSERT_STATUS_OK(OpenCheckpoint(Path("home"), &copy));
  EXPECT_EQ(Left(), (std::vector<std::string>{"a.gguf", "home"}));
}

// A write that fails half way, as on a full disk, leaves what was there.
TEST_F(Export, FailedWritesLeaveNothing) {
  std::unique_ptr<Checkpoint> source, copy;
  ASSERT_STATUS_OK(OpenModel(&source));
  ASSERT_STATUS_OK(WriteAs(*source, kGgufQ8_0, Path("a.gguf"), false));
  ASSERT_STATUS_OK(WriteAs(*source, kFolderInt8, Path("b"), false));
  const std::string before = ReadAll(Path("a.gguf")),
                    weights = ReadAll(Path("b/model.safetensors"));
  rlimit old = {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  for (const rlim_t limit : {rlim_t{0}, rlim_t{20000}}) {
    rlimit small = old;
    small.rlim_cur = limit;
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    const Status gguf = WriteAs(*source, kGgufQ8_0, Path("a.gguf"), true);
    const Status folder = WriteAs(*source, kFolderInt8, Path("b"), true);
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
    EXPECT_EQ(gguf.code(), ENGINE_RESOURCE_EXHAUSTED) << gguf.message();
    EXPECT_EQ(folder.code(), ENGINE_RESOURCE_EXHAUSTED) << folder.message();
    EXPECT_REFUSED(Status(folder), "free some disk space");
  }
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(ReadAll(Path("a.gguf")), before);
  EXPECT_EQ(ReadAll(Path("b/model.safetensors")), weights);
  EXPECT_EQ(Left(), (std::vector<std::string>{"a.gguf", "b"}));

  weights_["model.layers.1.mlp.up_proj.weight"].second[64 * 70 + 3] = NAN;
  ASSERT_STATUS_OK(OpenModel(&source));
  EXPECT_REFUSED(WriteAs(*source, kGgufQ8_0, Path("c.gguf"), false),
                 "row 70 of tensor 'blk.1.ffn_up.weight'");
  EXPECT_REFUSED(WriteAs(*source, kFolderInt8, Path("c"), false),
                 "row 70 of tensor 'model.layers.1.mlp.up_proj.weight'");
  EXPECT_EQ(Left(), (std::vector<std::string>{"a.gguf", "b"}));
}

// Tokenizers that a GGUF file has no words for.
TEST_F(Export, TokenizersThatGgufCannotSay) {
  const json good = tokenizer_;
  const struct {
    const char* pointer;
    json value;
    const char* words;
  } wrong[] = {
      {"/pre_tokenizer/pretokenizers/0/individual_digits", false, "pre-tokenizer"},
      {"/normalizer", {{"type", "NFC"}}, "pre-tokenizer"},
      {"/model/ignore_merges", true, "pre-tokenizer"},
      {"/added_tokens/0/lstrip", true, "'<s>'"},
      {"/post_processor",
       {{"type", "TemplateProcessing"},
        {"single", {{{"SpecialToken", {{"id", "</s>"}}}}, {{"Sequence", {{"id", "A"}}}}}},
        {"special_tokens", {{"</s>", {{"ids", {257}}}}}}},
       "around a text"},
  };
  for (const auto& w : wrong) {
    tokenizer_ = good;
    tokenizer_[json::json_pointer(w.pointer)] = w.value;
    std::unique_ptr<Checkpoint> source;
    ASSERT_STATUS_OK(OpenModel(&source));
    EXPECT_REFUSED(WriteAs(*source, kGgufQ8_0, Path("a.gguf"), false), w.words);
    EXPECT_EQ(Left(), std::vector<std::string>{});
    // A folder keeps the file as it is.
    ASSERT_STATUS_OK(WriteAs(*source, kFolderInt8, Path("b"), false));
    fs::remove_all(Path("b"));
  }
  tokenizer_ = good;
  config_["eos_token_id"] = {257, 10, 11, 12};
  std::unique_ptr<Checkpoint> source;
  ASSERT_STATUS_OK(OpenModel(&source));
  EXPECT_REFUSED(WriteAs(*source, kGgufQ8_0, Path("a.gguf"), false), "more than three");
}

TEST(GgufWriter, WritesWhatTheReaderReads) {
  TempPath path(".gguf");
  GgufWriter writer;
  writer.Add("text", std::string_view("a\0b", 3));
  writer.Add("number", uint32_t{7});
  writer.Add("float", 0.5f);
  writer.Add("yes", true);
  writer.Add("names", std::vector<std::string>{"x", ""});
  writer.Add("ids", std::vector<int32_t>{-1, 3});
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const auto give = [&](size_t n) {
    return [&values, n](OutputFile* file) { return file->Append(values.data(), n * 4); };
  };
  ASSERT_STATUS_OK(writer.Write(
      path.str(), {{"a", {2, 3}, Encoding::kF32, give(6)}, {"b", {1}, Encoding::kF32, give(1)}}));
  std::unique_ptr<GgufFile> file;
  ASSERT_STATUS_OK(GgufFile::Open(path.str(), &file));
  EXPECT_EQ(file->version(), 3u);
  EXPECT_EQ(file->Find("text")->s, std::string_view("a\0b", 3));
  EXPECT_EQ(file->Find("number")->u, 7u);
  EXPECT_EQ(file->Find("float")->f, 0.5);
  EXPECT_TRUE(file->Find("yes")->b);
  EXPECT_EQ(file->Find("names")->strings, (std::vector<std::string_view>{"x", ""}));
  EXPECT_EQ(file->Find("ids")->integers, (std::vector<int64_t>{-1, 3}));
  ASSERT_EQ(file->tensors().size(), 2u);
  EXPECT_EQ(file->tensors()[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file->tensors()[1].offset % 32, 0u);
  EXPECT_EQ(std::memcmp(file->file().data() + file->tensors()[0].offset, values.data(), 24), 0);
  EXPECT_REFUSED(writer.Write(path.str(), {{"a", {2, 3}, Encoding::kF32, give(5)}}),
                 "gave 20 bytes; its shape takes 24");
  ASSERT_STATUS_OK(GgufFile::Open(path.str(), &file));  // still the first
}

}  // namespace
}  // namespace engine::model
