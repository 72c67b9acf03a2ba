// The bytes of a model's tokens, as a trie laid out in preorder: whatever walks it goes forward
// through one array, and leaves a subtree by one step. Made once for a model and shared; constant.
#ifndef PLUGINS_GUIDED_VOCABULARY_H_
#define PLUGINS_GUIDED_VOCABULARY_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.hpp"
#include "program.h"

namespace engine::guided {

class Vocabulary {
 public:
  struct TrieNode {
    uint64_t below = 0;        // kinds of bytes in its subtree, itself left out; see KindOf
    uint32_t end = 0;          // the node after its subtree
    uint32_t first_token = 0;  // of order(); its own end where those of the next node begin
    uint32_t depth = 0;        // 1 for first bytes
    uint8_t byte = 0;
  };

  // `tokens` gives the bytes of each token's number; those of special ones are empty.
  static Status Make(const std::vector<std::string>& tokens,
                     std::shared_ptr<const Vocabulary>* vocabulary);

  size_t size() const { return starts_.size() - 1; }
  size_t words() const { return (size() + 63) / 64; }  // of a mask
  std::string_view bytes(int32_t token) const {
    return std::string_view(text_).substr(starts_[token], starts_[token + 1] - starts_[token]);
  }
  // The last one is a sentinel.
  const std::vector<TrieNode>& trie() const { return trie_; }
  const std::vector<int32_t>& order() const { return order_; }
  uint32_t deepest() const { return deepest_; }
  // Bytes that are tokens of their own.
  const ByteSet& alphabet() const { return alphabet_; }

  // Bytes fall into at most 64 kinds: each punctuation mark is one, letters and digits are few.
  static uint32_t KindOf(uint8_t byte);

 private:
  Vocabulary() = default;

  std::string text_;
  std::vector<uint32_t> starts_;
  std::vector<TrieNode> trie_;
  std::vector<int32_t> order_;
  uint32_t deepest_ = 0;
  ByteSet alphabet_;
};

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_VOCABULARY_H_
