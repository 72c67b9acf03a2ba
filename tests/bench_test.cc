// engine bench and engine perplexity from outside: what they print and write, and what they refuse.
// Speeds are never judged here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/process.h"
#include "tests/support.h"

namespace engine::tests {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

// A toy model and a folder for what is written.
class BenchTest : public testing::Test {
 protected:
  BenchTest() { WriteToyModel(Path("toy")); }
  std::string Path(const std::string& name) const { return folder_.Path(name); }
  Outcome Bench(std::vector<std::string> words) const {
    words.insert(words.begin(), {"bench", "pipelines/bench-serve.pbtxt", "--repeats", "1", "--set",
                                 "model=" + Path("toy"), "--set", "kv_budget=16MiB"});
    return RunEngine(words);
  }
  TempFolder folder_;
};

TEST_F(BenchTest, MeasuresWithAndWithoutEachOptimization) {
  const Outcome bench =
      RunEngine({"bench", "pipelines/generate.pbtxt", "Hi", "--ablate", "--repeats", "1", "--set",
                 "max_tokens=4", "--json", Path("bench.json")});
  ASSERT_EQ(bench.code, 0) << bench.err;
  EXPECT_THAT(bench.out, AllOf(HasSubstr("model (kv_cache)"), HasSubstr("same")));
  const json j = json::parse(ReadFile(Path("bench.json")));
  ASSERT_EQ(j["points"].size(), 1u);
  const json& variants = j["points"][0]["variants"];
  ASSERT_EQ(variants.size(), 2u);
  EXPECT_TRUE(variants[0]["without"].is_null());
  const json& off = variants[1];
  EXPECT_EQ(off["without"], "model");
  EXPECT_EQ(off["kind"], "kv_cache");
  EXPECT_EQ(off["same_output"], true);
  EXPECT_EQ(off["repeats_itself"], true);
  EXPECT_EQ(off["figures"]["run_s"].size(), 1u);
  EXPECT_GT(off["gain"]["median"], 0.0);
  EXPECT_LE(off["gain"]["low"], off["gain"]["high"]);
  EXPECT_GT(off["figures"]["peak_bytes"][0], 0);

  const Outcome failing = RunEngine({"bench", "pipelines/generate.pbtxt", "Hi", "--repeats", "1",
                                     "--set", "model=no_such_model"});
  EXPECT_EQ(failing.code, 1);
  EXPECT_THAT(failing.err,
              AllOf(HasSubstr("with everything on failed"), HasSubstr("no_such_model")));
}

TEST_F(BenchTest, SweepsALoadWithAndWithoutABatchAndDrawsIt) {
  const Outcome bench =
      Bench({"--load", "prompt=9..20 out=5 warmup=0", "--sweep", "streams=1,4", "--ablate",
             "--compare", "prefixes=false", "--json", Path("bench.json"), "--svg",
             Path("bench.svg"), "--ceiling", "limit=1"});
  ASSERT_EQ(bench.code, 0) << bench.err;
  EXPECT_THAT(bench.out, AllOf(HasSubstr("batch (batcher)"), HasSubstr("model (kv_cache)"),
                               HasSubstr("prefixes=false"), testing::Not(HasSubstr("differs"))));
  const json j = json::parse(ReadFile(Path("bench.json")));
  EXPECT_EQ(j["figure"], "output_tokens_per_s");
  ASSERT_EQ(j["points"].size(), 2u);
  for (const json& point : j["points"]) {
    for (const json& variant : point["variants"]) {
      const int streams = point["x"] == "1" ? 1 : 4;
      EXPECT_EQ(variant["figures"]["output_tokens"][0], 5 * streams) << variant;
      EXPECT_EQ(variant["figures"]["failed"][0], 0);
    }
  }
  const std::string svg = ReadFile(Path("bench.svg"));
  EXPECT_THAT(svg, AllOf(HasSubstr("<svg"), HasSubstr("without batch"), HasSubstr("</svg>"),
                         HasSubstr("output_tokens_per_s over streams")));
}

TEST_F(BenchTest, SessionsPrefixesAndCancelsRunToTheirEnd) {
  const Outcome bench = Bench({"--load",
                               "streams=3 requests=5 prompt=6 out=8 turns=3 prefix=20 cancel=0.3 "
                               "seed=4",
                               "--json", Path("bench.json")});
  ASSERT_EQ(bench.code, 0) << bench.err;
  const json figures =
      json::parse(ReadFile(Path("bench.json")))["points"][0]["variants"][0]["figures"];
  EXPECT_EQ(figures["failed"][0], 0);
  EXPECT_GT(figures["cancelled"][0], 0);
  EXPECT_GT(figures["cached_tokens"][0], 0);
}

TEST_F(BenchTest, MistakesAreNamed) {
  EXPECT_THAT(Bench({"--load", "stream=3"}).err, HasSubstr("there is no key 'stream'"));
  EXPECT_THAT(Bench({"--sweep", "streams=1,2"}).err, HasSubstr("need --load"));
  EXPECT_THAT(Bench({"--load", "out=4", "--sweep", "streams"}).err, HasSubstr("streams=1,2,4"));
  EXPECT_THAT(Bench({"--load", "out=4", "--against", "vllm=x"}).err, HasSubstr("llama.cpp=FOLDER"));
  EXPECT_THAT(Bench({"--load", "out=4", "--against", "llama.cpp=/nowhere"}).err,
              HasSubstr("there is no llama-bench in '/nowhere'"));
  const Outcome other = RunEngine({"bench", "pipelines/generate.pbtxt", "--load", "out=4"});
  EXPECT_EQ(other.code, 2);
  EXPECT_THAT(other.err, HasSubstr("load"));
}

TEST_F(BenchTest, APeerRunsInTheSameRounds) {
  // Programs that print what llama.cpp's print; each notes that it was called.
  std::filesystem::create_directories(Path("peer"));
  const auto script = [&](const std::string& name, const std::string& line) {
    std::ofstream(Path("peer/" + name)) << "#!/bin/sh\necho \"" << name << " $*\" >> "
                                        << Path("calls") << "\necho '" << line << "'\n";
    chmod(Path("peer/" + name).c_str(), 0755);
  };
  script("llama-bench", "{\"avg_ts\": 123.5}");
  script("llama-batched-bench", "{\"speed_tg\": 77.0}");
  const Outcome bench = Bench({"--load", "prompt=8 out=4", "--sweep", "streams=1,2", "--figure",
                               "decode_tokens_per_s", "--against", "llama.cpp=" + Path("peer"),
                               "--json", Path("bench.json")});
  ASSERT_EQ(bench.code, 0) << bench.err;
  const json points = json::parse(ReadFile(Path("bench.json")))["points"];
  EXPECT_EQ(points[0]["variants"][1]["peer"], "llama.cpp");
  EXPECT_EQ(points[0]["variants"][1]["figures"]["decode_tokens_per_s"][0], 123.5);
  EXPECT_EQ(points[1]["variants"][1]["figures"]["decode_tokens_per_s"][0], 77.0);
  const std::string calls = ReadFile(Path("calls"));
  EXPECT_THAT(calls, AllOf(HasSubstr("-fa 0"), HasSubstr("-fa 1"), HasSubstr("-n 4 -d 0"),
                           HasSubstr("-npp 8 -ntg 4 -npl 2")));
  script("llama-bench", "no JSON");
  EXPECT_THAT(Bench({"--load", "out=4", "--against", "llama.cpp=" + Path("peer")}).err,
              HasSubstr("llama.cpp failed"));
  EXPECT_THAT(Bench({"--load", "out=4 turns=3", "--against", "llama.cpp=" + Path("peer")}).err,
              HasSubstr("cannot be given 'turns=3'"));
}

TEST_F(BenchTest, PerplexityIsOfTheModelThatIsNamed) {
  std::ofstream(Path("text.txt")) << ReadFile(ENGINE_SOURCE_DIR "/README.md");
  std::ofstream(Path("models.pbtxt"))
      << "resource { name: \"base\"  load { path: \"" << RealModel() << "\" weights: DECODED } }\n"
      << "resource { name: \"small\"  from: \"base\"  int8 { } }\n"
      << "resource { name: \"kv\"  from: \"small\"  kv_cache { } }\n";
  const auto measure = [&](std::vector<std::string> more) {
    more.insert(more.begin(),
                {"perplexity", Path("models.pbtxt"), "--text", Path("text.txt"), "--json"});
    return RunEngine(more);
  };
  const Outcome base = measure({"--resource", "base"}), small = measure({"--resource", "small"});
  const Outcome last = measure({});
  ASSERT_EQ(base.code, 0) << base.err;
  const double exact = json::parse(base.out)["perplexity"],
               int8 = json::parse(small.out)["perplexity"];
  EXPECT_GT(exact, 2);
  EXPECT_LT(exact, 500);
  EXPECT_NE(exact, int8);
  EXPECT_NEAR(int8 / exact, 1, 0.02);
  // A KV cache changes no bit.
  EXPECT_EQ(json::parse(last.out)["perplexity"], json::parse(small.out)["perplexity"]);
  // What is bypassed does not count.
  EXPECT_EQ(json::parse(measure({"--set", "small.bypass=true"}).out)["perplexity"],
            json::parse(base.out)["perplexity"]);
  EXPECT_THAT(measure({"--resource", "bse"}).err, HasSubstr("there are: base, small, kv"));
  EXPECT_THAT(measure({"--window", "9000"}).err, HasSubstr("context"));
  std::ofstream(Path("text.txt")) << "too short";
  EXPECT_THAT(measure({}).err, HasSubstr("one window takes 512"));
}

}  // namespace
}  // namespace engine::tests
