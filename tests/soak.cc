// soak [SECONDS [SEED]]: the batcher's scheduler over the real KV pool and the small model, for as
// long as it is told: requests come in waves, of all priorities, keys, salts and lengths, some with
// several answers, some in sessions, some too large, some late, some cancelled. Watched all the
// time: every answer ends exactly once and in time, known prompts are answered as they were alone,
// pages are conserved, the budget is held, and memory does not grow.
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "engine/model/host_services.h"
#include "engine/util.hpp"
#include "plugins/batcher/scheduler.h"
#include "tests/serving.h"
#include "tests/support.h"

namespace engine::tests {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
// An answer that takes longer is stuck: the model makes thousands of tokens in a second.
constexpr uint64_t kStuckNs = 60 * kSecond;
// What memory may grow after the first quarter of the time.
constexpr int64_t kMarginKiB = 8 << 10;
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kWatchMemory = false;  // freed memory stays in quarantine
#else
constexpr bool kWatchMemory = true;
#endif

int64_t ResidentKiB() {
  std::ifstream in("/proc/self/status");
  std::string word;
  while (in >> word) {
    if (word == "VmRSS:") {
      int64_t kib = 0;
      in >> kib;
      return kib;
    }
  }
  return 0;
}

// A request as it was sent; lives as long as the scheduler needs it.
struct Sent {
  std::vector<int32_t> ids;
  engine_request request = Sized<engine_request>();
  engine_sampling sampling = Sized<engine_sampling>();
  std::string key, session, salt;
};

class Soak : public batcher::Listener {
 public:
  Soak(model::Model* model, uint32_t seed)
      : model_(model), serving_(model), random_(seed), scheduler_(Limits(), this) {
    view_.identity = model;
    view_.pool = serving_.pool();
    view_.context = static_cast<uint64_t>(model->context());
    view_.stops = [](const void*, int32_t id) { return id == 0; };
    scheduler_.Use(view_);
    for (int i = 0; i < 16; ++i) known_.push_back(Answer(Prompt(1 + Pick(150))));
  }

  int Run(uint64_t seconds) {
    const uint64_t begin = NowNs(), end = begin + seconds * kSecond;
    uint64_t next_check = begin + 2 * kSecond, next_drain = begin + 5 * kSecond;
    while (NowNs() < end && wrong_ == 0) {
      Wave();
      Turn();
      if (NowNs() >= next_drain) {
        Crowd();
        Drain();
        next_drain = NowNs() + 5 * kSecond;
      }
      if (NowNs() >= next_check) {
        Check(NowNs() - begin > seconds * kSecond / 4);
        next_check = NowNs() + 2 * kSecond;
      }
    }
    if (wrong_ == 0) Drain();
    scheduler_.Close();
    Report(static_cast<double>(NowNs() - begin) / 1e9);
    // A soak in which nothing of a kind happened shows nothing about it.
    const batcher::Counts& c = scheduler_.counts();
    Expect(c.preemptions != 0, "no sequence ever lost its pages");
    Expect(c.cancelled != 0 && c.timeouts != 0, "nobody was cancelled, or nobody was late");
    Expect(c.refused != 0, "nothing was refused");
    Expect(c.cached_tokens != 0 && hits_[ENGINE_KV_HIT_SESSION] != 0, "no prefix, or no session");
    Expect(compared_ != 0, "no known answer came");
    Expect(c.accepted_tokens != 0 && c.accepted_tokens != c.drafted_tokens, "drafts");
    return wrong_ == 0 ? 0 : 1;
  }

 private:
  static batcher::Limits Limits() {
    batcher::Limits limits;
    limits.max_batch = 24;
    limits.max_step_tokens = 160;
    limits.max_queue = 60;
    limits.max_tokens = 20;
    limits.raise_after_ns = kSecond / 5;
    limits.draft_room = 3;
    return limits;
  }

  uint32_t Pick(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
  void Expect(bool good, const std::string& what) {
    if (good) return;
    ++wrong_;
    fprintf(stderr, "soak: %s\n", what.c_str());
  }

  std::vector<int32_t> Prompt(uint32_t length) {
    std::vector<int32_t> ids(length);
    // Some begin alike.
    const bool alike = Pick(2) == 0;
    for (size_t i = 0; i < ids.size(); ++i) {
      ids[i] = alike && i < 40 ? static_cast<int32_t>(1 + i)
                               : static_cast<int32_t>(1 + Pick(SmallModel::kVocab - 1));
    }
    return ids;
  }

  // ---- requests ------------------------------------------------------------------------------

  struct Known {
    std::vector<int32_t> prompt, answer;
  };
  static constexpr uint32_t kKnownTokens = 30;

  // What the prompt is answered alone: greedy, up to the end token.
  Known Answer(std::vector<int32_t> prompt) {
    Known known{prompt, {}};
    const Greedy alone = Generate(model_, std::move(prompt), kKnownTokens);
    for (int32_t id : alone.ids) {
      known.answer.push_back(id);
      if (id == 0) break;
    }
    return known;
  }

  struct Outstanding {
    uint64_t since = 0;
    uint32_t choices = 1;
    const Known* known = nullptr;
    std::map<uint32_t, std::vector<int32_t>> ids;  // by choice
  };

  void Send() {
    auto sent = std::make_shared<Sent>();
    Outstanding o;
    engine_request& r = sent->request;
    r.struct_size = sizeof r;
    r.max_tokens = 1 + Pick(40);
    if (Pick(3) == 0) {
      o.known = &known_[Pick(static_cast<uint32_t>(known_.size()))];
      sent->ids = o.known->prompt;
      r.max_tokens = kKnownTokens;
    } else {
      sent->ids = Prompt(1 + Pick(Pick(10) == 0 ? 300 : 100));
      if (Pick(4) == 0) {
        sent->session = "session " + std::to_string(Pick(25));
      } else if (Pick(5) == 0) {
        r.n = 2 + Pick(3);
      }
      if (Pick(2) == 0) {
        sent->sampling = Sized<engine_sampling>();
        sent->sampling.top_k = 40;
        sent->sampling.temperature = 0.8;
        sent->sampling.top_p = 1;
        sent->sampling.seed = Pick(1000);
        r.sampling = &sent->sampling;
      }
      if (Pick(8) == 0) r.timeout_us = 1 + Pick(60000);
      if (Pick(50) == 0) r.max_tokens = 100000;
      if (Pick(200) == 0) sent->ids.resize(2000, 1);
      if (Pick(200) == 0) r.n = 100;
    }
    if (Pick(4) == 0) sent->salt = "salt";
    if (Pick(100) == 0) scheduler_.Cancel(groups_ + 1, NowNs());  // sooner than its prompt
    Submit(std::move(sent), std::move(o));
  }

  // As many as may run, let in by what their prompts hold, grow beyond the pages that there are:
  // however fast the machine is, some lose theirs.
  void Crowd() {
    for (uint32_t i = 0; i < Limits().max_batch; ++i) {
      auto sent = std::make_shared<Sent>();
      sent->ids = Prompt(96);
      sent->request.struct_size = sizeof(engine_request);
      sent->request.max_tokens = 80;
      Submit(std::move(sent), {});
    }
  }

  void Submit(std::shared_ptr<Sent> sent, Outstanding o) {
    engine_request& r = sent->request;
    sent->key = "key " + std::to_string(Pick(5));
    r.priority = Pick(4);
    r.key = Str(sent->key);
    r.session = Str(sent->session);
    r.salt = Str(sent->salt);
    batcher::Ask ask;
    ask.group = ++groups_;
    ask.arrived_ns = o.since = NowNs();
    ask.ids = sent->ids.data();
    ask.count = sent->ids.size();
    ask.request = &r;
    ask.keep = std::move(sent);
    outstanding_[ask.group] = std::move(o);
    scheduler_.Add(std::move(ask), NowNs());
  }

  // Half a second of too much, of a little, of nothing.
  void Wave() {
    const uint64_t phase = NowNs() / (kSecond / 2) % 3;
    if (phase == 0) {
      for (uint32_t i = Pick(3); i > 0; --i) Send();
    } else if (phase == 1 && Pick(10) == 0) {
      Send();
    }
    if (groups_ != 0 && Pick(30) == 0) {
      // Of one that runs, waits or is long gone.
      const uint64_t back = Pick(40);
      scheduler_.Cancel(groups_ - std::min(groups_ - 1, back), NowNs());
    }
  }

  void Give(const batcher::Given& g) override {
    const auto at = outstanding_.find(g.ask->group);
    if (at == outstanding_.end()) return Expect(false, "an answer came after its end");
    Outstanding& o = at->second;
    std::vector<int32_t>& ids = o.ids[g.choice];
    if (g.id >= 0) {
      Expect(g.index == ids.size(), "tokens came in another order");
      ids.push_back(g.id);
    }
    if (g.finish == ENGINE_FINISH_NONE) return;
    ++ended_[g.finish];
    if (g.usage != nullptr) ++hits_[g.usage->cache_reason];
    const bool whole = g.finish == ENGINE_FINISH_STOP || g.finish == ENGINE_FINISH_LENGTH;
    if (o.known != nullptr) {
      const std::vector<int32_t>& want = o.known->answer;
      const bool begins =
          ids.size() <= want.size() && std::equal(ids.begin(), ids.end(), want.begin());
      Expect(begins && (!whole || ids.size() == want.size()), "another answer than alone");
      compared_ += whole;
    }
    if (g.finish == ENGINE_FINISH_ERROR) {
      // A full queue, a request too large, too many answers: nothing else may fail.
      Expect(g.code == ENGINE_RESOURCE_EXHAUSTED || g.code == ENGINE_OUT_OF_RANGE ||
                 g.code == ENGINE_INVALID_ARGUMENT,
             "failed: " + std::string(g.error));
    }
    o.choices = g.choices;
    if (++ends_[g.ask->group] < g.choices) return;
    ends_.erase(g.ask->group);
    outstanding_.erase(at);
  }

  // ---- steps ---------------------------------------------------------------------------------

  void Turn() {
    scheduler_.Use(view_);
    batcher::StepParts parts;
    uint64_t wait_ns = 0;
    switch (scheduler_.Plan(NowNs(), &parts, &wait_ns)) {
      case batcher::Scheduler::Next::kStep:
        return Step(&parts);
      case batcher::Scheduler::Next::kWait:
      case batcher::Scheduler::Next::kIdle:
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  }

  void Step(batcher::StepParts* parts) {
    std::vector<std::vector<int32_t>> drafted;
    drafted.reserve(parts->sequences.size());
    std::vector<uint64_t> requests;
    std::vector<uint32_t> positions;
    std::vector<int32_t> inputs;
    std::vector<const engine_sampling*> sampling;
    for (engine_step_sequence& s : parts->sequences) {
      if (s.room != 0 && Pick(2) == 0) {
        // Known answers are drafted right, but for the last; others by their last token.
        auto& tokens = drafted.emplace_back(s.tokens, s.tokens + s.token_count);
        Draft(s, &tokens);
        const auto more = static_cast<uint32_t>(tokens.size()) - s.token_count;
        s.tokens = tokens.data();
        s.token_count += more;
        s.logits_count += more;
      }
      for (uint32_t k = s.logits_count; k-- > 0;) {
        const uint32_t at = s.token_count - 1 - k;
        requests.push_back(s.request);
        positions.push_back(s.start + at + 1);
        inputs.push_back(s.tokens[at]);
        sampling.push_back(s.sampling);
      }
    }
    const auto vocab = static_cast<size_t>(serving_.vocab());
    logits_.resize(std::max(logits_.size(), requests.size() * vocab));
    const engine_step step = {sizeof(engine_step), static_cast<uint32_t>(parts->sequences.size()),
                              parts->sequences.data()};
    Status status = model_->Step(step, logits_.data());
    std::vector<int32_t> ids(requests.size());
    std::vector<float> margins(requests.size());
    if (status.ok() && !requests.empty()) {
      engine_logits rows = Sized<engine_logits>();
      rows.rows = static_cast<uint32_t>(requests.size());
      rows.vocab = vocab;
      rows.data = logits_.data();
      rows.requests = requests.data();
      rows.positions = positions.data();
      rows.sampling = sampling.data();
      rows.inputs = inputs.data();
      engine_sampling greedy = Sized<engine_sampling>();
      greedy.top_p = 1;
      status =
          Status(model::ModelHost()->sample(nullptr, &rows, &greedy, ids.data(), margins.data()));
    }
    Expect(status.ok(), std::string(status.message()));
    if (!status.ok()) return scheduler_.Failed(status, NowNs());
    engine_sampled sampled = {};
    sampled.struct_size = sizeof sampled;
    sampled.rows = static_cast<uint32_t>(ids.size());
    sampled.requests = requests.data();
    sampled.ids = ids.data();
    sampled.margins = margins.data();
    sampled.positions = positions.data();
    sampled.inputs = inputs.data();
    scheduler_.Finished(sampled, NowNs());
    ++steps_;
  }

  void Draft(const engine_step_sequence& s, std::vector<int32_t>* tokens) {
    const auto at = outstanding_.find(s.request & 0xffffffffffff);
    const Known* known = at != outstanding_.end() ? at->second.known : nullptr;
    const size_t next = known == nullptr
                            ? 0
                            : s.start + s.token_count -
                                  std::min<size_t>(known->prompt.size(), s.start + s.token_count);
    for (uint32_t i = 0; i < s.room; ++i) {
      const bool right = known != nullptr && next + i < known->answer.size() && Pick(6) != 0;
      tokens->push_back(right ? known->answer[next + i]
                              : static_cast<int32_t>(Pick(SmallModel::kVocab)));
    }
  }

  // ---- watching ------------------------------------------------------------------------------

  // Nothing new comes until all that came has ended: nobody holds a page then, and all pages
  // together can be had by one.
  void Drain() {
    const uint64_t begin = NowNs();
    while (!outstanding_.empty() && NowNs() - begin < kStuckNs) Turn();
    Expect(outstanding_.empty(), std::to_string(outstanding_.size()) + " requests never ended");
    // A session may still get its last token.
    while (scheduler_.running() != 0 && NowNs() - begin < kStuckNs) Turn();
    const engine_kv_stats stats = serving_.Stats();
    Expect(stats.sequences == 0 && stats.pages_used == 0,
           std::to_string(stats.sequences) + " sequences hold " + std::to_string(stats.pages_used) +
               " pages when nobody runs");
    Expect(scheduler_.waiting() == 0 && scheduler_.running() == 0, "the scheduler is not empty");
    if (++drains_ % 3 != 0) return;
    Serving::Sequence all = serving_.Open({1}, {.share = false});
    const Status status = serving_.Reserve(
        &all, static_cast<uint32_t>(stats.pages_total) * serving_.pool()->page_tokens);
    Expect(status.ok(), "pages were lost: " + std::string(status.message()));
    Expect(serving_.Stats().pages_used == stats.pages_total, "pages are used that nobody holds");
    serving_.Close(&all);
  }

  void Check(bool warm) {
    const engine_kv_stats stats = serving_.Stats();
    Expect(stats.held_bytes <= stats.budget_bytes, "the budget was exceeded");
    Expect(stats.pages_used + stats.pages_cached <= stats.pages_total, "more pages than there are");
    for (const auto& [group, o] : outstanding_) {
      Expect(NowNs() - o.since < kStuckNs, "request " + std::to_string(group) + " is stuck");
    }
    const int64_t now = ResidentKiB();
    if (!warm) {
      base_kib_ = std::max(base_kib_, now);
    } else {
      most_kib_ = std::max(most_kib_, now);
      Expect(
          !kWatchMemory || now <= base_kib_ + kMarginKiB,
          "memory grew from " + std::to_string(base_kib_) + " to " + std::to_string(now) + " KiB");
    }
  }

  void Report(double seconds) {
    const batcher::Counts& c = scheduler_.counts();
    const engine_kv_stats s = serving_.Stats();
    printf(
        "soak: %.0f s, %llu requests, %llu steps, %llu tokens; stop %llu, length %llu, error %llu, "
        "timeout %llu, cancelled %llu\n"
        "soak: %llu preemptions, %llu cached tokens, drafts %llu of %llu, %llu known answers "
        "compared\n"
        "soak: pages %llu, evicted %llu, copied %llu; held %llu of %llu bytes; memory %lld, then "
        "at most %lld KiB\n",
        seconds, static_cast<unsigned long long>(groups_), static_cast<unsigned long long>(steps_),
        static_cast<unsigned long long>(c.generated_tokens + c.prompt_tokens),
        static_cast<unsigned long long>(ended_[ENGINE_FINISH_STOP]),
        static_cast<unsigned long long>(ended_[ENGINE_FINISH_LENGTH]),
        static_cast<unsigned long long>(ended_[ENGINE_FINISH_ERROR]),
        static_cast<unsigned long long>(ended_[ENGINE_FINISH_TIMEOUT]),
        static_cast<unsigned long long>(ended_[ENGINE_FINISH_CANCELLED]),
        static_cast<unsigned long long>(c.preemptions),
        static_cast<unsigned long long>(c.cached_tokens),
        static_cast<unsigned long long>(c.accepted_tokens),
        static_cast<unsigned long long>(c.drafted_tokens),
        static_cast<unsigned long long>(compared_), static_cast<unsigned long long>(s.pages_total),
        static_cast<unsigned long long>(s.evicted_pages),
        static_cast<unsigned long long>(s.copied_pages),
        static_cast<unsigned long long>(s.held_bytes),
        static_cast<unsigned long long>(s.budget_bytes), static_cast<long long>(base_kib_),
        static_cast<long long>(most_kib_));
  }

  model::Model* const model_;
  Serving serving_;
  std::mt19937 random_;
  batcher::Scheduler scheduler_;
  batcher::ModelView view_;
  std::vector<Known> known_;
  std::map<uint64_t, Outstanding> outstanding_;  // by group
  std::map<uint64_t, uint32_t> ends_;            // of groups that have more answers
  std::vector<float> logits_;
  uint64_t groups_ = 0, steps_ = 0, compared_ = 0, drains_ = 0;
  std::map<uint32_t, uint64_t> ended_, hits_;
  int64_t base_kib_ = 0, most_kib_ = 0;
  int wrong_ = 0;
};

int Main(int argc, char** argv) {
  const uint64_t seconds = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1200;
  const auto seed = static_cast<uint32_t>(argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1);
  const std::string path =
      (std::filesystem::temp_directory_path() / ("soak_" + std::to_string(getpid()) + ".gguf"))
          .string();
  WriteSmallModel(path, Stored::kQ8_0);
  int code = 1;
  {
    // Sessions go after seconds, and the pages do not suffice for all that run.
    Chain chain(ChainText(path, FormatNamed("Q8_0"),
                          "dtype: F16 budget: \"1500KiB\" session_timeout: 3 "
                          "session_budget: \"300KiB\""));
    std::filesystem::remove(path);
    if (!chain.status().ok()) {
      fprintf(stderr, "soak: %s\n", std::string(chain.status().message()).c_str());
      return 1;
    }
    code = Soak(&chain.At("kv"), seed).Run(seconds);
  }
  return code;
}

}  // namespace
}  // namespace engine::tests

int main(int argc, char** argv) { return engine::tests::Main(argc, argv); }
