#include "service.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace engine::kv_cache {
namespace {

struct Meter {
  uint32_t type;
  const char* name;
  const char* help;
};

constexpr Meter kMeters[] = {
    {ENGINE_METRIC_COUNTER, "engine_kv_lookups_total", "Sequences opened in KV caches."},
    {ENGINE_METRIC_COUNTER, "engine_kv_hits_total", "Of these, those whose beginning was there."},
    {ENGINE_METRIC_COUNTER, "engine_kv_looked_up_tokens_total", "Tokens of opened sequences."},
    {ENGINE_METRIC_COUNTER, "engine_kv_cached_tokens_total",
     "Of these, those that had not to be computed again."},
    {ENGINE_METRIC_COUNTER, "engine_kv_evicted_pages_total", "Pages thrown out to make room."},
    {ENGINE_METRIC_COUNTER, "engine_kv_copied_pages_total",
     "Shared pages copied because one of their sequences went on."},
    {ENGINE_METRIC_COUNTER, "engine_kv_hits_prefix_total",
     "Openings that found pages of earlier prompts."},
    {ENGINE_METRIC_COUNTER, "engine_kv_hits_session_total",
     "Openings that found pages of their session."},
    {ENGINE_METRIC_COUNTER, "engine_kv_misses_cold_total",
     "Openings of beginnings that nobody computed."},
    {ENGINE_METRIC_COUNTER, "engine_kv_misses_short_total", "Openings too short to fill a page."},
    {ENGINE_METRIC_COUNTER, "engine_kv_misses_salt_total",
     "Openings of beginnings computed under another salt or adapter."},
    {ENGINE_METRIC_COUNTER, "engine_kv_misses_evicted_total",
     "Openings of beginnings that were thrown out to make room."},
    {ENGINE_METRIC_COUNTER, "engine_kv_misses_off_total", "Openings that were not to share."},
    {ENGINE_METRIC_GAUGE, "engine_kv_pages_used", "Pages held by sequences."},
    {ENGINE_METRIC_GAUGE, "engine_kv_pages_cached",
     "Pages held by the prefix cache or by idle sessions alone."},
    {ENGINE_METRIC_GAUGE, "engine_kv_sessions", "Sessions with a history."},
    {ENGINE_METRIC_GAUGE, "engine_kv_held_bytes", "Bytes of KV caches, tables included."},
};

Status NeedName(engine_str name) {
  if (name.size != 0 && name.data != nullptr) return Status();
  return Error(ENGINE_INVALID_ARGUMENT, "a session needs a name, and none is given");
}

Status NeedPlace(const void* place) {
  if (place != nullptr) return Status();
  return Error(ENGINE_INVALID_ARGUMENT, "there is no place given for what is asked");
}

}  // namespace

Meters::Meters(const engine_metrics* host) : host_(host) {
  static_assert(std::size(kMeters) == kFigures);
  if (host_ == nullptr) return;
  for (size_t i = 0; i < kFigures; ++i) {
    // A metric that the host refuses is left out; the cache works without.
    const Status ignored(
        host_->get(kMeters[i].type, Str(kMeters[i].name), Str(kMeters[i].help), &metrics_[i]));
    if (!ignored.ok()) metrics_[i] = nullptr;
  }
}

void Meters::Publish(const Pool& pool) {
  if (host_ == nullptr) return;
  std::lock_guard lock(mutex_);
  const engine_kv_stats s = pool.Stats();
  const auto r = pool.Reasons();
  Add({s.lookups, s.hits, s.looked_up_tokens, s.cached_tokens, s.evicted_pages, s.copied_pages,
       r[ENGINE_KV_HIT_PREFIX], r[ENGINE_KV_HIT_SESSION], r[ENGINE_KV_MISS_COLD],
       r[ENGINE_KV_MISS_SHORT], r[ENGINE_KV_MISS_SALT], r[ENGINE_KV_MISS_EVICTED],
       r[ENGINE_KV_MISS_OFF], s.pages_used, s.pages_cached, s.sessions, s.held_bytes});
}

void Meters::Retire() {
  if (host_ == nullptr) return;
  std::lock_guard lock(mutex_);
  Figures now = published_;
  for (size_t i = 0; i < kFigures; ++i) {
    if (kMeters[i].type == ENGINE_METRIC_GAUGE) now[i] = 0;
  }
  Add(now);
}

// REQUIRES: mutex_ is held.
void Meters::Add(const Figures& now) {
  for (size_t i = 0; i < kFigures; ++i) {
    if (now[i] == published_[i] || metrics_[i] == nullptr) continue;
    host_->add(metrics_[i], static_cast<double>(now[i]) - static_cast<double>(published_[i]));
  }
  published_ = now;
}

template <typename Body>
engine_status* Service::Do(void* self, Body&& body) {
  auto* service = static_cast<Service*>(self);
  return Guard([&]() -> Status {
    Status status = body(*service->pool_);
    service->meters_.Publish(*service->pool_);
    return status;
  });
}

Service::Service(std::unique_ptr<Pool> pool, const engine_metrics* metrics)
    : pool_(std::move(pool)), meters_(metrics) {
  table_.struct_size = sizeof table_;
  table_.page_tokens = pool_->geometry().page_tokens;
  table_.self = this;
  table_.sequence_open = [](void* self, const engine_kv_open* how, uint64_t* sequence,
                            engine_kv_match* match) -> engine_status* {
    return Do(self, [&](Pool& pool) -> Status {
      ENGINE_RETURN_IF_ERROR(NeedPlace(sequence));
      ENGINE_RETURN_IF_ERROR(CheckComplete(how, "what to open"));
      engine_kv_match found = Sized<engine_kv_match>();
      ENGINE_RETURN_IF_ERROR(pool.Open(*how, sequence, &found));
      if (match != nullptr) Give(found, match);
      return Status();
    });
  };
  table_.sequence_reserve = [](void* self, uint64_t sequence, uint64_t tokens) -> engine_status* {
    return Do(self, [&](Pool& pool) { return pool.Reserve(sequence, tokens); });
  };
  table_.sequence_blocks = [](void* self, uint64_t sequence, const int32_t** blocks,
                              uint32_t* count) -> engine_status* {
    return Guard([&]() -> Status {
      ENGINE_RETURN_IF_ERROR(NeedPlace(blocks));
      ENGINE_RETURN_IF_ERROR(NeedPlace(count));
      return static_cast<Service*>(self)->pool_->Blocks(sequence, blocks, count);
    });
  };
  table_.sequence_written = [](void* self, uint64_t sequence, const int32_t* tokens,
                               uint64_t count) -> engine_status* {
    return Guard(
        [&] { return static_cast<Service*>(self)->pool_->Written(sequence, tokens, count); });
  };
  table_.sequence_truncate = [](void* self, uint64_t sequence, uint64_t count) -> engine_status* {
    return Do(self, [&](Pool& pool) { return pool.Truncate(sequence, count); });
  };
  table_.sequence_fork = [](void* self, uint64_t sequence, uint64_t* copy) -> engine_status* {
    return Do(self, [&](Pool& pool) -> Status {
      ENGINE_RETURN_IF_ERROR(NeedPlace(copy));
      return pool.Fork(sequence, copy);
    });
  };
  table_.sequence_close = [](void* self, uint64_t sequence, uint32_t flags) -> engine_status* {
    return Do(self, [&](Pool& pool) { return pool.Close(sequence, flags); });
  };
  table_.session_tokens = [](void* self, engine_str session, engine_str salt, uint32_t adapter,
                             int32_t* tokens, uint64_t capacity,
                             uint64_t* count) -> engine_status* {
    return Do(self, [&](Pool& pool) -> Status {
      ENGINE_RETURN_IF_ERROR(NeedPlace(count));
      return pool.SessionTokens(View(session), View(salt), tokens, capacity, count, adapter);
    });
  };
  table_.session_drop = [](void* self, engine_str session, engine_str salt,
                           uint32_t adapter) -> engine_status* {
    return Do(self, [&](Pool& pool) -> Status {
      ENGINE_RETURN_IF_ERROR(NeedName(session));
      return pool.SessionDrop(View(session), View(salt), adapter);
    });
  };
  table_.session_save = [](void* self, engine_str session, engine_str salt, uint32_t adapter,
                           engine_str path) -> engine_status* {
    return Do(self, [&](Pool& pool) -> Status {
      ENGINE_RETURN_IF_ERROR(NeedName(session));
      return pool.SessionSave(View(session), View(salt), std::string(View(path)), adapter);
    });
  };
  table_.session_restore = [](void* self, engine_str session, engine_str salt, uint32_t adapter,
                              engine_str path) -> engine_status* {
    return Do(self, [&](Pool& pool) -> Status {
      ENGINE_RETURN_IF_ERROR(NeedName(session));
      return pool.SessionRestore(View(session), View(salt), std::string(View(path)), adapter);
    });
  };
  table_.stats = [](void* self, engine_kv_stats* out) {
    Give(static_cast<Service*>(self)->pool_->Stats(), out);
  };
  meters_.Publish(*pool_);
}

Service::~Service() { meters_.Retire(); }

}  // namespace engine::kv_cache
