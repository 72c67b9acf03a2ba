// save_adapter and export_model: what a run of training leaves behind, written when its steps end.
// Invariant: a run that did no step writes nothing; one that was interrupted writes what its last
// whole step made.
#ifndef PLUGINS_TRAINER_EXPORT_NODE_H_
#define PLUGINS_TRAINER_EXPORT_NODE_H_

#include "engine/node.hpp"
#include "options.engine.hpp"

namespace engine::trainer {

struct SaveAdapterNode : Node {
  ENGINE_NODE("save_adapter",
              "Writes the adapter of a model when its training ends: a folder that PEFT loads.",
              .executor = "io")
  ENGINE_OPTIONS(SaveAdapterOptions)
  In<engine_train_step> in{this, {.name = "STEP", .doc = "The trainer's steps."}};
  UseModel model{this, ENGINE_TYPE_MODEL, {.name = "MODEL", .doc = "What is trained."}};

  Status Process(Call& call) override;
  Status Close(Call& call) override;

 private:
  bool trained_ = false;
};

struct ExportModel : Node {
  ENGINE_NODE("export_model",
              "Writes a model whole, its adapters merged into the weights, as a GGUF file or a "
              "Hugging Face folder: when its training ends, or at once where no steps come in.",
              .executor = "io")
  ENGINE_OPTIONS(ExportModelOptions)
  In<engine_train_step> in{this,
                           {.name = "STEP",
                            .doc = "The trainer's steps; left open, the model as it is.",
                            .flags = ENGINE_PORT_OPTIONAL}};
  UseModel model{this, ENGINE_TYPE_MODEL, {.name = "MODEL", .doc = "What is written."}};

  Status Open(Call& call) override;
  Status Process(Call& call) override;
  Status Close(Call& call) override;

 private:
  Status Write(Call& call, uint32_t flags);
  bool trained_ = false;
};

}  // namespace engine::trainer

#endif  // PLUGINS_TRAINER_EXPORT_NODE_H_
