// How the resources of a plan are made, one after the other: those of kinds that a plugin provides
// by engine.resources/1 by its table, the others by the host's own maker.
#ifndef ENGINE_RUNTIME_RESOURCE_H_
#define ENGINE_RUNTIME_RESOURCE_H_

#include <vector>

#include "engine/abi/registry.h"
#include "engine/graph/plan.h"
#include "engine/runtime/spec.h"

namespace engine::runtime {

// A seam: makes resources. The part that knows models implements it.
class ResourceMaker {
 public:
  virtual ~ResourceMaker() = default;
  // `from` is null for a resource that begins a chain.
  virtual Status Make(const graph::PlanResource& resource, const ResourceSlot& from,
                      ResourceSlot* out) = 0;
};

// Appends to `slots`, which hold those before it in the plan, what a resource is: for a bypassed
// one that from which it comes, else what make(from, &made) gives, null where that failed.
template <typename MakeFn>
Status AppendResource(const graph::PlanResource& resource, std::vector<ResourceSlot>* slots,
                      const MakeFn& make) {
  const ResourceSlot from =
      resource.from < 0 ? nullptr : (*slots)[static_cast<size_t>(resource.from)];
  ResourceSlot made;
  Status status;
  if (resource.bypassed) {
    made = from;
  } else {
    status = make(from, &made);
  }
  slots->push_back(std::move(made));
  return status;
}

// True when a plugin's table makes resources of this kind; else the host's own maker does.
bool MadeByPlugin(const abi::Registry& registry, const graph::PlanResource& resource);

// Appends the resource, made by whoever makes its kind. A slot keeps a plugin's instance, which is
// destroyed when the last slot goes.
Status AddResource(const abi::Registry& registry, const graph::PlanResource& resource,
                   ResourceMaker* maker, std::vector<ResourceSlot>* slots);

}  // namespace engine::runtime

#endif  // ENGINE_RUNTIME_RESOURCE_H_
