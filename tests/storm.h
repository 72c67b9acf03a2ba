// Serves sequences in disorder, with every disturbance that there is, and compares each row of
// their logits, bit by bit, with each sequence alone in one step of another load of the same file.
// What differs becomes a failure of the test; every disturbance counts itself.
#ifndef ENGINE_TESTS_STORM_H_
#define ENGINE_TESTS_STORM_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/kernels/pool.h"
#include "engine/util.hpp"
#include "tests/serving.h"
#include "tests/support.h"

namespace engine::tests {

// What a storm is made of.
struct Weather {
  size_t prompts = 12;
  uint32_t shortest = 1, longest = 300, answers = 24;  // tokens
  uint32_t compared = UINT32_MAX;                      // rows before a prompt's end, and after
  std::vector<size_t> widths = {1, 2, 5, 24, 80};      // sequences that run at once
  uint32_t calm = 12;                                  // steps to a disturbance of each kind
  uint32_t seed = 1;
};

// How often what could disturb a sequence happened.
struct Seen {
  uint64_t rows = 0, cached = 0, preempted = 0, restored = 0, forked = 0;
  uint64_t accepted = 0, rejected = 0, pieces = 0, pairs = 0;
  size_t widest = 0;
  uint64_t threads[3] = {};
};

constexpr std::pair<uint64_t Seen::*, const char*> kEvents[] = {
    {&Seen::cached, "found in the prefix cache"}, {&Seen::preempted, "preempted"},
    {&Seen::restored, "restored from a file"},    {&Seen::forked, "forked"},
    {&Seen::accepted, "drafts accepted"},         {&Seen::rejected, "drafts rejected"},
    {&Seen::pieces, "prompts in pieces"},         {&Seen::pairs, "steps of two"}};

struct Case {
  std::vector<int32_t> tokens;  // of prompt and answer
  uint32_t prompt = 0;
  uint32_t first = 0;  // rows from here on are compared
  std::vector<float> truth;
  Serving::How how;
};

inline std::vector<Case> Cases(const Weather& w, int64_t vocab, std::mt19937* random) {
  const auto pick = [&](uint32_t n) { return static_cast<uint32_t>((*random)() % n); };
  const auto token = [&] { return static_cast<int32_t>(pick(static_cast<uint32_t>(vocab))); };
  std::vector<int32_t> common(w.longest);
  for (int32_t& t : common) t = token();
  std::vector<Case> cases(w.prompts);
  for (size_t i = 0; i < cases.size(); ++i) {
    Case& c = cases[i];
    c.prompt = w.shortest + pick(w.longest - w.shortest + 1);
    // The first ones are the shortest and the longest that there are.
    if (i < 2) c.prompt = i == 0 ? w.shortest : w.longest;
    c.tokens.resize(c.prompt + 1 + pick(w.answers));
    for (int32_t& t : c.tokens) t = token();
    // Many begin alike, as far as one of them goes.
    if (pick(3) != 0) std::copy_n(common.begin(), pick(c.prompt + 1), c.tokens.begin());
    c.first = c.prompt > w.compared ? c.prompt - w.compared : 0;
    c.how.share = pick(4) != 0;
    if (pick(4) == 0) c.how.salt = "salt";
    if (pick(3) == 0) c.how.session = "session " + std::to_string(i);
  }
  return cases;
}

// Serves all cases, in disorder; what differs ends up as failures of the test.
class Storm {
 public:
  Storm(Serving* serving, std::vector<Case>* cases, const Weather& weather, std::string path)
      : serving_(serving),
        cases_(cases),
        weather_(weather),
        path_(std::move(path)),
        random_(weather.seed) {}

  Seen Run() {
    for (Case& c : *cases_) waiting_.push_back({&c, {}, "", false});
    for (int steps = 0; !waiting_.empty() || !active_.empty(); ++steps) {
      if (steps > 100000 || failures_ > 3) {
        ADD_FAILURE() << "given up after " << steps << " steps";
        break;
      }
      if (steps % 8 == 0) width_ = weather_.widths[Pick(weather_.widths.size())];
      if (steps == 0) width_ = weather_.widths.back();  // while all are there
      while (active_.size() < width_ && !waiting_.empty() && Join()) {
      }
      for (size_t i = 0; i <= active_.size() / 8; ++i) Disturb();
      Step();
    }
    kernels::SetPoolThreads(2);
    return seen_;
  }

 private:
  struct Active {
    Case* of;
    Serving::Sequence s;
    std::string story;  // what happened to it, for whoever reads a failure
    bool again;         // a fork: it ends where it likes
  };

  uint32_t Pick(size_t n) { return static_cast<uint32_t>(random_() % n); }

  // A full pool may refuse; nothing else may be wrong.
  static bool Had(const Status& status) {
    EXPECT_TRUE(status.ok() || status.code() == ENGINE_RESOURCE_EXHAUSTED) << status.message();
    return status.ok();
  }

  // False when the pool is full.
  bool Join() {
    const size_t at = Pick(waiting_.size());
    Active a = std::move(waiting_[at]);
    waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(at));
    a.s.tokens = a.of->tokens;
    a.s.how = a.of->how;
    if (!Had(serving_->Reopen(&a.s))) {
      waiting_.push_back(std::move(a));
      return false;
    }
    seen_.cached += a.s.cached != 0;
    a.story += " open:" + std::to_string(a.s.cached);
    active_.push_back(std::make_unique<Active>(std::move(a)));
    return true;
  }

  // Its pages go; it is computed again, as far as nothing of it is left.
  void Preempt(size_t at) {
    Active& a = *active_[at];
    serving_->Close(&a.s);
    a.story += " preempt";
    ++seen_.preempted;
    if (!a.again) waiting_.push_back(std::move(a));
    active_.erase(active_.begin() + static_cast<ptrdiff_t>(at));
  }

  void Disturb() {
    if (active_.empty()) return;
    const size_t at = Pick(active_.size());
    Active& a = *active_[at];
    const uint32_t what = Pick(weather_.calm);
    if (what == 0) {
      Preempt(at);
    } else if (what <= 3 && !a.s.how.session.empty() && a.s.done != 0) {
      Persist(at);
    } else if (what == 4 && a.s.done != 0 && active_.size() < 80) {
      auto copy = std::make_unique<Active>(Active{a.of, {}, a.story, true});
      if (!Had(serving_->Fork(a.s, &copy->s))) return;
      copy->story += " fork:" + std::to_string(a.s.done);
      active_.push_back(std::move(copy));
      ++seen_.forked;
    }
  }

  // Its session goes to a file and comes back.
  void Persist(size_t at) {
    Active& a = *active_[at];
    const Serving::How how = a.s.how;
    const uint32_t before = a.s.done;
    bool whole = Had(serving_->Keep(&a.s)) && Had(serving_->SaveSession(how, path_));
    if (whole) {
      Must(serving_->DropSession(how));
      whole = Had(serving_->RestoreSession(how, path_));
    }
    if (!Had(serving_->Reopen(&a.s))) {
      waiting_.push_back(std::move(a));
      active_.erase(active_.begin() + static_cast<ptrdiff_t>(at));
      return;
    }
    a.story += (whole ? " restored:" : " refused:") + std::to_string(a.s.cached);
    if (!whole) return;
    EXPECT_EQ(a.s.cached, before);
    EXPECT_EQ(a.s.reason, ENGINE_KV_HIT_SESSION);
    ++seen_.restored;
  }

  // Some of the active ones, each with some of its tokens.
  std::vector<Serving::Part> Choose() {
    std::vector<Serving::Part> parts;
    const bool all = Pick(2) == 0;
    // Making room may end the list earlier than it began.
    for (size_t i = 0; i < active_.size(); ++i) {
      Active& a = *active_[i];
      if (!all && active_.size() > 1 && Pick(4) == 0) continue;
      const auto left = static_cast<uint32_t>(a.s.tokens.size()) - a.s.done;
      Serving::Part part{&a.s, 1, 0, {}};
      if (a.s.done < a.of->prompt) {
        const uint32_t sizes[] = {1, 1 + Pick(7), 1 + Pick(40), left, left};
        part.count = std::min({left, sizes[Pick(5)], a.of->prompt - a.s.done});
        seen_.pieces += a.s.done + part.count < a.of->prompt;
      } else {
        // Drafts: right ones, then perhaps a wrong one and whatever follows it.
        const uint32_t drafts = Pick(2) == 0 ? 0 : Pick(5);
        for (uint32_t d = 0; d < drafts && d + 1 < left; ++d) {
          const int32_t right = a.s.tokens[a.s.done + 1 + d];
          part.drafts.push_back(Pick(3) != 0 ? right : (right + 1) % 300);
        }
      }
      const auto fed = part.count + static_cast<uint32_t>(part.drafts.size());
      // Wrong drafts are told and then cut off again, or never told.
      if (Pick(2) == 0) part.told = Good(a, part) - a.s.done;
      part.logits = a.s.done + fed <= a.of->first ? 0 : Wanted(a, fed);
      if (Room(a, fed, parts)) parts.push_back(std::move(part));
    }
    return parts;
  }

  // Positions that were fed their own tokens, when this part begins at the sequence's end.
  static uint32_t Good(const Active& a, const Serving::Part& part) {
    uint32_t good = a.s.done + part.count;
    for (int32_t draft : part.drafts) {
      if (draft != a.s.tokens[good]) break;
      ++good;
    }
    return good;
  }

  uint32_t Wanted(const Active& a, uint32_t fed) {
    const uint32_t most = std::min(fed, a.s.done + fed - a.of->first);
    return Pick(3) == 0 ? Pick(most + 1) : most;
  }

  // Makes room at the cost of those that are not in this step.
  bool Room(const Active& a, uint32_t count, const std::vector<Serving::Part>& parts) {
    for (;;) {
      const Status status = serving_->Reserve(const_cast<Serving::Sequence*>(&a.s), count);
      if (status.ok()) return true;
      Had(status);
      size_t victim = active_.size();
      for (size_t i = active_.size(); i-- > 0 && victim == active_.size();) {
        const bool chosen = std::any_of(parts.begin(), parts.end(), [&](const auto& part) {
          return part.sequence == &active_[i]->s;
        });
        if (active_[i].get() == &a) break;  // earlier ones do not give way to later ones
        if (!chosen) victim = i;
      }
      if (victim == active_.size()) return false;
      Preempt(victim);
    }
  }

  void Step() {
    const std::vector<Serving::Part> parts = Choose();
    if (parts.empty()) {
      // Nothing had room: the last gives way.
      if (!active_.empty()) Preempt(active_.size() - 1);
      return;
    }
    std::vector<uint32_t> begins, goods;
    for (const Serving::Part& part : parts) {
      begins.push_back(part.sequence->done);
      goods.push_back(Good(*Of(part), part));
    }
    const int threads = 1 + static_cast<int>(Pick(2));
    kernels::SetPoolThreads(threads);
    ++seen_.threads[threads];
    seen_.widest = std::max(seen_.widest, parts.size());
    seen_.pairs += parts.size() == 2;
    const std::vector<float> logits = serving_->Step(parts);
    const auto vocab = static_cast<size_t>(serving_->vocab());
    size_t row = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      const Serving::Part& part = parts[i];
      Active& a = *Of(part);
      const uint32_t begin = begins[i], good = goods[i];
      const uint32_t end = begin + part.count + static_cast<uint32_t>(part.drafts.size());
      a.story += " [" + std::to_string(begin) + ", " + std::to_string(good) + "/" +
                 std::to_string(end) + ") in " + std::to_string(parts.size()) + " on " +
                 std::to_string(threads);
      for (uint32_t p = end - part.logits; p < end; ++p, ++row) {
        if (p >= good) continue;
        ++seen_.rows;
        const std::string difference =
            FirstDifference({a.of->truth.data() + (p - a.of->first) * vocab, vocab},
                            {logits.data() + row * vocab, vocab}, serving_->vocab());
        if (difference.empty()) continue;
        ADD_FAILURE() << "position " << p << " of " << a.s.tokens.size() << ", " << difference
                      << "\nits story:" << a.story;
        if (++failures_ > 3) return;
      }
      seen_.accepted += good - begin - part.count;
      seen_.rejected += end - good;
      if (good < a.s.done) serving_->Cut(&a.s, good);
    }
    for (size_t i = active_.size(); i-- > 0;) {
      Active& a = *active_[i];
      const bool whole = a.s.done == a.s.tokens.size();
      if (!whole && !(a.again && Pick(20) == 0)) continue;
      if (!a.s.how.session.empty() && Pick(2) == 0) {
        Had(serving_->Keep(&a.s));
      } else {
        serving_->Close(&a.s);
      }
      active_.erase(active_.begin() + static_cast<ptrdiff_t>(i));
    }
  }

  Active* Of(const Serving::Part& part) {
    for (const auto& a : active_) {
      if (&a->s == part.sequence) return a.get();
    }
    throw std::logic_error("a part of nobody");
  }

  Serving* const serving_;
  std::vector<Case>* const cases_;
  const Weather weather_;
  const std::string path_;
  std::mt19937 random_;
  std::vector<Active> waiting_;
  std::vector<std::unique_ptr<Active>> active_;
  size_t width_ = 1;
  int failures_ = 0;
  Seen seen_;
};

// Serves the cases of `weather` by `text`, after each was computed alone by another load of it.
inline Seen Serve(const std::string& text, const std::string& truth_text, const Weather& weather,
                  const std::string& path) {
  std::mt19937 random(weather.seed);
  std::vector<Case> cases;
  {
    Chain alone(truth_text);
    EXPECT_TRUE(alone.status().ok()) << alone.status().message();
    Serving serving(&alone.At("kv"));
    kernels::SetPoolThreads(1);
    cases = Cases(weather, serving.vocab(), &random);
    for (Case& c : cases) c.truth = serving.Alone(c.tokens, c.first);
    kernels::SetPoolThreads(2);
  }
  Chain chain(text);
  EXPECT_TRUE(chain.status().ok()) << chain.status().message();
  Serving serving(&chain.At("kv"));
  const Seen seen = Storm(&serving, &cases, weather, path).Run();
  const engine_kv_stats stats = serving.Stats();
  EXPECT_EQ(stats.sequences, 0u);
  EXPECT_EQ(stats.pages_used, 0u);
  EXPECT_LE(stats.held_bytes, stats.budget_bytes);
  return seen;
}

inline std::string Kv(const std::string& dtype, const std::string& budget) {
  return "dtype: " + dtype + " budget: \"" + budget + "\"";
}

}  // namespace engine::tests

#endif  // ENGINE_TESTS_STORM_H_
