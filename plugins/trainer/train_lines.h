// The lines of a metrics file that a run of training which goes on keeps. Invariant: what is kept,
// with the lines of the steps to come behind it, reads as the file of a run that never stopped.
#ifndef PLUGINS_TRAINER_TRAIN_LINES_H_
#define PLUGINS_TRAINER_TRAIN_LINES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "loss_svg.h"

namespace engine::trainer {

struct KeptLines {
  uint64_t bytes = 0;              // of the file, from its beginning
  std::vector<CurvePoint> points;  // one a line
};

// The lines before the first one that is torn, is no line of a step, does not rise, or is of step
// `next` or a later one. A file that is not there has none.
KeptLines LinesBefore(const std::string& path, uint32_t next);

}  // namespace engine::trainer

#endif  // PLUGINS_TRAINER_TRAIN_LINES_H_
