// The pool behind the KvStore sites of one model: sequences, what they share, and what makes room.
// Invariants: a page that a sequence is about to write is its own alone; a sequence that holds a
// findable page holds its parent too, one place before; pages that no sequence holds can all be
// taken back, so free and cached pages are what can still be given. Memory held, tables, indexes,
// histories and names included, never exceeds the budget: everything is charged to one ledger
// before it is allocated. See engine.kv_pool/1 for what each call promises.
#ifndef PLUGINS_KV_CACHE_POOL_H_
#define PLUGINS_KV_CACHE_POOL_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "engine/types.h"
#include "geometry.h"
#include "ledger.h"
#include "pages.h"
#include "prefix.h"
#include "sessions.h"

namespace engine::kv_cache {

struct Config {
  Geometry geometry;  // complete
  uint64_t budget = 0;
  uint64_t session_budget = 0;      // bytes that idle sessions may hold; 0: no limit of their own
  uint64_t session_timeout_ns = 0;  // 0: sessions stay
  bool prefix_sharing = true;
  uint64_t fingerprint = 0;  // of the model
  int64_t vocab = 0;         // tokens of session files must be below; 0: unknown
  HashKeys keys = {};
  std::function<uint64_t()> now_ns = {};  // a clock that never goes back
  Fault fault = Fault::kNone;             // for tests
};

class Pool {
 public:
  // How many pages a budget gives beside all else; refused when that is none.
  static Status PagesWithin(const Geometry& geometry, uint64_t budget, uint32_t* pages);
  // `allocate` gives that many bytes, 64-byte aligned, alive as long as the pool.
  static Status Make(Config config,
                     const std::function<Status(uint64_t bytes, char** memory)>& allocate,
                     std::unique_ptr<Pool>* out);
  ~Pool();

  Status Open(const engine_kv_open& how, uint64_t* sequence, engine_kv_match* match);
  Status Reserve(uint64_t sequence, uint64_t tokens);
  Status Blocks(uint64_t sequence, const int32_t** blocks, uint32_t* count);
  Status Written(uint64_t sequence, const int32_t* tokens, uint64_t count);
  Status Truncate(uint64_t sequence, uint64_t count);
  Status Fork(uint64_t sequence, uint64_t* copy);
  Status Close(uint64_t sequence, uint32_t flags);

  Status SessionTokens(std::string_view name, std::string_view salt, int32_t* tokens,
                       uint64_t capacity, uint64_t* count, uint32_t adapter = 0);
  Status SessionDrop(std::string_view name, std::string_view salt, uint32_t adapter = 0);
  Status SessionSave(std::string_view name, std::string_view salt, const std::string& path,
                     uint32_t adapter = 0);
  Status SessionRestore(std::string_view name, std::string_view salt, const std::string& path,
                        uint32_t adapter = 0);

  engine_kv_stats Stats() const;
  // How often sequences were opened for each engine_kv_reason.
  static constexpr size_t kReasons = ENGINE_KV_MISS_PREEMPTED + 1;
  std::array<uint64_t, kReasons> Reasons() const;

  const Geometry& geometry() const { return config_.geometry; }
  uint32_t pages() const { return pages_.total(); }
  // One page of one block; the next page of the same block is geometry().page_bytes further.
  char* Piece(uint32_t block, int32_t page) const {
    return pages_.data(page) + block * config_.geometry.block_bytes;
  }

 private:
  friend struct Audit;
  struct Sequence {
    explicit Sequence(Ledger* ledger) : table(ledger) {}
    Charge charge;
    Buffer<int32_t> table;  // its pages in order; held as sequences do
    uint64_t written = 0;
    uint64_t chained = 0;  // leading pages that are findable and written to their ends
    SaltKey salt;
    bool private_session = false;  // asked not to share, or its session must not
    Session* session = nullptr;    // busy as long as this is open
  };
  class Saving;     // a session under way to a file
  class Restoring;  // and back

  Pool(Config config, uint32_t pages, char* memory);
  static uint64_t FixedCost(const Geometry& geometry);
  static uint64_t PageCost(const Geometry& geometry);
  static uint64_t SequenceCost();

  // All below REQUIRE the mutex.
  Status Find(uint64_t sequence, Sequence** out);
  Status OpenFor(const engine_kv_open& how, const SaltKey& salt, Session* session,
                 uint64_t* sequence, engine_kv_match* match);
  engine_kv_reason WhyMissed(const engine_kv_open& how, const SaltKey& salt, bool shares) const;
  uint64_t Match(const engine_kv_open& how, const SaltKey& salt, int32_t* last) const;
  bool Shares(const Sequence& s) const { return config_.prefix_sharing && !s.private_session; }
  // A sequence with a table of that many unset places.
  Status NewSequence(uint64_t places, uint64_t* id, Sequence** out);
  Status NoTableRoom(std::string_view what) const;
  void Publish(Sequence* s);
  Status CloseSession(Sequence* s, bool keep);
  uint64_t CommonLength(const Sequence& s, const Buffer<int32_t>& tokens) const;
  void DropPage(int32_t page);
  Status FindIdle(std::string_view name, const SaltKey& key, Session** session);

  // Forgets sessions that were idle for too long.
  void Expire();
  // Makes the ledger have room for `bytes`, at the cost of idle sessions.
  bool MakeRoom(uint64_t bytes);
  void EvictSession(Session* session, bool history);
  bool EvictOne();
  // REQUIRES: free and cached pages are that many.
  void MakeFree(uint64_t pages);
  uint64_t Available() const { return uint64_t{pages_.free()} + pages_.cached(); }
  void HoldSessionBudget();
  uint64_t PagesFor(uint64_t tokens) const {
    return tokens / page_tokens_ + (tokens % page_tokens_ != 0);
  }

  static constexpr size_t kMostNameBytes = 1024;

  const Config config_;
  const uint64_t page_tokens_;
  mutable std::mutex mutex_;
  // All below are guarded by mutex_, but for the contents of pages: those belong to their holders.
  Ledger ledger_;
  Ledger session_ledger_;  // a part of it
  Pages pages_;
  Prefix prefix_;
  Sessions sessions_;
  std::map<uint64_t, Sequence> sequences_;
  uint64_t next_ = 1;
  uint64_t lookups_ = 0, hits_ = 0, looked_up_tokens_ = 0, cached_tokens_ = 0;
  uint64_t evicted_pages_ = 0, copied_pages_ = 0;
  std::array<uint64_t, kReasons> reasons_ = {};
};

}  // namespace engine::kv_cache

#endif  // PLUGINS_KV_CACHE_POOL_H_
