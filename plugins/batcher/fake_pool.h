// A KV pool for tests: pages hold the tokens themselves and whose adapter computed them, so that a
// fake model can read a sequence back through its block table and sees whatever went wrong on the
// way.
#ifndef PLUGINS_BATCHER_FAKE_POOL_H_
#define PLUGINS_BATCHER_FAKE_POOL_H_

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/ext/kv.h"
#include "engine/ext/model.h"
#include "engine/status.hpp"

namespace engine::batcher {

class FakePool {
 public:
  FakePool(uint32_t pages, uint32_t page_tokens);
  FakePool(const FakePool&) = delete;
  FakePool& operator=(const FakePool&) = delete;
  const engine_kv_pool* table() const { return &table_; }

  // What a model does with a step: writes through the block table, reads through it.
  void Write(const engine_step_sequence& s);
  std::vector<int32_t> Read(const engine_step_sequence& s, uint64_t count);

  uint64_t used() const;
  size_t open() const { return sequences_.size(); }
  const std::vector<int32_t>& history(const std::string& session) {
    return sessions_[{session, ""}];
  }
  bool IsBusy(const std::string& session) const { return busy_.count({session, ""}) != 0; }
  void MakeBusy(const std::string& session, bool busy) {
    busy ? (void)busy_.insert({session, ""}) : (void)busy_.erase({session, ""});
  }
  // Somebody wrote to a page that was not its own, or read what another adapter computed.
  bool wrong() const { return wrong_; }

 private:
  using Session = std::pair<std::string, std::string>;
  static constexpr int32_t kOfAdapter = 1 << 16;  // above all tokens
  struct Page {
    std::vector<int32_t> tokens;  // and kOfAdapter times the adapter
    uint32_t sequences = 0;
    bool cached = false;
  };
  struct Sequence {
    std::vector<int32_t> pages, tokens;  // tokens: written
    std::string salt;
    bool sharing = true, has_session = false;
    Session session;
  };
  static std::string SaltOf(engine_str salt, uint32_t adapter) {
    return std::string(View(salt)) + (adapter == 0 ? "" : '\n' + std::to_string(adapter));
  }
  Status Open(const engine_kv_open& how, uint64_t* id, engine_kv_match* match);
  Status Reserve(Sequence* s, uint64_t tokens);
  Status Written(Sequence* s, const int32_t* tokens, uint64_t count);
  int32_t Free();

  uint32_t page_tokens_;
  std::vector<Page> pages_;
  std::map<uint64_t, Sequence> sequences_;
  std::map<std::pair<std::string, std::vector<int32_t>>, int32_t> prefixes_;
  std::map<Session, std::vector<int32_t>> sessions_;
  std::set<Session> busy_;
  uint64_t next_ = 1;
  bool wrong_ = false;
  engine_kv_pool table_ = {};
};

inline FakePool::FakePool(uint32_t pages, uint32_t page_tokens) : page_tokens_(page_tokens) {
  pages_.resize(pages, {std::vector<int32_t>(page_tokens, -1), 0, false});
  table_.struct_size = sizeof table_;
  table_.page_tokens = page_tokens;
  table_.self = this;
  table_.sequence_open = [](void* self, const engine_kv_open* how, uint64_t* id,
                            engine_kv_match* match) {
    return static_cast<FakePool*>(self)->Open(*how, id, match).release();
  };
  table_.sequence_reserve = [](void* self, uint64_t id, uint64_t tokens) {
    auto* pool = static_cast<FakePool*>(self);
    return pool->Reserve(&pool->sequences_.at(id), tokens).release();
  };
  table_.sequence_blocks = [](void* self, uint64_t id, const int32_t** blocks,
                              uint32_t* count) -> engine_status* {
    const Sequence& s = static_cast<FakePool*>(self)->sequences_.at(id);
    *blocks = s.pages.data();
    *count = static_cast<uint32_t>(s.pages.size());
    return nullptr;
  };
  table_.sequence_written = [](void* self, uint64_t id, const int32_t* tokens, uint64_t count) {
    auto* pool = static_cast<FakePool*>(self);
    return pool->Written(&pool->sequences_.at(id), tokens, count).release();
  };
  table_.sequence_fork = [](void* self, uint64_t id, uint64_t* copy) -> engine_status* {
    auto* pool = static_cast<FakePool*>(self);
    *copy = pool->next_++;
    pool->sequences_[*copy] = pool->sequences_.at(id);
    for (int32_t page : pool->sequences_.at(id).pages) ++pool->pages_[page].sequences;
    return nullptr;
  };
  table_.sequence_close = [](void* self, uint64_t id, uint32_t flags) -> engine_status* {
    auto* pool = static_cast<FakePool*>(self);
    const Sequence& s = pool->sequences_.at(id);
    for (int32_t page : s.pages) --pool->pages_[page].sequences;
    if (s.has_session) pool->busy_.erase(s.session);
    if (s.has_session && flags == ENGINE_KV_CLOSE_KEEP) pool->sessions_[s.session] = s.tokens;
    pool->sequences_.erase(id);
    return nullptr;
  };
  table_.session_tokens = [](void* self, engine_str session, engine_str salt, uint32_t adapter,
                             int32_t* tokens, uint64_t capacity,
                             uint64_t* count) -> engine_status* {
    auto* pool = static_cast<FakePool*>(self);
    const auto it = pool->sessions_.find({std::string(View(session)), SaltOf(salt, adapter)});
    *count = it == pool->sessions_.end() ? 0 : it->second.size();
    for (uint64_t i = 0; i < *count && i < capacity; ++i) tokens[i] = it->second[i];
    return nullptr;
  };
  table_.stats = [](void* self, engine_kv_stats* out) {
    auto* pool = static_cast<FakePool*>(self);
    out->pages_total = pool->pages_.size();
    out->pages_used = pool->used();
    out->sequences = static_cast<uint32_t>(pool->sequences_.size());
  };
}

inline uint64_t FakePool::used() const {
  return static_cast<uint64_t>(
      std::count_if(pages_.begin(), pages_.end(), [](const Page& p) { return p.sequences != 0; }));
}

inline Status FakePool::Open(const engine_kv_open& how, uint64_t* id, engine_kv_match* match) {
  Sequence s;
  s.salt = SaltOf(how.salt, how.adapter);
  s.sharing = (how.flags & ENGINE_KV_OPEN_NO_SHARING) == 0;
  if (how.session.size != 0) {
    s.has_session = true;
    s.session = {std::string(View(how.session)), s.salt};
    if (!busy_.insert(s.session).second) {
      return Error(ENGINE_FAILED_PRECONDITION, "the session is busy");
    }
  }
  const std::vector<int32_t> tokens(how.tokens, how.tokens + how.token_count);
  match->reason = ENGINE_KV_MISS_COLD;
  for (size_t n = page_tokens_; s.sharing && n < tokens.size(); n += page_tokens_) {
    const auto it = prefixes_.find({s.salt, {tokens.begin(), tokens.begin() + n}});
    if (it == prefixes_.end()) break;
    s.pages.push_back(it->second);
    ++pages_[it->second].sequences;
    s.tokens.assign(tokens.begin(), tokens.begin() + n);
    match->reason = ENGINE_KV_HIT_PREFIX;
  }
  match->cached = static_cast<uint32_t>(s.tokens.size());
  *id = next_++;
  sequences_[*id] = std::move(s);
  return Status();
}

// A page that no sequence holds, thrown out of the cache when it must; -1: none.
inline int32_t FakePool::Free() {
  for (int turn = 0; turn < 2; ++turn) {
    for (size_t i = 0; i < pages_.size(); ++i) {
      if (pages_[i].sequences != 0 || (turn == 0 && pages_[i].cached)) continue;
      if (std::exchange(pages_[i].cached, false)) {
        std::erase_if(prefixes_, [&](const auto& p) { return p.second == static_cast<int>(i); });
      }
      std::fill(pages_[i].tokens.begin(), pages_[i].tokens.end(), -1);
      return static_cast<int32_t>(i);
    }
  }
  return -1;
}

inline Status FakePool::Reserve(Sequence* s, uint64_t tokens) {
  const size_t before = s->pages.size();
  const size_t first = s->tokens.size() / page_tokens_;  // written to next
  // A shared page is copied before it is written.
  if (first < before && s->tokens.size() < tokens &&
      (pages_[s->pages[first]].sequences > 1 || pages_[s->pages[first]].cached)) {
    const int32_t copy = Free();
    if (copy < 0) return Error(ENGINE_RESOURCE_EXHAUSTED, "no page for a copy");
    pages_[copy].tokens = pages_[s->pages[first]].tokens;
    pages_[copy].sequences = 1;
    --pages_[s->pages[first]].sequences;
    s->pages[first] = copy;
  }
  while (s->pages.size() * page_tokens_ < tokens) {
    const int32_t page = Free();
    if (page < 0) {
      while (s->pages.size() > before) {
        --pages_[s->pages.back()].sequences;
        s->pages.pop_back();
      }
      return Error(ENGINE_RESOURCE_EXHAUSTED, "no page is left");
    }
    pages_[page].sequences = 1;
    s->pages.push_back(page);
  }
  return Status();
}

inline Status FakePool::Written(Sequence* s, const int32_t* tokens, uint64_t count) {
  s->tokens.insert(s->tokens.end(), tokens, tokens + (count - s->tokens.size()));
  for (size_t n = page_tokens_; s->sharing && n <= count; n += page_tokens_) {
    const int32_t page = s->pages[n / page_tokens_ - 1];
    if (pages_[page].cached) continue;
    if (prefixes_
            .emplace(
                std::pair{s->salt, std::vector<int32_t>(s->tokens.begin(), s->tokens.begin() + n)},
                page)
            .second) {
      pages_[page].cached = true;
    }
  }
  return Status();
}

inline void FakePool::Write(const engine_step_sequence& s) {
  for (uint32_t i = 0; i < s.token_count; ++i) {
    const uint32_t position = s.start + i;
    Page& page = pages_.at(s.blocks[position / page_tokens_]);
    wrong_ |= page.sequences != 1 || page.cached || position / page_tokens_ >= s.block_count;
    page.tokens[position % page_tokens_] =
        s.tokens[i] + kOfAdapter * static_cast<int32_t>(s.adapter);
  }
}

inline std::vector<int32_t> FakePool::Read(const engine_step_sequence& s, uint64_t count) {
  std::vector<int32_t> tokens;
  for (uint64_t i = 0; i < count; ++i) {
    const int32_t held = pages_.at(s.blocks[i / page_tokens_]).tokens[i % page_tokens_];
    tokens.push_back(held - kOfAdapter * static_cast<int32_t>(s.adapter));
    wrong_ |= tokens.back() < 0 || tokens.back() >= kOfAdapter;
  }
  return tokens;
}

}  // namespace engine::batcher

#endif  // PLUGINS_BATCHER_FAKE_POOL_H_
