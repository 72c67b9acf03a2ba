#include "engine/plugin.hpp"

#include "jsonl.h"
#include "nodes.h"

namespace t = engine::text;

ENGINE_PLUGIN((engine::PluginInfo{.id = "engine.text",
                                  .version = "0.1.0",
                                  .summary = "Prompts, tokens, sampling and text.",
                                  .license = "Apache-2.0",
                                  .schemas = t::kSchema,
                                  .schemas_size = sizeof t::kSchema}),
              engine::Nodes<t::Prompt, t::Tokenize, t::SerialBatcher, t::Forward, t::Sample,
                            t::Detokenize, t::TextSink, t::JsonlSource, t::JsonlSink>)
