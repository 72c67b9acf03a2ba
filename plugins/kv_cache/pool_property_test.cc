// Random operations on a small pool against a plain model of what each user must see. After every
// operation all counts are counted again and every sequence's pages compared with what its tokens
// compute. The same run over a pool with one rule broken must notice it.
#include <map>
#include <optional>
#include <random>
#include <set>
#include <sstream>

#include "test_pool.h"

namespace engine::kv_cache {
namespace {

class Trial {
 public:
  Trial(uint32_t seed, Config config) : random_(seed), test_(std::move(config)) {}

  // Empty, or the first thing that was wrong.
  std::string Steps(int count) {
    for (int i = 0; i < count && wrong_.str().empty(); ++i) {
      Step();
      Check();
      if (!wrong_.str().empty()) wrong_ << " (operation " << i << ", " << what_ << ")";
    }
    return wrong_.str();
  }
  const std::set<uint32_t>& reasons() const { return reasons_; }
  engine_kv_stats stats() const { return test_.pool->Stats(); }

 private:
  struct Live {
    User user;
    Ask ask;
    bool shares = false;
  };
  using Key = std::pair<std::string, std::string>;  // of a session: name and salt

  uint32_t Below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
  Pool* pool() { return test_.pool.get(); }

  // Few beginnings, so that prompts meet.
  Tokens Prompt() {
    std::mt19937 base(Below(4));
    Tokens tokens(Below(70));
    for (int32_t& t : tokens) t = static_cast<int32_t>(base() % 3);
    if (!tokens.empty() && Below(3) == 0) tokens[Below(static_cast<uint32_t>(tokens.size()))] = 7;
    return tokens;
  }
  Tokens More(uint32_t most) {
    Tokens tokens(1 + Below(most));
    for (int32_t& t : tokens) t = static_cast<int32_t>(Below(2));
    return tokens;
  }
  std::map<uint64_t, Live>::iterator Any() {
    auto it = live_.begin();
    std::advance(it, Below(static_cast<uint32_t>(live_.size())));
    return it;
  }
  bool Busy(const Key& key) const {
    for (const auto& [id, live] : live_) {
      if (!live.ask.session.empty() && Key(live.ask.session, live.ask.salt) == key) return true;
    }
    return false;
  }
  void Forgotten(const Key& key) {
    histories_.erase(key);
    isolated_.erase(key);
  }
  void Wrong(const std::string& text) { wrong_ << text << "; "; }
  // Only a pool or tables without room may refuse, and a pool only when it says how.
  void Refused(const Status& status, uint64_t pages) {
    const engine_kv_stats s = pool()->Stats();
    const bool full = status.message().find("pages to give") != std::string_view::npos ||
                      status.message().find("the session needs") != std::string_view::npos;
    const bool tables = status.message().find("no room in its tables") != std::string_view::npos;
    if (status.code() != ENGINE_RESOURCE_EXHAUSTED || !(full || tables)) {
      Wrong("refused: " + std::string(status.message()));
    } else if (full && s.pages_used + pages <= s.pages_total) {
      Wrong("refused with enough pages: " + std::string(status.message()));
    }
  }

  void Step() {
    test_.now_ns += Below(40) == 0 ? 2000 : 1;
    const uint32_t choice = Below(100);
    if (live_.empty() || (choice < 25 && live_.size() < 6)) {
      OpenOne();
    } else if (choice < 50) {
      WriteOne();
    } else if (choice < 58) {
      TruncateOne();
    } else if (choice < 64) {
      ForkOne();
    } else if (choice < 88) {
      CloseOne();
    } else {
      SessionOne();
    }
  }

  void OpenOne() {
    what_ = "open";
    Live live;
    live.ask.salt = Below(3) == 0 ? "salt" : "";
    if (Below(2) == 0) live.ask.session = std::string(1, static_cast<char>('a' + Below(4)));
    if (Below(6) == 0) live.ask.flags = ENGINE_KV_OPEN_NO_SHARING;
    const Key key(live.ask.session, live.ask.salt);
    live.ask.tokens = Prompt();
    Tokens history = History(pool(), key.first, key.second);
    if (history.empty()) Forgotten(key);
    if (!live.ask.session.empty() && Below(4) != 0) {
      // A turn that goes on, at times with another history.
      if (!history.empty() && Below(5) == 0) history[Below(uint32_t(history.size()))] = 7;
      const Tokens more = More(20);
      if (!history.empty()) live.ask.tokens = history;
      live.ask.tokens.insert(live.ask.tokens.end(), more.begin(), more.end());
    }
    const Status status = Open(pool(), live.ask, &live.user);
    if (!live.ask.session.empty() && Busy(key)) {
      if (status.code() != ENGINE_FAILED_PRECONDITION) Wrong("a busy session was opened");
      return;
    }
    if (!status.ok()) return Refused(status, 0);
    reasons_.insert(live.user.reason);
    const Tokens& tokens = live.ask.tokens;
    const uint32_t cached = live.user.cached;
    if (cached != 0 && cached >= tokens.size()) Wrong("nothing was left to compute");
    const bool hit =
        live.user.reason == ENGINE_KV_HIT_PREFIX || live.user.reason == ENGINE_KV_HIT_SESSION;
    if (hit != (cached != 0)) Wrong("the reason contradicts what was found");
    if (live.user.reason == ENGINE_KV_HIT_PREFIX) {
      const Tokens full(tokens.begin(), tokens.begin() + (cached + 15) / 16 * 16);
      if (published_.count({live.ask.salt, full}) == 0) Wrong("pages that nobody gave were found");
    }
    if (live.user.reason == ENGINE_KV_HIT_SESSION && live.ask.session.empty()) {
      Wrong("a session was found where none was asked for");
    }
    // A session that once did not share does not share later.
    live.shares = live.ask.flags == 0 && !live.ask.session.empty() ? isolated_.count(key) == 0
                                                                   : live.ask.flags == 0;
    if (live.user.reason == ENGINE_KV_HIT_PREFIX && live.ask.flags != 0) Wrong("shared unasked");
    live_.emplace(live.user.id, std::move(live));
  }

  void WriteOne() {
    what_ = "write";
    Live& live = Any()->second;
    const uint64_t written = live.user.tokens.size();
    Tokens more = More(12);
    if (written < live.ask.tokens.size()) {
      more.assign(live.ask.tokens.begin() + static_cast<ptrdiff_t>(written), live.ask.tokens.end());
    }
    const User before = live.user;
    const uint64_t used = pool()->Stats().pages_used;
    const Status status = Write(pool(), &live.user, more);
    if (!status.ok()) {
      live.user = before;
      if (pool()->Stats().pages_used != used) Wrong("a refusal took pages");
      // At most one page more for a copy.
      return Refused(status, (written + more.size() + 15) / 16 - written / 16);
    }
    if (!live.shares) return;
    for (size_t end = 16; end <= live.user.tokens.size(); end += 16) {
      published_.insert(
          {live.ask.salt, Tokens(live.user.tokens.begin(),
                                 live.user.tokens.begin() + static_cast<ptrdiff_t>(end))});
    }
  }

  void TruncateOne() {
    what_ = "truncate";
    Live& live = Any()->second;
    const uint32_t count = Below(static_cast<uint32_t>(live.user.tokens.size()) + 1);
    const Status status = pool()->Truncate(live.user.id, count);
    if (!status.ok()) Wrong(std::string(status.message()));
    live.user.tokens.resize(count);
    live.ask.tokens.clear();
  }

  void ForkOne() {
    what_ = "fork";
    Live copy = Any()->second;
    const Status status = pool()->Fork(copy.user.id, &copy.user.id);
    if (!status.ok()) return Refused(status, 0);
    copy.ask.session.clear();
    live_.emplace(copy.user.id, std::move(copy));
  }

  void CloseOne() {
    what_ = "close";
    const auto it = Any();
    const Live live = it->second;
    const bool keep = Below(3) != 0;
    live_.erase(it);
    const Status status = pool()->Close(live.user.id, keep ? ENGINE_KV_CLOSE_KEEP : 0);
    if (!status.ok()) return Refused(status, 0);
    if (live.ask.session.empty()) return;
    const Key key(live.ask.session, live.ask.salt);
    if (keep) histories_[key] = live.user.tokens;
    const Tokens now = History(pool(), key.first, key.second);
    if (now.empty()) {
      isolated_.erase(key);
    } else if (!live.shares) {
      isolated_.insert(key);
    }
  }

  void SessionOne() {
    what_ = "session";
    const Key key(std::string(1, static_cast<char>('a' + Below(4))), Below(3) == 0 ? "salt" : "");
    if (Busy(key)) return;
    const Tokens history = History(pool(), key.first, key.second);
    if (Below(4) == 0) {
      const Status status = pool()->SessionDrop(key.first, key.second);
      if (status.ok() == history.empty()) Wrong("dropped and was not there, or the reverse");
      Forgotten(key);
      return;
    }
    const std::string path = folder_.Path("session");
    const Status saved = pool()->SessionSave(key.first, key.second, path);
    if (!saved.ok()) {
      if (saved.code() != ENGINE_NOT_FOUND || !history.empty()) Refused(saved, 0);
      return;
    }
    const Key other(std::string(1, static_cast<char>('a' + Below(4))), key.second);
    if (Busy(other)) return;
    const Status back = pool()->SessionRestore(other.first, other.second, path);
    if (!back.ok()) {
      // What the session had before stays until the file has proved good.
      const Tokens before = History(pool(), other.first, other.second);
      return Refused(back, (history.size() + 15) / 16 + (before.size() + 15) / 16);
    }
    histories_[other] = history;
    isolated_.insert(other);
  }

  void Check() {
    wrong_ << Audit::Check(*pool());
    for (const auto& [id, live] : live_) {
      const std::string text = Contents(pool(), live.user);
      if (!text.empty()) return Wrong(text);
    }
    for (auto it = histories_.begin(); it != histories_.end();) {
      const Tokens now = History(pool(), it->first.first, it->first.second);
      if (now.empty() && !Busy(it->first)) {
        // Forgotten for want of room or after its time.
        isolated_.erase(it->first);
        it = histories_.erase(it);
        continue;
      }
      if (now != it->second) Wrong("a session has another history");
      ++it;
    }
  }

  std::mt19937 random_;
  TestPool test_;
  Folder folder_;
  std::map<uint64_t, Live> live_;
  std::map<Key, Tokens> histories_;
  std::set<Key> isolated_;                              // sessions that do not share
  std::set<std::pair<std::string, Tokens>> published_;  // beginnings that may be found, by salt
  std::set<uint32_t> reasons_;
  std::ostringstream wrong_;
  std::string what_;
};

Config ConfigOf(uint32_t pages, uint64_t mask, uint32_t format = ENGINE_KV_F32) {
  const Geometry g = SmallGeometry(format);
  return {.geometry = g,
          .budget = BudgetFor(g, pages),
          .session_timeout_ns = 3000,
          .fingerprint = 42,
          .keys = {.k0 = 1, .k1 = 2, .mask = mask}};
}

TEST(Property, EveryUserSeesItsOwnTokens) {
  std::set<uint32_t> reasons;
  engine_kv_stats sum = Sized<engine_kv_stats>();
  for (uint32_t seed = 0; seed < 30; ++seed) {
    Config config = ConfigOf(4 + seed % 5 * 7, seed % 2 == 0 ? UINT64_MAX : 1, 1 + seed % 3);
    if (seed % 4 == 3) config.session_budget = 2 * config.geometry.page_bytes + 1000;
    Trial run(seed, std::move(config));
    ASSERT_EQ(run.Steps(1500), "") << "seed " << seed;
    reasons.insert(run.reasons().begin(), run.reasons().end());
    sum.hits += run.stats().hits;
    sum.evicted_pages += run.stats().evicted_pages;
    sum.copied_pages += run.stats().copied_pages;
  }
  // The runs went everywhere.
  for (uint32_t reason = ENGINE_KV_HIT_PREFIX; reason <= ENGINE_KV_MISS_OFF; ++reason) {
    EXPECT_EQ(reasons.count(reason), 1u) << reason;
  }
  EXPECT_GT(sum.hits, 1000u);
  EXPECT_GT(sum.evicted_pages, 1000u);
  EXPECT_GT(sum.copied_pages, 300u);
}

TEST(Property, ABrokenRuleIsNoticed) {
  struct Broken {
    Fault fault;
    uint64_t mask;
    const char* notice;
  };
  const Broken all[] = {{Fault::kTrustHash, 1, "keys and values of other tokens"},
                        {Fault::kSkipCopyOnWrite, UINT64_MAX, "keys and values of other tokens"},
                        {Fault::kForgetPage, UINT64_MAX, "sequences and"},
                        {Fault::kUncountedChild, UINT64_MAX, "counts its children wrongly"}};
  for (const Broken& broken : all) {
    std::string first;
    for (uint32_t seed = 0; seed < 20 && first.find(broken.notice) == std::string::npos; ++seed) {
      Config config = ConfigOf(12, broken.mask);
      config.fault = broken.fault;
      first = Trial(seed, std::move(config)).Steps(1500);
    }
    EXPECT_NE(first.find(broken.notice), std::string::npos) << first;
  }
}

}  // namespace
}  // namespace engine::kv_cache
