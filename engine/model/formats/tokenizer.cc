#include "engine/model/formats/tokenizer.h"

#include <unicode/uchar.h>

#include <algorithm>

#include "engine/model/formats/byte_alphabet.h"
#include "engine/model/formats/unicode.h"

namespace engine::model {
namespace {

constexpr size_t kMaxTokens = size_t{1} << 24;

bool IsWordChar(std::string_view s, size_t at, bool before) {
  if (before) {
    if (at == 0) return false;
    do --at;
    while (at > 0 && (static_cast<unsigned char>(s[at]) & 0xC0) == 0x80);
  }
  if (at >= s.size()) return false;
  const auto c = static_cast<UChar32>(NextCodePoint(s, &at));
  return u_isalnum(c) || c == '_' || (U_GET_GC_MASK(c) & U_GC_M_MASK) != 0;
}

// The beginning of the white space that ends s.
size_t TrailingSpace(std::string_view s) {
  size_t end = s.size();
  while (end > 0) {
    size_t at = end - 1;
    while (at > 0 && (static_cast<unsigned char>(s[at]) & 0xC0) == 0x80) --at;
    size_t next = at;
    if (ClassOf(NextCodePoint(s, &next)) != kSpace) break;
    end = at;
  }
  return end;
}

size_t LeadingSpace(std::string_view s) {
  size_t at = 0;
  for (size_t next = 0; next < s.size(); at = next) {
    if (ClassOf(NextCodePoint(s, &next)) != kSpace) break;
  }
  return at;
}

}  // namespace

Tokenizer::Tokenizer() = default;
Tokenizer::~Tokenizer() = default;

Status Tokenizer::Create(TokenizerSpec spec, std::string_view where,
                         std::unique_ptr<Tokenizer>* out) {
  const auto bad = [&](const auto&... parts) {
    return Error(ENGINE_DATA_LOSS, where, ": ", parts...);
  };
  if (spec.tokens.empty() || spec.tokens.size() > kMaxTokens) {
    return bad("the vocabulary has ", spec.tokens.size(), " tokens; 1 to ", kMaxTokens,
               " are valid");
  }
  std::unique_ptr<Tokenizer> t(new Tokenizer);
  const size_t count = spec.tokens.size();
  const auto known = [count](int64_t id) { return id >= 0 && id < static_cast<int64_t>(count); };
  t->spec_ = std::move(spec);
  t->bytes_.resize(count);
  t->special_.assign(count, false);
  t->added_by_byte_.resize(256);
  for (size_t id = 0; id < count; ++id) {
    const std::string& text = t->spec_.tokens[id];
    if (!BytesOfToken(text, &t->bytes_[id])) t->bytes_[id] = text;
  }
  for (const Merge& m : t->spec_.merges) {
    if (!known(m.left) || !known(m.right) || !known(m.result)) {
      return bad("a merge names a token outside the vocabulary of ", count);
    }
  }
  for (const AddedToken& a : t->spec_.added) {
    if (!known(a.id)) return bad("added token ", a.id, " is outside the vocabulary of ", count);
    if (a.text.empty()) return bad("added token ", a.id, " is empty");
    t->bytes_[static_cast<size_t>(a.id)] = a.text;
    t->special_[static_cast<size_t>(a.id)] = a.special;
    t->added_by_byte_[static_cast<unsigned char>(a.text[0])].push_back(&a);
  }
  for (auto& list : t->added_by_byte_) {
    std::stable_sort(list.begin(), list.end(), [](const AddedToken* a, const AddedToken* b) {
      return a->text.size() > b->text.size();
    });
  }
  for (const auto* ids : {&t->spec_.prefix_ids, &t->spec_.suffix_ids}) {
    for (int32_t id : *ids) {
      if (!known(id)) return bad("special token ", id, " is outside the vocabulary of ", count);
    }
  }
  t->find_.reserve(count);
  for (const AddedToken& a : t->spec_.added) t->find_.emplace(a.text, a.id);
  for (size_t id = 0; id < count; ++id) t->find_.emplace(t->bytes_[id], static_cast<int32_t>(id));
  std::array<int32_t, 256> byte_ids;
  byte_ids.fill(-1);
  for (size_t id = 0; id < count; ++id) {
    std::string one;
    if (t->spec_.tokens[id].size() <= 2 && BytesOfToken(t->spec_.tokens[id], &one) &&
        one.size() == 1) {
      byte_ids[static_cast<unsigned char>(one[0])] = static_cast<int32_t>(id);
    }
  }
  t->bpe_.Init(byte_ids, std::move(t->spec_.merges));
  *out = std::move(t);
  return Status();
}

const AddedToken* Tokenizer::NextAdded(std::string_view text, size_t from, bool parse_special,
                                       size_t* at) const {
  for (size_t k = from; k < text.size(); ++k) {
    for (const AddedToken* a : added_by_byte_[static_cast<unsigned char>(text[k])]) {
      if (a->special && !parse_special) continue;
      if (text.compare(k, a->text.size(), a->text) != 0) continue;
      if (a->single_word &&
          (IsWordChar(text, k, true) || IsWordChar(text, k + a->text.size(), false))) {
        continue;
      }
      *at = k;
      return a;
    }
  }
  return nullptr;
}

Status Tokenizer::EncodePlain(std::string_view text, std::vector<int32_t>* ids) const {
  if (text.empty()) return Status();
  std::string normal;
  if (spec_.normalize_nfc) {
    normal = ToNfc(text);
    text = normal;
  }
  std::vector<std::string_view> words;
  ENGINE_RETURN_IF_ERROR(spec_.pre.Split(text, &words));
  for (std::string_view word : words) {
    if (spec_.ignore_merges) {
      if (const auto it = find_.find(word); it != find_.end() && !IsSpecial(it->second)) {
        ids->push_back(it->second);
        continue;
      }
    }
    bpe_.Encode(word, ids);
  }
  return Status();
}

Status Tokenizer::Encode(std::string_view text, bool parse_special, bool add_special,
                         std::vector<int32_t>* ids) const {
  ids->clear();
  if (text.size() > size_t{1} << 30) {
    return Error(ENGINE_INVALID_ARGUMENT, "a text of ", text.size(),
                 " bytes is too long to tokenize at once; at most 1 GiB is");
  }
  std::string repaired;
  text = ValidUtf8(text, &repaired);
  std::vector<int32_t> found;
  if (add_special) found = spec_.prefix_ids;
  for (size_t at = 0; at < text.size();) {
    size_t match = text.size();
    const AddedToken* added = NextAdded(text, at, parse_special, &match);
    std::string_view plain = text.substr(at, match - at);
    if (added != nullptr && added->lstrip) plain = plain.substr(0, TrailingSpace(plain));
    ENGINE_RETURN_IF_ERROR(EncodePlain(plain, &found));
    if (added == nullptr) break;
    found.push_back(added->id);
    at = match + added->text.size();
    if (added->rstrip) at += LeadingSpace(text.substr(at));
  }
  if (add_special) {
    found.insert(found.end(), spec_.suffix_ids.begin(), spec_.suffix_ids.end());
  }
  *ids = std::move(found);
  return Status();
}

std::string Tokenizer::Decode(const std::vector<int32_t>& ids, bool skip_special) const {
  std::string out;
  for (int32_t id : ids) {
    if (!skip_special || !IsSpecial(id)) out += TokenBytes(id);
  }
  std::string repaired;
  const std::string_view valid = ValidUtf8(out, &repaired);
  return valid.data() == out.data() ? out : repaired;
}

std::string_view Tokenizer::TokenBytes(int32_t id) const {
  if (id < 0 || id >= vocab_size()) return {};
  return bytes_[static_cast<size_t>(id)];
}

bool Tokenizer::IsSpecial(int32_t id) const {
  return id >= 0 && id < vocab_size() && special_[static_cast<size_t>(id)];
}

int32_t Tokenizer::Find(std::string_view token) const {
  const auto it = find_.find(token);
  return it == find_.end() ? -1 : it->second;
}

std::string StreamDecoder::Append(int32_t id) {
  if (skip_special_ && tokenizer_.IsSpecial(id)) return {};
  pending_ += tokenizer_.TokenBytes(id);
  // Only the last three bytes can be the beginning of a code point that is not complete.
  size_t complete = pending_.size();
  for (size_t back = 1; back <= std::min<size_t>(3, pending_.size()); ++back) {
    const size_t at = pending_.size() - back;
    if ((static_cast<unsigned char>(pending_[at]) & 0xC0) == 0x80) continue;
    if (Utf8Length(pending_, at) == 0) complete = at;
    break;
  }
  std::string repaired;
  const std::string out(ValidUtf8(std::string_view(pending_).substr(0, complete), &repaired));
  pending_.erase(0, complete);
  return out;
}

std::string StreamDecoder::Flush() {
  std::string repaired;
  const std::string out(ValidUtf8(pending_, &repaired));
  pending_.clear();
  return out;
}

}  // namespace engine::model
