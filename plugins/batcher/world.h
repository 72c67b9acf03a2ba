// A world for the scheduler's tests: a fake model over a fake pool, a clock that only the test
// moves, and a record of all that was answered.
#ifndef PLUGINS_BATCHER_WORLD_H_
#define PLUGINS_BATCHER_WORLD_H_

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fake_pool.h"
#include "scheduler.h"

namespace engine::batcher {

inline constexpr int32_t kStop = 0;

// The token that follows, by all tokens before it, the stream of draws and the adapter.
inline int32_t NextToken(const std::vector<int32_t>& tokens, uint64_t stream, bool draws,
                         uint32_t adapter) {
  uint64_t h = draws ? 0x9e3779b97f4a7c15u * (stream + 1) : 7;
  h += 0x100000001b3u * adapter;
  for (int32_t t : tokens) h = (h ^ static_cast<uint32_t>(t)) * 0x100000001b3u, h ^= h >> 29;
  return static_cast<int32_t>(h % 61);
}

struct Prompt {
  std::vector<int32_t> ids, continued;
  engine_request request = Sized<engine_request>();
  engine_sampling sampling = Sized<engine_sampling>();
  std::string key, session, salt, adapter;
  std::vector<int32_t> stop_ids;
  uint32_t logprobs = 0, flags = 0;  // of sampling, and of the request
};

// The log-probability that the fake model gives a token at a place.
inline float FakeLogprob(int32_t id, uint32_t position) {
  return -0.25f * static_cast<float>(id) - 0.001f * static_cast<float>(position);
}

struct Answered {
  std::vector<int32_t> ids;
  std::vector<float> logprobs;           // of ids, where they were told
  std::shared_ptr<PromptScores> scores;  // as they came with the first
  engine_finish finish = ENGINE_FINISH_NONE;
  int ends = 0;
  engine_code code = ENGINE_OK;
  std::string error;
  engine_usage usage = Sized<engine_usage>();
  uint64_t retry_after_us = 0;
  uint32_t choices = 0;
  int order = -1;       // place among all ends
  bool indexes = true;  // tokens came in order
};

// Limits that a few requests reach.
inline Limits Small() {
  Limits limits;
  limits.max_batch = 4;
  limits.max_step_tokens = 16;
  limits.max_queue = 1000;
  return limits;
}

class World : public Listener {
 public:
  explicit World(const Limits& limits, uint32_t pages = 1000, uint32_t page_tokens = 4)
      : pool(pages, page_tokens), scheduler(limits, this) {
    view.identity = this;
    view.pool = pool.table();
    view.context = 200;
    view.stops = [](const void*, int32_t id) { return id == kStop; };
    view.adapter = [](const void*, engine_str name, uint32_t* number) {
      *number = Adapter(View(name));
      return *number != 0 ? Status() : Error(ENGINE_NOT_FOUND, "there are: tone, law");
    };
    scheduler.Use(view);
  }

  static uint32_t Adapter(std::string_view name) {
    return name == "tone" ? 1 : name == "law" ? 2 : 0;
  }

  // Sends a prompt; its strings and ids live as long as the request needs them.
  void Send(uint64_t group, Prompt prompt) {
    auto kept = std::make_shared<Prompt>(std::move(prompt));
    kept->request.struct_size = sizeof(engine_request);
    kept->request.key = Str(kept->key);
    kept->request.session = Str(kept->session);
    kept->request.salt = Str(kept->salt);
    kept->request.adapter = Str(kept->adapter);
    kept->sampling.stop_ids = kept->stop_ids.data();
    kept->sampling.stop_count = static_cast<uint32_t>(kept->stop_ids.size());
    kept->sampling.logprobs = kept->logprobs;
    kept->request.flags = kept->flags;
    if (kept->sampling.temperature > 0 || !kept->stop_ids.empty() || kept->logprobs != 0) {
      kept->request.sampling = &kept->sampling;
    }
    Ask ask;
    ask.group = group;
    ask.arrived_ns = now;
    ask.ids = kept->ids.data();
    ask.count = kept->ids.size();
    ask.continued_ids = kept->continued.data();
    ask.continued_count = kept->continued.size();
    ask.request = &kept->request;
    ask.keep = kept;
    prompts[group] = *kept;
    scheduler.Use(view);
    scheduler.Add(std::move(ask), now);
  }
  void Send(uint64_t group, size_t length, uint32_t max_tokens, uint32_t priority = 0,
            std::string key = "") {
    Prompt p;
    for (size_t i = 0; i < length; ++i) p.ids.push_back(static_cast<int32_t>(1 + (group + i) % 60));
    p.request.max_tokens = max_tokens;
    p.request.priority = priority;
    p.key = std::move(key);
    Send(group, std::move(p));
  }

  // One step, planned and run; false when none was planned.
  bool Step() {
    scheduler.Use(view);
    parts = {};
    last = scheduler.Plan(now, &parts, &wait_ns);
    if (last != Scheduler::Next::kStep) return false;
    now += 1'000'000;
    Run();
    return true;
  }
  void RunAll(int most = 100000) {
    while (most-- > 0) {
      if (Step()) continue;
      if (last == Scheduler::Next::kIdle) return;
      now += wait_ns;
    }
    FAIL() << "it does not come to an end";
  }

  // Forward and sample of the planned step.
  void Run() {
    std::vector<uint64_t> requests;
    std::vector<int32_t> ids, inputs;
    std::vector<uint32_t> positions;
    std::vector<float> logprobs, top_logprobs;
    std::vector<int32_t> top_ids;
    std::vector<std::vector<int32_t>> drafts;
    bool poisoned = false;
    for (engine_step_sequence& s : parts.sequences) {
      EXPECT_GE(s.token_count, 1u);
      poisoned |= poison.count(s.request & 0xffffffffffff) != 0;
      largest_batch = std::max(largest_batch, parts.sequences.size());
      if (s.room == 0 || !draft) continue;
      // Drafts, as `speculate` appends them: some right, some wrong.
      std::vector<int32_t> tokens(s.tokens, s.tokens + s.token_count);
      std::vector<int32_t> all = view.pool != nullptr ? pool.Read(s, s.start) : tokens;
      if (view.pool != nullptr) all.insert(all.end(), tokens.begin(), tokens.end());
      const uint32_t count = Pick(s.room + 1);
      for (uint32_t i = 0; i < count; ++i) {
        const bool right = Pick(3) != 0;
        tokens.push_back(right ? NextToken(all, s.request, s.sampling != nullptr, s.adapter)
                               : static_cast<int32_t>(Pick(61)));
        all.push_back(tokens.back());
      }
      s.logits_count += count;
      s.token_count += count;
      drafts.push_back(std::move(tokens));
      s.tokens = drafts.back().data();
    }
    uint32_t rows_fed = 0;
    for (const engine_step_sequence& s : parts.sequences) {
      rows_fed += s.token_count;
      std::vector<int32_t> all;
      if (view.pool != nullptr) {
        pool.Write(s);
        all = pool.Read(s, s.start + s.token_count);
      } else {
        EXPECT_EQ(s.start, 0u);
        all.assign(s.tokens, s.tokens + s.token_count);
      }
      for (uint32_t i = 0; i < s.start; ++i) EXPECT_EQ(s.history[i], all[i]);
      for (uint32_t k = s.logits_count; k-- > 0;) {
        const std::vector<int32_t> before(all.begin(), all.end() - k);
        requests.push_back(s.request);
        const int32_t known = s.known != nullptr ? s.known[s.logits_count - 1 - k] : -1;
        const bool draws = s.sampling != nullptr && s.sampling->temperature > 0;
        ids.push_back(known >= 0 ? known : NextToken(before, s.request, draws, s.adapter));
        positions.push_back(static_cast<uint32_t>(before.size()));
        logprobs.push_back(FakeLogprob(ids.back(), positions.back()));
        top_ids.push_back(ids.back() + 1);
        top_logprobs.push_back(FakeLogprob(top_ids.back(), positions.back()));
        inputs.push_back(before.back());
      }
    }
    most_rows = std::max(most_rows, rows_fed);
    fed += rows_fed;
    if (poisoned) {
      scheduler.Failed(Error(ENGINE_DATA_LOSS, "the logits hold a NaN"), now);
      return;
    }
    engine_sampled sampled = {};
    sampled.struct_size = sizeof sampled;
    sampled.rows = static_cast<uint32_t>(ids.size());
    sampled.requests = requests.data();
    sampled.ids = ids.data();
    sampled.positions = positions.data();
    sampled.inputs = inputs.data();
    sampled.logprobs = logprobs.data();
    sampled.top_ids = top_ids.data();
    sampled.top_logprobs = top_logprobs.data();
    sampled.top_count = 1;
    scheduler.Finished(sampled, now);
  }

  void Give(const Given& g) override {
    Answered& a = answers[{g.ask->group, g.choice}];
    EXPECT_EQ(a.ends, 0) << "something came after the end of " << g.ask->group;
    if (g.id >= 0) {
      a.indexes &= g.index == a.ids.size();
      if (g.index == 0) a.scores = g.scores;
      a.ids.push_back(g.id);
      if (g.sampled != nullptr) a.logprobs.push_back(g.sampled->logprobs[g.row]);
    }
    if (g.finish == ENGINE_FINISH_NONE) return;
    a.finish = g.finish;
    ++a.ends;
    a.order = ends_seen++;
    a.code = g.code;
    a.error = std::string(g.error);
    a.usage = *g.usage;
    a.retry_after_us = g.retry_after_us;
    a.choices = g.choices;
  }
  const Answered& At(uint64_t group, uint32_t choice = 0) { return answers[{group, choice}]; }

  // What the prompt would be answered alone.
  std::vector<int32_t> Alone(std::vector<int32_t> tokens, uint32_t most, uint64_t stream = 0,
                             bool draws = false, std::string_view adapter = "") const {
    std::vector<int32_t> ids;
    while (ids.size() < most && tokens.size() < view.context) {
      ids.push_back(NextToken(tokens, stream, draws, Adapter(adapter)));
      tokens.push_back(ids.back());
      if (ids.back() == kStop) break;
    }
    return ids;
  }

  uint32_t Pick(uint32_t n) { return static_cast<uint32_t>(random() % n); }

  uint64_t now = 1'000'000'000;
  uint64_t wait_ns = 0;
  FakePool pool;
  ModelView view;
  Scheduler scheduler;
  StepParts parts;
  Scheduler::Next last = Scheduler::Next::kIdle;
  std::map<std::pair<uint64_t, uint32_t>, Answered> answers;
  std::map<uint64_t, Prompt> prompts;
  std::set<uint64_t> poison;
  bool draft = false;
  std::mt19937 random{5};
  size_t largest_batch = 0;
  uint32_t most_rows = 0;
  uint64_t fed = 0;  // rows of all steps
  int ends_seen = 0;
};

}  // namespace engine::batcher

#endif  // PLUGINS_BATCHER_WORLD_H_
