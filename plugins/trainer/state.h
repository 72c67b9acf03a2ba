// The state of a training run on disk: FOLDER/checkpoint-STEP/state.safetensors holds tensors by
// name, FOLDER/latest.json says which one is the newest and where its data goes on. Invariant: what
// latest.json names is whole: a checkpoint is written under another name, renamed, and named last.
#ifndef PLUGINS_TRAINER_STATE_H_
#define PLUGINS_TRAINER_STATE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/status.hpp"
#include "engine/torch_ops.h"

namespace engine::trainer {

struct NamedTensor {
  std::string name;
  ops::Tensor tensor;
};

struct RunState {
  uint32_t step = 0;  // steps that are done
  uint64_t next = 0;  // where the data goes on; see engine_train_batch
  std::vector<NamedTensor> tensors;
};

// Writes the state of `state.step`, then removes all but the newest `keep`.
Status SaveState(const std::string& folder, const RunState& state, uint32_t keep);

// Copies the newest state into the tensors of `state`, whose names and shapes must be those that
// were saved, and sets step and next. `found` tells whether there was one.
Status LoadState(const std::string& folder, RunState* state, bool* found);

}  // namespace engine::trainer

#endif  // PLUGINS_TRAINER_STATE_H_
