// The bytes of a model's tokens.
#include "vocabulary.h"

#include <algorithm>
#include <numeric>

namespace engine::guided {
namespace {

constexpr size_t kMostTokens = size_t{1} << 24, kMostBytes = size_t{1} << 30;

}  // namespace

uint32_t Vocabulary::KindOf(uint8_t byte) {
  if (byte < 0x20) return byte == '\t' ? 0 : byte == '\n' ? 1 : byte == '\r' ? 2 : 3;
  if (byte >= '0' && byte <= '9') return 4;
  if (byte >= 'A' && byte <= 'Z') return byte <= 'F' ? 5 : 6;
  if (byte >= 'a' && byte <= 'z') return byte <= 'f' ? 7 : 8;
  if (byte >= 0x80) return byte < 0xc0 ? 9 : byte < 0xe0 ? 10 : byte < 0xf0 ? 11 : 12;
  // What is left is the space, 32 punctuation marks and DEL.
  uint32_t rank = byte - 0x20u;
  if (byte > '9') rank -= 10;
  if (byte > 'Z') rank -= 26;
  if (byte > 'z') rank -= 26;
  return 13 + rank;
}

Status Vocabulary::Make(const std::vector<std::string>& tokens,
                        std::shared_ptr<const Vocabulary>* vocabulary) {
  size_t bytes = 0;
  for (const std::string& token : tokens) bytes += token.size();
  if (tokens.empty() || tokens.size() > kMostTokens || bytes > kMostBytes) {
    return Error(ENGINE_INVALID_ARGUMENT, "a vocabulary of ", tokens.size(), " tokens and ", bytes,
                 " bytes; it can have 1 to ", kMostTokens, " tokens and ", kMostBytes, " bytes");
  }
  std::shared_ptr<Vocabulary> made(new Vocabulary);
  made->text_.reserve(bytes);
  made->starts_.reserve(tokens.size() + 1);
  for (const std::string& token : tokens) {
    made->starts_.push_back(static_cast<uint32_t>(made->text_.size()));
    made->text_ += token;
    if (token.size() == 1) made->alphabet_.set(static_cast<uint8_t>(token[0]));
  }
  made->starts_.push_back(static_cast<uint32_t>(made->text_.size()));

  std::vector<int32_t>& order = made->order_;
  order.resize(tokens.size());
  std::iota(order.begin(), order.end(), 0);
  std::erase_if(order, [&](int32_t token) { return tokens[token].empty(); });
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const int by_text = tokens[a].compare(tokens[b]);  // as unsigned bytes
    return by_text != 0 ? by_text < 0 : a < b;
  });

  std::vector<TrieNode>& trie = made->trie_;
  std::vector<uint32_t> open;  // nodes on the way to the last token
  const auto close = [&](size_t depth) {
    while (open.size() > depth) {
      const uint32_t node = open.back();
      open.pop_back();
      trie[node].end = static_cast<uint32_t>(trie.size());
      if (open.empty()) continue;
      trie[open.back()].below |= trie[node].below | uint64_t{1} << KindOf(trie[node].byte);
    }
  };
  std::string_view last;
  for (size_t i = 0; i < order.size(); ++i) {
    const std::string_view token = tokens[order[i]];
    const size_t same = static_cast<size_t>(
        std::mismatch(last.begin(), last.end(), token.begin(), token.end()).first - last.begin());
    close(same);
    for (size_t depth = same; depth < token.size(); ++depth) {
      open.push_back(static_cast<uint32_t>(trie.size()));
      TrieNode node;
      node.first_token = static_cast<uint32_t>(i);
      node.depth = static_cast<uint32_t>(depth + 1);
      node.byte = static_cast<uint8_t>(token[depth]);
      trie.push_back(node);
    }
    made->deepest_ = std::max(made->deepest_, static_cast<uint32_t>(token.size()));
    last = token;
  }
  close(0);
  TrieNode sentinel;
  sentinel.first_token = static_cast<uint32_t>(order.size());
  trie.push_back(sentinel);
  *vocabulary = std::move(made);
  return Status();
}

}  // namespace engine::guided
