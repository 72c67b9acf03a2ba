// The kinds of training: what takes batches and gives figures.
#ifndef PLUGINS_TRAINER_NODES_H_
#define PLUGINS_TRAINER_NODES_H_

#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "adamw.h"
#include "engine/ext/model.h"
#include "engine/node.hpp"
#include "engine/transform.hpp"
#include "estimate.h"
#include "loss_svg.h"
#include "options.engine.hpp"
#include "schedule.h"
#include "state.h"

namespace engine::trainer {

// A batch as the tensors that the model's loss takes.
struct BatchTensors {
  ops::Tensor ids, labels;
  std::optional<ops::Tensor> example;
  explicit BatchTensors(const engine_train_batch& batch);
  // Which of a run's batches it is: what is dropped of it depends on that.
  struct Place {
    uint64_t step = 0, microbatch = 0;
    double label_smoothing = 0;
  };
  // The sum of the losses, and how many labels counted; with `train` its gradients are added to
  // those of the parameters.
  Status Loss(engine_model* model, const Place* train, double* sum, int64_t* count) const;
};

struct Trainer : Node {
  ENGINE_NODE("trainer",
              "Trains what is trainable in a model on batches. Gives one packet a step. A "
              "model without trainable parameters, and a parameter that gets no gradient by the "
              "second step, are errors.",
              .emission = ENGINE_EMIT_MANY, .executor = "compute")
  ENGINE_OPTIONS(TrainerOptions)
  In<engine_train_batch> in{this, {.name = "BATCH", .doc = "What is trained on."}};
  Out<engine_train_step> out{this, {.name = "STEP", .doc = "Figures of each step."}};
  UseModel model{
      this, ENGINE_TYPE_MODEL, {.name = "MODEL", .doc = "What is trained.", .mutates = true}};

  Status Open(Call& call) override;
  Status Process(Call& call) override;
  Status Close(Call& call) override;

 private:
  struct Param {
    std::string name;
    std::string group;
    ops::Tensor tensor;
    bool moved = false;  // had a gradient other than zero
  };
  // The parameters with their shares of the learning rate.
  Status Rated(std::vector<Optimizer::Param>* out) const;
  Status Accumulate(engine_model* m, const engine_train_batch& batch);
  Status Step(Call& call);
  Status Gradients(std::vector<ops::Tensor>* grads, double* norm);
  // The state after the last whole step.
  RunState State() const;
  Status SaveCheckpoint();
  Status SaveOnce(Call& call);

  Schedule schedule_;
  Estimate estimate_;
  uint64_t taken_ = 0;  // batches of this process
  std::vector<Param> params_;
  std::unique_ptr<Optimizer> optimizer_;
  uint32_t step_ = 0;        // whole steps so far
  uint32_t first_step_ = 0;  // of this process
  uint64_t next_ = 0;        // of the data after them
  // Of the step under way.
  uint32_t batches_ = 0;
  uint64_t batches_end_ = 0, begin_ns_ = 0;
  double sum_ = 0;
  int64_t count_ = 0;
  bool saved_ = false;
  bool save_due_ = false;  // after the step's figures went out, so that a log has them before
  bool updated_ = false;   // some step had a learning rate above zero
  bool unproved_ = true;   // whether every parameter gets a gradient
};

struct Evaluate : Node {
  ENGINE_NODE("evaluate", "Mean loss and perplexity of a model over batches, told when they end.",
              .executor = "compute")
  ENGINE_OPTIONS(EvaluateOptions)
  In<engine_train_batch> in{this, {.name = "BATCH", .doc = "What is evaluated on."}};
  UseModel model{this, ENGINE_TYPE_MODEL, {.name = "MODEL", .doc = "What is evaluated."}};

  Status Process(Call& call) override;
  Status Close(Call& call) override;

 private:
  double sum_ = 0, seconds_ = 0;
  int64_t count_ = 0, batches_ = 0;
};

struct TrainLog : Node {
  ENGINE_NODE("train_log",
              "Writes one line a step, and the curve of the run when it ends. The file of a run "
              "that goes on is gone on with.",
              .executor = "io")
  ENGINE_OPTIONS(TrainLogOptions)
  In<engine_train_step> in{this, {.name = "STEP", .doc = "Figures of each step."}};

  Status Open(Call& call) override;
  Status Process(Call& call) override;
  Status Close(Call& call) override;

 private:
  // Before the line of the first step that comes in, whose number that is.
  Status Begin(uint32_t step);
  std::ofstream file_;
  double seconds_ = 0;
  uint32_t seen_ = 0;
  bool terminal_ = false;  // a bar is shown there
  std::vector<CurvePoint> curve_;
};

}  // namespace engine::trainer

#endif  // PLUGINS_TRAINER_NODES_H_
