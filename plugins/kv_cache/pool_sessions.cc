// Sessions as the pool offers them: what a closing sequence leaves, and the way to a file and back.
// Files are read and written without the pool's lock; meanwhile the session is busy and its pages
// are held, so nobody else touches either.
#include <algorithm>
#include <utility>

#include "pool.h"
#include "session_file.h"

namespace engine::kv_cache {
namespace {

const char* WhatItDoes(SessionState state) {
  switch (state) {
    case SessionState::kSaving:
      return "it is being saved";
    case SessionState::kRestoring:
      return "it is being restored";
    default:
      return "a request of it is under way";
  }
}

Status Unknown(std::string_view name) {
  return Error(ENGINE_NOT_FOUND, "no session has the name '", name,
               "', this salt and this adapter; it may have been idle for too long");
}

}  // namespace

Status Pool::FindIdle(std::string_view name, const SaltKey& key, Session** session) {
  *session = sessions_.Find(name, key);
  if (*session != nullptr && (*session)->state != SessionState::kIdle) {
    return Error(ENGINE_FAILED_PRECONDITION, "session '", name,
                 "' is busy: ", WhatItDoes((*session)->state), "; ask again when it has ended");
  }
  return Status();
}

// How far what the sequence wrote is equal to `tokens`.
uint64_t Pool::CommonLength(const Sequence& s, const Buffer<int32_t>& tokens) const {
  const uint64_t most = std::min(s.written, tokens.size());
  uint64_t n = 0;
  while (n < most && pages_.tokens(s.table[n / page_tokens_])[n % page_tokens_] == tokens[n]) ++n;
  return n;
}

// The session takes back from the sequence what belongs to its history: all that was written where
// it is to be kept, else what the former history has in common with it.
Status Pool::CloseSession(Sequence* s, bool keep) {
  Session* const session = std::exchange(s->session, nullptr);
  Status status;
  uint64_t held = CommonLength(*s, session->tokens);
  if (keep) {
    Buffer<int32_t>& history = session->tokens;
    if (MakeRoom(history.CostOf(s->written)) && history.Resize(s->written)) {
      for (; held < s->written; ++held) {
        history[held] = pages_.tokens(s->table[held / page_tokens_])[held % page_tokens_];
      }
    } else {
      status =
          NoTableRoom("the history of session '" + session->key->name + "', which stays as it was");
    }
  }
  const uint64_t places = PagesFor(held);
  for (uint64_t i = s->table.size(); i > places; --i) DropPage(s->table[i - 1]);
  s->table.Resize(places);
  if (MakeRoom(session->pages.CostOf(places)) && session->pages.Resize(places)) {
    std::copy_n(s->table.data(), places, session->pages.data());
    session->computed = held;
    s->table.Resize(0);
  }
  session->isolated |= s->private_session;
  sessions_.MakeIdle(session, config_.now_ns());
  return status;
}

Status Pool::SessionTokens(std::string_view name, std::string_view salt, int32_t* tokens,
                           uint64_t capacity, uint64_t* count, uint32_t adapter) {
  std::lock_guard lock(mutex_);
  Expire();
  const Session* session = sessions_.Find(name, prefix_.KeyOf(salt, adapter));
  *count = session == nullptr ? 0 : session->tokens.size();
  if (*count != 0 && capacity != 0) {
    if (tokens == nullptr) {
      return Error(ENGINE_INVALID_ARGUMENT, "there is no place for ", capacity, " tokens");
    }
    std::copy_n(session->tokens.data(), std::min(*count, capacity), tokens);
  }
  return Status();
}

Status Pool::SessionDrop(std::string_view name, std::string_view salt, uint32_t adapter) {
  std::lock_guard lock(mutex_);
  Expire();
  Session* session = nullptr;
  ENGINE_RETURN_IF_ERROR(FindIdle(name, prefix_.KeyOf(salt, adapter), &session));
  if (session == nullptr) return Unknown(name);
  sessions_.Erase(session);
  return Status();
}

// --- to a file ----------------------------------------------------------------------------------

class Pool::Saving {
 public:
  explicit Saving(Pool* pool) : pool_(pool), piece_(&pool->ledger_) {}
  ~Saving() {
    std::lock_guard lock(pool_->mutex_);
    piece_.Clear();
    if (session_ == nullptr) return;
    pool_->sessions_.MakeIdle(session_, pool_->config_.now_ns());
    pool_->HoldSessionBudget();
  }
  Status Begin(std::string_view name, std::string_view salt, uint32_t adapter) {
    std::lock_guard lock(pool_->mutex_);
    pool_->Expire();
    Session* session = nullptr;
    ENGINE_RETURN_IF_ERROR(pool_->FindIdle(name, pool_->prefix_.KeyOf(salt, adapter), &session));
    if (session == nullptr) return Unknown(name);
    pool_->sessions_.MakeBusy(session, SessionState::kSaving);
    session_ = session;
    const uint64_t bytes = pool_->geometry().block_bytes;
    if (!pool_->MakeRoom(piece_.CostOf(bytes)) || !piece_.Resize(bytes)) {
      return pool_->NoTableRoom("saving a session");
    }
    return Status();
  }
  const Session& session() const { return *session_; }
  char* piece() { return piece_.data(); }

 private:
  Pool* const pool_;
  Buffer<char> piece_;
  Session* session_ = nullptr;
};

Status Pool::SessionSave(std::string_view name, std::string_view salt, const std::string& path,
                         uint32_t adapter) {
  Saving saving(this);
  ENGINE_RETURN_IF_ERROR(saving.Begin(name, salt, adapter));
  const Session& session = saving.session();
  SessionWriter file({config_.geometry, config_.fingerprint, config_.vocab, adapter}, path);
  ENGINE_RETURN_IF_ERROR(
      file.Begin(session.tokens.data(), session.tokens.size(), session.computed));
  for (uint64_t i = 0; i < session.pages.size(); ++i) {
    ENGINE_RETURN_IF_ERROR(file.Page(pages_.data(session.pages[i]), saving.piece()));
  }
  return file.Finish();
}

// --- and back -----------------------------------------------------------------------------------

class Pool::Restoring {
 public:
  explicit Restoring(Pool* pool)
      : pool_(pool), tokens_(&pool->session_ledger_), table_(&pool->session_ledger_) {}
  // Either what the file gave, or what was there before.
  ~Restoring() {
    std::lock_guard lock(pool_->mutex_);
    if (session_ != nullptr && done_) {
      std::swap(session_->tokens, tokens_);
      std::swap(session_->pages, table_);
      session_->computed = computed_;
      // What a file says is not given to others.
      session_->isolated = true;
    }
    for (uint64_t i = table_.size(); i > 0; --i) pool_->DropPage(table_[i - 1]);
    tokens_.Clear();
    table_.Clear();
    if (session_ == nullptr) return;
    pool_->sessions_.MakeIdle(session_, pool_->config_.now_ns());
    pool_->HoldSessionBudget();
  }
  Status Begin(std::string_view name, std::string_view salt, uint32_t adapter,
               const SessionReader& file) {
    std::lock_guard lock(pool_->mutex_);
    pool_->Expire();
    const SaltKey key = pool_->prefix_.KeyOf(salt, adapter);
    Session* session = nullptr;
    ENGINE_RETURN_IF_ERROR(pool_->FindIdle(name, key, &session));
    if (session != nullptr) {
      pool_->sessions_.MakeBusy(session, SessionState::kRestoring);
    } else {
      if (pool_->MakeRoom(Sessions::CostOf(name))) session = pool_->sessions_.Make(name, key);
      if (session == nullptr) return pool_->NoTableRoom("a further session");
      session->state = SessionState::kRestoring;
    }
    session_ = session;
    if (file.pages() > pool_->Available()) {
      return Error(ENGINE_RESOURCE_EXHAUSTED, "the session needs ", file.pages(),
                   " pages; the KV pool has ", pool_->Available(), " of ", pool_->pages(),
                   " to give; wait for a sequence to close, or raise the budget");
    }
    if (!pool_->MakeRoom(tokens_.CostOf(file.tokens())) || !tokens_.Resize(file.tokens()) ||
        !pool_->MakeRoom(table_.CostOf(file.pages())) || !table_.Resize(file.pages())) {
      return pool_->NoTableRoom("the session's history");
    }
    pool_->MakeFree(file.pages());
    for (uint64_t i = 0; i < file.pages(); ++i) table_[i] = pool_->pages_.Take();
    computed_ = file.computed();
    return Status();
  }
  Status Read(SessionReader* file) {
    ENGINE_RETURN_IF_ERROR(file->Tokens(tokens_.data()));
    const uint64_t pt = pool_->page_tokens_;
    for (uint64_t i = 0; i < table_.size(); ++i) {
      ENGINE_RETURN_IF_ERROR(file->Page(pool_->pages_.data(table_[i])));
      std::copy_n(tokens_.data() + i * pt, std::min(pt, computed_ - i * pt),
                  pool_->pages_.tokens(table_[i]));
    }
    done_ = true;
    return Status();
  }

 private:
  Pool* const pool_;
  Session* session_ = nullptr;
  Buffer<int32_t> tokens_, table_;  // the file's, until they are swapped with the session's
  uint64_t computed_ = 0;
  bool done_ = false;
};

Status Pool::SessionRestore(std::string_view name, std::string_view salt, const std::string& path,
                            uint32_t adapter) {
  if (name.empty() || name.size() > kMostNameBytes) {
    return Error(ENGINE_INVALID_ARGUMENT, "the session's name has ", name.size(), " bytes; 1 to ",
                 kMostNameBytes, " are allowed");
  }
  SessionReader file({config_.geometry, config_.fingerprint, config_.vocab, adapter}, path);
  ENGINE_RETURN_IF_ERROR(file.Begin());
  Restoring restoring(this);
  ENGINE_RETURN_IF_ERROR(restoring.Begin(name, salt, adapter, file));
  return restoring.Read(&file);
}

}  // namespace engine::kv_cache
