#include "engine/model/formats/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <csignal>
#include <cstring>
#include <filesystem>

#include "engine/model/formats/checkpoint.h"
#include "engine/model/formats/mapped_guard.h"
#include "engine/model/formats/test_model.h"
#include "nlohmann/json.hpp"

namespace engine::model {
namespace {

using nlohmann::json;

std::string WithHeader(const std::string& header, size_t data, uint64_t length) {
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  return out + header + std::string(data, '\0');
}
std::string WithHeader(const std::string& header, size_t data) {
  return WithHeader(header, data, header.size());
}

Status OpenBytes(const std::string& bytes, std::unique_ptr<SafetensorsFile>* file) {
  TempPath path(".safetensors");
  path.Write(bytes);
  return SafetensorsFile::Open(path.str(), file);
}

// One tensor's entry.
std::string Entry(const std::string& shape, const std::string& offsets,
                  const std::string& dtype = "F32") {
  return R"({"w":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

TEST(Safetensors, RoundTrip) {
  TempPath path(".safetensors");
  const float a[] = {1, 2, 3, 4, 5, 6};
  const uint16_t h[] = {0x3c00, 0xc000}, b[] = {0x3f80};
  const double d[] = {0.1};
  const int64_t i[] = {-7};
  ASSERT_STATUS_OK(WriteSafetensors(path.str(),
                                    {{"a", "F32", {2, 3}, a},
                                     {"h", "F16", {2}, h},
                                     {"b", "BF16", {1, 1}, b},
                                     {"d", "F64", {}, d},
                                     {"ids", "I64", {1}, i},
                                     {"none", "F32", {0, 4}, nullptr}},
                                    {{"format", "pt"}}));
  std::unique_ptr<SafetensorsFile> f;
  ASSERT_STATUS_OK(SafetensorsFile::Open(path.str(), &f));
  EXPECT_EQ(f->metadata().at("format"), "pt");
  ASSERT_EQ(f->tensors().size(), 6u);
  EXPECT_EQ(f->Find("missing"), nullptr);
  std::vector<float> got;
  ASSERT_STATUS_OK(f->Read(*f->Find("a"), &got));
  EXPECT_EQ(got, std::vector<float>(a, a + 6));
  EXPECT_EQ(f->Find("a")->shape, (std::vector<int64_t>{2, 3}));
  ASSERT_STATUS_OK(f->Read(*f->Find("h"), &got));
  EXPECT_EQ(got, (std::vector<float>{1, -2}));
  ASSERT_STATUS_OK(f->Read(*f->Find("b"), &got));
  EXPECT_EQ(got, std::vector<float>{1});
  ASSERT_STATUS_OK(f->Read(*f->Find("d"), &got));
  EXPECT_EQ(got, std::vector<float>{0.1f});
  EXPECT_EQ(f->Find("none")->elements, 0);
  EXPECT_REFUSED(f->Read(*f->Find("ids"), &got), "holds I64");
}

TEST(Safetensors, WriterRefusesWhatReadersWould) {
  TempPath path(".safetensors");
  const float a[] = {1};
  EXPECT_REFUSED(WriteSafetensors(path.str(), {{"a", "F31", {1}, a}}), "F31");
  EXPECT_REFUSED(WriteSafetensors(path.str(), {{"a", "F32", {1}, a}, {"a", "F32", {1}, a}}),
                 "unique");
  EXPECT_REFUSED(WriteSafetensors(path.str(), {{"a", "F32", {-1}, a}}), "negative");
  EXPECT_REFUSED(WriteSafetensors(path.str(), {{"a", "F32", {1ll << 62}, a}}), "overflows");
  EXPECT_REFUSED(WriteSafetensors("/no/such/folder/x", {{"a", "F32", {1}, a}}), "cannot create");
  EXPECT_FALSE(std::filesystem::exists(path.str()));
}

TEST(Safetensors, HostileFilesAreRefused) {
  std::string many = "{";
  for (int k = 0; k < 100000; ++k) many += "\"t" + std::to_string(k) + "\":{},";
  many.back() = '}';
  const struct {
    const char* words;
    std::string bytes;
  } vectors[] = {
      {"empty", ""},
      {"it has 1 bytes", "x"},
      {"it has 7 bytes", "1234567"},
      {"does not begin with '{'", WithHeader("", 0)},
      {"header's length is 3 but only 2", WithHeader("{}", 0, 3)},
      {"header's length is 9223372036854775808", WithHeader("{}", 0, 1ull << 63)},
      {"header's length is 18446744073709551615", WithHeader("{}", 0, ~0ull)},
      {"header's length is 100000001", WithHeader("{}", 0, 100000001)},
      {"does not begin with '{'", WithHeader("[]", 0)},
      {"does not begin with '{'", WithHeader(" {}", 0)},
      {"not a JSON object: it ends too early", WithHeader("{\"a\":", 0)},
      {"not a JSON object: byte 6 does not fit", WithHeader("{\"a\":\"\xff\"}", 0)},
      {"nested too deeply", WithHeader("{\"a\":" + std::string(100000, '['), 0)},
      {"not an object", WithHeader("{\"a\":1}", 0)},
      {"has no dtype", WithHeader("{\"a\":{}}", 0)},
      {"more than 65536 entries", WithHeader(many, 0)},
      {"bytes follow the last", WithHeader(Entry("[1]", "[0,4]"), 5)},
      {"bytes follow the last", WithHeader("{}", 1)},
      {"truncated", WithHeader(Entry("[1]", "[0,4]"), 3)},
      {"appears twice", WithHeader(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                                   R"("w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                                   4)},
      {"inside the one before",
       WithHeader(R"({"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                  R"("w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                  8)},
      {"inside the one before",
       WithHeader(R"({"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                  R"("w":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}})",
                  8)},
      {"after a gap", WithHeader(Entry("[1]", "[4,8]"), 8)},
      {"are not inside", WithHeader(Entry("[1]", "[8,4]"), 8)},
      {"two integers", WithHeader(Entry("[1]", "[-4,0]"), 8)},
      {"two integers", WithHeader(Entry("[1]", "[0,18446744073709551615]"), 8)},
      {"two integers", WithHeader(Entry("[1]", "[0,4.0]"), 4)},
      {"two integers", WithHeader(Entry("[1]", "[0]"), 4)},
      {"are not inside", WithHeader(Entry("[1]", "[0,9223372036854775807]"), 8)},
      {"takes 8 bytes", WithHeader(Entry("[2]", "[0,4]"), 4)},
      {"takes 2 bytes", WithHeader(Entry("[1]", "[0,4]", "F16"), 4)},
      {"overflows", WithHeader(Entry("[4194305,4194305,211106198978564]", "[0,4]"), 4)},
      {"overflows", WithHeader(Entry("[4294967296,4294967296]", "[0,0]"), 0)},
      {"overflows", WithHeader(Entry("[4611686018427387904]", "[0,0]"), 0)},
      {"sizes are integers", WithHeader(Entry("[-1]", "[0,4]"), 4)},
      {"sizes are integers", WithHeader(Entry("[\"1\"]", "[0,4]"), 4)},
      {"at most 8 sizes", WithHeader(Entry("[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4)},
      {"dtype 'F31' is not supported", WithHeader(Entry("[1]", "[0,4]", "F31"), 4)},
      {"only strings", WithHeader(R"({"__metadata__":{"a":1}})", 0)},
      {"__metadata__ is not an object", WithHeader(R"({"__metadata__":3})", 0)},
  };
  for (const auto& v : vectors) {
    SCOPED_TRACE(v.words);
    std::unique_ptr<SafetensorsFile> file;
    EXPECT_REFUSED(OpenBytes(v.bytes, &file), v.words);
  }
  std::unique_ptr<SafetensorsFile> file;
  ASSERT_STATUS_OK(OpenBytes(WithHeader(Entry("[1]", "[0,4]"), 4), &file));
}

// A small Hugging Face folder; tests change the config or leave tensors out.
class HfFolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = TempPath("_hf").str();
    std::filesystem::create_directory(folder_);
    config_ = {{"model_type", "llama"},    {"hidden_size", 8},
               {"num_hidden_layers", 1},   {"num_attention_heads", 2},
               {"num_key_value_heads", 1}, {"intermediate_size", 6},
               {"vocab_size", 5},          {"rms_norm_eps", 1e-5},
               {"rope_theta", 500.0},      {"tie_word_embeddings", true},
               {"eos_token_id", {2, 3}},   {"rope_scaling", nullptr}};
    shapes_ = {{"model.embed_tokens.weight", {5, 8}},
               {"model.norm.weight", {8}},
               {"model.layers.0.input_layernorm.weight", {8}},
               {"model.layers.0.post_attention_layernorm.weight", {8}},
               {"model.layers.0.self_attn.q_proj.weight", {8, 8}},
               {"model.layers.0.self_attn.k_proj.weight", {4, 8}},
               {"model.layers.0.self_attn.v_proj.weight", {4, 8}},
               {"model.layers.0.self_attn.o_proj.weight", {8, 8}},
               {"model.layers.0.mlp.gate_proj.weight", {6, 8}},
               {"model.layers.0.mlp.up_proj.weight", {6, 8}},
               {"model.layers.0.mlp.down_proj.weight", {8, 6}}};
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void WriteText(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
  }
  void WriteTensors(const std::string& file, const std::string& only = "") {
    std::vector<float> values(64);
    for (size_t k = 0; k < values.size(); ++k) values[k] = static_cast<float>(k);
    std::vector<SafetensorsSource> sources;
    for (const auto& [name, shape] : shapes_) {
      if (name.find(only) != std::string::npos) {
        sources.push_back({name, "F32", shape, values.data()});
      }
    }
    ASSERT_STATUS_OK(WriteSafetensors(folder_ + "/" + file, sources));
  }
  Status Open() {
    WriteText("config.json", config_.dump());
    return OpenCheckpoint(folder_, &checkpoint_);
  }

  std::string folder_;
  json config_;
  std::map<std::string, std::vector<int64_t>> shapes_;
  std::unique_ptr<Checkpoint> checkpoint_;
};

TEST_F(HfFolderTest, ReadsOneFile) {
  WriteTensors("model.safetensors");
  WriteText("chat_template.jinja", "{{ messages }}");
  WriteText("generation_config.json", R"({"eos_token_id": 4})");
  WriteText("tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}})");
  ASSERT_STATUS_OK(Open());
  const ModelConfig& c = checkpoint_->config();
  EXPECT_EQ(c.stop_ids, (std::vector<int64_t>{2, 3, 4}));
  EXPECT_EQ(c.bos_token, "<s>");
  EXPECT_EQ(c.eos_token, "</s>");
  EXPECT_EQ(c.chat_template, "{{ messages }}");
  std::vector<float> row(8);
  ASSERT_STATUS_OK(checkpoint_->ReadRows(
      *checkpoint_->Find("model.layers.0.self_attn.q_proj.weight"), 3, 4, row.data()));
  EXPECT_EQ(row[0], 24.0f);  // rows as stored: nothing is permuted
}

TEST_F(HfFolderTest, ReadsShards) {
  WriteTensors("a.safetensors", "model.layers");
  for (auto it = shapes_.begin(); it != shapes_.end();) {
    it = it->first.find("layers") != std::string::npos ? shapes_.erase(it) : std::next(it);
  }
  WriteTensors("b.safetensors");
  WriteText("model.safetensors.index.json",
            R"({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}})");
  ASSERT_STATUS_OK(Open());
  EXPECT_EQ(checkpoint_->tensors().size(), 11u);
  WriteText("model.safetensors.index.json", R"({"weight_map": {"x": "../a.safetensors"}})");
  EXPECT_REFUSED(Open(), "plain file name");
  WriteText("model.safetensors.index.json", R"({"weight_map": {"x": "c.safetensors"}})");
  EXPECT_REFUSED(Open(), "c.safetensors");
  WriteText("model.safetensors.index.json", "[");
  EXPECT_REFUSED(Open(), "index.json': it is not a JSON object: it ends too early");
  WriteText("model.safetensors.index.json", "{}");
  EXPECT_REFUSED(Open(), "neither model.safetensors nor");
}

TEST_F(HfFolderTest, Llama3RopeScaling) {
  WriteTensors("model.safetensors");
  config_["rope_scaling"] = {{"rope_type", "llama3"},
                             {"factor", 8.0},
                             {"low_freq_factor", 1.0},
                             {"high_freq_factor", 4.0},
                             {"original_max_position_embeddings", 100}};
  ASSERT_STATUS_OK(Open());
  // Frequencies 1 and 500^-0.5: wavelengths 6.28 (below 100 / 4) and 140.5 (above 100).
  EXPECT_EQ(checkpoint_->config().rope_divisors, (std::vector<double>{1.0, 8.0}));
  config_["rope_scaling"]["rope_type"] = "yarn";
  EXPECT_REFUSED(Open(), "rope scaling 'yarn' is not supported; default, linear and llama3 are");
  config_["rope_scaling"] = {{"rope_type", "default"}};
  ASSERT_STATUS_OK(Open());
  EXPECT_TRUE(checkpoint_->config().rope_divisors.empty());
}

TEST_F(HfFolderTest, RefusesWhatItCannotRun) {
  WriteTensors("model.safetensors");
  const json good = config_;
  const auto refused = [&](const char* key, json value, const char* words) {
    config_ = good;
    config_[key] = std::move(value);
    EXPECT_REFUSED(Open(), words);
  };
  refused("model_type", "gemma", "'gemma' is not supported; 'llama' is");
  refused("attention_bias", true, "attention_bias is true");
  refused("hidden_act", "gelu", "hidden_act is \"gelu\"");
  refused("quantization_config", json::object(), "quantization_config");
  refused("hidden_size", nullptr, "'hidden_size' is missing");
  refused("hidden_size", "8", "must be an integer; it is \"8\"");
  refused("hidden_size", 8.5, "must be an integer");
  refused("num_attention_heads", 0, "number of attention heads is 0");
  refused("num_attention_heads", -2, "number of attention heads is -2");
  refused("num_hidden_layers", 2, "model.layers.1.input_layernorm.weight' [8] is missing");
  refused("num_hidden_layers", 1ll << 40, "number of blocks is 1099511627776");
  refused("vocab_size", 6, "embed_tokens.weight' has shape [5, 8]; the config implies [6, 8]");
  refused("head_dim", 8, "q_proj.weight' has shape [8, 8]; the config implies [16, 8]");
  refused("rope_theta", 0, "rope theta is 0");
  refused("rms_norm_eps", 2, "epsilon is 2");
  refused("eos_token_id", 5, "eos token's id is 5");
  refused("eos_token_id", "x", "an id or a list");
  refused("tie_word_embeddings", false, "'lm_head.weight' is missing");
  config_ = good;
  shapes_["model.layers.0.self_attn.q_proj.bias"] = {8};
  WriteTensors("model.safetensors");
  EXPECT_REFUSED(Open(), "not part of the llama architecture");
  config_ = json::array();
  EXPECT_REFUSED(Open(), "not a JSON object");
}

// Weights are used where the file is mapped, without a question before each look.
TEST(MappedFile, FileCutUnderAReaderEndsTheProgramWithItsName) {
  const std::string words =
      "error: '.*cut.gguf' was truncated while in use: it had 20000 bytes, "
      "and byte 16384 can no longer be read";
  TempPath path("_cut.gguf"), other("_other.gguf");
  path.Write(std::string(20000, 'x'));
  other.Write(std::string(20000, 'x'));
  const auto look = [&](bool open, uint64_t at) {
    ExitOnCutFile(7);
    path.Write(std::string(20000, 'x'));
    std::unique_ptr<MappedFile> file, second;
    std::shared_ptr<const void> mapping;
    if (!MappedFile::Open(other.str(), &second).ok() || !MappedFile::Open(path.str(), &file).ok()) {
      std::_Exit(1);
    }
    second.reset();  // its entry is free again
    const volatile uint8_t* bytes = file->data();
    mapping = file->mapping();
    if (!open) file.reset();
    if (truncate(path.str().c_str(), 100) != 0) std::_Exit(1);
    std::_Exit(bytes[at] == 'x' ? 3 : 4);
  };
  EXPECT_EXIT(look(true, 16384), ::testing::ExitedWithCode(7), words);
  EXPECT_EXIT(look(false, 16384), ::testing::ExitedWithCode(7), words);
  EXPECT_EXIT(look(true, 50), ::testing::ExitedWithCode(3), "");
}

TEST(MappedFile, OtherBusErrorsEndTheProgramAsEver) {
  EXPECT_EXIT(
      {
        ExitOnCutFile(7);
        raise(SIGBUS);
      },
      ::testing::KilledBySignal(SIGBUS), "");
  TempPath path;
  path.Write(std::string(5000, 'x'));
  EXPECT_EXIT(
      {
        ExitOnCutFile(7);
        const int fd = open(path.str().c_str(), O_RDONLY);
        const auto* bytes = static_cast<const volatile uint8_t*>(
            mmap(nullptr, 5000, PROT_READ, MAP_PRIVATE, fd, 0));
        if (truncate(path.str().c_str(), 0) != 0 || bytes[0] != 0) std::_Exit(1);
      },
      ::testing::KilledBySignal(SIGBUS), "");
}

TEST(MappedFile, DropsPagesAndKeepsTheContent) {
  TempPath path;
  path.Write(std::string(1 << 20, 'x'));
  std::unique_ptr<MappedFile> f;
  ASSERT_STATUS_OK(MappedFile::Open(path.str(), &f));
  EXPECT_EQ(f->size(), 1u << 20);
  for (uint64_t offset : {uint64_t{0}, uint64_t{5000}, uint64_t{1} << 20, ~uint64_t{0}}) {
    f->DropPages(offset, ~uint64_t{0});
    f->DropPages(offset, 10);
  }
  for (uint64_t k = 0; k < f->size(); k += 1000) ASSERT_EQ(f->data()[k], 'x');
  ASSERT_STATUS_OK(f->CheckUnchanged());
  EXPECT_REFUSED(MappedFile::Open(::testing::TempDir(), &f), "is not a regular file");
  TempPath fifo;
  ASSERT_EQ(mkfifo(fifo.str().c_str(), 0600), 0);
  EXPECT_REFUSED(MappedFile::Open(fifo.str(), &f), "is not a regular file");
}

}  // namespace
}  // namespace engine::model
