#include "prefix.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace engine::kv_cache {
namespace {

void Round(std::array<uint64_t, 4>* v) {
  auto& [a, b, c, d] = *v;
  a += b;
  b = std::rotl(b, 13) ^ a;
  a = std::rotl(a, 32);
  c += d;
  d = std::rotl(d, 16) ^ c;
  a += d;
  d = std::rotl(d, 21) ^ a;
  c += b;
  b = std::rotl(b, 17) ^ c;
  c = std::rotl(c, 32);
}

// SipHash-2-4 (Aumasson and Bernstein 2012).
uint64_t SipHash(uint64_t k0, uint64_t k1, const void* data, size_t size) {
  std::array<uint64_t, 4> v = {k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du,
                               k0 ^ 0x6c7967656e657261u, k1 ^ 0x7465646279746573u};
  const auto add = [&v](uint64_t word) {
    v[3] ^= word;
    Round(&v);
    Round(&v);
    v[0] ^= word;
  };
  const auto* at = static_cast<const unsigned char*>(data);
  for (size_t left = size; left >= 8; left -= 8, at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, at, 8);
    add(word);
  }
  uint64_t last = static_cast<uint64_t>(size) << 56;
  for (size_t i = 0; i < size % 8; ++i) last |= static_cast<uint64_t>(at[i]) << (8 * i);
  add(last);
  v[2] ^= 0xff;
  for (int i = 0; i < 4; ++i) Round(&v);
  return v[0] ^ v[1] ^ v[2] ^ v[3];
}

// Seeds of hashes that stand for different things.
constexpr uint64_t kSaltA = 1, kSaltB = 2, kPlain = 3;

}  // namespace

Prefix::Prefix(Pages* pages, const HashKeys& keys, Fault fault)
    : pages_(pages),
      keys_(keys),
      fault_(fault),
      buckets_(std::bit_ceil(std::max(pages->total(), 1u))),
      chains_(new int32_t[buckets_]),
      firsts_(new int32_t[buckets_]) {
  std::fill_n(chains_.get(), buckets_, kNoPage);
  std::fill_n(firsts_.get(), buckets_, kNoPage);
}

uint64_t Prefix::Hash(uint64_t seed, const void* data, size_t size) const {
  return SipHash(keys_.k0 ^ seed, keys_.k1 + seed, data, size);
}

SaltKey Prefix::KeyOf(std::string_view salt, uint32_t adapter) const {
  const uint64_t of = uint64_t{adapter} << 32;
  return {Hash(kSaltA | of, salt.data(), salt.size()), Hash(kSaltB | of, salt.data(), salt.size())};
}

uint64_t Prefix::HashPage(int32_t parent, const SaltKey& salt, const int32_t* tokens) const {
  const uint64_t seed = parent == kNoPage ? salt.a : pages_->at(parent).hash;
  return Hash(seed, tokens, pages_->geometry().page_tokens * sizeof(int32_t)) & keys_.mask;
}

uint64_t Prefix::HashPlain(const int32_t* tokens) const {
  return Hash(kPlain, tokens, pages_->geometry().page_tokens * sizeof(int32_t)) & keys_.mask;
}

bool Prefix::SameTokens(int32_t page, const int32_t* tokens) const {
  return fault_ == Fault::kTrustHash ||
         std::memcmp(pages_->tokens(page), tokens,
                     pages_->geometry().page_tokens * sizeof(int32_t)) == 0;
}

int32_t Prefix::Find(int32_t parent, const SaltKey& salt, const int32_t* tokens) const {
  const uint64_t hash = HashPage(parent, salt, tokens);
  for (int32_t i = chains_[hash & (buckets_ - 1)]; i != kNoPage; i = pages_->at(i).next) {
    const Page& p = pages_->at(i);
    if (p.hash == hash && p.parent == parent && (parent != kNoPage || p.salt == salt) &&
        SameTokens(i, tokens)) {
      return i;
    }
  }
  return kNoPage;
}

void Prefix::Insert(int32_t page, int32_t parent, const SaltKey& salt) {
  Page& p = pages_->at(page);
  const int32_t* tokens = pages_->tokens(page);
  p.hash = HashPage(parent, salt, tokens);
  p.parent = parent;
  p.findable = true;
  int32_t& bucket = chains_[p.hash & (buckets_ - 1)];
  p.next = bucket;
  bucket = page;
  if (parent != kNoPage) {
    if (fault_ != Fault::kUncountedChild) ++pages_->at(parent).children;
    pages_->Settle(parent);
  } else {
    p.salt = salt;
    p.plain = HashPlain(tokens);
    int32_t& first = firsts_[p.plain & (buckets_ - 1)];
    p.next_plain = first;
    first = page;
  }
  pages_->Settle(page);
}

void Prefix::Remove(int32_t page, bool evicted) {
  Page& p = pages_->at(page);
  int32_t* link = &chains_[p.hash & (buckets_ - 1)];
  while (*link != page) link = &pages_->at(*link).next;
  *link = p.next;
  if (p.parent == kNoPage) {
    link = &firsts_[p.plain & (buckets_ - 1)];
    while (*link != page) link = &pages_->at(*link).next_plain;
    *link = p.next_plain;
    if (evicted) ghosts_[next_ghost_++ % kGhosts] = p.hash;
  }
  const int32_t parent = p.parent;
  p.next = p.next_plain = p.parent = kNoPage;
  pages_->Unfind(page);
  if (parent != kNoPage) {
    if (fault_ != Fault::kUncountedChild) --pages_->at(parent).children;
    pages_->Settle(parent);
  }
}

bool Prefix::KnownElsewhere(const SaltKey& salt, const int32_t* tokens) const {
  const uint64_t plain = HashPlain(tokens);
  for (int32_t i = firsts_[plain & (buckets_ - 1)]; i != kNoPage; i = pages_->at(i).next_plain) {
    const Page& p = pages_->at(i);
    if (p.plain == plain && p.salt != salt && SameTokens(i, tokens)) return true;
  }
  return false;
}

bool Prefix::WasEvicted(const SaltKey& salt, const int32_t* tokens) const {
  const uint64_t hash = HashPage(kNoPage, salt, tokens);
  const auto* end = ghosts_.data() + std::min<uint64_t>(next_ghost_, kGhosts);
  return std::find(ghosts_.data(), end, hash) != end;
}

}  // namespace engine::kv_cache
