// Log-probabilities of a prompt's own tokens, as its pieces are computed.
// Invariant: places [1, known) hold what the model gave, NaN where it told nothing; place 0 has
// nothing before it and holds none. Alternatives that a row does not have are -1.
#ifndef PLUGINS_BATCHER_SCORES_H_
#define PLUGINS_BATCHER_SCORES_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "engine/types.h"

namespace engine::batcher {

struct PromptScores {
  PromptScores(size_t prompt, uint32_t alternatives)
      : top_count(alternatives),
        logprobs(prompt, NAN),
        top_ids(prompt * alternatives, -1),
        top_logprobs(prompt * alternatives, NAN) {}

  // Takes row `row` of what was sampled as the score of the next place.
  void Take(const engine_sampled& sampled, uint32_t row) {
    if (known >= logprobs.size()) return;
    if (sampled.logprobs == nullptr) {  // whoever chooses tells none: nothing is waited for
      known = logprobs.size();
      return;
    }
    logprobs[known] = sampled.logprobs[row];
    const size_t from = size_t{row} * sampled.top_count, to = known * top_count;
    for (uint32_t i = 0; i < std::min(top_count, sampled.top_count); ++i) {
      top_ids[to + i] = sampled.top_ids[from + i];
      top_logprobs[to + i] = sampled.top_logprobs[from + i];
    }
    ++known;
  }
  bool complete() const { return known >= logprobs.size(); }

  const uint32_t top_count;
  size_t known = 1;
  std::vector<float> logprobs;      // [prompt]
  std::vector<int32_t> top_ids;     // [prompt, top_count]
  std::vector<float> top_logprobs;  // [prompt, top_count]
};

}  // namespace engine::batcher

#endif  // PLUGINS_BATCHER_SCORES_H_
