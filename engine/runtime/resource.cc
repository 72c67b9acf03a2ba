#include "engine/runtime/resource.h"

#include "engine/abi/instance.h"
#include "engine/runtime/packet.h"

namespace engine::runtime {

bool MadeByPlugin(const abi::Registry& registry, const graph::PlanResource& resource) {
  const abi::KindSource* source = registry.Source(resource.kind->name);
  return source != nullptr && source->loaded->resources != nullptr &&
         resource.kind->role == abi::Role::kResource;
}

namespace {

Status MakeByPlugin(const abi::Registry& registry, const graph::PlanResource& resource,
                    ResourceSlot* out) {
  const abi::KindSource* source = registry.Source(resource.kind->name);
  const engine_resource_vtable* vtable = nullptr;
  void* self = nullptr;
  ENGINE_RETURN_IF_ERROR(Status(
      source->loaded->resources->create(source->loaded->self, source->number, Str(resource.name),
                                        Str(resource.options), &vtable, &self)));
  using Table = engine_resource_vtable;
  ENGINE_RETURN_IF_ERROR(abi::CheckInstance(vtable,
                                            "a resource of kind '" + resource.kind->name + "'",
                                            "object or destroy", &Table::object, &Table::destroy));
  std::shared_ptr<void> keep(self, vtable->destroy);
  auto slot = std::make_shared<engine_resource>();
  slot->name = resource.name;
  slot->type = resource.kind->provides;
  slot->object = vtable->object(self);
  slot->keep = std::move(keep);
  if (slot->object == nullptr) {
    return Error(ENGINE_INTERNAL, "a resource of kind '", resource.kind->name, "' has no object");
  }
  *out = std::move(slot);
  return Status();
}

}  // namespace

Status AddResource(const abi::Registry& registry, const graph::PlanResource& resource,
                   ResourceMaker* maker, std::vector<ResourceSlot>* slots) {
  return AppendResource(resource, slots, [&](const ResourceSlot& from, ResourceSlot* made) {
    return MadeByPlugin(registry, resource) ? MakeByPlugin(registry, resource, made)
                                            : maker->Make(resource, from, made);
  });
}

}  // namespace engine::runtime
