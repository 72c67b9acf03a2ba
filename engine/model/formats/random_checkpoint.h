// A checkpoint that no file holds: another one's tokenizer and chat format, a config of its own
// size, and weights drawn at random, for training from the beginning. Invariant: a weight depends
// on the seed, the tensor's name and the element's index alone.
#ifndef ENGINE_MODEL_FORMATS_RANDOM_CHECKPOINT_H_
#define ENGINE_MODEL_FORMATS_RANDOM_CHECKPOINT_H_

#include <cstdint>
#include <memory>

#include "engine/model/formats/checkpoint.h"
#include "engine/status.hpp"

namespace engine::model {

struct RandomModel {
  int64_t hidden = 0, blocks = 0, heads = 0, kv_heads = 0, mlp = 0, context = 0;  // 0: as the other
  uint64_t seed = 0;
  double deviation = 0.02;           // of matrices; norms are ones
  uint64_t most_bytes = UINT64_MAX;  // of all weights
};

// Takes `like` over.
Status MakeRandomCheckpoint(std::unique_ptr<Checkpoint> like, const RandomModel& how,
                            std::unique_ptr<Checkpoint>* out);

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_RANDOM_CHECKPOINT_H_
