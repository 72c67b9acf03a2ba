// From an example to token ids and the labels that count. The ids are exactly those of the whole
// text, encoded once; which of them are an answer's is found by where their bytes stand in it. What
// cannot be found exactly is an error, never a guess.
#ifndef PLUGINS_DATA_SPANS_H_
#define PLUGINS_DATA_SPANS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.hpp"
#include "examples.h"

namespace engine::data {

inline constexpr int32_t kNoLabel = -100;

struct Tokens {
  std::vector<int32_t> ids;
  std::vector<int32_t> labels;  // what should follow each id, or kNoLabel
  size_t whole = 0;             // ids there were before any was cut off
  // Of a conversation: answers that are to be trained and that no token ends, so that the model
  // would not learn to stop.
  size_t endless = 0;
};

// Labels of ids: each asks for its successor where that one counts.
std::vector<int32_t> Shift(const std::vector<int32_t>& ids, const std::vector<bool>& counts);

// What is asked of the model.
struct Model {
  // Messages (a JSON list) in the chat format; `generate`: with what comes before an answer.
  std::function<Status(const std::string& messages, const std::string& tools, bool generate,
                       std::string* text)>
      render;
  // `special`: names of special tokens become these; `frame`: with what begins and ends a text.
  std::function<Status(std::string_view text, bool special, bool frame, std::vector<int32_t>* ids)>
      encode;
  std::function<std::string_view(int32_t id)> bytes;  // empty for special tokens
  std::function<bool(int32_t id)> stops;              // ends a text or a turn
  int32_t vocab = 0;
};

enum class Fate {
  kGood,
  kShort,      // fewer than min_tokens
  kLong,       // more than `sequence`, and not to be cut
  kUnlabelled  // nothing that counts, or nothing left of it
};
// Why it is left out, as it follows a number: "shorter than min_tokens".
std::string_view Reason(Fate fate);

struct SpanSettings {
  size_t sequence = 512;
  size_t min_tokens = 2;
  bool cut = true;
  bool all = false;      // prompts count too
  bool special = false;  // in texts that are no conversations
  std::string end_token;
};

class Encoder {
 public:
  Encoder(Model model, SpanSettings settings)
      : model_(std::move(model)), settings_(std::move(settings)) {}

  // Finds what begins, ends and closes a text; before the first Make.
  Status Prepare();
  // With another fate than kGood, ids and labels of *out are of no use.
  Status Make(const Example& example, Tokens* out, Fate* fate);
  // The end of Make: cuts, shifts, and says what becomes of it.
  Fate Finish(std::vector<int32_t> ids, const std::vector<bool>& counts, Tokens* out) const;
  // A token as people would write it: special ones by the name that they had in a text so far, else
  // as <token ID>.
  std::string Shown(int32_t id) const;

 private:
  struct Span {
    size_t begin, end;  // bytes of the text
  };
  Status Chat(const Example& example, std::vector<int32_t>* ids, std::vector<bool>* counts,
              size_t* endless);
  bool Stops(int32_t id) const { return id == end_ || model_.stops(id); }
  Status Plain(const Example& example, std::vector<int32_t>* ids, std::vector<bool>* counts);
  Status Answers(const Example& example, const std::string& text, size_t limit,
                 std::vector<Span>* spans) const;
  // Where in the text each token ends. *found is false when the bytes do not say.
  Status Align(std::string_view text, const std::vector<int32_t>& ids, std::vector<size_t>* ends,
               bool* found);
  Status NameAt(std::string_view rest, int32_t id, std::string* name) const;
  // The same by encoding piece by piece: each token ends where its piece does.
  Status EndsOfPieces(std::string_view text, const std::vector<Span>& spans, bool special,
                      const std::vector<int32_t>& ids, std::vector<size_t>* ends) const;

  Model model_;
  SpanSettings settings_;
  std::vector<int32_t> prefix_, suffix_;  // that encode puts around a text
  int32_t end_ = -1;
  std::map<int32_t, std::string> names_;  // of special tokens, as they were found in texts
};

}  // namespace engine::data

#endif  // PLUGINS_DATA_SPANS_H_
