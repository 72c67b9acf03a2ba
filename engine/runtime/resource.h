// Resources of kinds that plugins provide by engine.resources/1.
#ifndef ENGINE_RUNTIME_RESOURCE_H_
#define ENGINE_RUNTIME_RESOURCE_H_

#include "engine/abi/registry.h"
#include "engine/graph/plan.h"
#include "engine/runtime/spec.h"

namespace engine::runtime {

// True when a plugin's table makes resources of this kind; else the host's own maker does.
bool MadeByPlugin(const abi::Registry& registry, const graph::PlanResource& resource);

// Makes it. The slot keeps the instance, which is destroyed when the last slot goes.
Status MakeByPlugin(const abi::Registry& registry, const graph::PlanResource& resource,
                    ResourceSlot* out);

}  // namespace engine::runtime

#endif  // ENGINE_RUNTIME_RESOURCE_H_
