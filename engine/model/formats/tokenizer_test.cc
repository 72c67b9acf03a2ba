#include "engine/model/formats/tokenizer.h"

#include <chrono>
#include <cstdio>
#include <fstream>
#include <thread>

#include "engine/model/formats/checkpoint.h"
#include "engine/model/formats/test_model.h"
#include "engine/model/formats/unicode.h"
#include "nlohmann/json.hpp"

namespace engine::model {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

const Tokenizer& SmolLm() {
  static const Tokenizer* tokenizer = [] {
    std::unique_ptr<GgufFile> file;
    std::unique_ptr<Tokenizer> out;
    Status status = GgufFile::Open(TestModelPath(), &file);
    if (status.ok()) status = TokenizerFromGguf(*file, &out);
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
      std::exit(1);
    }
    return out.release();
  }();
  return *tokenizer;
}

Ids Encoded(const Tokenizer& t, std::string_view text, bool parse_special = true) {
  Ids ids;
  const Status status = t.Encode(text, parse_special, false, &ids);
  EXPECT_TRUE(status.ok()) << status.message();
  return ids;
}

// A byte without a token of its own is dropped, by Hugging Face's tokenizer as by ours.
bool EveryByteHasAToken(const Tokenizer& t, const std::string& text) {
  for (char c : text) {
    if (t.Find(std::string(1, c)) < 0) return false;
  }
  return true;
}

// Every stored line has Hugging Face's ids, and decodes to itself.
void ExpectStoredLines(const Tokenizer& t, size_t* lines) {
  std::ifstream in(ENGINE_SOURCE_DIR "/tests/data/tokenizer_lines.jsonl");
  ASSERT_TRUE(in.good()) << "tests/data/tokenizer_lines.jsonl is missing";
  size_t wrong = 0, decoded = 0;
  *lines = 0;
  for (std::string line; std::getline(in, line); ++*lines) {
    const json entry = json::parse(line);
    const auto text = entry["t"].get<std::string>();
    const auto want = entry["i"].get<Ids>();
    const Ids got = Encoded(t, text);
    if (got != want && ++wrong <= 5) {
      ADD_FAILURE() << "line " << *lines + 1 << ": " << entry["t"] << "\n got " << json(got)
                    << "\nwant " << json(want);
    }
    if (!EveryByteHasAToken(t, text)) continue;
    ++decoded;
    EXPECT_EQ(t.Decode(got, false), text) << "line " << *lines + 1;
  }
  EXPECT_EQ(wrong, 0u);
  EXPECT_GT(decoded, *lines / 2);
}

TEST(Tokenizer, IdsEqualHuggingFaceOnAllStoredLines) {
  size_t lines = 0;
  ExpectStoredLines(SmolLm(), &lines);
  EXPECT_GE(lines, 5000u);
}

// The same tokenizer written as tokenizer.json reads back to the same ids.
TEST(Tokenizer, TokenizerJsonGivesTheSameIds) {
  std::unique_ptr<GgufFile> file;
  ASSERT_STATUS_OK(GgufFile::Open(TestModelPath(), &file));
  const GgufValue& tokens = *file->Find("tokenizer.ggml.tokens");
  json vocab = json::object(), added = json::array(), merges = json::array();
  for (size_t id = 0; id < tokens.strings.size(); ++id) {
    vocab[std::string(tokens.strings[id])] = id;
    if (file->Find("tokenizer.ggml.token_type")->integers[id] == 3) {
      added.push_back({{"id", id}, {"content", tokens.strings[id]}, {"special", true}});
    }
  }
  for (std::string_view m : file->Find("tokenizer.ggml.merges")->strings) merges.push_back(m);
  const json root = {
      {"added_tokens", added},
      {"normalizer", nullptr},
      {"pre_tokenizer",
       {{"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Digits"}, {"individual_digits", true}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}}}}},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
  std::unique_ptr<Tokenizer> tokenizer;
  ASSERT_STATUS_OK(TokenizerFromJson(root.dump(), "tokenizer.json", &tokenizer));
  size_t lines = 0;
  ExpectStoredLines(*tokenizer, &lines);
}

TEST(Tokenizer, InvalidUtf8BecomesReplacementCharacters) {
  const struct {
    std::string_view bytes, repaired;
  } vectors[] = {
      {"a\xFFz", "a\uFFFDz"},
      {"\xE2\x82", "\uFFFD"},  // cut short: one
      {"\xE2\x82z", "\uFFFDz"},
      {"\xF0\x9F\x98", "\uFFFD"},
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},            // a surrogate: none of it is a prefix
      {"\xC0\xAF", "\uFFFD\uFFFD"},                      // overlong
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},  // above U+10FFFF
      {"\xF0\x80\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\x80", "\uFFFD"},
  };
  for (const auto& v : vectors) {
    std::string storage;
    EXPECT_EQ(ValidUtf8(v.bytes, &storage), v.repaired);
    EXPECT_EQ(Encoded(SmolLm(), v.bytes), Encoded(SmolLm(), v.repaired));
  }
}

TEST(Tokenizer, SpecialTokensAreParsedOnlyOnRequest) {
  const Tokenizer& t = SmolLm();
  EXPECT_EQ(Encoded(t, "<|im_start|>", true), Ids{1});
  const Ids plain = Encoded(t, "<|im_start|>", false);
  EXPECT_GT(plain.size(), 1u);
  for (int32_t id : plain) EXPECT_FALSE(t.IsSpecial(id));
  EXPECT_EQ(t.Decode(plain, true), "<|im_start|>");
  EXPECT_EQ(t.Decode({1, 2}, true), "");
  EXPECT_EQ(t.Decode({1, 2}, false), "<|im_start|><|im_end|>");
  EXPECT_EQ(t.Find("<|im_end|>"), 2);
  EXPECT_EQ(t.TokenBytes(t.Find(" the")), " the");
  EXPECT_EQ(t.Find("no such token at all"), -1);
  EXPECT_EQ(t.vocab_size(), 49152);
  EXPECT_EQ(t.TokenBytes(-1), "");
  EXPECT_EQ(t.TokenBytes(49152), "");
  EXPECT_EQ(t.Decode({-5, 1 << 30}, false), "");
}

TEST(Tokenizer, MegabyteWordsAreNotQuadratic) {
  std::string word;
  for (uint32_t k = 0; k < 1u << 20; ++k) word += static_cast<char>('a' + (k * 7919u >> 3) % 26);
  for (const std::string& text : {word, std::string(1 << 20, 'a'), std::string(1 << 20, ' '),
                                  std::string(1 << 20, '<'), std::string(1 << 20, '\'')}) {
    const auto start = std::chrono::steady_clock::now();
    const Ids ids = Encoded(SmolLm(), text);
    EXPECT_EQ(SmolLm().Decode(ids, false), text);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  }
}

// A word longer than the scanning limit takes the heap; both must agree with the definition.
TEST(Bpe, HeapAndScanAgreeWithTheDefinition) {
  std::array<int32_t, 256> bytes;
  bytes.fill(-1);
  bytes['a'] = 0;
  bytes['b'] = 1;
  const std::vector<Merge> merges = {{0, 1, 2}, {2, 2, 3}, {1, 0, 4}, {0, 0, 5}, {3, 5, 6}};
  Bpe bpe;
  bpe.Init(bytes, merges);
  uint32_t seed = 1;
  for (int round = 0; round < 300; ++round) {
    std::string word;
    Ids want;
    for (int k = 0; k < 5 + round / 2; ++k) {
      seed = seed * 1664525u + 1013904223u;
      word += seed >> 31 ? 'a' : 'b';
      want.push_back(seed >> 31 ? 0 : 1);
    }
    for (bool again = true; again;) {
      again = false;
      for (size_t rank = 0; rank < merges.size() && !again; ++rank) {
        for (size_t k = 0; k + 1 < want.size() && !again; ++k) {
          if (want[k] != merges[rank].left || want[k + 1] != merges[rank].right) continue;
          want[k] = merges[rank].result;
          want.erase(want.begin() + static_cast<int64_t>(k) + 1);
          again = true;
        }
      }
    }
    Ids got;
    bpe.Encode(word, &got);
    EXPECT_EQ(got, want) << word;
  }
}

TEST(Tokenizer, ManyThreadsGetTheSameIds) {
  const std::string text = "Many threads, one tokenizer: 12 cafés & naïve 𝔘nicode.";
  const Ids want = Encoded(SmolLm(), text);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t n = 0; n < wrong.size(); ++n) {
    threads.emplace_back([&, n] {
      for (int k = 0; k < 200; ++k) {
        Ids ids;
        const std::string mine = text + std::to_string(k);
        if (!SmolLm().Encode(mine, true, false, &ids).ok()) ++wrong[n];
        if (SmolLm().Decode(ids, false) != mine) ++wrong[n];
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
  EXPECT_EQ(Encoded(SmolLm(), text), want);
}

TEST(Tokenizer, ReadsMegabytesPerSecond) {
  std::string text;
  std::ifstream in(ENGINE_SOURCE_DIR "/engine/model/formats/tokenizer.cc");
  const std::string source((std::istreambuf_iterator<char>(in)), {});
  ASSERT_GT(source.size(), 1000u);
  while (text.size() < 4 << 20) text += source;
  const auto start = std::chrono::steady_clock::now();
  const Ids ids = Encoded(SmolLm(), text);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  RecordProperty("megabytes_per_second",
                 std::to_string(static_cast<double>(text.size()) / 1e6 / seconds));
  std::printf("%.1f MB/s, %zu tokens\n", static_cast<double>(text.size()) / 1e6 / seconds,
              ids.size());
  EXPECT_LT(seconds, 20.0);
}

TEST(StreamDecoder, NeverSplitsACodePoint) {
  const std::string text = "héllo 👩‍👩‍👧‍👦 世界 🇩🇪 ok";
  for (const std::string& s : {text, std::string("𓀀𓁐ꙮ")}) {
    StreamDecoder stream(SmolLm());
    std::string joined;
    for (int32_t id : Encoded(SmolLm(), s)) {
      const std::string part = stream.Append(id);
      std::string storage;
      EXPECT_EQ(ValidUtf8(part, &storage), part);
      EXPECT_EQ(part.find("\uFFFD"), std::string::npos);
      joined += part;
    }
    joined += stream.Flush();
    EXPECT_EQ(joined, s);
  }
}

TEST(StreamDecoder, FlushShowsWhatNeverBecameWhole) {
  const Ids ids = Encoded(SmolLm(), "𓀀");
  ASSERT_GT(ids.size(), 1u);
  StreamDecoder stream(SmolLm());
  EXPECT_EQ(stream.Append(ids[0]), "");
  EXPECT_EQ(stream.Append(2), "");  // special: skipped
  EXPECT_EQ(stream.Flush(), "\uFFFD");
  EXPECT_EQ(stream.Flush(), "");
  StreamDecoder broken(SmolLm());
  EXPECT_EQ(broken.Append(ids[0]), "");
  EXPECT_EQ(broken.Append(SmolLm().Find("a")),
            "\uFFFD"
            "a");
}

// All 256 bytes are tokens; merges make "ab" and "abab".
json SmallJson() {
  json vocab = json::object();
  char32_t next = 0x100;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
    std::string text;
    AppendUtf8(printable ? static_cast<char32_t>(b) : next++, &text);
    vocab[text] = b;
  }
  vocab["ab"] = 256;
  vocab["abab"] = 257;
  return {{"added_tokens",
           {{{"id", 258}, {"content", "<s>"}, {"special", true}},
            {{"id", 259}, {"content", "[tool]"}, {"special", false}, {"lstrip", true}}}},
          {"normalizer", {{"type", "NFC"}}},
          {"pre_tokenizer",
           {{"type", "Sequence"},
            {"pretokenizers",
             {{{"type", "Digits"}, {"individual_digits", true}},
              {{"type", "Split"},
               {"pattern", {{"Regex", "\\s+|[^\\s]+"}}},
               {"behavior", "Isolated"},
               {"invert", false}},
              {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}}},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single",
             {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
              {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
            {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {258}}, {"tokens", {"<s>"}}}}}}}},
          {"model",
           {{"type", "BPE"},
            {"vocab", vocab},
            {"merges", json::array({"a b", json::array({"ab", "ab"})})}}}};
}

TEST(TokenizerJson, ReadsEveryPart) {
  std::unique_ptr<Tokenizer> t;
  ASSERT_STATUS_OK(TokenizerFromJson(SmallJson().dump(), "small", &t));
  Ids ids;
  ASSERT_STATUS_OK(t->Encode("ababab", true, true, &ids));
  EXPECT_EQ(ids, (Ids{258, 257, 256}));
  EXPECT_EQ(Encoded(*t, "<s>ab ab", true), (Ids{258, 256, ' ', 256}));
  EXPECT_EQ(Encoded(*t, "ab  [tool]1", false), (Ids{256, 259, '1'}));
  EXPECT_EQ(Encoded(*t, "e\u0301"), (Ids{0xC3, 0xA9}));  // NFC
}

TEST(TokenizerJson, RefusesWhatItWouldGetWrong) {
  const auto refused = [](const json& changed, const char* words) {
    std::unique_ptr<Tokenizer> t;
    EXPECT_REFUSED(TokenizerFromJson(changed.dump(), "small", &t), words);
  };
  const auto with = [](const char* pointer, json value) {
    json j = SmallJson();
    j[json::json_pointer(pointer)] = std::move(value);
    return j;
  };
  refused(json("x"), "not a JSON object");
  refused(json::object(), "model");
  refused(with("/model/type", "Unigram"), "'Unigram' is not supported");
  refused(with("/model/vocab/ab", 999999), "ids must have no gap");
  refused(with("/model/vocab/ab", -1), "ids must have no gap");
  refused(with("/model/vocab/ab", 3), "belongs to two tokens");
  refused(with("/model/vocab/new", 261), "ids must have no gap");
  refused(with("/model/merges", json::array({"a zz"})), "not in the vocabulary");
  refused(with("/model/merges", json::array({json::array({1, 2})})), "not in the vocabulary");
  refused(with("/model/merges", "x"), "not an array");
  refused(with("/model/byte_fallback", true), "byte_fallback");
  refused(with("/model/dropout", 0.5), "dropout");
  refused(with("/normalizer/type", "Lowercase"), "'Lowercase' is not supported");
  refused(with("/pre_tokenizer", nullptr), "ByteLevel");
  refused(with("/pre_tokenizer", {{"type", "Metaspace"}}), "'Metaspace' is not supported");
  refused(with("/pre_tokenizer/pretokenizers/1/pattern/Regex", "(a"), "not a valid regular");
  refused(with("/pre_tokenizer/pretokenizers/1/behavior", "MergedWithNext"), "MergedWithNext");
  refused(with("/pre_tokenizer/pretokenizers/2/add_prefix_space", true), "add_prefix_space");
  refused(with("/post_processor/special_tokens/<s>/ids", {9999}), "outside the vocabulary");
  refused(with("/post_processor/type", "BertProcessing"), "BertProcessing");
  refused(with("/added_tokens/0/content", ""), "is empty");
}

// A pattern that explodes is stopped, with an error and not a hang.
TEST(TokenizerJson, RunawayPatternIsStopped) {
  json j = SmallJson();
  j["pre_tokenizer"]["pretokenizers"][1]["pattern"]["Regex"] = "(a+)+$";
  std::unique_ptr<Tokenizer> t;
  ASSERT_STATUS_OK(TokenizerFromJson(j.dump(), "small", &t));
  Ids ids = {7};
  EXPECT_REFUSED(t->Encode(std::string(200, 'a') + "!", true, false, &ids), "gave up");
}

}  // namespace
}  // namespace engine::model
