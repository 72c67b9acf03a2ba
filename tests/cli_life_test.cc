// The command line over time, from outside: how many threads a run has, how it ends when it is told
// to, and what a run of training leaves behind. Each test starts the real binary.
#include <dirent.h>
#include <signal.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <set>
#include <thread>

#include "tests/cli.h"
#include "tests/process.h"

namespace engine::tests {
namespace {

size_t Threads(pid_t pid) {
  size_t count = 0;
  DIR* tasks = opendir(("/proc/" + std::to_string(pid) + "/task").c_str());
  if (tasks == nullptr) return 0;
  while (const dirent* entry = readdir(tasks)) count += entry->d_name[0] != '.';
  closedir(tasks);
  return count;
}

TEST_F(CliTest, ThreadsAreFewAndDoNotGrow) {
  Process run(
      EngineWords(Generate("Tell me a long story", {"threads=2", "max_tokens=400",
                                                    "loop.ignore_eos=true", "limits.drain_ms=0"})),
      EngineOptions());
  ASSERT_TRUE(run.Until([&] { return run.out().size() > 10; }));
  const size_t early = Threads(run.pid());
  ASSERT_TRUE(run.Until([&] { return run.out().size() > 300; }));
  const size_t late = Threads(run.pid());
  // Two that compute: the lane of executor `compute` and a worker of the kernels' pool. Beside them
  // main, which waits; two lanes of `io`, for prompt and sink; a helper of LibTorch's, which
  // sleeps; and oneTBB's workers for `default`, of which there are as many as cores when they are
  // needed.
  const size_t cores = std::max(1u, std::thread::hardware_concurrency());
  EXPECT_GE(late, 2u);
  EXPECT_LE(late, 2 + 4 + cores);
  EXPECT_LE(late, early + 1) << "only oneTBB may have started one more";
  run.Signal(SIGKILL);
  run.Wait();
}

// --- Ends

Words Endless(Words more = {}) {
  Words sets = {"max_tokens=5000", "loop.ignore_eos=true"};
  sets.insert(sets.end(), more.begin(), more.end());
  return EngineWords(Generate("Tell me a long story", sets));
}

TEST_F(CliTest, AnInterruptDrainsForAtMostItsLimit) {
  for (int number : {SIGINT, SIGTERM}) {
    Process run(Endless({"limits.drain_ms=200"}), EngineOptions());
    ASSERT_TRUE(run.Until([&] { return run.out().size() > 10; }));
    const auto begin = std::chrono::steady_clock::now();
    run.Signal(number);
    const Outcome end = run.Wait();
    EXPECT_EQ(end.code, 130) << end.err;
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
    EXPECT_THAT(end.err,
                AllOf(HasSubstr("draining"), HasSubstr("within 200 ms (limits.drain_ms)")));
  }
}

TEST_F(CliTest, ADrainFinishesWhatIsUnderWay) {
  ProcessOptions open;
  open.keep_input = true;
  open.input = "One two three\n";
  Process run(EngineWords(Generate("", {"max_tokens=40", "loop.ignore_eos=true", "format=JSONL"})),
              EngineOptions(open));
  ASSERT_TRUE(run.Until([&] { return Threads(run.pid()) > 4; }));
  run.Until([] { return false; }, 1.0);
  run.Signal(SIGINT);
  const Outcome end = run.Wait();
  EXPECT_EQ(end.code, 130) << end.err;
  ASSERT_EQ(Lines(end.out).size(), 1u) << end.err;
  EXPECT_EQ(json::parse(end.out)["ids"].size(), 40u);
}

TEST_F(CliTest, AnInterruptEndsARunThatWaitsForInput) {
  ProcessOptions open;
  open.keep_input = true;
  open.input = "Hi\n";
  Process run(EngineWords(Generate("", {"max_tokens=2", "format=JSONL"})), EngineOptions(open));
  ASSERT_TRUE(run.UntilOut("peak_bytes"));
  const auto begin = std::chrono::steady_clock::now();
  run.Signal(SIGINT);
  const Outcome end = run.Wait();
  EXPECT_EQ(end.code, 130) << end.err;
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5))
      << "it waited for a line that nobody types";
}

TEST_F(CliTest, ASecondInterruptEndsAtOnce) {
  Process run(Endless(), EngineOptions());
  ASSERT_TRUE(run.Until([&] { return run.out().size() > 10; }));
  run.Signal(SIGINT);
  ASSERT_TRUE(run.UntilErr("draining"));
  const auto begin = std::chrono::steady_clock::now();
  run.Signal(SIGINT);
  EXPECT_EQ(run.Wait().code, 130);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));
}

TEST_F(CliTest, AReaderThatGoesAwayEndsTheRun) {
  Process run(Endless(), EngineOptions());
  ASSERT_TRUE(run.Until([&] { return run.out().size() > 10; }));
  run.CloseOutput();
  const Outcome end = run.Wait();
  EXPECT_EQ(end.code, 1) << end.err;
  EXPECT_EQ(end.signal, 0);
  EXPECT_FALSE(end.late);
  EXPECT_THAT(end.err, HasSubstr("the reader is gone"));
}

TEST_F(CliTest, OutputThatCannotBeWrittenFails) {
  for (const char* command : {"run pipelines/generate.pbtxt Hi --set max_tokens=1",
                              "explain pipelines/generate.pbtxt", "inspect", "schema"}) {
    const Words words = {"bash", "-c",
                         std::string(ENGINE_BINARY_DIR "/bin/engine ") + command + " >/dev/full"};
    const Outcome run = Process(words, EngineOptions()).Wait();
    EXPECT_EQ(run.code, 1) << command;
    EXPECT_THAT(run.err, HasSubstr("cannot be written")) << command;
  }
}

// --- Training

TEST_F(CliTest, TrainedAdaptersRun) {
  const Outcome train =
      RunEngine({"run", "pipelines/finetune-qlora.pbtxt", "LICENSE", "--set", "steps=3", "--set",
                 "batch=1", "--set", "sequence=32", "--set", "out=" + Path("adapter"), "--set",
                 "rank=4", "--set", "alpha=8"});
  ASSERT_EQ(train.code, 0) << train.err;
  for (const char* step : {"step 1 of 3: loss ", "step 2 of 3: loss ", "step 3 of 3: loss "}) {
    EXPECT_THAT(train.err, HasSubstr(step));
  }
  EXPECT_THAT(train.err, Not(HasSubstr("step 4 of")));
  const json config = json::parse(ReadAll(Path("adapter/adapter_config.json")));
  EXPECT_EQ(config["peft_type"], "LORA");
  EXPECT_EQ(config["task_type"], "CAUSAL_LM");
  EXPECT_EQ(config["r"], 4);
  EXPECT_EQ(config["lora_alpha"], 8.0);
  EXPECT_FALSE(config["target_modules"].empty());
  // A safetensors file: the size of its header, the header, values.
  const std::string tensors = ReadAll(Path("adapter/adapter_model.safetensors"));
  ASSERT_GT(tensors.size(), 1000u);
  uint64_t size = 0;
  std::memcpy(&size, tensors.data(), 8);
  ASSERT_LT(size, tensors.size());
  const json header = json::parse(tensors.substr(8, size));
  EXPECT_TRUE(header.contains("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"))
      << header.begin().key();

  const json tuned = Object("Hello", {"adapter=" + Path("adapter"), "max_tokens=4"},
                            "pipelines/generate-lora.pbtxt");
  EXPECT_EQ(tuned["ids"].size(), 4u);

  const Outcome lines =
      RunEngine({"run", "pipelines/finetune-qlora.pbtxt", "LICENSE", "--set", "steps=2", "--set",
                 "sequence=16", "--set", "batch=1", "--set", "metrics=" + Path("metrics.jsonl")});
  ASSERT_EQ(lines.code, 0) << lines.err;
  const std::vector<std::string> metrics = Lines(ReadAll(Path("metrics.jsonl")));
  ASSERT_EQ(metrics.size(), 2u);
  const json second = json::parse(metrics[1]);
  EXPECT_EQ(second["step"], 2);
  EXPECT_EQ(second["tokens"], 15);
  EXPECT_GT(second["loss"], 0.0);
  EXPECT_GT(second["grad_norm"], 0.0);
}

TEST_F(CliTest, AdaptersAreServedTogether) {
  for (const std::string name : {"tone", "law"}) {
    const Outcome train = RunEngine(
        {"run", "pipelines/finetune-lora.pbtxt", "--set", "steps=2", "--set", "batch=1", "--set",
         name == "law" ? "rank=4" : "rank=8", "--set", "lr=2e-2", "--set", "out=" + Path(name)});
    ASSERT_EQ(train.code, 0) << train.err;
  }
  // Answers to some requests; `set` is one more.
  const auto answers = [&](const std::string& requests, const std::string& set, int code) {
    fs::remove(Path("answers"));
    const Outcome run =
        RunEngine({"run", "pipelines/serve-adapters.pbtxt", Write("asked", requests), "--set",
                   "out=" + Path("answers"), "--set", "tone=" + Path("tone"), "--set",
                   "law=" + Path("law"), "--set", "max_tokens=8", "--set", set});
    EXPECT_EQ(run.code, code) << run.err;
    std::vector<json> all;
    for (const std::string& line : Lines(ReadAll(Path("answers")))) {
      all.push_back(json::parse(line));
    }
    return all;
  };
  const auto request = [](const std::string& adapter) {
    json j = {{"prompt", "What is the capital of Scotland?"}};
    if (!adapter.empty()) j["adapter"] = adapter;
    return j.dump() + "\n";
  };
  const std::vector<json> all =
      answers(request("law") + request("") + request("nobody") + request("tone") + request("law"),
              "batch=5", 1);
  ASSERT_EQ(all.size(), 5u);
  EXPECT_THAT(all[2]["error"].get<std::string>(), HasSubstr("there are: tone, law"));
  EXPECT_EQ(all[4]["text"], all[0]["text"]);
  EXPECT_NE(all[0]["text"], all[1]["text"]);
  EXPECT_NE(all[3]["text"], all[1]["text"]);
  EXPECT_NE(all[3]["text"], all[0]["text"]);
  // Each as if there were no other.
  const std::vector<std::pair<std::string, std::string>> without = {
      {"law", "tone"}, {"", "law"}, {"tone", "law"}};
  for (const auto& [name, other] : without) {
    const std::vector<json> alone = answers(request(name), other + ".bypass=true", 0);
    ASSERT_EQ(alone.size(), 1u);
    EXPECT_EQ(alone[0]["text"], all[name == "law" ? 0 : name.empty() ? 1 : 3]["text"]) << name;
  }
}

TEST_F(CliTest, TuningIsSeenInWhatWasHeldOut) {
  const auto loss = [&](const std::string& set) {
    const Outcome run = RunEngine(
        {"run", "pipelines/evaluate.pbtxt", "--set", set, "--set", "out=" + Path("loss.json")});
    EXPECT_EQ(run.code, 0) << run.err;
    const json figures = json::parse(ReadAll(Path("loss.json")));
    EXPECT_EQ(figures["tokens"], 325);  // of 20 answers and the tokens that end them
    return figures["loss"].get<double>();
  };
  const Outcome train =
      RunEngine({"run", "pipelines/finetune-lora.pbtxt", "--set", "steps=8", "--set", "batch=2",
                 "--set", "lr=3e-3", "--set", "out=" + Path("tuned")});
  ASSERT_EQ(train.code, 0) << train.err;
  EXPECT_LT(loss("adapter=" + Path("tuned")), 0.5 * loss("plain=true"));
  const json answer =
      Object("What is the capital of Scotland?", {"adapter=" + Path("tuned"), "max_tokens=6"},
             "pipelines/generate-lora.pbtxt");
  EXPECT_THAT(answer["text"].get<std::string>(), testing::StartsWith("Short: "));
}

TEST_F(CliTest, TrainingThatCannotBeIsRefused) {
  const Outcome bare = RunEngine({"run", "pipelines/finetune-qlora.pbtxt", "LICENSE", "--set",
                                  "tuned.bypass=true", "--set", "sequence=32"});
  EXPECT_EQ(bare.code, 1);
  EXPECT_THAT(bare.err, HasSubstr("the model has nothing to train; put an adapter such as lora"));
  const Outcome missing = RunEngine({"run", "pipelines/finetune-qlora.pbtxt", "no_such.txt"});
  EXPECT_EQ(missing.code, 2);
  EXPECT_THAT(missing.err, AllOf(HasSubstr("command line:1:1: error"), HasSubstr("no_such.txt")));
  const Outcome packed = RunEngine({"run", "pipelines/finetune-qlora.pbtxt", "--set", "pack=ALL"});
  EXPECT_EQ(packed.code, 2);
  EXPECT_THAT(packed.err, AllOf(HasSubstr("ALL"), HasSubstr("FILL")));
  const std::string good = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
  const Outcome broken =
      RunEngine({"run", "pipelines/finetune-qlora.pbtxt",
                 Write("broken.jsonl", good + "{\"prompt\": \"a\"\n"), "--set", "batch=2"});
  EXPECT_EQ(broken.code, 1);
  EXPECT_THAT(broken.err, HasSubstr("broken.jsonl:2: "));
  const Outcome empty =
      RunEngine({"run", "pipelines/finetune-qlora.pbtxt", Write("empty.jsonl", "")});
  EXPECT_EQ(empty.code, 1);
  EXPECT_THAT(empty.err, HasSubstr("empty.jsonl"));
}

}  // namespace
}  // namespace engine::tests
