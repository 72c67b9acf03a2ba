// Choosing tokens from logits as each row's sampling asks: bias, penalties, forms and minimum
// lengths shape a copy of the row, which is then sampled; log-probabilities are those of the row as
// the model gave it. Invariant: a row's outcome depends on that row, its sampling and its
// sequence's own tokens alone.
#ifndef ENGINE_MODEL_CHOOSE_H_
#define ENGINE_MODEL_CHOOSE_H_

#include <vector>

#include "engine/ext/model.h"
#include "engine/status.hpp"

namespace engine::model {

// `ends` are the model's end tokens.
Status Choose(const engine_logits& logits, const engine_sampling& fallback,
              const std::vector<int64_t>& ends, const engine_choices& out);

}  // namespace engine::model

#endif  // ENGINE_MODEL_CHOOSE_H_
