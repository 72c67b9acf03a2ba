// What a run will take, told before it begins, and compared at its end with what it took.
#ifndef PLUGINS_TRAINER_ESTIMATE_H_
#define PLUGINS_TRAINER_ESTIMATE_H_

#include <cstdint>

#include "engine/ext/model.h"
#include "engine/growth.hpp"

namespace engine::trainer {

class Estimate {
 public:
  // Before the first batch, of batch x tokens. `gradient_bytes` are those of what trains, `batches`
  // those of the whole run. A model that has parts whose cost is not known gets no estimate.
  void Begin(engine_model* model, int64_t batch, int64_t tokens, uint64_t gradient_bytes,
             uint64_t batches);
  void End(uint64_t batches) const;

 private:
  bool made_ = false;
  uint64_t peak_bytes_ = 0, begin_ns_ = 0;
  double batch_seconds_ = 0;
};

}  // namespace engine::trainer

#endif  // PLUGINS_TRAINER_ESTIMATE_H_
