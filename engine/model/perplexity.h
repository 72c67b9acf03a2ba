// Perplexity of a served model on a text, through the fused steps: the arithmetic that answers
// requests is the arithmetic that is judged.
#ifndef ENGINE_MODEL_PERPLEXITY_H_
#define ENGINE_MODEL_PERPLEXITY_H_

#include <cstdint>
#include <functional>
#include <span>

#include "engine/model/model.h"

namespace engine::model {

struct Perplexity {
  double value = 0;    // exp of the mean negative log-likelihood
  double spread = 0;   // standard error of the value
  int64_t scored = 0;  // tokens
  int64_t windows = 0;
};

// Windows of `window` tokens follow each other without overlap; in each, tokens of the second half
// are scored, every one with all before it in the window as context. This is how llama.cpp's
// perplexity tool counts (without its --ppl-stride). A window that the tokens do not fill is left
// out; fewer tokens than one window are an error. `progress` may be empty.
Status MeasurePerplexity(Model* model, std::span<const int32_t> tokens, int64_t window,
                         const std::function<void(int64_t done, int64_t all)>& progress,
                         Perplexity* out);

}  // namespace engine::model

#endif  // ENGINE_MODEL_PERPLEXITY_H_
