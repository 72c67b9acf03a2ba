#include "sessions.h"

#include <utility>

namespace engine::kv_cache {

uint64_t Sessions::CostOf(std::string_view name) {
  constexpr uint64_t kTreeNode = 4 * sizeof(void*);
  return Ledger::BlockCost(sizeof(std::pair<const SessionKey, Session>) + kTreeNode) +
         Ledger::BlockCost(name.size() + 1);
}

Session* Sessions::Find(std::string_view name, const SaltKey& salt) {
  const auto it = map_.find(Lookup{name, &salt});
  return it == map_.end() ? nullptr : &it->second;
}

Session* Sessions::Make(std::string_view name, const SaltKey& salt) {
  Charge charge;
  if (!charge.Take(ledger_, CostOf(name))) return nullptr;
  const auto it = map_.try_emplace(SessionKey{std::string(name), salt}, ledger_).first;
  it->second.charge = std::move(charge);
  it->second.key = &it->first;
  return &it->second;
}

void Sessions::Erase(Session* session) {
  if (session->state == SessionState::kIdle) {
    DropPages(session);
    Unlink(session);
  }
  map_.erase(map_.find(*session->key));
}

void Sessions::MakeBusy(Session* session, SessionState state) {
  Unlink(session);
  session->state = state;
  for (uint64_t i = 0; i < session->pages.size(); ++i) {
    pages_->Hold(session->pages[i], Holder::kSequence);
    pages_->Drop(session->pages[i], Holder::kSession);
  }
}

void Sessions::MakeIdle(Session* session, uint64_t now_ns) {
  // Ends first: what continues a page must not be younger than it.
  for (uint64_t i = session->pages.size(); i > 0; --i) {
    const int32_t page = session->pages[i - 1];
    pages_->Touch(page);
    pages_->Hold(page, Holder::kSession);
    pages_->Drop(page, Holder::kSequence);
  }
  if (session->tokens.empty()) {
    map_.erase(map_.find(*session->key));
    return;
  }
  session->state = SessionState::kIdle;
  session->used_ns = now_ns;
  session->stamp = pages_->Tick();
  Link(session);
}

uint32_t Sessions::DropPages(Session* session) {
  if (session->pages.empty()) return 0;
  Unlink(session);
  uint32_t freed = 0;
  for (uint64_t i = session->pages.size(); i > 0; --i) {
    freed += pages_->Drop(session->pages[i - 1], Holder::kSession) ? 1 : 0;
  }
  session->pages.Clear();
  session->computed = 0;
  Link(session);
  return freed;
}

Session* Sessions::oldest() const {
  Session* const a = with_.oldest;
  Session* const b = without_.oldest;
  if (a == nullptr || b == nullptr) return a == nullptr ? b : a;
  return a->stamp < b->stamp ? a : b;
}

void Sessions::Link(Session* session) {
  List& list = ListOf(*session);
  Session* older = list.newest;
  while (older != nullptr && older->stamp > session->stamp) older = older->older;
  Session* const newer = older == nullptr ? list.oldest : older->newer;
  session->older = older;
  session->newer = newer;
  (older == nullptr ? list.oldest : older->newer) = session;
  (newer == nullptr ? list.newest : newer->older) = session;
}

void Sessions::Unlink(Session* session) {
  List& list = ListOf(*session);
  (session->older == nullptr ? list.oldest : session->older->newer) = session->newer;
  (session->newer == nullptr ? list.newest : session->newer->older) = session->older;
  session->older = session->newer = nullptr;
}

}  // namespace engine::kv_cache
