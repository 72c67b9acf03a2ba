// Byte-pair encoding of one word: the merge of lowest rank, leftmost first, until none applies.
// O(n log n) in the word's length. Immutable but for a locked cache of short words.
#ifndef ENGINE_MODEL_FORMATS_BPE_H_
#define ENGINE_MODEL_FORMATS_BPE_H_

#include <array>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace engine::model {

// Two adjacent tokens that become one. Rank is the position in the list.
struct Merge {
  int32_t left = 0, right = 0, result = 0;
};

class Bpe {
 public:
  // byte_ids: the token of each byte, or -1, which drops the byte. Of two merges of one pair the
  // later one counts.
  void Init(const std::array<int32_t, 256>& byte_ids, std::vector<Merge> merges);
  const std::vector<Merge>& merges() const { return merges_; }  // by rank
  // Appends the tokens of a word. [any thread]
  void Encode(std::string_view word, std::vector<int32_t>* ids) const;

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
  };
  struct Shard {
    std::mutex mutex;
    std::unordered_map<std::string, std::vector<int32_t>, Hash, std::equal_to<>> words;
  };
  static constexpr int32_t kNone = 0x7fffffff;

  int32_t RankOf(int32_t left, int32_t right) const;
  void Short(std::vector<int32_t>* symbols) const;
  void Long(std::vector<int32_t>* symbols) const;

  std::array<int32_t, 256> byte_ids_{};
  std::vector<Merge> merges_;
  // Open addressing, a power of two of slots, at most half full.
  struct Slot {
    uint64_t pair = ~uint64_t{0};
    int32_t rank = kNone;
  };
  std::vector<Slot> slots_;
  mutable std::array<Shard, 16> shards_;
};

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_BPE_H_
