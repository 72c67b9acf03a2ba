#include "pool.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

namespace engine::kv_cache {
namespace {

// Tables of sequences and sessions have this part of the budget for sure.
constexpr uint64_t kLeastTables = 16 << 10, kTablesPart = 128;

uint64_t TablesWithin(uint64_t budget) { return std::max(kLeastTables, budget / kTablesPart); }

}  // namespace

// --- making -------------------------------------------------------------------------------------

// The pool itself, what the plugin makes for each block, and the ends of the pages' memory.
uint64_t Pool::FixedCost(const Geometry& geometry) {
  return sizeof(Pool) + Prefix::kFixedCost + 8192 + uint64_t{geometry.blocks} * 512;
}

uint64_t Pool::PageCost(const Geometry& geometry) {
  return geometry.page_bytes + Pages::TableCost(geometry) + Prefix::kCostPerPage;
}

uint64_t Pool::SequenceCost() {
  constexpr uint64_t kTreeNode = 4 * sizeof(void*);
  return Ledger::BlockCost(sizeof(std::pair<const uint64_t, Sequence>) + kTreeNode);
}

Status Pool::PagesWithin(const Geometry& geometry, uint64_t budget, uint32_t* pages) {
  const uint64_t fixed = FixedCost(geometry) + TablesWithin(budget);
  // Besides, each page stands in a sequence's table and a session's.
  const uint64_t each = PageCost(geometry) + 2 * sizeof(int32_t);
  if (budget < fixed + each) {
    return Error(ENGINE_RESOURCE_EXHAUSTED, "the budget of ", budget,
                 " bytes holds no page; one page of ", geometry.page_tokens, " tokens in ",
                 FormatName(geometry.format), " takes ", geometry.page_bytes,
                 " bytes and the tables ", fixed + each - geometry.page_bytes, ": give at least ",
                 fixed + each, " bytes");
  }
  *pages = static_cast<uint32_t>(
      std::min<uint64_t>((budget - fixed) / each, std::numeric_limits<int32_t>::max() / 2));
  return Status();
}

Status Pool::Make(Config config, const std::function<Status(uint64_t, char**)>& allocate,
                  std::unique_ptr<Pool>* out) {
  uint32_t pages = 0;
  ENGINE_RETURN_IF_ERROR(PagesWithin(config.geometry, config.budget, &pages));
  char* memory = nullptr;
  ENGINE_RETURN_IF_ERROR(allocate(pages * config.geometry.page_bytes, &memory));
  if (config.now_ns == nullptr) return Error(ENGINE_INVALID_ARGUMENT, "the pool has no clock");
  out->reset(new Pool(std::move(config), pages, memory));
  return Status();
}

Pool::Pool(Config config, uint32_t pages, char* memory)
    : config_(std::move(config)),
      page_tokens_(config_.geometry.page_tokens),
      ledger_(config_.budget),
      session_ledger_(UINT64_MAX, &ledger_),
      pages_(config_.geometry, pages, memory),
      prefix_(&pages_, config_.keys, config_.fault),
      sessions_(&session_ledger_, &pages_) {
  // PagesWithin left room for it.
  ledger_.Charge(FixedCost(config_.geometry) + pages * PageCost(config_.geometry));
}

Pool::~Pool() = default;

// --- making room --------------------------------------------------------------------------------

void Pool::Expire() {
  if (config_.session_timeout_ns == 0) return;
  const uint64_t now = config_.now_ns();
  const auto old = [&](const Session* s) {
    return s != nullptr && now - s->used_ns >= config_.session_timeout_ns;
  };
  while (old(sessions_.oldest_with_pages())) sessions_.Erase(sessions_.oldest_with_pages());
  while (old(sessions_.oldest_without())) sessions_.Erase(sessions_.oldest_without());
}

void Pool::EvictSession(Session* session, bool history) {
  evicted_pages_ += sessions_.DropPages(session);
  if (history) sessions_.Erase(session);
}

bool Pool::MakeRoom(uint64_t bytes) {
  if (bytes > ledger_.left() && bytes - ledger_.left() > session_ledger_.held()) return false;
  while (ledger_.left() < bytes) {
    Session* const session = sessions_.oldest();
    if (session == nullptr) return false;
    EvictSession(session, /*history=*/true);
  }
  return true;
}

bool Pool::EvictOne() {
  const int32_t leaf = pages_.oldest_leaf();
  Session* const session = sessions_.oldest_with_pages();
  if (leaf != kNoPage && (session == nullptr || pages_.at(leaf).stamp < session->stamp)) {
    prefix_.Remove(leaf, /*evicted=*/true);
    ++evicted_pages_;
    return true;
  }
  if (session == nullptr) return false;
  EvictSession(session, /*history=*/false);
  return true;
}

void Pool::MakeFree(uint64_t pages) {
  while (pages_.free() < pages && EvictOne()) {
  }
}

void Pool::HoldSessionBudget() {
  if (config_.session_budget == 0) return;
  while (sessions_.bytes() > config_.session_budget) {
    if (Session* const with = sessions_.oldest_with_pages(); with != nullptr) {
      EvictSession(with, /*history=*/false);
    } else if (Session* const without = sessions_.oldest_without(); without != nullptr) {
      EvictSession(without, /*history=*/true);
    } else {
      return;
    }
  }
}

Status Pool::NoTableRoom(std::string_view what) const {
  return Error(ENGINE_RESOURCE_EXHAUSTED, "the KV budget of ", config_.budget,
               " bytes has no room in its tables for ", what, ": ", ledger_.held(),
               " bytes are held, by ", sequences_.size(), " sequences, ", sessions_.count(),
               " sessions and ", pages_.total(), " pages; close some or raise the budget");
}

// --- sequences ----------------------------------------------------------------------------------

Status Pool::Find(uint64_t sequence, Sequence** out) {
  const auto it = sequences_.find(sequence);
  if (it == sequences_.end()) {
    return Error(ENGINE_NOT_FOUND, "no open sequence has the number ", sequence);
  }
  *out = &it->second;
  return Status();
}

void Pool::DropPage(int32_t page) {
  pages_.Touch(page);
  pages_.Drop(page, Holder::kSequence);
}

Status Pool::NewSequence(uint64_t places, uint64_t* id, Sequence** out) {
  Buffer<int32_t> table(&ledger_);
  Charge charge;
  if (!MakeRoom(SequenceCost() + table.CostOf(places)) || !charge.Take(&ledger_, SequenceCost()) ||
      !table.Resize(places)) {
    return NoTableRoom("a further sequence");
  }
  const auto it = sequences_.try_emplace(next_, &ledger_).first;
  it->second.charge = std::move(charge);
  it->second.table = std::move(table);
  *id = next_++;
  *out = &it->second;
  return Status();
}

uint64_t Pool::Match(const engine_kv_open& how, const SaltKey& salt, int32_t* last) const {
  uint64_t pages = 0;
  *last = kNoPage;
  for (uint64_t end = page_tokens_; end <= how.token_count; end += page_tokens_, ++pages) {
    const int32_t next = prefix_.Find(*last, salt, how.tokens + (end - page_tokens_));
    if (next == kNoPage) break;
    *last = next;
  }
  return pages;
}

engine_kv_reason Pool::WhyMissed(const engine_kv_open& how, const SaltKey& salt,
                                 bool shares) const {
  if (!shares) return ENGINE_KV_MISS_OFF;
  if (how.token_count < page_tokens_) return ENGINE_KV_MISS_SHORT;
  if (prefix_.WasEvicted(salt, how.tokens)) return ENGINE_KV_MISS_EVICTED;
  if (prefix_.KnownElsewhere(salt, how.tokens)) return ENGINE_KV_MISS_SALT;
  return ENGINE_KV_MISS_COLD;
}

Status Pool::Open(const engine_kv_open& how, uint64_t* sequence, engine_kv_match* match) {
  std::lock_guard lock(mutex_);
  const std::string_view name = View(how.session);
  if (how.token_count != 0 && how.tokens == nullptr) {
    return Error(ENGINE_INVALID_ARGUMENT, how.token_count, " tokens are told of and none given");
  }
  if (name.size() > kMostNameBytes) {
    return Error(ENGINE_INVALID_ARGUMENT, "the session's name has ", name.size(),
                 " bytes; at most ", kMostNameBytes, " are allowed");
  }
  Expire();
  const SaltKey salt = prefix_.KeyOf(View(how.salt), how.adapter);
  Session* session = nullptr;
  if (!name.empty()) {
    ENGINE_RETURN_IF_ERROR(FindIdle(name, salt, &session));
    if (session != nullptr) {
      sessions_.MakeBusy(session, SessionState::kInUse);
    } else {
      if (MakeRoom(Sessions::CostOf(name))) session = sessions_.Make(name, salt);
      if (session == nullptr) return NoTableRoom("a further session");
    }
  }
  // Whatever happens, a session without a sequence is not left busy.
  struct GiveBack {
    Pool* pool;
    Session* session;
    ~GiveBack() {
      if (session != nullptr) pool->sessions_.MakeIdle(session, pool->config_.now_ns());
    }
  } give_back{this, session};
  ENGINE_RETURN_IF_ERROR(OpenFor(how, salt, session, sequence, match));
  give_back.session = nullptr;
  return Status();
}

Status Pool::OpenFor(const engine_kv_open& how, const SaltKey& salt, Session* session,
                     uint64_t* sequence, engine_kv_match* match) {
  const bool isolated =
      (how.flags & ENGINE_KV_OPEN_NO_SHARING) != 0 || (session != nullptr && session->isolated);
  const bool shares = config_.prefix_sharing && !isolated;
  // At least one token must be computed, for its logits.
  const uint64_t most = how.token_count == 0 ? 0 : how.token_count - 1;

  uint64_t known = 0, by_session = 0;
  if (session != nullptr) {
    const uint64_t compare = std::min<uint64_t>(how.token_count, session->tokens.size());
    const int32_t* history = session->tokens.data();
    while (known < compare && history[known] == how.tokens[known]) ++known;
    by_session = std::min({known, session->computed, most});
  }
  int32_t last = kNoPage;
  const uint64_t found = shares ? Match(how, salt, &last) : 0;
  const uint64_t by_prefix = std::min(found * page_tokens_, most);

  const bool own = by_session != 0 && by_session >= by_prefix;
  const uint64_t cached = own ? by_session : by_prefix;
  const uint64_t places = PagesFor(cached);
  Sequence* s = nullptr;
  ENGINE_RETURN_IF_ERROR(NewSequence(places, sequence, &s));

  engine_kv_reason reason = ENGINE_KV_HIT_PREFIX;
  if (own) {
    std::copy_n(session->pages.data(), places, s->table.data());
    reason = ENGINE_KV_HIT_SESSION;
  } else if (cached != 0) {
    for (uint64_t i = found; i > 0; --i, last = pages_.at(last).parent) {
      if (i > places) continue;
      s->table[i - 1] = last;
      pages_.Hold(last, Holder::kSequence);
    }
  } else {
    const bool lost = known != 0 && session->computed == 0;
    reason = lost ? ENGINE_KV_MISS_EVICTED : WhyMissed(how, salt, shares);
  }
  if (session != nullptr) {
    // What is not taken over belongs to nobody any longer, or to the prefix cache.
    for (uint64_t i = session->pages.size(); i > (own ? places : 0); --i) {
      DropPage(session->pages[i - 1]);
    }
    session->pages.Clear();
    session->computed = 0;
  }
  s->salt = salt;
  s->private_session = isolated;
  s->session = session;
  s->written = cached;
  while (s->chained < cached / page_tokens_ && pages_.at(s->table[s->chained]).findable) {
    ++s->chained;
  }

  ++lookups_;
  ++reasons_[reason];
  hits_ += cached != 0 ? 1 : 0;
  looked_up_tokens_ += how.token_count;
  cached_tokens_ += cached;
  match->struct_size = sizeof *match;
  match->cached = static_cast<uint32_t>(cached);
  match->reason = reason;
  match->reserved = 0;
  return Status();
}

Status Pool::Reserve(uint64_t sequence, uint64_t tokens) {
  std::lock_guard lock(mutex_);
  Sequence* s = nullptr;
  ENGINE_RETURN_IF_ERROR(Find(sequence, &s));
  if (tokens <= s->written) return Status();
  const uint64_t wanted = PagesFor(tokens), had = s->table.size();
  const uint64_t fresh = wanted > had ? wanted - had : 0;
  // Only the page that is begun can be shared: full ones are never written again.
  const uint64_t begun = s->written / page_tokens_;
  const bool shared =
      begun < had && !pages_.Exclusive(s->table[begun]) && config_.fault != Fault::kSkipCopyOnWrite;
  bool in_place = false;
  if (fresh + (shared ? 1 : 0) > Available()) {
    // With every other page gone, one that no other sequence holds need not be copied.
    in_place = shared && pages_.at(s->table[begun]).sequences == 1 && fresh <= Available();
    if (!in_place) {
      return Error(ENGINE_RESOURCE_EXHAUSTED, "the KV pool has ", Available(), " of ",
                   pages_.total(), " pages to give; ", tokens, " tokens need ",
                   fresh + (shared ? 1 : 0), " more (budget ", config_.budget, " bytes; a page of ",
                   page_tokens_, " tokens takes ", config_.geometry.page_bytes,
                   "); wait for a sequence to close");
    }
  }
  if (fresh != 0 && (!MakeRoom(s->table.CostOf(wanted)) || !s->table.Resize(wanted))) {
    return NoTableRoom("a longer sequence");
  }
  if (in_place) {
    while (EvictOne()) {
    }
    if (pages_.at(s->table[begun]).findable) prefix_.Remove(s->table[begun], /*evicted=*/true);
  }
  MakeFree(fresh + (shared && !in_place ? 1 : 0));
  if (shared && !in_place) {
    const int32_t copy = pages_.Take(), old = s->table[begun];
    pages_.Copy(old, copy, static_cast<uint32_t>(s->written % page_tokens_));
    s->table[begun] = copy;
    DropPage(old);
    ++copied_pages_;
  }
  for (uint64_t i = had; i < wanted; ++i) s->table[i] = pages_.Take();
  return Status();
}

Status Pool::Blocks(uint64_t sequence, const int32_t** blocks, uint32_t* count) {
  std::lock_guard lock(mutex_);
  Sequence* s = nullptr;
  ENGINE_RETURN_IF_ERROR(Find(sequence, &s));
  *blocks = s->table.data();
  *count = static_cast<uint32_t>(s->table.size());
  return Status();
}

Status Pool::Written(uint64_t sequence, const int32_t* tokens, uint64_t count) {
  std::lock_guard lock(mutex_);
  Sequence* s = nullptr;
  ENGINE_RETURN_IF_ERROR(Find(sequence, &s));
  if (count < s->written) {
    return Error(ENGINE_INVALID_ARGUMENT, "sequence ", sequence, " has ", s->written,
                 " positions written, and is told of ", count,
                 "; sequence_truncate makes it shorter");
  }
  if (count == s->written) return Status();
  if (tokens == nullptr) {
    return Error(ENGINE_INVALID_ARGUMENT, count - s->written, " positions are written and no ",
                 "tokens given");
  }
  if (PagesFor(count) > s->table.size() ||
      (!pages_.Exclusive(s->table[s->written / page_tokens_]) &&
       config_.fault != Fault::kSkipCopyOnWrite)) {
    return Error(ENGINE_FAILED_PRECONDITION, "sequence ", sequence, " wrote positions [",
                 s->written, ", ", count, ") without the right to: it holds ", s->table.size(),
                 " pages of ", page_tokens_,
                 " tokens, the begun one perhaps shared; call sequence_reserve first");
  }
  for (uint64_t at = s->written; at < count;) {
    const uint64_t inside = at % page_tokens_, n = std::min(page_tokens_ - inside, count - at);
    std::copy_n(tokens + (at - s->written), n, pages_.tokens(s->table[at / page_tokens_]) + inside);
    at += n;
  }
  s->written = count;
  if (Shares(*s)) Publish(s);
  return Status();
}

// Makes the pages that became full findable. Where another sequence computed the same meanwhile,
// its page takes the place of this one.
void Pool::Publish(Sequence* s) {
  for (; (s->chained + 1) * page_tokens_ <= s->written; ++s->chained) {
    int32_t& page = s->table[s->chained];
    const int32_t parent = s->chained == 0 ? kNoPage : s->table[s->chained - 1];
    const int32_t same = prefix_.Find(parent, s->salt, pages_.tokens(page));
    if (same == kNoPage) {
      prefix_.Insert(page, parent, s->salt);
    } else if (same != page) {
      pages_.Hold(same, Holder::kSequence);
      DropPage(std::exchange(page, same));
    }
  }
}

Status Pool::Truncate(uint64_t sequence, uint64_t count) {
  std::lock_guard lock(mutex_);
  Sequence* s = nullptr;
  ENGINE_RETURN_IF_ERROR(Find(sequence, &s));
  if (count > s->written) {
    return Error(ENGINE_OUT_OF_RANGE, "sequence ", sequence, " has ", s->written,
                 " positions written and cannot be cut to ", count);
  }
  const uint64_t stay = PagesFor(count);
  for (uint64_t i = s->table.size(); i > stay; --i) {
    if (config_.fault == Fault::kForgetPage && i == stay + 1) break;
    DropPage(s->table[i - 1]);
  }
  s->table.Resize(stay);
  s->written = count;
  s->chained = std::min(s->chained, count / page_tokens_);
  return Status();
}

Status Pool::Fork(uint64_t sequence, uint64_t* copy) {
  std::lock_guard lock(mutex_);
  Sequence* s = nullptr;
  ENGINE_RETURN_IF_ERROR(Find(sequence, &s));
  const uint64_t places = PagesFor(s->written);
  Sequence* other = nullptr;
  ENGINE_RETURN_IF_ERROR(NewSequence(places, copy, &other));
  for (uint64_t i = 0; i < places; ++i) {
    other->table[i] = s->table[i];
    pages_.Hold(s->table[i], Holder::kSequence);
  }
  other->written = s->written;
  other->chained = s->chained;
  other->salt = s->salt;
  other->private_session = s->private_session;
  return Status();
}

Status Pool::Close(uint64_t sequence, uint32_t flags) {
  std::lock_guard lock(mutex_);
  Sequence* s = nullptr;
  ENGINE_RETURN_IF_ERROR(Find(sequence, &s));
  Status status;
  if (s->session != nullptr) status = CloseSession(s, (flags & ENGINE_KV_CLOSE_KEEP) != 0);
  // Ends first: what continues a page must not be younger than it.
  for (uint64_t i = s->table.size(); i > 0; --i) DropPage(s->table[i - 1]);
  sequences_.erase(sequence);
  HoldSessionBudget();
  return status;
}

engine_kv_stats Pool::Stats() const {
  std::lock_guard lock(mutex_);
  engine_kv_stats s = Sized<engine_kv_stats>();
  s.sequences = static_cast<uint32_t>(sequences_.size());
  s.sessions = sessions_.count();
  s.pages_total = pages_.total();
  s.pages_used = pages_.used();
  s.pages_cached = pages_.cached();
  s.page_bytes = config_.geometry.page_bytes;
  s.budget_bytes = config_.budget;
  s.held_bytes = ledger_.held();
  s.lookups = lookups_;
  s.hits = hits_;
  s.looked_up_tokens = looked_up_tokens_;
  s.cached_tokens = cached_tokens_;
  s.evicted_pages = evicted_pages_;
  s.copied_pages = copied_pages_;
  return s;
}

std::array<uint64_t, Pool::kReasons> Pool::Reasons() const {
  std::lock_guard lock(mutex_);
  return reasons_;
}

}  // namespace engine::kv_cache
