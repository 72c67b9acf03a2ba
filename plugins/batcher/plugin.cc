#include "engine/plugin.hpp"

#include "node.h"

namespace b = engine::batcher;

ENGINE_PLUGIN((engine::PluginInfo{.id = "engine.batcher",
                                  .version = "0.1.0",
                                  .summary = "Many requests in one step.",
                                  .license = "Apache-2.0",
                                  .schemas = b::kSchema,
                                  .schemas_size = sizeof b::kSchema}),
              engine::Nodes<b::Batcher>)
