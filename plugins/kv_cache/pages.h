// The pages: their memory, who holds each, and which of the unheld ones goes first.
// Invariants: a page is free, or held by sequences or sessions, or findable in the prefix cache, or
// several of the last three; used() + cached() + free() == total(). The list of leaves holds
// exactly the findable pages that nobody holds and that no findable page continues, oldest first.
#ifndef PLUGINS_KV_CACHE_PAGES_H_
#define PLUGINS_KV_CACHE_PAGES_H_

#include <cstdint>
#include <memory>

#include "geometry.h"

namespace engine::kv_cache {

inline constexpr int32_t kNoPage = -1;

// A salt as the pool knows it: 128 bits of a keyed hash.
struct SaltKey {
  uint64_t a = 0, b = 0;
  bool operator==(const SaltKey&) const = default;
  auto operator<=>(const SaltKey&) const = default;
};

enum class Holder { kSequence, kSession };

struct Page {
  uint64_t hash = 0;   // of the chain up to here; where it is findable
  uint64_t plain = 0;  // of its tokens alone; where it is a findable first page
  uint64_t stamp = 0;  // when it was last let go
  SaltKey salt;        // where it is a findable first page
  int32_t parent = kNoPage;
  int32_t next = kNoPage;        // in its bucket of the index, or among the free pages
  int32_t next_plain = kNoPage;  // in its bucket of first pages
  int32_t older = kNoPage, newer = kNoPage;
  uint32_t children = 0;  // findable pages that continue it
  uint32_t sequences = 0, sessions = 0;
  bool findable = false;
  bool listed = false;  // among the leaves
};

class Pages {
 public:
  // `memory` holds total pages of geometry.page_bytes each, 64-byte aligned, longer than this.
  Pages(const Geometry& geometry, uint32_t total, char* memory);

  const Geometry& geometry() const { return geometry_; }
  uint32_t total() const { return total_; }
  uint32_t free() const { return free_; }
  uint32_t used() const { return used_; }                     // held by sequences
  uint32_t cached() const { return total_ - free_ - used_; }  // all else that is not free
  uint32_t held_by_sessions() const { return by_sessions_; }

  const Page& at(int32_t page) const { return pages_[page]; }
  Page& at(int32_t page) { return pages_[page]; }
  // The tokens whose keys and values the page holds.
  int32_t* tokens(int32_t page) const {
    return tokens_.get() + static_cast<int64_t>(page) * geometry_.page_tokens;
  }
  char* data(int32_t page) const {
    return memory_ + static_cast<uint64_t>(page) * geometry_.page_bytes;
  }
  // Nobody but this one holder sees it, so it may be written.
  bool Exclusive(int32_t page) const {
    const Page& p = pages_[page];
    return !p.findable && p.sequences + p.sessions == 1;
  }

  // A free page, held by a sequence from now on. REQUIRES: free() > 0.
  int32_t Take();
  void Hold(int32_t page, Holder holder);
  // Lets go; a page that nobody holds or finds becomes free, and true is answered.
  bool Drop(int32_t page, Holder holder);
  // Keys, values and the first `count` tokens.
  void Copy(int32_t from, int32_t to, uint32_t count);

  // Time, in events.
  uint64_t Tick() { return ++now_; }
  void Touch(int32_t page) { pages_[page].stamp = Tick(); }

  // For the prefix cache. After a page became findable or its children changed: puts it among the
  // leaves or takes it out; frees it where nobody holds or finds it, and answers true.
  bool Settle(int32_t page);
  // It is findable no longer; true when it became free.
  bool Unfind(int32_t page);
  int32_t oldest_leaf() const { return oldest_; }

  // What one page costs beside its keys and values.
  static uint64_t TableCost(const Geometry& geometry) {
    return sizeof(Page) + uint64_t{geometry.page_tokens} * sizeof(int32_t);
  }

 private:
  friend struct Audit;
  void List(int32_t page);
  void Unlist(int32_t page);

  const Geometry geometry_;
  const uint32_t total_;
  char* const memory_;
  const std::unique_ptr<Page[]> pages_;
  const std::unique_ptr<int32_t[]> tokens_;
  int32_t first_free_ = kNoPage;
  int32_t oldest_ = kNoPage, newest_ = kNoPage;
  uint32_t free_ = 0, used_ = 0, by_sessions_ = 0;
  uint64_t now_ = 0;
};

}  // namespace engine::kv_cache

#endif  // PLUGINS_KV_CACHE_PAGES_H_
