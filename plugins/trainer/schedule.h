// Learning rates over the steps of a run, as transformers' schedulers of the same names give them.
#ifndef PLUGINS_TRAINER_SCHEDULE_H_
#define PLUGINS_TRAINER_SCHEDULE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace engine::trainer {

enum class Decay { kConstant, kLinear, kCosine };

struct Schedule {
  Decay decay = Decay::kConstant;
  double lr = 0;
  double least = 0;    // of lr, reached at the last step
  double warmup = 0;   // share of the steps that rise from 0 to lr
  uint32_t steps = 1;  // of the whole run

  // Of step `step`, from 0.
  double At(uint32_t step) const {
    const auto rising = static_cast<uint32_t>(std::ceil(warmup * static_cast<double>(steps)));
    if (step < rising) return lr * static_cast<double>(step) / static_cast<double>(rising);
    if (decay == Decay::kConstant) return lr;
    const double through = static_cast<double>(step - rising) /
                           static_cast<double>(std::max(1u, steps - std::min(steps, rising)));
    const double left = decay == Decay::kLinear
                            ? 1 - through
                            : 0.5 * (1 + std::cos(3.14159265358979323846 * through));
    return lr * (least + (1 - least) * std::max(0.0, left));
  }
};

}  // namespace engine::trainer

#endif  // PLUGINS_TRAINER_SCHEDULE_H_
