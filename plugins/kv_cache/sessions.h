// Named sessions: the tokens of each one's history, and the pages that still hold their keys and
// values.
// Invariants: a session is busy, or in exactly one of two lists, oldest first: idle with pages,
// idle without. A busy session holds no pages of its own: whoever made it busy does. Pages cover
// the first `computed` positions of the history, which may be fewer than it has. Every byte is
// charged. Not thread-safe; the pool's mutex guards it.
#ifndef PLUGINS_KV_CACHE_SESSIONS_H_
#define PLUGINS_KV_CACHE_SESSIONS_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "ledger.h"
#include "pages.h"

namespace engine::kv_cache {

enum class SessionState { kIdle, kInUse, kSaving, kRestoring };

struct SessionKey {
  std::string name;
  SaltKey salt;
};

struct Session {
  explicit Session(Ledger* ledger) : tokens(ledger), pages(ledger) {}
  Charge charge;
  const SessionKey* key = nullptr;
  Buffer<int32_t> tokens, pages;
  uint64_t computed = 0;
  // Its pages neither came from the prefix cache nor may they enter it.
  bool isolated = false;
  SessionState state = SessionState::kInUse;
  uint64_t used_ns = 0;  // by the clock, when it became idle
  uint64_t stamp = 0;    // the same in events
  Session* older = nullptr;
  Session* newer = nullptr;
};

class Sessions {
 public:
  Sessions(Ledger* ledger, Pages* pages) : ledger_(ledger), pages_(pages) {}
  ~Sessions() { map_.clear(); }
  Sessions(const Sessions&) = delete;
  Sessions& operator=(const Sessions&) = delete;

  // Null when there is none of that name.
  Session* Find(std::string_view name, const SaltKey& salt);
  // A new one, busy. Null when the ledger has no room. REQUIRES: Find gives none.
  Session* Make(std::string_view name, const SaltKey& salt);
  static uint64_t CostOf(std::string_view name);
  // Lets its pages go, forgets its history.
  void Erase(Session* session);

  // Idle -> busy: nobody takes anything from it any longer. Its pages go over to the caller, who
  // holds them as sequences do until he gives them back by MakeIdle or drops them.
  void MakeBusy(Session* session, SessionState state);
  // Busy -> idle; `session->pages`, held by the caller as sequences do, become its own. A session
  // without a history is erased.
  void MakeIdle(Session* session, uint64_t now_ns);
  // REQUIRES: idle. Its pages go, its history stays; answers how many pages became free.
  uint32_t DropPages(Session* session);

  Session* oldest_with_pages() const { return with_.oldest; }
  Session* oldest_without() const { return without_.oldest; }
  // The one that was used longest ago; null when none is idle.
  Session* oldest() const;

  uint32_t count() const { return static_cast<uint32_t>(map_.size()); }
  // Tables, histories and pages of idle sessions.
  uint64_t bytes() const {
    return ledger_->held() + pages_->held_by_sessions() * pages_->geometry().page_bytes;
  }
  template <typename Visit>
  void ForEach(Visit&& visit) const {
    for (const auto& [key, session] : map_) visit(session);
  }

 private:
  struct Lookup {
    std::string_view name;
    const SaltKey* salt;
  };
  struct Less {
    using is_transparent = void;
    static Lookup Of(const SessionKey& k) { return {k.name, &k.salt}; }
    static Lookup Of(const Lookup& k) { return k; }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      const Lookup x = Of(a), y = Of(b);
      return x.name != y.name ? x.name < y.name : *x.salt < *y.salt;
    }
  };
  struct List {
    Session* oldest = nullptr;
    Session* newest = nullptr;
  };
  List& ListOf(const Session& s) { return s.pages.empty() ? without_ : with_; }
  void Link(Session* session);
  void Unlink(Session* session);

  Ledger* const ledger_;
  Pages* const pages_;
  std::map<SessionKey, Session, Less> map_;
  List with_, without_;
};

}  // namespace engine::kv_cache

#endif  // PLUGINS_KV_CACHE_SESSIONS_H_
