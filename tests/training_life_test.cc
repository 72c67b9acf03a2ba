// Training from outside: what a full disk, kill -9 and an interrupt leave behind, and that a run
// which goes on ends with the bytes of one that never stopped (T-16).
#include <csignal>

#include "tests/cli.h"

namespace engine::tests {
namespace {

class TrainingLife : public CliTest {
 protected:
  // A tiny model from random weights, in a second.
  Words Args(const std::string& out, int steps, Words more = {}) const {
    Words words = {"run", "pipelines/pretrain-tiny.pbtxt", "LICENSE"};
    const std::string number = std::to_string(steps);
    for (const std::string& set :
         {std::string("hidden=32"), std::string("blocks=2"), std::string("heads=2"),
          std::string("kv_heads=1"), std::string("mlp=48"), std::string("sequence=32"),
          std::string("batch=2"), std::string("accumulate=2"), "steps=" + number,
          std::string("save_every=1"), "out=" + Path(out), "metrics=" + Path(out + ".jsonl")}) {
      words.insert(words.end(), {"--set", set});
    }
    for (const std::string& set : more) words.insert(words.end(), {"--set", set});
    return words;
  }
  std::string Weights(const std::string& out) const {
    return ReadAll(Path(out + "/model.safetensors"));
  }
  // What a metrics file says of each step, without what differs from run to run.
  std::vector<json> Metrics(const std::string& out) const {
    std::vector<json> steps;
    for (const std::string& line : Lines(ReadAll(Path(out + ".jsonl")))) {
      json j = json::parse(line);
      j.erase("seconds");
      j.erase("peak_bytes");
      steps.push_back(std::move(j));
    }
    return steps;
  }
  json Latest() const { return json::parse(ReadAll(Path("kept/latest.json"))); }
  std::string Kept() const { return "checkpoints=" + Path("kept"); }
};

TEST_F(TrainingLife, AFullDiskLosesNothingThatWasSaved) {
  // The schedule depends on the number of steps, so both runs have the same.
  const Outcome whole = RunEngine(Args("whole", 6));
  ASSERT_EQ(whole.code, 0) << whole.err;
  Process begun(EngineWords(Args("stopped", 6, {Kept()})), EngineOptions());
  ASSERT_TRUE(begun.UntilErr("estimate")) << begun.err();
  begun.Until([&] { return fs::exists(Path("kept/latest.json")); });
  begun.Signal(SIGKILL);
  EXPECT_EQ(begun.Wait().signal, SIGKILL);
  ASSERT_TRUE(fs::exists(Path("kept/latest.json")));
  const json before = Latest();

  // Files may not grow beyond 8 MB; a state has about 19.
  std::string command = "trap '' XFSZ; ulimit -f 8000; exec";
  for (const std::string& word : EngineWords(Args("full", 6, {Kept()})))
    command += " '" + word + "'";
  const Outcome full = Process({"bash", "-c", command}, EngineOptions()).Wait();
  EXPECT_EQ(full.code, 1) << full.err;
  EXPECT_THAT(full.err, HasSubstr("state.safetensors"));
  EXPECT_EQ(Latest(), before);

  const Outcome on = RunEngine(Args("on", 6, {Kept()}));
  ASSERT_EQ(on.code, 0) << on.err;
  EXPECT_EQ(Weights("on"), Weights("whole"));
  EXPECT_EQ(Latest()["step"], 6);
}

TEST_F(TrainingLife, KilledAtAnyMomentItGoesOnToTheBit) {
  const Outcome whole = RunEngine(Args("whole", 40));
  ASSERT_EQ(whole.code, 0) << whole.err;
  // Each time somewhere else, saving included.
  for (int kill = 0; kill < 4; ++kill) {
    Process run(EngineWords(Args("stopped", 40, {Kept()})), EngineOptions());
    ASSERT_TRUE(run.UntilErr("estimate")) << run.err();
    run.Until([] { return false; }, 0.15 + 0.13 * kill);
    run.Signal(SIGKILL);
    const Outcome ended = run.Wait();
    EXPECT_EQ(ended.signal, SIGKILL) << ended.err;
  }
  const Outcome on = RunEngine(Args("on", 40, {Kept()}));
  ASSERT_EQ(on.code, 0) << on.err;
  EXPECT_EQ(Weights("on"), Weights("whole"));
  // What was half written when it was killed is gone.
  for (const auto& entry : fs::directory_iterator(Path("kept"))) {
    EXPECT_THAT(entry.path().filename().string(),
                testing::AnyOf("latest.json", "checkpoint-40", "checkpoint-39"));
  }
}

TEST_F(TrainingLife, MetricsOfARunThatGoesOnReadAsThoseOfOne) {
  ASSERT_EQ(RunEngine(Args("whole", 60)).code, 0);
  const std::string metrics = "metrics=" + Path("stopped.jsonl");
  const auto args = [&](int steps, const std::string& out) {
    return Args(out, steps, {Kept(), "save_every=3", metrics});
  };
  Process run(EngineWords(args(60, "killed")), EngineOptions());
  ASSERT_TRUE(run.Until([&] { return Lines(ReadAll(Path("stopped.jsonl"))).size() >= 5; }));
  run.Signal(SIGKILL);
  ASSERT_EQ(run.Wait().signal, SIGKILL);
  const int step = Latest()["step"];
  ASSERT_GE(Metrics("stopped").size(), static_cast<size_t>(step));
  // Of steps that will be done again, the last line torn.
  std::ofstream(Path("stopped.jsonl"), std::ios::app)
      << "{\"step\":59,\"loss\":1.0,\"lr\":0.1}\n{\"step\":6";

  const Outcome on = RunEngine(args(60, "on"));
  ASSERT_EQ(on.code, 0) << on.err;
  const std::vector<json> whole = Metrics("whole");
  ASSERT_EQ(whole.size(), 60u);
  EXPECT_EQ(Metrics("stopped"), whole);
  const std::string text = ReadAll(Path("stopped.jsonl"));
  // A run that is done leaves the file alone; one that begins anew writes it anew.
  ASSERT_EQ(RunEngine(args(60, "done")).code, 0);
  EXPECT_EQ(ReadAll(Path("stopped.jsonl")), text);
  fs::remove_all(Path("kept"));
  ASSERT_EQ(RunEngine(args(2, "anew")).code, 0);
  EXPECT_EQ(Metrics("stopped").size(), 2u);
}

TEST_F(TrainingLife, AnInterruptedRunKeepsItsState) {
  Process run(EngineWords(Args("stopped", 100000,
                               {Kept(), "save_every=0", "log.train_log.svg=" + Path("loss.svg")})),
              EngineOptions());
  ASSERT_TRUE(run.UntilErr("estimate")) << run.err();
  run.Until([] { return false; }, 0.7);
  run.Signal(SIGTERM);
  const Outcome ended = run.Wait();
  EXPECT_FALSE(ended.late);
  EXPECT_NE(ended.code, -1) << "it was killed";
  ASSERT_TRUE(fs::exists(Path("kept/latest.json"))) << ended.err;
  const int step = Latest()["step"];
  EXPECT_GT(step, 0);
  EXPECT_EQ(static_cast<int>(Lines(ReadAll(Path("stopped.jsonl"))).size()), step);
  EXPECT_THAT(ReadAll(Path("loss.svg")), HasSubstr("<svg"));
}

TEST_F(TrainingLife, ARunThatIsDoneEndsAtOnce) {
  ASSERT_EQ(RunEngine(Args("a", 2, {Kept()})).code, 0);
  const Outcome again = RunEngine(Args("b", 2, {Kept()}));
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_THAT(again.err, Not(HasSubstr("step ")));
  EXPECT_EQ(Latest()["step"], 2);
}

TEST_F(TrainingLife, AnotherRunsStateIsRefused) {
  ASSERT_EQ(RunEngine(Args("a", 1, {Kept()})).code, 0);
  const Outcome other = RunEngine(Args("b", 2, {Kept(), "mlp=64"}));
  EXPECT_EQ(other.code, 1);
  EXPECT_THAT(other.err, AllOf(HasSubstr("checkpoint-1"), HasSubstr("another")));
  std::ofstream(Path("kept/latest.json")) << "{";
  const Outcome damaged = RunEngine(Args("c", 2, {Kept()}));
  EXPECT_EQ(damaged.code, 1);
  EXPECT_THAT(damaged.err, HasSubstr("latest.json"));
}

}  // namespace
}  // namespace engine::tests
