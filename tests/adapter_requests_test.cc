// Requests that choose one of several adapters by name, through whole pipelines: of a file, each
// for itself, and prompts, all with one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/adapter_chains.h"
#include "tests/process.h"

namespace engine::tests {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class AdapterRequests : public AdapterChains {
 protected:
  AdapterRequests() {
    const Status trained =
        Train(Both(Named("rank: 4", "tone"), Named("rank: 2 dora: true", "law")), "saved");
    EXPECT_TRUE(trained.ok()) << trained.message();
  }
  std::string Adapter(const std::string& name) const {
    return "adapter: \"" + Path("saved/" + name) + "\"";
  }
  // Answers to requests, over a model made by `chain`, which ends in "second".
  std::vector<json> Run(const std::string& chain, const std::vector<json>& requests, bool serial,
                        Status* status = nullptr, int at_once = 64,
                        const std::string& options = "") {
    const std::string in = Path("in");
    std::ofstream file(in);
    for (const json& r : requests) file << r.dump() << "\n";
    file.close();
    return Answers(chain,
                   "jsonl_source { path: \"" + in + "\" " + options +
                       " }  out: \"TEXT:text\"  out: \"BAD:bad\"",
                   "in: \"BAD:bad\"", serial, status, at_once);
  }
  // The same to prompts of a file, with whatever options of the node.
  std::vector<json> Ask(const std::string& chain, const std::vector<std::string>& prompts,
                        const std::string& options, bool looks, bool serial,
                        Status* status = nullptr) {
    std::ofstream file(Path("prompts"));
    for (const std::string& prompt : prompts) file << prompt << "\n";
    file.close();
    return Answers(chain,
                   "prompt { file: \"" + Path("prompts") + "\" " + options + " }  out: \"text\"" +
                       (looks ? "  use: \"model\"" : ""),
                   "", serial, status, 64);
  }
  // Of a pipeline that begins with the node `ask`; `more` are further inputs of the last one.
  std::vector<json> Answers(const std::string& chain, const std::string& ask,
                            const std::string& more, bool serial, Status* status, int at_once) {
    const std::string out = Path("out" + std::to_string(++runs_));
    const Status ran = RunPipeline(
        "limits { max_in_flight: " + std::to_string(at_once) + " }\n" + chain +
        On("model", "second", "kv_cache { budget: \"8MiB\" }") + "node { name: \"ask\"  " + ask +
        " }\n"
        "node { name: \"encode\"  tokenize { chat: false }  use: \"model\"  in: \"text\"  "
        "out: \"tokens\" }\n"
        "node { name: \"batch\"  batcher { ignore_eos: true max_tokens: 12 }" +
        (serial ? "  bypass: true" : "") +
        "  use: \"model\"  in: \"NEW:tokens\"  in: \"RUNNING:sampled\"  feedback: \"RUNNING\"  "
        "out: \"STEP:step\"  out: \"TOKEN:token\"  queue { port: \"RUNNING\"  size: 64 } }\n"
        "node { name: \"forward\"  forward { }  use: \"model\"  in: \"step\"  out: \"logits\" }\n"
        "node { name: \"sample\"  sample { }  use: \"model\"  in: \"logits\"  out: \"sampled\" }\n"
        "node { name: \"decode\"  detokenize { }  use: \"model\"  in: \"token\"  out: \"event\" }\n"
        "node { name: \"write\"  jsonl_sink { path: \"" +
        out + "\"  figures: true  progress: false }  in: \"EVENT:event\"  " + more + " }\n");
    if (status != nullptr) {
      *status = ran;
    } else {
      EXPECT_TRUE(ran.ok()) << ran.message();
    }
    std::vector<json> answers;
    for (const std::string& line : Lines(ReadFile(out))) answers.push_back(json::parse(line));
    return answers;
  }
  static json Request(const std::string& prompt, const std::string& adapter,
                      const std::string& session = "") {
    json r = {{"prompt", prompt}, {"max_tokens", 12}};
    if (!adapter.empty()) r["adapter"] = adapter;
    if (!session.empty()) r["session"] = session;
    return r;
  }

 private:
  int runs_ = 0;
};

TEST_F(AdapterRequests, ChooseByNameInOneBatch) {
  const std::string all = Both(Named(Adapter("tone"), "tone"), Named(Adapter("law"), "law"));
  // Long enough for shared pages, each prompt under all three, twice.
  std::vector<json> requests;
  std::vector<std::pair<std::string, std::string>> asked;
  for (int turn = 0; turn < 2; ++turn) {
    for (const std::string prompt : {"The quick brown fox jumps over the lazy dog again",
                                     "The quick brown fox jumps over the fence and away"}) {
      for (const std::string& name : kNames) {
        requests.push_back(Request(prompt, name));
        asked.emplace_back(prompt, name);
      }
    }
  }
  // Alone: models that have that adapter for all, or none.
  std::map<std::pair<std::string, std::string>, json> want;
  for (const std::string& name : kNames) {
    const std::string one =
        name.empty() ? "lora { targets: \"q_proj\" }" : "lora { " + Adapter(name) + " }";
    const std::string chain = Base(Path("toy")) + On("second", "base", one);
    for (const auto& [prompt, adapter] : std::set(asked.begin(), asked.end())) {
      if (adapter != name) continue;
      const auto answers = Run(chain, {Request(prompt, "")}, true);
      ASSERT_EQ(answers.size(), 1u);
      want[{prompt, name}] = answers[0]["ids"];
    }
  }
  std::set<std::string> different;
  for (const auto& [key, ids] : want) different.insert(ids.dump());
  EXPECT_GE(different.size(), 3u) << "the adapters change nothing that could be seen";
  for (const bool serial : {false, true}) {
    SCOPED_TRACE(serial ? "serial" : "batched");
    const std::vector<json> answers = Run(all, requests, serial);
    ASSERT_EQ(answers.size(), requests.size());
    uint64_t cached = 0;
    for (size_t i = 0; i < answers.size(); ++i) {
      EXPECT_EQ(answers[i]["ids"], want[asked[i]]) << asked[i].first << ": " << asked[i].second;
      cached += answers[i]["usage"]["cached_tokens"].get<uint64_t>();
    }
    if (!serial) {
      EXPECT_GT(cached, 0u) << "nothing was shared at all";
    }
  }
}

TEST_F(AdapterRequests, AnUnknownNameIsAnsweredAndTheOthersServed) {
  const std::string all = Both(Named(Adapter("tone"), "tone"), Named(Adapter("law"), "law"));
  for (const bool serial : {false, true}) {
    Status status;
    const std::vector<json> answers =
        Run(all, {Request("a", "tone"), Request("a", "Tone"), Request("a", "1"), Request("a", "")},
            serial, &status);
    EXPECT_FALSE(status.ok());
    ASSERT_EQ(answers.size(), 4u);
    for (size_t i : {1u, 2u}) {
      EXPECT_THAT(answers[i]["error"].get<std::string>(),
                  HasSubstr(i == 1 ? "no adapter named 'Tone'; there are: tone, law"
                                   : "no adapter named '1'; there are: tone, law"));
    }
    for (size_t i : {0u, 3u}) EXPECT_EQ(answers[i]["ids"].size(), 12u) << answers[i];
  }
}

TEST_F(AdapterRequests, SessionsGoOnUnderTheirAdapter) {
  const std::string all = Both(Named(Adapter("tone"), "tone"), Named(Adapter("law"), "law"));
  const std::vector<json> answers =
      Run(all,
          {Request("one two", "tone", "s"), Request("one two", "law", "s"),
           Request(" three", "tone", "s"), Request(" three", "law", "s")},
          false, nullptr, /*at_once=*/1);
  ASSERT_EQ(answers.size(), 4u);
  for (size_t i : {0u, 1u}) {
    std::vector<int32_t> history = answers[i]["prompt_ids"];
    EXPECT_EQ(answers[i]["prompt_ids"], answers[0]["prompt_ids"]) << "a session of its own";
    for (int32_t id : answers[i]["ids"]) history.push_back(id);
    const std::vector<int32_t> next = answers[i + 2]["prompt_ids"];
    ASSERT_GT(next.size(), history.size());
    EXPECT_TRUE(std::equal(history.begin(), history.end(), next.begin()));
    EXPECT_EQ(answers[i + 2]["usage"]["cache"], "hit_session");
  }
}

TEST_F(AdapterRequests, PromptsTakeTheNameThatTheirNodeIsGiven) {
  const std::string all = Both(Named(Adapter("tone"), "tone"), Named(Adapter("law"), "law"));
  const std::vector<std::string> prompts = {"The quick brown fox", "jumps over"};
  std::set<std::string> different;
  for (const bool serial : {false, true}) {
    for (const std::string& name : kNames) {
      SCOPED_TRACE(name + (serial ? ", serial" : ", batched"));
      const auto want = Run(all, {Request(prompts[0], name), Request(prompts[1], name)}, serial);
      const auto got = Ask(all, prompts, name.empty() ? "" : "adapter: \"" + name + "\"",
                           /*looks=*/!serial, serial);
      ASSERT_EQ(got.size(), 2u);
      ASSERT_EQ(want.size(), 2u);
      for (size_t i : {0u, 1u}) {
        EXPECT_EQ(got[i]["ids"], want[i]["ids"]);
        EXPECT_EQ(got[i]["ids"].size(), 12u);
        different.insert(got[i]["ids"].dump());
      }
    }
  }
  EXPECT_GE(different.size(), 5u) << "the adapters change nothing that could be seen";

  // A name that is not there ends the run at once where the node sees the model, else each prompt.
  const std::string known = "the model has no adapter named 'lore'; there are: tone, law";
  Status status;
  EXPECT_TRUE(Ask(all, prompts, "adapter: \"lore\"", true, false, &status).empty());
  EXPECT_EQ(status.code(), ENGINE_NOT_FOUND);
  EXPECT_EQ(status.node(), "ask");
  EXPECT_THAT(std::string(status.message()), HasSubstr(known));
  const auto failed = Ask(all, prompts, "adapter: \"lore\"", false, false, &status);
  ASSERT_EQ(failed.size(), 2u);
  for (const json& answer : failed) {
    EXPECT_THAT(answer["error"].get<std::string>(), HasSubstr(known));
  }
}

TEST_F(AdapterRequests, RequestsThatDoNotSayTakeTheNodes) {
  const std::string all = Both(Named(Adapter("tone"), "tone"), Named(Adapter("law"), "law"));
  const std::string prompt = "The quick brown fox";
  json base = Request(prompt, "");
  base["adapter"] = "";
  const auto want =
      Run(all, {Request(prompt, "law"), Request(prompt, ""), Request(prompt, "tone")}, false);
  const auto got = Run(all, {Request(prompt, ""), base, Request(prompt, "tone")}, false, nullptr,
                       64, "adapter: \"law\"");
  ASSERT_EQ(got.size(), 3u);
  for (size_t i : {0u, 1u, 2u}) EXPECT_EQ(got[i]["ids"], want[i]["ids"]) << i;
  EXPECT_NE(got[0]["ids"], got[1]["ids"]);
}

}  // namespace
}  // namespace engine::tests
