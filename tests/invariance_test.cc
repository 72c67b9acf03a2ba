// Section 8 of the design, "one arithmetic per format": the logits of a sequence are the same bits
// whoever shares its steps, its pages and its time with it. Random serving is compared, row by row,
// with each sequence alone in one step of another load of the same file. Each event counts itself,
// so that a storm in which it never happened fails, and the comparison is shown to see a sum in
// another order, one bit of a page, and two pages swapped.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>

#include "engine/kernels/isa.h"
#include "engine/kernels/pool.h"
#include "engine/model/extensions.h"
#include "engine/util.hpp"
#include "tests/serving.h"
#include "tests/support.h"

namespace engine::tests {
namespace {

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

std::vector<Case> Cases(const Weather& w, int64_t vocab, std::mt19937* random) {
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
Seen Serve(const std::string& text, const std::string& truth_text, const Weather& weather,
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

std::string Kv(const std::string& dtype, const std::string& budget) {
  return "dtype: " + dtype + " budget: \"" + budget + "\"";
}

// ---- the small model: every format of weights, keys and values, every road ---------------------

using Setting = std::tuple<std::string, std::string>;  // format of weights, road
class Invariance : public testing::TestWithParam<Setting> {};

TEST_P(Invariance, NothingAroundASequenceChangesABit) {
  const auto& [name, road_name] = GetParam();
  const Road road(road_name);
  if (!road.there()) GTEST_SKIP() << "this machine has no " << road_name;
  const WeightFormat& format = FormatNamed(name);
  TempFolder folder;
  WriteSmallModel(folder.Path("m.gguf"), format.stored);
  Weather weather;
  // The plain road does one number at a time.
  const bool plain = road_name == "plain";
  if (plain) {
    weather = {.prompts = 7, .longest = 132, .answers = 6, .widths = {1, 2, 7}, .calm = 8};
  }
  if (road_name == "avx2") weather.prompts = 30;
  if (road_name == "avx512") weather.prompts = 72;
  Seen all;
  for (const std::string kv : kKvFormats) {
    SCOPED_TRACE("keys and values in " + kv);
    ++weather.seed;
    // So little room that sequences are in each other's way, but once room for all.
    const std::string budget = kv == "F32"   ? (plain ? "600KiB" : "3MiB")
                               : kv == "F16" ? "16MiB"
                                             : (plain ? "250KiB" : "900KiB");
    // Pages of another size hold the same numbers.
    const std::string pages = kv == "F16" ? " page_tokens: 48" : "";
    const Seen seen = Serve(ChainText(folder.Path("m.gguf"), format, Kv(kv, budget) + pages),
                            ChainText(folder.Path("m.gguf"), format, Kv(kv, "16MiB")), weather,
                            folder.Path("session"));
    all.rows += seen.rows;
    all.widest = std::max(all.widest, seen.widest);
    for (const auto& [field, event] : kEvents) all.*field += seen.*field;
    for (int threads : {1, 2}) EXPECT_GT(seen.threads[threads], 0u);
  }
  EXPECT_GE(all.widest, std::min<size_t>(64, weather.prompts * 3 / 4));
  for (const auto& [field, event] : kEvents) EXPECT_GT(all.*field, 0u) << event;
  RecordProperty("rows", static_cast<int>(all.rows));
}

std::vector<std::string> FormatNames() {
  std::vector<std::string> names;
  for (const WeightFormat& f : WeightFormats()) {
    // Decoded blocks are floats like any others.
    if (std::string(f.name) != "Q4_1_decoded") names.push_back(f.name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Formats, Invariance,
                         testing::Combine(testing::ValuesIn(FormatNames()),
                                          testing::Values("plain", "avx2", "avx512")),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param);
                         });

// ---- what must be seen --------------------------------------------------------------------------

class Variance : public testing::TestWithParam<std::string> {};

std::vector<int32_t> SomeTokens(uint32_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& t : tokens) t = static_cast<int32_t>(random() % SmallModel::kVocab);
  return tokens;
}

// The same function with its inner dimensions in another order: only sums are added in another
// order. What differs is rounding, and the comparison of the storms sees it.
TEST_P(Variance, ASumInAnotherOrderIsSeen) {
  const WeightFormat& format = FormatNamed(GetParam());
  TempFolder folder;
  WriteSmallModel(folder.Path("m.gguf"), Stored::kF32);
  WriteSmallModel(folder.Path("other.gguf"), Stored::kF32, /*reordered=*/true);
  Chain chain(ChainText(folder.Path("m.gguf"), format, Kv("F32", "16MiB")));
  Chain again(ChainText(folder.Path("m.gguf"), format, Kv("F32", "16MiB")));
  Chain other(ChainText(folder.Path("other.gguf"), format, Kv("F32", "16MiB")));
  ASSERT_TRUE(other.status().ok()) << other.status().message();
  const std::vector<int32_t> tokens = SomeTokens(40, 3);
  const std::vector<float> want = Serving(&chain.At("kv")).Alone(tokens);
  EXPECT_EQ(FirstDifference(want, Serving(&again.At("kv")).Alone(tokens), SmallModel::kVocab), "");
  const std::vector<float> got = Serving(&other.At("kv")).Alone(tokens);
  EXPECT_NE(FirstDifference(want, got, SmallModel::kVocab), "");
  // It is rounding and no other function.
  EXPECT_LT(MostDifference(want, got), 3e-2);
}

// Formats whose arithmetic does not depend on which weights are neighbours.
INSTANTIATE_TEST_SUITE_P(Formats, Variance, testing::Values("F32", "BF16", "int8_per_channel"),
                         [](const auto& info) { return info.param; });

const engine_kv_view& FirstView(const model::Model& model) {
  for (uint32_t i = 0; i < model.sites().size(); ++i) {
    if (model.sites()[i].kind != ENGINE_SITE_KV_STORE) continue;
    return *model::Ask<engine_kv_view>(model.impl(i), ENGINE_EXT_KV_VIEW);
  }
  throw std::logic_error("no KV store");
}

TEST(Variance, OneBitOfAPageAndTwoPagesSwappedAreSeen) {
  TempFolder folder;
  WriteSmallModel(folder.Path("m.gguf"), Stored::kF32);
  Chain chain(ChainText(folder.Path("m.gguf"), FormatNamed("F32"), Kv("F32", "16MiB")));
  ASSERT_TRUE(chain.status().ok()) << chain.status().message();
  model::Model& model = chain.At("kv");
  Serving serving(&model);
  const std::vector<int32_t> tokens = SomeTokens(40, 5);
  const std::vector<float> want = serving.Alone(tokens, 39);

  Serving::Sequence s = serving.Open(tokens, {.share = false});
  const Serving::Part most{&s, 39, 0};
  serving.Step({&most, 1});
  const int32_t* blocks = nullptr;
  uint32_t count = 0;
  ASSERT_TRUE(
      Status(serving.pool()->sequence_blocks(serving.pool()->self, s.id, &blocks, &count)).ok());
  ASSERT_EQ(count, 3u);
  const auto last = [&](std::vector<int32_t> pages) {
    engine_step_sequence part = {};
    part.request = 1;
    part.tokens = tokens.data() + 39;
    part.token_count = part.logits_count = 1;
    part.start = 39;
    part.blocks = pages.data();
    part.block_count = count;
    const engine_step step = {sizeof(engine_step), 1, &part};
    std::vector<float> logits(SmallModel::kVocab);
    const Status status = model.Step(step, logits.data());
    EXPECT_TRUE(status.ok()) << status.message();
    return FirstDifference(want, logits, SmallModel::kVocab);
  };
  const std::vector<int32_t> pages(blocks, blocks + count);
  EXPECT_EQ(last(pages), "");
  EXPECT_NE(last({pages[1], pages[0], pages[2]}), "") << "two pages were swapped";
  EXPECT_EQ(last(pages), "");

  // The last bit of single values. Some drown in the sum over positions, not all of them do.
  const engine_kv_view& view = FirstView(model);
  auto* values = reinterpret_cast<uint32_t*>(static_cast<char*>(view.base) +
                                             static_cast<uint64_t>(pages[0]) * view.stride) +
                 SmallModel::kKvHeads * SmallModel::kHeadDim * view.page_tokens;
  int seen = 0;
  for (int i = 0; i < 64; ++i) {
    values[i] ^= 1;
    seen += !last(pages).empty();
    values[i] ^= 1;
  }
  EXPECT_GT(seen, 0);
  EXPECT_EQ(last(pages), "");
  serving.Close(&s);
}

// ---- after a restart ---------------------------------------------------------------------------

class Restart : public testing::TestWithParam<std::string> {};

// Half of a conversation is saved by one load of the model and gone on with by another.
TEST_P(Restart, ASessionGoesOnWhereItWasSaved) {
  const WeightFormat& format = FormatNamed(GetParam());
  TempFolder folder;
  WriteSmallModel(folder.Path("m.gguf"), format.stored);
  for (const std::string kv : kKvFormats) {
    SCOPED_TRACE(kv);
    const std::string text = ChainText(folder.Path("m.gguf"), format, Kv(kv, "4MiB"));
    const Serving::How how{.share = true, .session = "talk", .salt = ""};
    for (const uint32_t half : {1u, 16u, 77u}) {
      const std::vector<int32_t> tokens = SomeTokens(150, half);
      std::vector<float> want;
      {
        Chain before(text);
        ASSERT_TRUE(before.status().ok()) << before.status().message();
        Serving serving(&before.At("kv"));
        want = serving.Alone(tokens);
        Serving::Sequence s = serving.Open(tokens, how);
        const Serving::Part part{&s, half, 0};
        serving.Step({&part, 1});
        Must(serving.Keep(&s));
        Must(serving.SaveSession(how, folder.Path("talk")));
      }
      Chain after(text);
      Serving serving(&after.At("kv"));
      Must(serving.RestoreSession(how, folder.Path("talk")));
      Serving::Sequence s = serving.Open(tokens, how);
      EXPECT_EQ(s.cached, half);
      const Serving::Part rest{&s, 150 - half, 150 - half};
      const std::vector<float> got = serving.Step({&rest, 1});
      EXPECT_EQ(FirstDifference({want.data() + half * SmallModel::kVocab, got.size()}, got,
                                SmallModel::kVocab),
                "");
      serving.Close(&s);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Restart, testing::ValuesIn(FormatNames()),
                         [](const auto& info) { return info.param; });

// ---- the real model ----------------------------------------------------------------------------

struct Real {
  const char* name;
  WeightFormat format;
  const char* kv;
};
void PrintTo(const Real& real, std::ostream* out) { *out << real.name; }

class RealModelTest : public testing::TestWithParam<Real> {};

TEST_P(RealModelTest, NothingAroundASequenceChangesABit) {
  const Real& real = GetParam();
  TempFolder folder;
  Weather weather{
      .prompts = 6, .longest = 150, .answers = 5, .compared = 2, .widths = {1, 2, 6}, .seed = 31};
  // `make storm` asks for many, on each road.
  if (const char* prompts = std::getenv("ENGINE_STORM_PROMPTS")) {
    weather.prompts = std::strtoul(prompts, nullptr, 10);
    weather.widths = {1, 2, 6, 64};
  }
  const char* name = std::getenv("ENGINE_STORM_ROAD");
  const Road road(name != nullptr ? name : kernels::IsaName(kernels::ActiveIsa()));
  if (!road.there()) GTEST_SKIP() << "this machine has no " << name;
  const std::string text = ChainText(RealModel(), real.format, Kv(real.kv, "64MiB"));
  const Seen seen = Serve(text, text, weather, folder.Path("session"));
  EXPECT_GT(seen.rows, 15u);
  EXPECT_GT(seen.pieces, 0u);
  EXPECT_GE(seen.widest, 4u);
}

INSTANTIATE_TEST_SUITE_P(
    Formats, RealModelTest,
    testing::Values(
        // The file stores Q4_1.
        Real{"stored_F32", FormatNamed("Q4_1"), "F32"},
        Real{"stored_F16", FormatNamed("Q4_1"), "F16"},
        Real{"stored_INT8", FormatNamed("Q4_1"), "INT8"},
        Real{"F32_F32", {"F32", Stored::kQ4_1, "weights: DECODED", nullptr}, "F32"},
        Real{"BF16_F16", {"BF16", Stored::kQ4_1, "dtype: BF16 weights: DECODED", nullptr}, "F16"},
        Real{"int8_groups_32_F32", FormatNamed("int8_groups_32"), "F32"},
        Real{"int8_groups_64_INT8", FormatNamed("int8_groups_64"), "INT8"},
        Real{"int8_per_channel_F16", FormatNamed("int8_per_channel"), "F16"},
        Real{"int8_calibrated_F32",
             {"int8_calibrated", Stored::kQ4_1, "",
              "scheme: PER_CHANNEL calibrate: \"" ENGINE_SOURCE_DIR
              "/LICENSE\" calibrate_tokens: 128"},
             "F32"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace engine::tests
