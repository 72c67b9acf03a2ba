#include "engine/plugin.hpp"

#include "node.h"

namespace h = engine::http_api;

ENGINE_PLUGIN((engine::PluginInfo{.id = "engine.http_api",
                                  .version = "0.1.0",
                                  .summary = "An HTTP server as OpenAI's API describes it.",
                                  .license = "Apache-2.0",
                                  .schemas = h::kSchema,
                                  .schemas_size = sizeof h::kSchema}),
              engine::Nodes<h::HttpApi>)
