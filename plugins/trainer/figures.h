// How the figures of a step look to people: a line of text, and a bar on a terminal.
#ifndef PLUGINS_TRAINER_FIGURES_H_
#define PLUGINS_TRAINER_FIGURES_H_

#include <cstdint>
#include <string>

#include "engine/types.h"

namespace engine::trainer {

// "step 3 of 60: loss 1.234567, ..., 12 s left", without an end of line.
std::string StepLine(const engine_train_step& step, uint64_t peak_bytes, double seconds_left);

// The same as a bar of at most `columns` characters, which the next one may overwrite.
std::string ProgressLine(const engine_train_step& step, uint64_t peak_bytes, double seconds_left,
                         int columns);

}  // namespace engine::trainer

#endif  // PLUGINS_TRAINER_FIGURES_H_
