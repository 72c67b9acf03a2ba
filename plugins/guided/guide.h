// A form that outputs must have, compiled for a model's vocabulary, and what is remembered of the
// sequences that follow it.
//
// Invariant: a mask always allows a token, and whatever follows the masks to the end has the form.
// Safe for threads.
#ifndef PLUGINS_GUIDED_GUIDE_H_
#define PLUGINS_GUIDED_GUIDE_H_

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "budget.h"
#include "engine/status.hpp"
#include "matcher.h"
#include "vocabulary.h"

namespace engine::guided {

enum class Kind : uint8_t {
  kSchema,     // a JSON schema
  kAnyObject,  // any JSON object; the text says nothing
  kRegex,      // a regular expression that matches the whole output
  kTools,      // see tools.h
};

// Turns a text into a program, without a vocabulary; what Compile does first.
Status CompileProgram(Kind kind, std::string_view text, const ByteSet& alphabet,
                      const Limits& limits, std::shared_ptr<const Program>* program);

class Guide {
 public:
  // INVALID_ARGUMENT for what is wrong with the text; DEADLINE_EXCEEDED when it takes too long.
  static Status Compile(Kind kind, std::string_view text,
                        std::shared_ptr<const Vocabulary> vocabulary,
                        const std::vector<int32_t>& end_tokens, const Limits& limits,
                        std::shared_ptr<Guide>* guide);

  // What may follow `tokens`, the output so far: bit t % 64 of word t / 64 for token t, end tokens'
  // bits exactly where the output is complete. Null when every token may follow, and when `tokens`
  // do not have the form, as a draft that is going to be rejected. `stream` names a sequence, of
  // which what was asked last is remembered; it may be any number, at the price of a walk through
  // its tokens. The mask holds until the next call for the same stream, or until Forget() or
  // `limits.streams` other streams have let go of it.
  Status Allowed(uint64_t stream, const int32_t* tokens, size_t count, const uint64_t** mask);
  // Whether `tokens` may be gone on from, and whether they are complete; for tests and checks.
  Status Look(const int32_t* tokens, size_t count, bool* fits, bool* complete);
  void Forget(uint64_t stream);

  size_t words() const { return vocabulary_->words(); }
  // Of memory, when the last call ended. Waits for nothing.
  size_t Bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  struct MaskData {
    std::vector<uint64_t> words;
    bool all = false;  // every token may follow
  };
  using Mask = std::shared_ptr<const MaskData>;
  struct Stream {
    std::vector<int32_t> tokens;
    std::vector<Matcher::State> states;  // behind each token; kDead for what does not fit
    uint64_t age = 0;                    // of the matcher's memory that they belong to
    Mask mask;
    std::list<uint64_t>::iterator use;
  };
  struct Kept {
    Mask mask;
    std::list<Matcher::State>::iterator use;
  };

  Guide(std::shared_ptr<const Program> program, std::shared_ptr<const Vocabulary> vocabulary,
        std::vector<int32_t> end_tokens, const Limits& limits);

  Status AllowedLocked(uint64_t stream, const int32_t* tokens, size_t count, const uint64_t** mask);
  Stream* StreamOf(uint64_t stream);
  // Brings the stream's states to those of `tokens`.
  Matcher::State Follow(Stream* stream, const int32_t* tokens, size_t count);
  Matcher::State AfterToken(Matcher::State state, int32_t token);
  Status MaskOf(Matcher::State state, Mask* mask);
  // Marks the tokens that may follow; true when any may.
  void Walk(Matcher::State state, std::vector<uint64_t>* mask);
  // The kinds of bytes (Vocabulary::KindOf) after which the state is still the same.
  uint64_t Unchanging(Matcher::State state);
  void ForgetStates();
  void CountBytes();

  const std::shared_ptr<const Vocabulary> vocabulary_;
  const std::vector<int32_t> end_tokens_;
  const Limits limits_;
  const size_t program_bytes_;

  std::mutex mutex_;
  Matcher matcher_;
  uint64_t age_ = 0;
  std::unordered_map<uint64_t, Stream> streams_;
  std::list<uint64_t> stream_use_;  // the latest first
  std::unordered_map<Matcher::State, Kept> masks_;
  std::list<Matcher::State> mask_use_;
  std::vector<Matcher::State> path_;  // of a walk, by depth
  size_t token_bytes_ = 0;            // of streams
  std::atomic<size_t> bytes_{0};
};

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_GUIDE_H_
