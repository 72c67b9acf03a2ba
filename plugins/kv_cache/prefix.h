// The prefix cache: full pages found again by the tokens up to their end and a salt.
// A page's hash is that of its parent's hash and its own tokens, the salt's at the root. A hash
// only finds candidates: a page is given when its parent is the very page found before, its tokens
// are equal, and, at the root, its salt is; so a collision costs time and nothing else. Invariant:
// the parent of a findable page is findable.
#ifndef PLUGINS_KV_CACHE_PREFIX_H_
#define PLUGINS_KV_CACHE_PREFIX_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

#include "pages.h"

namespace engine::kv_cache {

// Ways to break a rule on purpose, so that a test can show that it notices.
enum class Fault { kNone, kTrustHash, kSkipCopyOnWrite, kForgetPage, kUncountedChild };

// Keys of the hash, which nobody outside must know: who knew them could make prompts that all meet
// in one bucket. `mask` keeps some bits only; tests let hashes collide by it.
struct HashKeys {
  uint64_t k0 = 0, k1 = 0;
  uint64_t mask = UINT64_MAX;
};

class Prefix {
 public:
  Prefix(Pages* pages, const HashKeys& keys, Fault fault);

  // Of a salt and an adapter's number: what one adapter computed is not found by another.
  SaltKey KeyOf(std::string_view salt, uint32_t adapter) const;
  // The page that continues `parent` (kNoPage: begins a sequence of that salt) by a page of these
  // tokens, or kNoPage.
  int32_t Find(int32_t parent, const SaltKey& salt, const int32_t* tokens) const;
  // Makes `page` findable by its tokens. REQUIRES: it is not; the parent is; Find gives nothing.
  void Insert(int32_t page, int32_t parent, const SaltKey& salt);
  // Makes it unfindable, and free when nobody holds it. REQUIRES: no findable page continues it.
  // With `evicted`, a first page is remembered as having been there.
  void Remove(int32_t page, bool evicted);

  // A first page of these tokens is known under another salt or adapter.
  bool KnownElsewhere(const SaltKey& salt, const int32_t* tokens) const;
  // A first page of these tokens and this salt was evicted not long ago.
  bool WasEvicted(const SaltKey& salt, const int32_t* tokens) const;

  // What the index costs for each page: two tables of at most two buckets a page.
  static constexpr uint64_t kCostPerPage = 4 * sizeof(int32_t);
  // And once.
  static constexpr uint32_t kGhosts = 512;
  static constexpr uint64_t kFixedCost = kGhosts * sizeof(uint64_t);

 private:
  friend struct Audit;
  uint64_t Hash(uint64_t seed, const void* data, size_t size) const;
  uint64_t HashPage(int32_t parent, const SaltKey& salt, const int32_t* tokens) const;
  uint64_t HashPlain(const int32_t* tokens) const;
  bool SameTokens(int32_t page, const int32_t* tokens) const;

  Pages* const pages_;
  const HashKeys keys_;
  const Fault fault_;
  const uint32_t buckets_;  // a power of two
  const std::unique_ptr<int32_t[]> chains_, firsts_;
  std::array<uint64_t, kGhosts> ghosts_ = {};  // hashes of evicted first pages, a ring
  uint64_t next_ghost_ = 0;
};

}  // namespace engine::kv_cache

#endif  // PLUGINS_KV_CACHE_PREFIX_H_
