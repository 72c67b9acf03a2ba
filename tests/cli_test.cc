// The command line from outside: each test starts the real binary with the shipped pipelines and
// the real model, and looks at what it prints, its exit code, and how it ends.
#include "tests/cli.h"

#include <dirent.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <thread>

#include "tests/process.h"

namespace engine::tests {
namespace {

std::vector<std::string> ShippedPipelines() {
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(ENGINE_SOURCE_DIR "/pipelines")) {
    if (entry.path().extension() == ".pbtxt") {
      files.push_back("pipelines/" + entry.path().filename().string());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

// --- Reading commands

TEST_F(CliTest, EveryShippedPipelineIsGood) {
  fs::create_directory(Path("adapter"));
  ASSERT_FALSE(ShippedPipelines().empty());
  for (const std::string& file : ShippedPipelines()) {
    Words words = {"check", file};
    if (file.find("train") != std::string::npos) words.push_back("LICENSE");
    if (file.find("generate-lora") != std::string::npos) {
      words.insert(words.end(), {"--set", "adapter=" + Path("adapter")});
    }
    if (file.find("serve-adapters") != std::string::npos) {
      for (const std::string name : {"tone=", "law="}) {
        words.insert(words.end(), {"--set", name + Path("adapter")});
      }
    }
    const Outcome check = RunEngine(words);
    EXPECT_EQ(check.code, 0) << file << "\n" << check.err;
    EXPECT_EQ(check.err, "") << file;
    EXPECT_THAT(check.out, AllOf(HasSubstr(file + ": good: "), HasSubstr(" nodes, "))) << file;
  }
}

TEST_F(CliTest, ProtocReadsEveryShippedPipelineWithTheExportedSchema) {
  const Outcome schema = RunEngine({"schema", Path("pipeline.proto")});
  ASSERT_EQ(schema.code, 0) << schema.err;
  EXPECT_EQ(RunEngine({"schema"}).out, ReadAll(Path("pipeline.proto")));
  for (const std::string& file : ShippedPipelines()) {
    ProcessOptions options;
    options.input = ReadAll(ENGINE_SOURCE_DIR "/" + file);
    const Outcome protoc =
        Process({"protoc", "--encode=engine.Pipeline", "-I" + Path(""), Path("pipeline.proto")},
                options)
            .Wait();
    EXPECT_EQ(protoc.code, 0) << file << "\n" << protoc.err;
    EXPECT_GT(protoc.out.size(), 100u) << file;
  }
  EXPECT_EQ(RunEngine({"schema", Path("no/such/folder/x.proto")}).code, 2);
}

TEST_F(CliTest, ExplainTellsWhatEachTransformReplacesInBytes) {
  const Outcome stored = RunEngine({"explain", "pipelines/generate.pbtxt"});
  EXPECT_THAT(stored.out, HasSubstr("weights 92.1 MiB")) << "blocks are computed on as they are";
  const Outcome plain =
      RunEngine({"explain", "pipelines/generate.pbtxt", "--set", "base.load.weights=DECODED"});
  ASSERT_EQ(plain.code, 0) << plain.err;
  EXPECT_THAT(plain.out, AllOf(HasSubstr("weights 513.1 MiB"), HasSubstr("30 sites"),
                               HasSubstr("pages of 16 tokens"),
                               HasSubstr("loop.STEP -> forward.STEP"), HasSubstr("feedback")));
  const Outcome train = RunEngine({"explain", "pipelines/finetune-qlora.pbtxt", "LICENSE"});
  ASSERT_EQ(train.code, 0) << train.err;
  EXPECT_THAT(train.out, AllOf(HasSubstr("int8"), HasSubstr("lora"), HasSubstr("checkpoint"),
                               HasSubstr(" MiB -> ")));
  const Outcome bypassed =
      RunEngine({"explain", "pipelines/generate.pbtxt", "--set", "model.bypass=true"});
  ASSERT_EQ(bypassed.code, 0) << bypassed.err;
  EXPECT_THAT(bypassed.out, AllOf(HasSubstr("bypass"), Not(HasSubstr("30 sites"))));
}

TEST_F(CliTest, GraphDrawsInThreeFormats) {
  const Outcome dot = RunEngine({"graph", "pipelines/generate.pbtxt"});
  EXPECT_EQ(dot.code, 0) << dot.err;
  EXPECT_EQ(dot.out.rfind("digraph", 0), 0u) << dot.out;
  const Outcome mermaid = RunEngine({"graph", "pipelines/generate.pbtxt", "--format", "mermaid"});
  EXPECT_EQ(mermaid.code, 0) << mermaid.err;
  EXPECT_THAT(ReadAll(ENGINE_SOURCE_DIR "/README.md"), HasSubstr(mermaid.out))
      << "the README shows another picture";
  const Outcome svg = RunEngine({"graph", "pipelines/generate.pbtxt", "--format", "svg"});
  EXPECT_EQ(svg.code, 0) << svg.err;
  // Every element that is opened is closed.
  size_t open = 0, closed = 0;
  for (size_t at = 0; (at = svg.out.find('<', at)) != std::string::npos; ++at) {
    const size_t end = svg.out.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = svg.out.substr(at, end - at + 1);
    if (tag[1] == '?' || tag[1] == '!') continue;
    if (tag[1] == '/') {
      ++closed;
    } else if (tag[tag.size() - 2] != '/') {
      ++open;
    }
  }
  EXPECT_GT(open, 0u);
  EXPECT_EQ(open, closed);
  EXPECT_THAT(svg.out, AllOf(HasSubstr("<svg"), HasSubstr("serial_batcher")));
  const Outcome wrong = RunEngine({"graph", "pipelines/generate.pbtxt", "--format", "png"});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("png"));
}

TEST_F(CliTest, InspectIsTheManualOfPluginsKindsAndOptions) {
  const Outcome all = RunEngine({"inspect"});
  EXPECT_EQ(all.code, 0);
  for (const char* kind :
       {"load", "kv_cache", "int8", "lora", "checkpoint", "trainer", "train_log", "prompt",
        "tokenize", "serial_batcher", "forward", "sample", "detokenize", "text_sink"}) {
    EXPECT_THAT(all.out, HasSubstr(std::string(kind) + "  ")) << kind;
  }
  const Outcome plugin = RunEngine({"inspect", "engine.kv_cache"});
  EXPECT_EQ(plugin.code, 0) << plugin.err;
  EXPECT_THAT(plugin.out, HasSubstr("kv_cache"));
  const Outcome kind = RunEngine({"inspect", "serial_batcher"});
  EXPECT_EQ(kind.code, 0) << kind.err;
  EXPECT_THAT(kind.out, AllOf(HasSubstr("max_tokens"), HasSubstr("NEW"), HasSubstr("RUNNING")));
  const Outcome option = RunEngine({"inspect", "sample.temperature"});
  EXPECT_EQ(option.code, 0) << option.err;
  EXPECT_THAT(option.out, HasSubstr("0 takes the likeliest token"));
  const Outcome typo = RunEngine({"inspect", "kv_cach"});
  EXPECT_EQ(typo.code, 2);
  EXPECT_THAT(typo.err, HasSubstr("did you mean \"kv_cache\"?"));
}

TEST_F(CliTest, ABrokenPluginIsSkippedWithItsReason) {
  Write("broken.so", "this is not a shared library");
  const ProcessOptions options{.env = {{"ENGINE_PLUGIN_PATH", Path("")}}};
  const Outcome why = RunEngine({"plugin", "list", "--why"}, options);
  EXPECT_EQ(why.code, 0) << why.err;
  EXPECT_THAT(why.out, AllOf(HasSubstr("engine.text"), HasSubstr("broken.so"), HasSubstr("because"),
                             HasSubstr("searched:")));
  const Outcome list = RunEngine({"plugin", "list"}, options);
  EXPECT_EQ(list.code, 0) << list.err;
  EXPECT_THAT(list.out, AllOf(HasSubstr("1 file was refused"), Not(HasSubstr("because"))));
  EXPECT_EQ(RunEngine({"check", "pipelines/generate.pbtxt"}, options).code, 0);
  // Who misses a kind hears of what was refused.
  const std::string file = Write("missing.pbtxt", "node { name: \"a\"  nonesuch { } }\n");
  const Outcome missing = RunEngine({"check", file}, options);
  EXPECT_EQ(missing.code, 2);
  EXPECT_THAT(missing.err, AllOf(HasSubstr("nonesuch"), HasSubstr("broken.so")));
}

// --- Wrong input

TEST_F(CliTest, WrongWordsEndWithTwo) {
  EXPECT_EQ(RunEngine({}).code, 2);
  const Outcome command = RunEngine({"rum"});
  EXPECT_EQ(command.code, 2);
  EXPECT_THAT(command.err,
              AllOf(HasSubstr("no command \"rum\""), HasSubstr("did you mean \"run\"?")));
  for (const auto& [words, near] : std::vector<std::pair<Words, std::string>>{
           {{"rn"}, "no command \"rn\"; did you mean \"run\"?"},
           {{"data", "chek"}, "no command \"data chek\"; did you mean \"check\"?"},
           {{"data", "chek", "x.jsonl", "--json"}, "did you mean \"check\"?"},
           {{"plugin", "lst"}, "no command \"plugin lst\"; did you mean \"list\"?"},
           {{"plugin", "lst", "--why"}, "did you mean \"list\"?"}}) {
    const Outcome mistyped = RunEngine(words);
    EXPECT_EQ(mistyped.code, 2);
    EXPECT_THAT(mistyped.err, HasSubstr(near));
    EXPECT_THAT(mistyped.err, Not(HasSubstr("required")));
  }
  EXPECT_EQ(RunEngine({"data", "--help"}).code, 0);
  const Outcome option = RunEngine({"run", "pipelines/generate.pbtxt", "--stat"});
  EXPECT_EQ(option.code, 2);
  EXPECT_THAT(option.err, HasSubstr("--stat"));
  EXPECT_EQ(RunEngine({"run"}).code, 2);
  EXPECT_EQ(RunEngine({"run", "--help"}).code, 0);
  EXPECT_EQ(RunEngine({"--version"}).code, 0);
  EXPECT_EQ(RunEngine({"plugin"}).code, 2);
  EXPECT_EQ(RunEngine({"bench", "pipelines/generate.pbtxt", "--repeats", "0"}).code, 2);
}

TEST_F(CliTest, AMissingFileIsNamed) {
  const Outcome run = RunEngine({"run", "no_such.pbtxt"});
  EXPECT_EQ(run.code, 2);
  EXPECT_THAT(run.err, AllOf(HasSubstr("no_such.pbtxt:1:1: error"), HasSubstr("does not exist")));
  EXPECT_EQ(RunEngine({"run", "pipelines"}).code, 2);
}

TEST_F(CliTest, AllErrorsAreToldAtOnceEachWithACaret) {
  std::string text = ReadAll(ENGINE_SOURCE_DIR "/pipelines/generate.pbtxt");
  const auto replace = [&](const std::string& from, const std::string& to) {
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
  };
  replace("kv_cache { }", "kv_cache { budgte: \"1MiB\" }");
  replace("in: \"logits\"", "in: \"logist\"");
  const std::string file = Write("wrong.pbtxt", text);
  const Outcome check = RunEngine({"check", file});
  EXPECT_EQ(check.code, 2);
  EXPECT_EQ(check.out, "");
  EXPECT_THAT(check.err, AllOf(HasSubstr("did you mean \"budget\"?"), HasSubstr("\"budgte\""),
                               HasSubstr(":29:"), HasSubstr("^~~"), HasSubstr("errors\n")));
  EXPECT_THAT(check.err, AllOf(HasSubstr("logist"), HasSubstr("did you mean \"logits\"?")));
}

TEST_F(CliTest, MistypedSetsAreToldTogether) {
  const Outcome run = RunEngine(Generate("Hi", {"max_token=4", "mode.x=1", "show.forma=JSONL",
                                                "threads=-1", "chat=maybe", "novalue"}));
  EXPECT_EQ(run.code, 2);
  EXPECT_EQ(run.out, "");
  for (const char* part : {"did you mean \"max_tokens\"?", "did you mean \"model\"?",
                           "did you mean \"format\"?", "must be 0 to 1024, and this is -1",
                           "which takes true or false", "novalue", "6 errors", "   |      ^~~~~"}) {
    EXPECT_THAT(run.err, HasSubstr(part));
  }
}

TEST_F(CliTest, AModelThatIsNotThereIsSuggested) {
  const Outcome run = RunEngine(Generate("Hi", {"model=smollm2-135m-instuct"}));
  EXPECT_EQ(run.code, 1);
  EXPECT_THAT(run.err, AllOf(HasSubstr("no model or path 'smollm2-135m-instuct'"),
                             HasSubstr("did you mean \"smollm2-135m-instruct\"?")));
}

// --- Generating

TEST_F(CliTest, TextStreamsAndClosesWithItsFigures) {
  const Outcome run =
      RunEngine(Generate("The capital of France is", {"chat=false", "max_tokens=8"}));
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(run.out.back(), '\n');
  EXPECT_THAT(run.out, HasSubstr("Paris"));
  EXPECT_THAT(
      run.err,
      testing::MatchesRegex(
          "\\[5 prompt tokens, 8 generated \\(length\\), first after [0-9]+\\.[0-9]+ s, then "
          "[0-9]+\\.[0-9] tokens/s, peak memory [0-9]+ MiB\\]\n"));

  Process slow(EngineWords(Generate("Count to a thousand", {"max_tokens=200", "limits.drain_ms=0",
                                                            "loop.ignore_eos=true"})),
               EngineOptions());
  ASSERT_TRUE(slow.Until([&] { return slow.out().size() > 2; }));
  EXPECT_THAT(slow.err(), Not(HasSubstr("generated"))) << "text came only at the end";
}

TEST_F(CliTest, JsonLinesHoldExactlyWhatIsDocumented) {
  const json j = Object("Hi", {"max_tokens=4", "base.load.weights=DECODED"});
  std::vector<std::string> keys;
  for (const auto& item : j.items()) keys.push_back(item.key());
  EXPECT_THAT(keys, testing::UnorderedElementsAre("text", "ids", "prompt_ids", "margins", "finish",
                                                  "ttft_s", "tokens_per_s", "peak_bytes",
                                                  "queued_s", "usage"));
  EXPECT_EQ(j["ids"].size(), 4u);
  EXPECT_EQ(j["margins"].size(), 4u);
  EXPECT_GT(j["prompt_ids"].size(), 10u) << "the chat format is around the prompt";
  EXPECT_EQ(j["finish"], "length");
  EXPECT_FALSE(j["text"].get<std::string>().empty());
  EXPECT_GT(j["ttft_s"], 0.0);
  EXPECT_LT(j["ttft_s"], 60.0);
  EXPECT_GT(j["tokens_per_s"], 0.1);
  for (const json& margin : j["margins"]) EXPECT_GE(margin, 0.0);
  // Weights in F32 are 538 MB; what comes on top, LibTorch included, has a bound.
  EXPECT_GT(j["peak_bytes"], uint64_t{538'000'000});
  EXPECT_LT(j["peak_bytes"], uint64_t{538'000'000 + 300'000'000});
}

TEST_F(CliTest, GreedyIsTheSameEverywhere) {
  const json first = Object("Why is the sky blue?", {"max_tokens=12", "threads=2"});
  const json again = Object("Why is the sky blue?", {"max_tokens=12", "threads=2"});
  const json one = Object("Why is the sky blue?", {"max_tokens=12", "threads=1"});
  const json plain =
      Object("Why is the sky blue?", {"max_tokens=12"}, "pipelines/generate-plain.pbtxt");
  const json chunks =
      Object("Why is the sky blue?", {"max_tokens=12", "loop.serial_batcher.prefill_chunk=5"});
  EXPECT_EQ(first["margins"], again["margins"]);
  for (const json* other : {&again, &one, &plain, &chunks}) {
    EXPECT_EQ(first["ids"], (*other)["ids"]);
    EXPECT_EQ(first["text"], (*other)["text"]);
  }
}

TEST_F(CliTest, DrawsRepeatWithTheirSeed) {
  const auto draw = [](const std::string& seed) {
    return Object("Tell me a story", {"max_tokens=24", "temperature=1.2", "seed=" + seed});
  };
  const json three = draw("3");
  EXPECT_EQ(three["ids"], draw("3")["ids"]);
  EXPECT_NE(three["ids"], draw("4")["ids"]);
}

TEST_F(CliTest, ChatPutsTheModelsFormatAround) {
  const json chat = Object("Hi", {"max_tokens=2", "chat=true"});
  const json bare = Object("Hi", {"max_tokens=2", "chat=false"});
  EXPECT_EQ(bare["prompt_ids"].size(), 1u);
  EXPECT_GT(chat["prompt_ids"].size(), 10u);
}

TEST_F(CliTest, BrainFloatTakesHalfTheMemory) {
  const std::string exact = "base.load.weights=DECODED";
  const json full = Object("The capital of France is", {"chat=false", "max_tokens=6", exact});
  const json half =
      Object("The capital of France is", {"chat=false", "max_tokens=6", "dtype=BF16", exact});
  EXPECT_THAT(half["text"].get<std::string>(), HasSubstr("Paris"));
  EXPECT_LT(half["peak_bytes"].get<uint64_t>() + 150'000'000, full["peak_bytes"].get<uint64_t>());
}

TEST_F(CliTest, StandardInputGivesPrompts) {
  ProcessOptions one;
  one.input = "The capital\nof France is";
  const Outcome whole =
      RunEngine(Generate("-", {"chat=false", "max_tokens=3", "format=JSONL"}), one);
  ASSERT_EQ(whole.code, 0) << whole.err;
  ASSERT_EQ(Lines(whole.out).size(), 1u) << "- is one prompt, whatever lines it has";
  EXPECT_EQ(json::parse(whole.out)["prompt_ids"],
            Object("The capital\nof France is", {"chat=false", "max_tokens=1"})["prompt_ids"]);

  ProcessOptions lines;
  lines.input = "One\n\nTwo\r\nThree four five";
  const Outcome several =
      RunEngine(Generate("", {"chat=false", "max_tokens=3", "format=JSONL"}), lines);
  ASSERT_EQ(several.code, 0) << several.err;
  const std::vector<std::string> objects = Lines(several.out);
  ASSERT_EQ(objects.size(), 3u) << several.out;
  const char* prompts[] = {"One", "Two", "Three four five"};
  for (size_t i = 0; i < 3; ++i) {
    const json j = json::parse(objects[i]);
    EXPECT_EQ(j["ids"].size(), 3u);
    EXPECT_EQ(j["prompt_ids"], Object(prompts[i], {"chat=false", "max_tokens=1"})["prompt_ids"])
        << prompts[i];
  }
  EXPECT_EQ(RunEngine(Generate("", {"format=JSONL"})).out, "") << "no line, no answer";
}

TEST_F(CliTest, APromptBeyondTheContextIsRefusedWithBothNumbers) {
  std::string longer;
  for (int i = 0; i < 100; ++i) longer += "word ";
  const Outcome run =
      RunEngine(Generate(longer, {"chat=false", "base.context=64", "max_tokens=4"}));
  EXPECT_EQ(run.code, 1);
  EXPECT_THAT(run.err, testing::ContainsRegex("the prompt has 1[0-9][0-9] tokens"));
  EXPECT_THAT(run.err, HasSubstr("holds 64"));
  // The others go on, each told by its own object.
  ProcessOptions lines;
  lines.input = "Hi\n" + longer + "\nHo\n";
  const Outcome beside = RunEngine(
      Generate("", {"chat=false", "base.context=64", "max_tokens=2", "format=JSONL"}), lines);
  EXPECT_EQ(beside.code, 1);
  const std::vector<std::string> objects = Lines(beside.out);
  ASSERT_EQ(objects.size(), 3u) << beside.out << beside.err;
  int errors = 0;
  for (const std::string& line : objects) {
    const json j = json::parse(line);
    if (j["finish"] != "error") {
      EXPECT_EQ(j["ids"].size(), 2u);
      continue;
    }
    ++errors;
    EXPECT_THAT(j["error"].get<std::string>(), HasSubstr("holds 64"));
  }
  EXPECT_EQ(errors, 1);
  // A text that reaches the context ends there.
  const json full = Object("Once upon a time", {"chat=false", "base.context=32", "max_tokens=100",
                                                "loop.ignore_eos=true"});
  EXPECT_EQ(full["finish"], "length");
  EXPECT_EQ(full["ids"].size() + full["prompt_ids"].size(), 32u);
}

TEST_F(CliTest, AnEmptyPromptIsRefusedWithoutAFormatAround) {
  const Outcome bare = RunEngine({"run", "pipelines/generate.pbtxt", "", "--set", "chat=false"});
  EXPECT_EQ(bare.code, 1);
  EXPECT_THAT(bare.err, HasSubstr("the prompt is empty"));
  const Outcome chat = RunEngine({"run", "pipelines/generate.pbtxt", "", "--set", "max_tokens=1"});
  EXPECT_EQ(chat.code, 0) << chat.err;
}

TEST_F(CliTest, ATooSmallBudgetIsNamed) {
  const Outcome none = RunEngine(Generate("Hi", {"kv_budget=1KiB"}));
  EXPECT_EQ(none.code, 1);
  EXPECT_THAT(none.err,
              AllOf(HasSubstr("budget of 1024 bytes holds no page"), HasSubstr("'model'")));
  const Outcome few = RunEngine(Generate("Hi", {"kv_budget=2MiB", "loop.ignore_eos=true"}));
  EXPECT_EQ(few.code, 1);
  EXPECT_THAT(few.err, HasSubstr("budget 2097152 bytes"));
}

// --- Figures of a run

TEST_F(CliTest, TraceStatsAndReportNameAllNodes) {
  const Outcome run = RunEngine(
      Generate("Hi", {"max_tokens=3"},
               {"--stats", "--trace", Path("trace.json"), "--report", Path("report.json")}));
  ASSERT_EQ(run.code, 0) << run.err;
  const json trace = json::parse(ReadAll(Path("trace.json")));
  const json report = json::parse(ReadAll(Path("report.json")));
  std::set<std::string> traced;
  for (const json& event : trace["traceEvents"]) {
    if (event["ph"] == "X") traced.insert(event["name"].get<std::string>());
  }
  for (const char* name : {"ask", "encode", "loop", "forward", "sample", "decode", "show"}) {
    EXPECT_EQ(traced.count(name), 1u) << name;
    EXPECT_THAT(run.err, HasSubstr(std::string("\n") + name + " ")) << name;
    ASSERT_TRUE(report["nodes"].contains(name)) << name;
    EXPECT_GT(report["nodes"][name]["calls"], 0) << name;
    EXPECT_EQ(report["nodes"][name]["failed"], 0) << name;
  }
  EXPECT_EQ(report["nodes"]["forward"]["calls"], 3);
  EXPECT_GT(report["run_s"], 0.0);
  EXPECT_GT(report["peak_bytes"], 0);
  const Outcome nowhere =
      RunEngine(Generate("Hi", {"max_tokens=1"}, {"--report", Path("no/such/report.json")}));
  EXPECT_EQ(nowhere.code, 1);
  EXPECT_THAT(nowhere.err, HasSubstr("cannot be written"));
}

}  // namespace
}  // namespace engine::tests
