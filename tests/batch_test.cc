// Many requests in one step, from file to file: whatever shares the step, the pages and the time
// with a request, it is answered as if it were alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "tests/process.h"
#include "tests/support.h"

namespace engine::tests {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::SizeIs;

class BatchTest : public testing::Test {
 protected:
  BatchTest() { WriteToyModel(folder_.Path("toy")); }

  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_.Path(name), std::ios::binary) << text;
    return folder_.Path(name);
  }

  // Requests of all kinds, drawn and greedy, some alike in their beginnings.
  std::string Requests(int count, uint32_t seed, uint32_t most = 40) const {
    std::mt19937 random(seed);
    const auto pick = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
    std::string lines;
    for (int i = 0; i < count; ++i) {
      std::string prompt = pick(2) == 0 ? "The quick brown fox jumps over " : "";
      for (uint32_t k = 1 + pick(60); k-- > 0;) prompt += static_cast<char>('a' + pick(26));
      json j = {
          {"id", "r" + std::to_string(i)}, {"prompt", prompt}, {"max_tokens", 1 + pick(most)}};
      if (pick(2) == 0) {
        j["temperature"] = 0.9;
        j["seed"] = pick(1000);
        j["top_k"] = pick(2) * 20;
      }
      if (pick(3) == 0) j["priority"] = 1 + pick(3);
      if (pick(5) == 0) j["n"] = 2;
      lines += j.dump() + "\n";
    }
    return lines;
  }

  struct Set {
    std::string batcher = {}, cache = "budget: \"64MiB\"", speculate = {};
    bool serial = false, bypass_draft = false, plain = false;
  };
  std::string Text(const std::string& in, const std::string& out, const Set& set) const {
    const std::string off = "  bypass: true";
    return "limits { max_in_flight: 64 }\n"
           "resource { name: \"base\"  load { path: \"" +
           folder_.Path("toy") +
           "\" } }\n"
           "resource { name: \"model\"  from: \"base\"  kv_cache { " +
           set.cache + " }" + (set.plain ? off : "") +
           " }\n"
           "node { name: \"ask\"  jsonl_source { path: \"" +
           in + "\"  answers: \"" + out +
           "\" }  out: \"TEXT:text\"  out: \"BAD:bad\" }\n"
           "node { name: \"encode\"  tokenize { chat: false }  use: \"model\"  in: \"text\"  out: "
           "\"tokens\" }\n"
           "node { name: \"batch\"  batcher { " +
           set.batcher + " }" + (set.serial ? off : "") +
           "  use: \"model\"  in: \"NEW:tokens\"  in: \"RUNNING:sampled\"  feedback: \"RUNNING\"  "
           "out: \"STEP:step\"  out: \"TOKEN:token\"  queue { port: \"RUNNING\"  size: 64 } }\n"
           "node { name: \"draft\"  speculate { " +
           set.speculate + " }" + (set.bypass_draft ? off : "") +
           "  in: \"step\"  out: \"drafted\" }\n"
           "node { name: \"forward\"  forward { }  use: \"model\"  in: \"drafted\"  out: "
           "\"logits\" }\n"
           "node { name: \"sample\"  sample { }  use: \"model\"  in: \"logits\"  out: \"sampled\" "
           "}\n"
           "node { name: \"decode\"  detokenize { }  use: \"model\"  in: \"token\"  out: \"event\" "
           "}\n"
           "node { name: \"write\"  jsonl_sink { path: \"" +
           out + "\"  figures: true  progress: false }  in: \"EVENT:event\"  in: \"BAD:bad\" }\n";
  }

  // Answers in order.
  std::vector<json> Run(const std::string& in, const Set& set, Status* status = nullptr) {
    const std::string out = folder_.Path("out" + std::to_string(++runs_));
    const Status ran = RunPipeline(Text(in, out, set));
    if (status != nullptr) {
      *status = ran;
    } else {
      EXPECT_TRUE(ran.ok()) << ran.message();
    }
    return Parse(out);
  }
  static std::vector<json> Parse(const std::string& path) {
    std::vector<json> answers;
    for (const std::string& line : Lines(ReadFile(path))) {
      answers.push_back(json::parse(line));
      EXPECT_EQ(answers.back()["index"], answers.size() - 1);
    }
    return answers;
  }
  // What of an answer must not depend on how it was served.
  static std::vector<json> Essence(const std::vector<json>& answers) {
    std::vector<json> all;
    for (const json& answer : answers) {
      for (const json& a : answer.contains("answers") ? answer["answers"] : json::array({answer})) {
        all.push_back({answer["id"], a.value("choice", 0), a["ids"], a["margins"], a["finish"],
                       a["text"], a["prompt_ids"]});
      }
    }
    return all;
  }
  static uint64_t Sum(const std::vector<json>& answers, const std::string& field) {
    uint64_t sum = 0;
    for (const json& answer : answers) {
      for (const json& a : answer.contains("answers") ? answer["answers"] : json::array({answer})) {
        sum += a["usage"][field].get<uint64_t>();
      }
    }
    return sum;
  }

  TempFolder folder_;
  int runs_ = 0;
};

TEST_F(BatchTest, NeighboursPagesAndDraftsChangeNothing) {
  const std::string in = Write("in", Requests(30, 1));
  const std::vector<json> serial = Run(in, {.serial = true, .bypass_draft = true});
  ASSERT_THAT(serial, SizeIs(30));
  const std::vector<json> want = Essence(serial);

  const std::vector<json> batched = Run(in, {.batcher = "max_batch: 8"});
  EXPECT_EQ(Essence(batched), want);
  EXPECT_GT(Sum(batched, "cached_tokens"), 0u);

  // Small pieces of prompts, beside the others' tokens.
  EXPECT_EQ(Essence(Run(in, {.batcher = "max_batch: 5  max_step_tokens: 7"})), want);

  // Drafts, whether they pay or not.
  const std::vector<json> drafted =
      Run(in, {.batcher = "max_batch: 8  draft_room: 4", .speculate = "always: true  ngram: 1"});
  EXPECT_EQ(Essence(drafted), want);
  EXPECT_GT(Sum(drafted, "drafted_tokens"), 0u);
  EXPECT_EQ(Essence(Run(in, {.batcher = "max_batch: 8  draft_room: 4", .bypass_draft = true})),
            want);

  // So few pages that sequences lose theirs. A page of the toy model takes 16 KiB.
  const std::vector<json> tight =
      Run(in, {.batcher = "max_batch: 8", .cache = "budget: \"260KiB\""});
  EXPECT_EQ(Essence(tight), want);
  EXPECT_GT(Sum(tight, "preemptions"), 0u);

  // Without keys and values each step takes whole sequences.
  EXPECT_EQ(Essence(Run(in, {.batcher = "max_batch: 8", .plain = true})), want);
}

// A pool that holds little more than the longest request, in each format of keys and values: with
// pieces, drafts, several answers and priorities together nothing gets stuck, and nothing differs
// from what the same format gives where there is room.
TEST_F(BatchTest, AnExhaustedPoolChangesNothing) {
  const std::string in = Write("in", Requests(40, 7, 60));
  // A page takes 16 KiB in F32; a request has at most 152 tokens, which are 10 pages.
  for (const auto& [dtype, budget] :
       {std::pair{"F32", "240KiB"}, std::pair{"F16", "140KiB"}, std::pair{"INT8", "110KiB"}}) {
    const std::string cache = "dtype: " + std::string(dtype) + "  budget: ";
    const std::vector<json> want =
        Essence(Run(in, {.cache = cache + "\"64MiB\"", .serial = true, .bypass_draft = true}));
    const std::vector<json> tight =
        Run(in, {.batcher = "max_batch: 12  max_step_tokens: 40  draft_room: 3",
                 .cache = cache + "\"" + budget + "\"",
                 .speculate = "always: true  ngram: 1"});
    EXPECT_EQ(Essence(tight), want) << dtype;
    EXPECT_GT(Sum(tight, "preemptions"), 0u) << dtype;
    EXPECT_GT(Sum(tight, "drafted_tokens"), 0u) << dtype;
  }
}

TEST_F(BatchTest, DraftsPayOffWhereTextRepeatsItself) {
  std::string lines;
  for (int i = 0; i < 4; ++i) {
    lines +=
        json{{"prompt", "abcabcabcabc" + std::to_string(i)}, {"max_tokens", 120}}.dump() + "\n";
  }
  const std::string in = Write("in", lines);
  const std::vector<json> off = Run(in, {.batcher = "ignore_eos: true"});
  const std::vector<json> on = Run(
      in, {.batcher = "ignore_eos: true  draft_room: 4", .speculate = "always: true  ngram: 2"});
  ASSERT_THAT(on, SizeIs(4));
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(on[i]["ids"], off[i]["ids"]);
  EXPECT_GT(Sum(on, "accepted_tokens"), 0u);  // greedy text of so small a model runs in circles
}

TEST_F(BatchTest, SessionsGoOnAndWaitForThemselves) {
  std::string lines;
  for (const char* text : {"one two three", "four five", "six"}) {
    lines +=
        json{{"prompt", text}, {"session", "s"}, {"max_tokens", 7}, {"id", text}}.dump() + "\n";
  }
  const std::vector<json> answers =
      Run(Write("in", lines), {.batcher = "max_batch: 8  ignore_eos: true"});
  ASSERT_THAT(answers, SizeIs(3));
  for (size_t i = 1; i < 3; ++i) {
    // The prompt begins with all that was said before.
    const std::vector<int32_t> before = answers[i - 1]["prompt_ids"];
    std::vector<int32_t> history = before;
    for (int32_t id : answers[i - 1]["ids"]) history.push_back(id);
    const std::vector<int32_t> prompt = answers[i]["prompt_ids"];
    ASSERT_GT(prompt.size(), history.size());
    EXPECT_TRUE(std::equal(history.begin(), history.end(), prompt.begin()));
    EXPECT_EQ(answers[i]["usage"]["cache"], "hit_session");
  }
}

TEST_F(BatchTest, LinesThatAreNoRequestsAreAnsweredToo) {
  const std::string deep(100000, '[');
  const std::string in = Write("in",
                               "{\"prompt\": \"a\", \"max_tokens\": 2, \"id\": \"good\"}\n"
                               "\n"
                               "{\"prompt\": \"a\", \"max_tokens\": 0}\n"
                               "{\"id\": \"half\", \"prompt\": \"a\", \"max_tokens\": 1.5}\n"
                               "{\"prompt\": 3}\n"
                               "{\"promt\": \"a\"}\n"
                               "{\"prompt\": \"a\", \"prompt\": \"b\"}\n"
                               "{\"prompt\": {\"a\": 1}}\n"
                               "{\"max_tokens\": 3}\n"
                               "{\"prompt\": \"\xff\"}\n"
                               "{\"prompt\": \"a\"\n"
                               "{\"prompt\": \"a\", \"temperature\": -1}\n"
                               "{\"prompt\": \"a\", \"n\": 1000}\n"
                               "{\"prompt\": \"a\", \"adapter\": \"tone\"}\n"
                               "{\"prompt\": \"" +
                                   std::string(400, 'x') +
                                   "\"}\n"
                                   "{\"a\":" +
                                   deep + "\n" + deep +
                                   "\n"
                                   "null\n"
                                   "{\"prompt\": \"end\", \"max_tokens\": 2}");
  Status status;
  const std::vector<json> answers = Run(in, {}, &status);
  EXPECT_FALSE(status.ok());
  ASSERT_THAT(answers, SizeIs(18));
  EXPECT_EQ(answers[0]["id"], "good");
  EXPECT_FALSE(answers[0].contains("error"));
  const std::vector<std::string> errors = {
      "line 3",         "'max_tokens' must be from 1 to 1048576",
      "line 4",         "'max_tokens' is a number with",
      "line 5",         "'prompt' is a number; it must be a text",
      "line 6",         "field 'promt' is unknown",
      "line 7",         "field 'prompt' is given twice",
      "line 8",         "'prompt' is an object",
      "line 9",         "there is no 'prompt'",
      "line 10",        "no JSON, at byte",
      "line 11",        "no JSON, at byte",
      "line 12",        "'temperature'",
      "1000 answers",   "at most 8",
      "named 'tone'",   "no named adapter",
      "has 400 tokens", "holds 256",
      "line 16",        "field 'a' is unknown",
      "line 17",        "a list",
      "line 18",        "a request is a JSON object"};
  for (size_t i = 1; i < 17; ++i) {
    ASSERT_TRUE(answers[i].contains("error")) << answers[i];
    const std::string error = answers[i]["error"];
    EXPECT_THAT(error, AllOf(HasSubstr(errors[2 * i - 2]), HasSubstr(errors[2 * i - 1])));
  }
  EXPECT_EQ(answers[2]["id"], "half");
  EXPECT_FALSE(answers[17].contains("error"));
}

TEST_F(BatchTest, ARequestBeyondTheWholeCacheIsRefusedAndTheRestServed) {
  const std::string in =
      Write("in", json{{"prompt", std::string(150, 'a')}, {"max_tokens", 100}}.dump() + "\n" +
                      json{{"prompt", "b"}, {"max_tokens", 3}}.dump() + "\n");
  Status status;
  const std::vector<json> answers =
      Run(in, {.batcher = "ignore_eos: true", .cache = "budget: \"200KiB\""}, &status);
  ASSERT_THAT(answers, SizeIs(2));
  EXPECT_THAT(answers[0]["error"].get<std::string>(),
              AllOf(HasSubstr("250 tokens"), HasSubstr("16 pages; the whole KV cache has ")));
  EXPECT_THAT(answers[1]["ids"], SizeIs(3));
}

TEST_F(BatchTest, ATimeoutEndsWithWhatIsThere) {
  std::string lines;
  for (int i = 0; i < 20; ++i) {
    lines +=
        json{{"prompt", "a" + std::to_string(i)}, {"max_tokens", 200}, {"timeout_ms", 1}}.dump() +
        "\n";
  }
  const std::vector<json> answers =
      Run(Write("in", lines), {.batcher = "max_batch: 2  ignore_eos: true"});
  ASSERT_THAT(answers, SizeIs(20));
  int late = 0;
  for (const json& a : answers) {
    late += a["finish"] == "timeout";
    EXPECT_LT(a["ids"].size(), 201u);
  }
  EXPECT_GT(late, 15);
}

TEST_F(BatchTest, AnIdleBatcherThatWaitsLosesNothing) {
  const std::string in = Write("in", Requests(6, 5, 6));
  const std::vector<json> want = Essence(Run(in, {}));
  EXPECT_EQ(Essence(Run(in, {.batcher = "max_queue_delay_microseconds: 20000"})), want);
  // The stand-in may be entered by two as well.
  EXPECT_EQ(Essence(Run(in, {.batcher = "max_queue_delay_microseconds: 20000", .serial = true})),
            want);
}

// The shipped file and the binary: ended in the middle, gone on with, the same in the end.
TEST_F(BatchTest, AStoppedBatchGoesOnWhereItWas) {
  const std::string in = Write("in", Requests(60, 9, 100));
  const std::string whole = folder_.Path("whole"), parts = folder_.Path("parts");
  const auto words = [&](const std::string& out) {
    return EngineWords({"run", "pipelines/batch.pbtxt", in, "--set", "out=" + out, "--set",
                        "model=" + folder_.Path("toy"), "--set", "chat=false", "--set", "batch=4",
                        "--set", "write.figures=true", "--set", "kv_budget=8MiB"});
  };
  const Outcome all = Process(words(whole), EngineOptions()).Wait();
  ASSERT_EQ(all.code, 0) << all.err;
  EXPECT_THAT(all.err, HasSubstr("60/60, "));
  const std::vector<json> want = Essence(Parse(whole));
  ASSERT_GE(want.size(), 60u);

  int stops = 0;
  size_t before = 0;
  for (int sign : {SIGKILL, SIGKILL, SIGTERM}) {
    Process process(words(parts), EngineOptions());
    const bool more =
        process.Until([&] { return Lines(ReadFile(parts)).size() >= before + 5; }, 60);
    if (!more) break;
    process.Signal(sign);
    const Outcome outcome = process.Wait();
    if (sign == SIGTERM) {
      EXPECT_EQ(outcome.code, 130) << outcome.err;
    }
    ++stops;
    const std::string text = ReadFile(parts);
    before = Lines(text).size();
    if (sign == SIGTERM) {
      EXPECT_EQ(text.back(), '\n');
    } else {
      // As if it had ended within a line.
      std::ofstream(parts, std::ios::app) << "{\"index\":" << before << ",\"id\":\"r";
    }
  }
  EXPECT_GE(stops, 1);
  const Outcome rest = Process(words(parts), EngineOptions()).Wait();
  ASSERT_EQ(rest.code, 0) << rest.err;
  EXPECT_EQ(Essence(Parse(parts)), want);
  // Once more: nothing is left to do, and nothing is done.
  const std::string done = ReadFile(parts);
  EXPECT_EQ(Process(words(parts), EngineOptions()).Wait().code, 0);
  EXPECT_EQ(ReadFile(parts), done);
}

TEST_F(BatchTest, AFileOfSomebodyElseIsNotTouched) {
  const std::string in = Write("in", Requests(2, 3));
  for (const char* text :
       {"dear diary\n", "{\"index\":5}\n", "{\"other\":1}", "{\"index\":\"0\"}\n"}) {
    const std::string out = Write("diary", text);
    const Status status = RunPipeline(Text(in, out, {}));
    EXPECT_EQ(status.code(), ENGINE_FAILED_PRECONDITION) << text;
    EXPECT_EQ(ReadFile(out), text);
  }
}

}  // namespace
}  // namespace engine::tests
