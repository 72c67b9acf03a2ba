// One request for text on its way: pieces from the engine in, an answer or a stream out.
// Invariant: the status is settled before the first byte goes out: by the first piece that came, or
// by a ping where none came for long; a stream always ends with [DONE].
#ifndef PLUGINS_HTTP_API_GENERATION_H_
#define PLUGINS_HTTP_API_GENERATION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "choice.h"
#include "exchange.h"

namespace engine::http_api {

struct GenerationInfo {
  std::string id;     // "chatcmpl-…"
  std::string model;  // as it is told back
  std::string fingerprint;
  int64_t created = 0;  // seconds since 1970
  uint64_t arrived_ns = 0;
};

class Generation {
 public:
  // Of `ask`, prompts are read only for their number, their form, and where they are told back.
  Generation(std::shared_ptr<const Ask> ask, GenerationInfo info,
             std::shared_ptr<Exchange> exchange);

  struct Wanted {
    bool sent = false;                                // something went out
    bool cancel_all = false;                          // nothing more is needed
    std::vector<std::pair<size_t, uint32_t>> enough;  // prompt and choice that have said enough
  };
  // A piece of the answer to prompt number `prompt`.
  void OnPiece(size_t prompt, Piece piece, Wanted* wanted);
  // Nothing came for a while: keeps a stream alive.
  void Ping();
  // Ends it with a failure, whatever was sent.
  void Fail(const Refusal& refusal);

  bool done() const { return done_; }
  uint64_t arrived_ns() const { return info_.arrived_ns; }
  uint64_t first_ns() const { return first_ns_; }
  uint64_t last_ns() const { return last_ns_; }
  uint64_t generated() const;

 private:
  struct Slot {
    Choice choice;
    bool begun = false;  // its first chunk was sent
    size_t scored = 0;   // code points of the tokens whose scores were sent
  };
  Slot& At(size_t prompt, uint32_t choice) { return slots_[prompt * ask_.n + choice]; }
  void Begin();
  bool Send(size_t index, Slot* slot, const Delta& delta);  // whether anything went out
  void SendChunk(size_t index, const std::string& rest);
  void Finish();
  Json Head(bool stream) const;
  Json CallOf(const ToolCall& call, size_t index, size_t number) const;
  Json Usage() const;
  Json ChoiceJson(size_t index) const;
  std::string EchoText(size_t prompt) const;
  bool AllEnded() const;

  const std::shared_ptr<const Ask> shared_;
  const Ask& ask_;
  const GenerationInfo info_;
  const std::shared_ptr<Exchange> exchange_;
  std::string chunk_head_;  // of every chunk, up to the choice's index
  std::vector<Slot> slots_;
  std::vector<std::vector<TokenScore>> prompt_scores_;  // by prompt
  bool began_ = false, done_ = false;
  uint64_t first_ns_ = 0, last_ns_ = 0;
};

// The shapes in which log-probabilities are told.
Json ChatScores(const std::vector<TokenScore>& scores);
// `prompt`: the first has none. `offset`: code points before the first.
Json CompletionScores(const std::vector<TokenScore>& prompt, const std::vector<TokenScore>& scores,
                      size_t offset);

}  // namespace engine::http_api

#endif  // PLUGINS_HTTP_API_GENERATION_H_
