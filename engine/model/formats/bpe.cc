#include "engine/model/formats/bpe.h"

#include <algorithm>
#include <queue>

namespace engine::model {
namespace {

constexpr size_t kCachedBytes = 48;   // longer words are rare and not kept
constexpr size_t kShardWords = 8192;  // a full shard is emptied
constexpr size_t kShortSymbols = 40;  // up to here scanning beats a heap

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

size_t HashOf(uint64_t key) {
  key *= 0x9E3779B97F4A7C15u;
  return static_cast<size_t>(key ^ key >> 32);
}

}  // namespace

void Bpe::Init(const std::array<int32_t, 256>& byte_ids, std::vector<Merge> merges) {
  byte_ids_ = byte_ids;
  merges_ = std::move(merges);
  size_t size = 16;
  while (size < merges_.size() * 2) size *= 2;
  slots_.assign(size, Slot());
  for (size_t rank = 0; rank < merges_.size(); ++rank) {
    const uint64_t key = PairKey(merges_[rank].left, merges_[rank].right);
    size_t at = HashOf(key) & (size - 1);
    while (slots_[at].rank != kNone && slots_[at].pair != key) at = (at + 1) & (size - 1);
    slots_[at] = {key, static_cast<int32_t>(rank)};
  }
}

int32_t Bpe::RankOf(int32_t left, int32_t right) const {
  const uint64_t key = PairKey(left, right);
  const size_t mask = slots_.size() - 1;
  for (size_t at = HashOf(key) & mask;; at = (at + 1) & mask) {
    if (slots_[at].rank == kNone || slots_[at].pair == key) return slots_[at].rank;
  }
}

void Bpe::Encode(std::string_view word, std::vector<int32_t>* ids) const {
  const bool cached = word.size() <= kCachedBytes;
  Shard& shard = shards_[Hash()(word) >> 7 & 15];
  if (cached) {
    const std::lock_guard lock(shard.mutex);
    const auto it = shard.words.find(word);
    if (it != shard.words.end()) {
      ids->insert(ids->end(), it->second.begin(), it->second.end());
      return;
    }
  }
  std::vector<int32_t> symbols;
  symbols.reserve(word.size());
  for (char c : word) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    if (id >= 0) symbols.push_back(id);
  }
  symbols.size() <= kShortSymbols ? Short(&symbols) : Long(&symbols);
  ids->insert(ids->end(), symbols.begin(), symbols.end());
  if (cached) {
    const std::lock_guard lock(shard.mutex);
    if (shard.words.size() >= kShardWords) shard.words.clear();
    shard.words.emplace(word, std::move(symbols));
  }
}

void Bpe::Short(std::vector<int32_t>* symbols) const {
  int32_t ranks[kShortSymbols];  // of the pair that begins at each symbol
  size_t n = symbols->size();
  int32_t* s = symbols->data();
  for (size_t k = 0; k + 1 < n; ++k) ranks[k] = RankOf(s[k], s[k + 1]);
  while (n > 1) {
    const int32_t* best = std::min_element(ranks, ranks + n - 1);
    if (*best == kNone) break;
    const auto at = static_cast<size_t>(best - ranks);
    s[at] = merges_[static_cast<size_t>(*best)].result;
    std::copy(s + at + 2, s + n, s + at + 1);
    std::copy(ranks + at + 1, ranks + n - 1, ranks + at);
    --n;
    if (at > 0) ranks[at - 1] = RankOf(s[at - 1], s[at]);
    if (at + 1 < n) ranks[at] = RankOf(s[at], s[at + 1]);
  }
  symbols->resize(n);
}

// A linked list of symbols and a heap of candidate pairs; candidates that no longer hold when they
// are popped are dropped.
void Bpe::Long(std::vector<int32_t>* symbols) const {
  struct Symbol {
    int32_t id;
    int64_t previous, next;  // -1: none
  };
  struct Candidate {
    int32_t rank;
    int64_t at;
    bool operator>(const Candidate& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }
  };
  const auto n = static_cast<int64_t>(symbols->size());
  std::vector<Symbol> list(symbols->size());
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  const auto at = [&list](int64_t k) -> Symbol& { return list[static_cast<size_t>(k)]; };
  const auto offer = [&](int64_t left) {
    if (left < 0 || at(left).next < 0) return;
    const int32_t rank = RankOf(at(left).id, at(at(left).next).id);
    if (rank != kNone) heap.push({rank, left});
  };
  for (int64_t k = 0; k < n; ++k) {
    at(k) = {(*symbols)[static_cast<size_t>(k)], k - 1, k + 1 < n ? k + 1 : -1};
  }
  for (int64_t k = 0; k < n; ++k) offer(k);
  while (!heap.empty()) {
    const Candidate c = heap.top();
    heap.pop();
    Symbol& left = at(c.at);
    if (left.id < 0 || left.next < 0 || RankOf(left.id, at(left.next).id) != c.rank) continue;
    Symbol& right = at(left.next);
    left.id = merges_[static_cast<size_t>(c.rank)].result;
    right.id = -1;  // gone
    left.next = right.next;
    if (left.next >= 0) at(left.next).previous = c.at;
    offer(left.previous);
    offer(c.at);
  }
  symbols->clear();
  for (int64_t k = n > 0 ? 0 : -1; k >= 0; k = at(k).next) symbols->push_back(at(k).id);
}

}  // namespace engine::model
