// tensorboard: the figures of each step as an event file that TensorBoard reads while the run goes
// on. Invariant: after each step the file ends with a whole record.
#ifndef PLUGINS_TRAINER_TENSORBOARD_H_
#define PLUGINS_TRAINER_TENSORBOARD_H_

#include <fstream>
#include <string>

#include "engine/node.hpp"
#include "options.engine.hpp"

namespace engine::trainer {

struct TensorBoard : Node {
  ENGINE_NODE("tensorboard",
              "Writes the figures of each step for TensorBoard: train/loss, train/grad_norm, "
              "train/learning_rate, train/tokens_per_second, mem/peak_bytes.",
              .executor = "io")
  ENGINE_OPTIONS(TensorBoardOptions)
  In<engine_train_step> in{this, {.name = "STEP", .doc = "Figures of each step."}};

  Status Open(Call& call) override;
  Status Process(Call& call) override;

 private:
  Status Append(const std::string& event);
  std::string path_;
  std::ofstream file_;
};

}  // namespace engine::trainer

#endif  // PLUGINS_TRAINER_TENSORBOARD_H_
