#include "engine/plugin.hpp"

#include "export_node.h"
#include "nodes.h"
#include "tensorboard.h"

ENGINE_PLUGIN((engine::PluginInfo{.id = "engine.trainer",
                                  .version = "0.2.0",
                                  .summary = "Training with AdamW, and evaluation.",
                                  .license = "Apache-2.0",
                                  .schemas = engine::trainer::kSchema,
                                  .schemas_size = sizeof engine::trainer::kSchema}),
              engine::Nodes<engine::trainer::Trainer, engine::trainer::Evaluate,
                            engine::trainer::TrainLog, engine::trainer::SaveAdapterNode,
                            engine::trainer::ExportModel, engine::trainer::TensorBoard>)
