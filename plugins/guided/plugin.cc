#include "engine/plugin.hpp"

#include "node.h"

namespace g = engine::guided;

ENGINE_PLUGIN((engine::PluginInfo{.id = "engine.guided",
                                  .version = "0.1.0",
                                  .summary = "Answers that keep to a form.",
                                  .license = "Apache-2.0",
                                  .schemas = g::kSchema,
                                  .schemas_size = sizeof g::kSchema}),
              engine::Nodes<g::Constrain>)
