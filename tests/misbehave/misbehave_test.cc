// A node that breaks its contract fails as the contract says, by name, and never takes the engine
// with it.
#include "tests/cli.h"

namespace engine::tests {
namespace {

class Misbehave : public CliTest {
 protected:
  Outcome Run(const std::string& how, Words more = {}) const {
    const std::string file = Write("p.pbtxt", R"(
      limits { drain_ms: 400 }
      node { name: "lines" misbehave_lines { } out: "text" }
      node { name: "odd" misbehave { how: )" + how +
                                                  R"( } in: "text" out: "same" }
      node { name: "show" misbehave_show { } in: "same" }
    )");
    Words words = {"run", file};
    words.insert(words.end(), more.begin(), more.end());
    return RunEngine(words, {.env = {{"ENGINE_PLUGIN_PATH", ENGINE_BINARY_DIR "/tests/misbehave"}},
                             .limit_s = 60});
  }
};

TEST_F(Misbehave, OneThatBehavesPassesEverything) {
  const Outcome run = Run("NOTHING");
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(run.out, "one\ntwo\nthree\n");
}

TEST_F(Misbehave, WhatIsThrownFailsThePacketsByName) {
  const Outcome run = Run("THROW");
  EXPECT_EQ(run.code, 1);
  EXPECT_THAT(run.err, HasSubstr("'odd': an exception that is not a std::exception (plugin "
                                 "test.misbehave)"));
}

TEST_F(Misbehave, ANodeThatNeverComesBackIsNamedAndLeftBehind) {
  const Outcome run = Run("HANG", {"--hang-warning", "0.1", "--hang-limit", "0.6"});
  EXPECT_EQ(run.code, 1);
  EXPECT_FALSE(run.late);
  EXPECT_THAT(run.err,
              testing::ContainsRegex("warning: node 'odd' .misbehave of test.misbehave. has "
                                     "been in one call for [0-9]+ s; it may hang"));
  EXPECT_THAT(run.err, HasSubstr("did not come back when the run was cancelled"));
  EXPECT_THAT(run.err, HasSubstr("(--hang-limit)"));
}

TEST_F(Misbehave, AHangingNodeDoesNotKeepASignalFromEndingTheRun) {
  const std::string file = Write("p.pbtxt", R"(
    limits { drain_ms: 300 }
    node { name: "lines" misbehave_lines { } out: "text" }
    node { name: "odd" misbehave { how: HANG } in: "text" out: "same" }
    node { name: "show" misbehave_show { } in: "same" }
  )");
  Process run(EngineWords({"run", file, "--hang-warning", "0.2"}),
              EngineOptions({.env = {{"ENGINE_PLUGIN_PATH", ENGINE_BINARY_DIR "/tests/misbehave"}},
                             .limit_s = 60}));
  ASSERT_TRUE(run.UntilErr("it may hang"));
  run.Signal(SIGTERM);
  const Outcome end = run.Wait();
  EXPECT_FALSE(end.late);
  EXPECT_NE(end.code, 0);
  EXPECT_THAT(end.err, HasSubstr("node 'odd' (misbehave of test.misbehave)"));
}

TEST_F(Misbehave, AnOutputThatIsNotThereIsRefused) {
  const Outcome run = Run("PORT");
  EXPECT_EQ(run.code, 1);
  EXPECT_THAT(run.err, HasSubstr("'odd': emit: output 77 of 1"));
}

TEST_F(Misbehave, APayloadOfAnotherTypeIsRefused) {
  const Outcome run = Run("TYPE");
  EXPECT_EQ(run.code, 1);
  EXPECT_THAT(run.err,
              HasSubstr("'odd': emit: output TEXT gives engine.Text/1, and the packet is a "
                        "engine.Cancel/1"));
}

TEST_F(Misbehave, InputsThatAreNotThereAreNone) { EXPECT_EQ(Run("COUNT").code, 0); }

TEST_F(Misbehave, ASecondAnswerIsDroppedAndTold) {
  const Outcome run = Run("TWICE");
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("answered a deferred call twice"));
}

TEST_F(Misbehave, AnAnswerAfterTheCancelChangesNothing) {
  const Outcome run = Run("LATE");
  EXPECT_EQ(run.code, 1);
  EXPECT_THAT(run.err, HasSubstr("the run is over"));
  EXPECT_THAT(run.err, Not(HasSubstr("too late")));
}

TEST_F(Misbehave, AFailureWithoutAMessageStillNamesTheNode) {
  const Outcome run = Run("MUTE");
  EXPECT_EQ(run.code, 1);
  EXPECT_THAT(run.err, HasSubstr("'odd': "));
}

#ifdef ENGINE_CHECK_THREADS
TEST_F(Misbehave, ACallThatIsKeptIsFoundInDebugBuilds) {
  const Outcome run = Run("KEEP");
  EXPECT_EQ(run.signal, SIGABRT);
  EXPECT_THAT(run.err, HasSubstr("input_count of node 'odd' was called"));
}
#endif

}  // namespace
}  // namespace engine::tests
