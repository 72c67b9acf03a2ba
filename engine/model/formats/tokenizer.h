// Byte-level BPE tokenizer: text to ids and back, identical to Hugging Face's fast tokenizers.
// Immutable after construction but for a cache of words, which is locked: every const function
// may be called by many threads at once.
#ifndef ENGINE_MODEL_FORMATS_TOKENIZER_H_
#define ENGINE_MODEL_FORMATS_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/model/formats/bpe.h"
#include "engine/model/formats/gguf.h"
#include "engine/model/formats/pre_forms.h"
#include "engine/model/formats/pretokenize.h"
#include "engine/status.hpp"

namespace engine::model {

// A token that is found in the text before anything else happens to it.
struct AddedToken {
  int32_t id = 0;
  std::string text;
  bool special = false;  // a control token, such as the end of a turn
  bool lstrip = false;   // takes the white space on its left, or right, with it
  bool rstrip = false;
  bool single_word = false;  // not inside a word
};

// What a tokenizer is made of.
struct TokenizerSpec {
  std::vector<std::string> tokens;  // by id, in GPT-2's printable alphabet for bytes
  std::vector<Merge> merges;        // by rank
  std::vector<AddedToken> added;
  PreTokenizer pre;
  const PreForm* form = nullptr;  // what pre, normalize_nfc and ignore_merges are by name
  bool normalize_nfc = false;
  bool ignore_merges = false;       // a word that is a token is that token
  std::vector<int32_t> prefix_ids;  // put before the text by add_special
  std::vector<int32_t> suffix_ids;
};

class Tokenizer {
 public:
  // Checks every id and merge. `where` begins error messages.
  static Status Create(TokenizerSpec spec, std::string_view where, std::unique_ptr<Tokenizer>* out);
  ~Tokenizer();

  // *ids is replaced, and left alone on error. A byte whose token the vocabulary lacks is dropped,
  // as Hugging Face does. Invalid UTF-8 is first replaced: one U+FFFD for
  // each maximal invalid subpart, as Python's bytes.decode('utf-8', 'replace') does.
  // parse_special: texts of special tokens become those tokens; otherwise they are plain text
  // (added tokens that are not special are always found). add_special: the beginning-of-text
  // token and its like are added where this tokenizer has them.
  Status Encode(std::string_view text, bool parse_special, bool add_special,
                std::vector<int32_t>* ids) const;

  // Ids outside the vocabulary give nothing. The answer is valid UTF-8.
  std::string Decode(const std::vector<int32_t>& ids, bool skip_special) const;

  // The token's bytes, which need not be valid UTF-8 by themselves; empty for an unknown id.
  std::string_view TokenBytes(int32_t id) const;
  bool IsSpecial(int32_t id) const;
  // The id whose text or bytes are exactly these, or -1.
  int32_t Find(std::string_view token) const;
  int32_t vocab_size() const { return static_cast<int32_t>(bytes_.size()); }
  // What it was made of, but for the merges.
  const TokenizerSpec& spec() const { return spec_; }
  const std::vector<Merge>& merges() const { return bpe_.merges(); }
  const std::vector<int32_t>& prefix_ids() const { return spec_.prefix_ids; }

 private:
  Tokenizer();
  Status EncodePlain(std::string_view text, std::vector<int32_t>* ids) const;
  // The first added token at or after `from`; null when there is none.
  const AddedToken* NextAdded(std::string_view text, size_t from, bool parse_special,
                              size_t* at) const;

  TokenizerSpec spec_;
  std::vector<std::string> bytes_;
  std::vector<bool> special_;
  std::vector<std::vector<const AddedToken*>> added_by_byte_;  // longest first
  std::unordered_map<std::string_view, int32_t> find_;
  Bpe bpe_;
};

// Turns ids into text as they come. What Append answers is always whole code points; bytes that
// cannot become one are replaced by U+FFFD.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}
  std::string Append(int32_t id);
  // What is still held back, at the end of the text.
  std::string Flush();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::string pending_;
};

Status TokenizerFromGguf(const GgufFile& file, std::unique_ptr<Tokenizer>* out);
// `text` is that of a tokenizer.json.
Status TokenizerFromJson(std::string_view text, std::string_view where,
                         std::unique_ptr<Tokenizer>* out);

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_TOKENIZER_H_
