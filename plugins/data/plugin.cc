// What the library exports: its manifest.
#include "engine/plugin.hpp"

#include "nodes.h"

ENGINE_PLUGIN((engine::PluginInfo{.id = "engine.data",
                                  .version = "0.1.0",
                                  .summary = "Data sets as batches to train on.",
                                  .license = "Apache-2.0",
                                  .schemas = engine::data::kSchema,
                                  .schemas_size = sizeof engine::data::kSchema}),
              engine::Nodes<engine::data::Dataset, engine::data::DataCheck>)
