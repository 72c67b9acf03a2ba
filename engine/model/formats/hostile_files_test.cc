// What a user sees when a model's file is broken: the whole message, for each way in which such
// files are known to be broken. Each names the file, and the tensor, key or byte.
#include <cstring>
#include <filesystem>

#include "engine/model/formats/checkpoint.h"
#include "engine/model/formats/gguf.h"
#include "engine/model/formats/random_checkpoint.h"
#include "engine/model/formats/safetensors.h"
#include "engine/model/formats/test_model.h"
#include "engine/model/formats/tokenizer.h"
#include "nlohmann/json.hpp"

namespace engine::model {
namespace {

using nlohmann::json;

// Bytes, and the message with FILE for the path.
struct Row {
  std::string bytes;
  const char* message;
};

std::string Message(const Status& status, const std::string& path) {
  std::string text(status.ok() ? "accepted" : status.message());
  for (size_t at = 0; (at = text.find(path, at)) != std::string::npos; at += 4) {
    text.replace(at, path.size(), "FILE");
  }
  return text;
}

template <typename T>
std::string Le(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

// --- safetensors ---

std::string Tensors(const std::string& header, size_t data, uint64_t length) {
  return Le(length) + header + std::string(data, '\0');
}
std::string Tensors(const std::string& header, size_t data) {
  return Tensors(header, data, header.size());
}
// One tensor `w`; "" for a field leaves it out.
std::string One(const std::string& shape, const std::string& offsets, size_t data,
                const std::string& dtype = "F32", const std::string& name = "w") {
  return Tensors("{\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
                     ",\"data_offsets\":" + offsets + "}}",
                 data);
}

std::string ManyTensors(int count) {
  std::string header = "{";
  for (int k = 0; k < count; ++k) header += "\"t" + std::to_string(k) + "\":{},";
  header.back() = '}';
  return Tensors(header, 0);
}

TEST(HostileFiles, Safetensors) {
  const Row rows[] = {
      {"", "'FILE' is empty (0 bytes); fetch the file again"},
      {"1", "safetensors file 'FILE': it has 1 bytes; the header's length alone takes 8"},
      {"1234567", "safetensors file 'FILE': it has 7 bytes; the header's length alone takes 8"},
      {Tensors("", 0), "safetensors file 'FILE': the header does not begin with '{'"},
      {Tensors("{}", 0, 3),
       "safetensors file 'FILE': the header's length is 3 but only 2 bytes follow; the file is "
       "truncated"},
      {Tensors("{}", 0, uint64_t{1} << 63),
       "safetensors file 'FILE': the header's length is 9223372036854775808; at most 100000000 is "
       "allowed"},
      {Tensors("[]", 0), "safetensors file 'FILE': the header does not begin with '{'"},
      {Tensors("{\"w\":}", 0),
       "safetensors file 'FILE': its header: it is not a JSON object: byte 5 does not fit"},
      {Tensors("{\"w\":", 0),
       "safetensors file 'FILE': its header: it is not a JSON object: it ends too early"},
      {Tensors("{\"w\":\"\xff\"}", 0),
       "safetensors file 'FILE': its header: it is not a JSON object: byte 6 does not fit"},
      {Tensors("{\"w\":" + std::string(10000, '['), 0),
       "safetensors file 'FILE': the header is nested too deeply"},
      {ManyTensors(100000), "safetensors file 'FILE': the header has more than 65536 entries"},
      {One("[1]", "[0,4]", 5), "safetensors file 'FILE': 1 bytes follow the last tensor's data"},
      {One("[1]", "[0,4]", 3),
       "safetensors file 'FILE': tensor 'w': data_offsets [0, 4] are not inside the 3 bytes of "
       "data; the file is truncated or corrupt"},
      {Tensors(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
               R"("w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
               4),
       "safetensors file 'FILE': 'w' appears twice in the header"},
      {Tensors(R"({"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
               R"("w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
               8),
       "safetensors file 'FILE': tensor 'w' begins at 4, inside the one before it"},
      {One("[1]", "[4,8]", 8), "safetensors file 'FILE': tensor 'w' begins at 4, after a gap"},
      {One("[1]", "[8,4]", 8),
       "safetensors file 'FILE': tensor 'w': data_offsets [8, 4] are not inside the 8 bytes of "
       "data; the file is truncated or corrupt"},
      {One("[1]", "[-4,0]", 8),
       "safetensors file 'FILE': tensor 'w': data_offsets must be two integers >= 0"},
      {One("[1]", "[0,9223372036854775807]", 8),
       "safetensors file 'FILE': tensor 'w': data_offsets [0, 9223372036854775807] are not inside "
       "the 8 bytes of data; the file is truncated or corrupt"},
      {One("[1]", "[0,18446744073709551616]", 8),
       "safetensors file 'FILE': tensor 'w': data_offsets must be two integers >= 0"},
      {Tensors(R"({"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
               R"("w":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}})",
               8),
       "safetensors file 'FILE': tensor 'w' begins at 4, inside the one before it"},
      {One("[2]", "[0,4]", 4),
       "safetensors file 'FILE': tensor 'w': shape [2] of F32 takes 8 bytes but data_offsets give "
       "it 4"},
      {One("[4194305,4194305,211106198978564]", "[0,4]", 4),
       "safetensors file 'FILE': tensor 'w': shape [4194305,4194305,211106198978564] times 4 bytes "
       "overflows"},
      {One("[4294967296,4294967296]", "[0,0]", 0),
       "safetensors file 'FILE': tensor 'w': shape [4294967296,4294967296] times 4 bytes "
       "overflows"},
      {One("[-1]", "[0,4]", 4),
       "safetensors file 'FILE': tensor 'w': shape holds -1; sizes are integers >= 0"},
      {One("[1.5]", "[0,4]", 4),
       "safetensors file 'FILE': tensor 'w': shape holds 1.5; sizes are integers >= 0"},
      {One("[1,1,1,1,1,1,1,1,1]", "[0,4]", 4),
       "safetensors file 'FILE': tensor 'w': shape must be an array of at most 8 sizes"},
      {One("[1]", "[0,4]", 4, "F31"),
       "safetensors file 'FILE': tensor 'w': dtype 'F31' is not supported; F64, F32, F16, BF16 and "
       "the integers are"},
      {One("[1]", "[0,4]", 4, "\\u001b[2J"),
       "safetensors file 'FILE': tensor 'w': dtype '?[2J' is not supported; F64, F32, F16, BF16 "
       "and the integers are"},
      {One("[1]", "[0,4]", 3, "F32", "größe"),
       "safetensors file 'FILE': tensor 'größe': data_offsets [0, 4] are not inside the 3 bytes of "
       "data; the file is truncated or corrupt"},
      {One("[1]", "[0,4]", 4, "F32", "a\\nb"),
       "safetensors file 'FILE': tensor 'a?b': its name holds a control character"},
      {Tensors(R"({"__metadata__":{"format":7}})", 0),
       "safetensors file 'FILE': __metadata__ 'format' is number; only strings are allowed"},
      {Tensors(R"({"__metadata__":"pt"})", 0),
       "safetensors file 'FILE': __metadata__ is not an object"},
      {Tensors(R"({"w":[1]})", 0),
       "safetensors file 'FILE': tensor 'w': its entry is not an object"},
      {Tensors(R"({"w":{"shape":[1],"data_offsets":[0,4]}})", 4),
       "safetensors file 'FILE': tensor 'w': it has no dtype"},
      {Tensors(R"({"w":{"dtype":"F32","shape":[1]}})", 4),
       "safetensors file 'FILE': tensor 'w': data_offsets must be two integers >= 0"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 99\n",
       "safetensors file 'FILE': the header's length is 2336927755350992246; at most 100000000 is "
       "allowed"},
  };
  for (const Row& row : rows) {
    TempPath path(".safetensors");
    path.Write(row.bytes);
    std::unique_ptr<SafetensorsFile> file;
    EXPECT_EQ(Message(SafetensorsFile::Open(path.str(), &file), path.str()), row.message);
  }
}

// Names may be any UTF-8, and tensors without elements may share a place.
TEST(HostileFiles, UnusualSafetensorsAreRead) {
  TempPath path(".safetensors");
  path.Write(Tensors(R"({"größe":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                     R"("a":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},)"
                     R"("b":{"dtype":"F32","shape":[4294967296,0],"data_offsets":[4,4]}})",
                     4));
  std::unique_ptr<SafetensorsFile> file;
  ASSERT_STATUS_OK(SafetensorsFile::Open(path.str(), &file));
  EXPECT_EQ(file->tensors().size(), 3u);
  ASSERT_NE(file->Find("größe"), nullptr);
  EXPECT_EQ(file->Find("größe")->elements, 1);
}

// --- GGUF ---

std::string Head(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
  return "GGUF" + Le(version) + Le(tensors) + Le(keys);
}
std::string Str(std::string_view s) { return Le(uint64_t{s.size()}) + std::string(s); }
std::string U32(std::string_view key, uint32_t value) {
  return Str(key) + Le(uint32_t{4}) + Le(value);
}
std::string Entry(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type = 0,
                  uint64_t offset = 0) {
  std::string out = Str(name) + Le(static_cast<uint32_t>(dims.size()));
  for (uint64_t d : dims) out += Le(d);
  return out + Le(type) + Le(offset);
}
std::string WithData(std::string bytes, size_t data = 128, size_t alignment = 32) {
  bytes.resize((bytes.size() + alignment - 1) / alignment * alignment);
  return bytes + std::string(data, '\1');
}

TEST(HostileFiles, Gguf) {
  const uint64_t kHuge = 0x7FFFFFFFFFFFFFC0u;
  const uint32_t kArray = 9, kString = 8, kU64 = 10;
  const Row rows[] = {
      {"GGML" + Le(uint32_t{3}),
       "GGUF file 'FILE', byte 0: the magic bytes are not 'GGUF'; this is not a GGUF file"},
      {"GGUF\3",
       "GGUF file 'FILE', byte 4: the file ends inside the version (1 of 4 bytes are left); it is "
       "truncated, fetch it again"},
      {Head(0, 0, 0), "GGUF file 'FILE', byte 8: version 0 is not supported; versions 2 and 3 are"},
      {Head(0, 0, 1), "GGUF file 'FILE', byte 8: version 1 is not supported; versions 2 and 3 are"},
      {Head(0, 0, 4), "GGUF file 'FILE', byte 8: version 4 is not supported; versions 2 and 3 are"},
      {Head(0, 0, 0x03000000),
       "GGUF file 'FILE', byte 8: version field 50331648 is byte-swapped: a big-endian file; "
       "convert it to little-endian"},
      {Head(~0ull, 0),
       "GGUF file 'FILE', byte 24: the number of tensors is 18446744073709551615, more than the "
       "file's 24 bytes can hold"},
      {Head(0, ~0ull),
       "GGUF file 'FILE', byte 24: the number of metadata keys is 18446744073709551615, more than "
       "the file's 24 bytes can hold"},
      {WithData(Head(0, 1) + Le(~0ull)),
       "GGUF file 'FILE', byte 32: the length of metadata key 0 is 18446744073709551615; at most "
       "65535 is allowed"},
      {WithData(Head(0, 1) + Str(std::string(70000, 'k'))),
       "GGUF file 'FILE', byte 32: the length of metadata key 0 is 70000; at most 65535 is "
       "allowed"},
      {WithData(Head(0, 1) + Le(uint64_t{5000})),
       "GGUF file 'FILE', byte 32: the length of metadata key 0 is 5000 but only 128 bytes are "
       "left in the file"},
      {WithData(Head(0, 1) + U32("", 1)), "GGUF file 'FILE', byte 32: metadata key 0 is empty"},
      {WithData(Head(0, 1) + Str("k") + Le(uint32_t{13})),
       "GGUF file 'FILE', byte 37: metadata 'k' has type 13; types 0 to 12 exist"},
      {WithData(Head(0, 1) + Str("\x1b[2J") + Le(uint32_t{13})),
       "GGUF file 'FILE', byte 40: metadata '?[2J' has type 13; types 0 to 12 exist"},
      {Head(0, 2) + U32("k", 1) + U32("k", 1),
       "GGUF file 'FILE', byte 58: metadata 'k' appears twice"},
      {WithData(Head(0, 1) + Str("k") + Le(uint32_t{7}) + "\2"),
       "GGUF file 'FILE', byte 38: metadata 'k' is a bool with the byte 2; 0 or 1 is valid"},
      {WithData(Head(0, 1) + Str("k") + Le(kArray) + Le(kArray) + Le(uint64_t{1})),
       "GGUF file 'FILE', byte 49: metadata 'k' is an array of type 9; scalars and strings are "
       "supported"},
      {WithData(Head(0, 1) + Str("k") + Le(kArray) + Le(kU64) + Le(uint64_t{1} << 62)),
       "GGUF file 'FILE', byte 49: metadata 'k' is an array of 4611686018427387904 elements but "
       "only 143 bytes are left in the file"},
      {WithData(Head(0, 1) + Str("k") + Le(kArray) + Le(kString) + Le(kHuge)),
       "GGUF file 'FILE', byte 49: metadata 'k' is an array of 9223372036854775744 elements but "
       "only 143 bytes are left in the file"},
      {WithData(Head(0, 1) + Str("k") + Le(kArray) + Le(kString) + Le(uint64_t{1}) + Le(kHuge)),
       "GGUF file 'FILE', byte 57: the length of metadata 'k' is 9223372036854775744; at most 192 "
       "is allowed"},
      {Head(0, 1) + U32("general.alignment", 13),
       "GGUF file 'FILE', byte 57: general.alignment must be an unsigned power of two, at most "
       "1048576; it is 13"},
      {Head(0, 1) + Str("general.alignment") + Le(kString) + Str("32"),
       "GGUF file 'FILE', byte 63: general.alignment must be an unsigned power of two, at most "
       "1048576; it has another type"},
      {WithData(Head(1, 0) + Entry(std::string(64, 'n'), {32})),
       "GGUF file 'FILE', byte 32: the length of the name of tensor 0 is 64; at most 63 is "
       "allowed"},
      {WithData(Head(1, 0) + Entry("", {32})),
       "GGUF file 'FILE', byte 32: the name of tensor 0 is empty"},
      {WithData(Head(1, 0) + Entry("a\x1b[1m", {32})),
       "GGUF file 'FILE', byte 37: the name of tensor 0, 'a?[1m', is not printable ASCII"},
      {WithData(Head(1, 0) + Entry("t", {})),
       "GGUF file 'FILE', byte 37: tensor 't' has 0 dimensions; 1 to 4 are valid"},
      {WithData(Head(1, 0) + Entry("t", {1, 1, 1, 1, 1})),
       "GGUF file 'FILE', byte 37: tensor 't' has 5 dimensions; 1 to 4 are valid"},
      {WithData(Head(1, 0) + Entry("t", {32, 0})),
       "GGUF file 'FILE', byte 53: tensor 't' has dimension 1 of 0 elements"},
      {WithData(Head(1, 0) + Entry("t", {~0ull})),
       "GGUF file 'FILE', byte 45: tensor 't': the number of elements overflows 63 bits at "
       "dimension 0 = 18446744073709551615"},
      {WithData(Head(1, 0) + Entry("t", {uint64_t{1} << 32, uint64_t{1} << 32})),
       "GGUF file 'FILE', byte 53: tensor 't': the number of elements overflows 63 bits at "
       "dimension 1 = 4294967296"},
      {WithData(Head(1, 0) + Entry("t", {uint64_t{1} << 62})),
       "GGUF file 'FILE', byte 49: tensor 't': the size in bytes overflows 64 bits"},
      {WithData(Head(1, 0) + Entry("t", {32}, 999)),
       "GGUF file 'FILE': tensor 't' is stored as an unknown type (type 999); supported are F64, "
       "F32, F16, BF16, Q8_0, Q4_0 and Q4_1"},
      {WithData(Head(1, 0) + Entry("t", {256}, 14)),
       "GGUF file 'FILE': tensor 't' is stored as Q6_K (type 14); supported are F64, F32, F16, "
       "BF16, Q8_0, Q4_0 and Q4_1"},
      {WithData(Head(1, 0) + Entry("t", {33}, 8)),
       "GGUF file 'FILE', byte 49: tensor 't': rows of 33 elements are not whole blocks of 32 "
       "(Q8_0)"},
      {WithData(Head(1, 0) + Entry("t", {8}, 0, 4)),
       "GGUF file 'FILE', byte 57: tensor 't': offset 4 is not a multiple of the alignment 32"},
      {WithData(Head(1, 1) + U32("general.alignment", 64) + Entry("t", {8}, 0, 32), 128, 64),
       "GGUF file 'FILE', byte 90: tensor 't': offset 32 is not a multiple of the alignment 64"},
      {WithData(Head(2, 0) + Entry("t", {8}) + Entry("t", {8}, 0, 32)),
       "GGUF file 'FILE', byte 90: tensor 't' appears twice"},
      {WithData(Head(2, 0) + Entry("t", {16}) + Entry("u", {8}, 0, 32)),
       "GGUF file 'FILE', byte 90: tensors 't' and 'u' overlap"},
      {WithData(Head(1, 0) + Entry("t", {256}), 1023),
       "GGUF file 'FILE', byte 57: tensor 't' needs 1024 bytes at offset 0 but the data section "
       "has 1023; the file is truncated or corrupt"},
      {WithData(Head(1, 0) + Entry("t", {8}, 0, ~31ull)),
       "GGUF file 'FILE', byte 57: tensor 't' needs 32 bytes at offset 18446744073709551584 but "
       "the data section has 128; the file is truncated or corrupt"},
      {WithData(Head(2, 0) + Entry("t", {kHuge / 4}) + Entry("u", {kHuge / 4}, 0, kHuge)),
       "GGUF file 'FILE', byte 90: tensor 't' needs 9223372036854775744 bytes at offset 0 but the "
       "data section has 128; the file is truncated or corrupt"},
      {Head(1, 0) + Entry("t", {8}) + "x",
       "GGUF file 'FILE', byte 57: the file ends before its data section at 64; it is truncated"},
  };
  for (const Row& row : rows) {
    TempPath path(".gguf");
    path.Write(row.bytes);
    std::unique_ptr<GgufFile> file;
    EXPECT_EQ(Message(GgufFile::Open(path.str(), &file), path.str()), row.message);
  }
}

// --- tokenizer.json ---

json TokenizerJson() {
  return {{"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"model",
           {{"type", "BPE"},
            {"vocab", {{"a", 0}, {"b", 1}, {"ab", 2}}},
            {"merges", json::array({"a b"})}}}};
}

TEST(HostileFiles, TokenizerJson) {
  const auto with = [](const char* pointer, json value) {
    json j = TokenizerJson();
    j[json::json_pointer(pointer)] = std::move(value);
    return j.dump();
  };
  const Row rows[] = {
      {"", "'FILE': it is not a JSON object: it is empty"},
      {"{", "'FILE': it is not a JSON object: it ends too early"},
      {"[]", "'FILE': it is not a JSON object but another value"},
      {"{\"model\":\"\xff\"}", "'FILE': it is not a JSON object: byte 10 does not fit"},
      {std::string(100000, '['), "'FILE': it is not a JSON object: it ends too early"},
      {"{}", "'FILE': model '(none)' is not supported; BPE with a vocabulary is"},
      {with("/model/type", "Unigram"),
       "'FILE': model 'Unigram' is not supported; BPE with a vocabulary is"},
      {with("/model/type", "\x1b[2J"),
       "'FILE': model '?[2J' is not supported; BPE with a vocabulary is"},
      {with("/model/byte_fallback", true),
       "'FILE': model 'byte_fallback' is not supported; byte-level BPE is"},
      {with("/model/vocab/ab", 3),
       "'FILE': token 'ab' has an id that is not below the number of tokens, 3; ids must have no "
       "gap"},
      {with("/model/vocab/ab", -1),
       "'FILE': token 'ab' has an id that is not below the number of tokens, 3; ids must have no "
       "gap"},
      {with("/model/vocab/ab", 1e300),
       "'FILE': token 'ab' has an id that is not below the number of tokens, 3; ids must have no "
       "gap"},
      {with("/model/vocab/ab", 18446744073709551615u),
       "'FILE': token 'ab' has an id that is not below the number of tokens, 3; ids must have no "
       "gap"},
      {with("/model/vocab/ab", 1), "'FILE': id 1 belongs to two tokens"},
      {with("/model/merges", json::array({"a b", "a zz"})),
       "'FILE': merge 1 ('a' and 'zz') names a token that is not in the vocabulary"},
      {with("/model/merges", json::array({"ab"})),
       "'FILE': merge 0 ('ab' and '') names a token that is not in the vocabulary"},
      {with("/model/merges", json::array({json::array({"a", 7})})),
       "'FILE': merge 0 ('' and '') names a token that is not in the vocabulary"},
      {with("/model/merges", json::array({"b a"})),
       "'FILE': merge 0 ('b' and 'a') names a token that is not in the vocabulary"},
      {with("/model/merges", {{"a", "b"}}), "'FILE': model.merges is not an array"},
      {with("/added_tokens", "x"), "'FILE': added_tokens is not an array"},
      {with("/added_tokens", json::array({{{"id", 9}, {"content", "<s>"}}})),
       "'FILE': token '<s>' has an id that is not below the number of tokens, 4; ids must have no "
       "gap"},
      {with("/added_tokens", json::array({{{"id", 3}, {"content", ""}}})),
       "'FILE': added token 3 is empty"},
      {with("/normalizer", {{"type", "Lowercase"}}),
       "'FILE': normalizer 'Lowercase' is not supported; null or NFC is"},
      {with("/pre_tokenizer", nullptr),
       "'FILE': pre_tokenizer 'one without a ByteLevel step' is not supported; byte level is"},
      {with("/pre_tokenizer",
            {{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}}),
       "'FILE': the tokenizer's pattern is not a valid regular expression: missing closing "
       "parenthesis at byte 2"},
      {with("/post_processor", {{"type", "TemplateProcessing"},
                                {"single", json::array({{{"SpecialToken", {{"id", "<s>"}}}}})},
                                {"special_tokens", {{"<s>", {{"ids", {7}}}}}}}),
       "'FILE': post_processor adds '<s>' with an id outside the vocabulary"},
      {with("/post_processor", {{"type", "TemplateProcessing"},
                                {"single", json::array({{{"SpecialToken", {{"id", "<s>"}}}}})}}),
       "'FILE': post_processor names '<s>', which has no ids"},
  };
  for (const Row& row : rows) {
    std::unique_ptr<Tokenizer> tokenizer;
    EXPECT_EQ(Message(TokenizerFromJson(row.bytes, "'FILE'", &tokenizer), "FILE"), row.message);
  }
}

// A token that looks like a byte's is a text like any other: nothing is computed from its digits.
TEST(HostileFiles, TokensThatLookLikeBytesAreTexts) {
  json j = TokenizerJson();
  for (const char* token : {"<0x-1>", "<0xFFFFFFFFFF>", "<0x00>"}) {
    j["model"]["vocab"][token] = j["model"]["vocab"].size();
  }
  std::unique_ptr<Tokenizer> tokenizer;
  ASSERT_STATUS_OK(TokenizerFromJson(j.dump(), "tokenizer.json", &tokenizer));
  EXPECT_EQ(tokenizer->Decode({3, 4, 5}, false), "<0x-1><0xFFFFFFFFFF><0x00>");
}

// --- config.json ---

TEST(HostileFiles, Config) {
  const std::string folder = TempPath("_hf").str();
  std::filesystem::create_directory(folder);
  const json good = {
      {"model_type", "llama"},    {"hidden_size", 8},       {"num_hidden_layers", 1},
      {"num_attention_heads", 2}, {"intermediate_size", 6}, {"vocab_size", 5},
      {"rms_norm_eps", 1e-5},     {"rope_theta", 500.0},    {"tie_word_embeddings", true}};
  std::vector<float> values(64);
  std::vector<SafetensorsSource> tensors = {
      {"model.embed_tokens.weight", "F32", {5, 8}, values.data()},
      {"model.norm.weight", "F32", {8}, values.data()},
      {"model.layers.0.input_layernorm.weight", "F32", {8}, values.data()}};
  for (const char* name : {"q", "k", "v", "o"}) {
    tensors.push_back({"model.layers.0.self_attn." + std::string(name) + "_proj.weight",
                       "F32",
                       {8, 8},
                       values.data()});
  }
  ASSERT_STATUS_OK(WriteSafetensors(folder + "/model.safetensors", tensors));
  const auto with = [&](const char* key, json value) {
    json j = good;
    j[key] = std::move(value);
    return j.dump();
  };
  const Row rows[] = {
      {"", "'FILE/config.json': it is not a JSON object: it is empty"},
      {"{\"model_type\": llama}",
       "'FILE/config.json': it is not a JSON object: byte 15 does not fit"},
      {with("model_type", "mam\x1b[2Jba"),
       "'FILE/config.json': model_type 'mam?[2Jba' is not supported; 'llama' is"},
      {with("hidden_size", "8"),
       "'FILE/config.json': 'hidden_size' must be an integer; it is \"8\""},
      {with("num_attention_heads", 0),
       "'FILE': the number of attention heads is 0; 1 to 16777216 is valid"},
      {with("num_attention_heads", 3),
       "'FILE': tensor 'model.layers.0.self_attn.q_proj.weight' has shape [8, 8]; the config "
       "implies [6, 8]"},
      {with("head_dim", 6),
       "'FILE': tensor 'model.layers.0.self_attn.q_proj.weight' has shape [8, 8]; the config "
       "implies [12, 8]"},
      {with("num_key_value_heads", 3), "'FILE': 3 key/value heads do not divide 2 attention heads"},
      {with("vocab_size", 6),
       "'FILE': tensor 'model.embed_tokens.weight' has shape [5, 8]; the config implies [6, 8]"},
      {with("vocab_size", 1ll << 40),
       "'FILE': the vocabulary size is 1099511627776; 1 to 16777216 is valid"},
      {with("rope_theta", 0), "'FILE': rope theta is 0; it must be above 0"},
      {with("rms_norm_eps", 0), "'FILE': the norm's epsilon is 0; it must be between 0 and 1"},
      {with("num_hidden_layers", 2),
       "'FILE': tensor 'model.layers.0.post_attention_layernorm.weight' [8] is missing"},
      {with("rope_scaling", {{"rope_type", "yarn"}}),
       "'FILE/config.json': rope scaling 'yarn' is not supported; default, linear and llama3 are"},
  };
  for (const Row& row : rows) {
    std::ofstream(folder + "/config.json") << row.bytes;
    std::unique_ptr<Checkpoint> checkpoint;
    EXPECT_EQ(Message(OpenCheckpoint(folder, &checkpoint), folder), row.message);
  }
  std::filesystem::remove_all(folder);
}

// Sizes that a pipeline may ask for, each within its limits and together beyond any memory.
TEST(HostileFiles, RandomWeightsBeyondMemoryAreRefused) {
  std::unique_ptr<Checkpoint> like, made;
  ASSERT_STATUS_OK(OpenCheckpoint(TestModelPath(), &like));
  RandomModel how;
  how.hidden = 65536;
  how.blocks = 1024;
  how.heads = how.kv_heads = 1024;
  how.mlp = 262144;
  how.most_bytes = uint64_t{1} << 30;
  EXPECT_REFUSED(MakeRandomCheckpoint(std::move(like), how, &made),
                 "random: the weights take more than the 1073741824 bytes that this process may "
                 "use; give fewer blocks, or a smaller hidden or mlp");
}

}  // namespace
}  // namespace engine::model
