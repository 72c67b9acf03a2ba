// What to draft, and whether it pays. Pure: time is told to it.
//
// A step of r rows takes about a + b r. A draft token that is right with probability p brings p
// tokens more for b; a step brings one token a sequence for (a + b n) / n. So the i-th token of a
// draft pays while p^i > b n / (a + b n). Both sides are measured: b by a regression over past
// steps, p for each sequence by what became of its drafts.
// Invariant: only sequences of the last step are remembered.
#ifndef PLUGINS_SPECULATE_DRAFTER_H_
#define PLUGINS_SPECULATE_DRAFTER_H_

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "engine/growth.hpp"
#include "engine/types.h"

namespace engine::speculate {

struct Settings {
  uint32_t max_draft = 4;
  uint32_t ngram = 3;
  uint32_t probe_steps = 48;
  bool always = false;
};

// The tokens that followed the last `ngram` tokens where they stood before, the latest such place,
// at most `most`. `a` and then `b` are the sequence.
std::vector<int32_t> LookUp(const int32_t* a, size_t a_size, const int32_t* b, size_t b_size,
                            uint32_t ngram, uint32_t most);

class Drafter {
 public:
  explicit Drafter(const Settings& settings) : settings_(settings) {}

  // A step came at `now`: gives a draft for each of its sequences, empty ones mostly.
  void Draft(const engine_step& step, uint64_t now, std::vector<std::vector<int32_t>>* drafts);
  // The step was sent on, with its drafts.
  void Sent(uint64_t now) { sent_ns_ = now; }

  uint64_t drafted() const { return drafted_; }
  uint64_t accepted() const { return accepted_; }
  double RowCost() const;  // b (a + b n)^-1 of the last step's n: the share of a row

 private:
  struct Sequence {
    uint32_t start = 0, draft = 0;
    double right = 0;      // estimate that a drafted token is right
    uint32_t without = 0;  // steps since its last draft
  };
  void Learn(const engine_step& step, uint64_t now);

  const Settings settings_;
  std::unordered_map<uint64_t, Sequence> last_, next_;  // by request
  double right_ = 0.7;  // over all sequences: what a new one begins with
  uint64_t sent_ns_ = 0;
  uint32_t rows_ = 0;      // of the last step
  uint32_t count_ = 0;     // its sequences
  bool decoding_ = false;  // it held single tokens and drafts only
  // Decayed sums over steps, for the regression of nanoseconds on rows.
  double w_ = 0, wr_ = 0, wrr_ = 0, wt_ = 0, wrt_ = 0;
  uint64_t drafted_ = 0, accepted_ = 0;
};

}  // namespace engine::speculate

#endif  // PLUGINS_SPECULATE_DRAFTER_H_
