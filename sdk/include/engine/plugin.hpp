// Makes a plugin of nodes, transforms and resources: ENGINE_PLUGIN in exactly one source file.
//
//   ENGINE_PLUGIN((engine::PluginInfo{.id = "com.acme.upper", .version = "0.1.0",
//                                     .summary = "Capitals.", .license = "MIT"}),
//                 engine::Nodes<Upper>)
#ifndef ENGINE_PLUGIN_HPP_
#define ENGINE_PLUGIN_HPP_

#include <array>
#include <memory>
#include <type_traits>

#include "engine/growth.hpp"
#include "engine/node.hpp"
#include "engine/resource.hpp"
#include "engine/transform.hpp"

// engine_plugin() of the SDK's CMake package sets what these depend on.
#if defined(TORCH_TARGET_VERSION)
#define ENGINE_THIS_TIER ENGINE_TIER_STABLE
#define ENGINE_THIS_TORCH TORCH_TARGET_VERSION
#define ENGINE_THIS_FINGERPRINT ""
#elif defined(ENGINE_TIER_IS_NATIVE)
#include "engine/fingerprint.h"
#define ENGINE_THIS_TIER ENGINE_TIER_NATIVE
#define ENGINE_THIS_TORCH 0
#define ENGINE_THIS_FINGERPRINT ENGINE_FINGERPRINT
#else
#define ENGINE_THIS_TIER ENGINE_TIER_NONE
#define ENGINE_THIS_TORCH 0
#define ENGINE_THIS_FINGERPRINT ""
#endif

namespace engine {

struct PluginInfo {
  const char* id;
  const char* version;
  const char* summary;
  const char* license;
  const char* url = "";
  const uint8_t* schemas = nullptr;  // from the options generator: kSchema, kSchemaSize
  size_t schemas_size = 0;
};

namespace internal {

// A kind's contract, held together with the prototype that it points into.
template <typename T>
const engine_kind_desc* Describe() {
  static const T prototype;
  static const engine_kind_desc desc = [] {
    engine_kind_desc d = {};
    d.struct_size = sizeof d;
    const auto& info = prototype.Info();
    d.name = Str(info.name);
    d.doc = Str(info.doc);
    d.options = Str(prototype.OptionsMessage());
    if constexpr (std::is_base_of_v<Node, T>) {
      d.role = ENGINE_ROLE_NODE;
      d.inputs = prototype.inputs().data();
      d.input_count = static_cast<uint32_t>(prototype.inputs().size());
      d.outputs = prototype.outputs().data();
      d.output_count = static_cast<uint32_t>(prototype.outputs().size());
      d.slots = prototype.slots().data();
      d.slot_count = static_cast<uint32_t>(prototype.slots().size());
      d.policies = info.policies;
      d.default_policy = info.default_policy;
      d.emission = d.output_count == 0 ? ENGINE_EMIT_NONE : info.emission;
      d.max_in_flight = info.max_in_flight;
#if ENGINE_ABI_TARGET >= ENGINE_ABI_VERSION(1, 1)
      d.flags = info.flags;
#endif
      d.executor = Str(info.executor);
      d.bypass = Str(info.bypass);
    } else if constexpr (std::is_base_of_v<Resource, T>) {
      d.role = ENGINE_ROLE_RESOURCE;
      d.provides = Str(info.provides);
    } else {
      d.role = ENGINE_ROLE_TRANSFORM;
      d.phase = info.phase;
      d.accepts = Str(info.accepts);
      d.provides = Str(info.provides);
    }
    return d;
  }();
  return &desc;
}

template <typename T>
Status Construct(engine_str name, engine_str options, std::unique_ptr<T>* out) {
  auto made = std::make_unique<T>();
  made->set_name(View(name));
  if (!made->ReadOptions(View(options))) {
    return Error(ENGINE_INVALID_ARGUMENT, "the options of '", View(name),
                 "' are not a message of type ", made->OptionsMessage());
  }
  *out = std::move(made);
  return Status();
}

template <typename T>
engine_status* CreateNode(engine_str name, engine_str options, const engine_node_vtable** vtable,
                          void** self) {
  static constexpr auto kCall = [](void* s, engine_call* c, Status (Node::*method)(Call&)) {
    return Guard([&] {
      Call call(c);
      return (static_cast<Node*>(s)->*method)(call);
    });
  };
  static const engine_node_vtable kTable = {
      sizeof(engine_node_vtable),
      [](void* s, engine_call* c) -> engine_status* { return kCall(s, c, &Node::Open); },
      [](void* s, engine_call* c) -> engine_status* { return kCall(s, c, &Node::Process); },
      [](void* s, engine_call* c) -> engine_status* { return kCall(s, c, &Node::Close); },
      [](void* s) { delete static_cast<Node*>(s); }};
  return Guard([&] {
    std::unique_ptr<T> node;
    ENGINE_RETURN_IF_ERROR(Construct<T>(name, options, &node));
    *vtable = &kTable;
    *self = static_cast<Node*>(node.release());
    return Status();
  });
}

template <typename T>
engine_status* CreateTransform(engine_str name, engine_str options,
                               const engine_transform_vtable** vtable, void** self) {
  static const engine_transform_vtable kTable = {
      sizeof(engine_transform_vtable),
      0,
      [](void* s, const engine_model* m, const engine_diff* d) -> engine_status* {
        return Guard([&] {
          Diff diff(d);
          return static_cast<Transform*>(s)->Plan(Model(m), diff);
        });
      },
      [](void* s, engine_model* m, uint32_t site, engine_site_impl* out) -> engine_status* {
        return Guard([&] {
          std::unique_ptr<SiteImpl> impl;
          ENGINE_RETURN_IF_ERROR(static_cast<Transform*>(s)->Rewrite(Model(m), site, &impl));
          Give(SiteImpl::Wrap(std::move(impl)), out);
          return Status();
        });
      },
      [](void* s, engine_model* m) -> engine_status* {
        return Guard([&] { return static_cast<Transform*>(s)->Finish(Model(m)); });
      },
      [](void* s) { delete static_cast<Transform*>(s); }};
  return Guard([&] {
    std::unique_ptr<T> transform;
    ENGINE_RETURN_IF_ERROR(Construct<T>(name, options, &transform));
    ENGINE_RETURN_IF_ERROR(transform->Prepare());
    *vtable = &kTable;
    *self = static_cast<Transform*>(transform.release());
    return Status();
  });
}

template <typename T>
engine_status* CreateResource(engine_str name, engine_str options,
                              const engine_resource_vtable** vtable, void** self) {
  static const engine_resource_vtable kTable = {
      sizeof(engine_resource_vtable), 0,
      [](void* s) -> void* { return static_cast<Resource*>(s)->Object(); },
      [](void* s) { delete static_cast<Resource*>(s); }};
  return Guard([&] {
    std::unique_ptr<T> resource;
    ENGINE_RETURN_IF_ERROR(Construct<T>(name, options, &resource));
    ENGINE_RETURN_IF_ERROR(resource->Make());
    *vtable = &kTable;
    *self = static_cast<Resource*>(resource.release());
    return Status();
  });
}

// The kinds of one role among Ts, as a table of the C ABI.
template <typename... Ts>
struct Table {
  static constexpr size_t kCount = sizeof...(Ts);
  static const engine_kind_desc* At(uint32_t i) {
    if constexpr (kCount == 0) {
      return nullptr;
    } else {
      static constexpr const engine_kind_desc* (*kDescribe[])() = {&Describe<Ts>...};
      return i < kCount ? kDescribe[i]() : nullptr;
    }
  }
};

inline engine_status* NoSuchKind(uint32_t i) {
  return NewStatus(ENGINE_OUT_OF_RANGE, "no kind has the number " + std::to_string(i));
}

// The plugin's side of one of the extensions that offer kinds: `TableStruct` holds describe and
// create, kCreate[i] makes an instance of the kind Ts[i].
template <typename TableStruct, typename Vtable, auto... kCreate>
struct KindTable {
  template <typename... Ts>
  static const void* Of() {
    if constexpr (sizeof...(Ts) == 0) {
      return nullptr;
    } else {
      static constexpr auto kTable = TableStruct{
          sizeof(TableStruct), sizeof...(Ts), [](void*, uint32_t i) { return Table<Ts...>::At(i); },
          [](void*, uint32_t i, engine_str name, engine_str options, const Vtable** vtable,
             void** self) -> engine_status* {
            using Create = engine_status* (*)(engine_str, engine_str, const Vtable**, void**);
            static constexpr Create kAll[] = {kCreate...};
            if (i >= sizeof...(Ts)) return NoSuchKind(i);
            return kAll[i](name, options, vtable, self);
          }};
      return &kTable;
    }
  }
};

}  // namespace internal

// The nodes, transforms and resources of a plugin.
template <typename... Ts>
struct Nodes {
  static const void* Extension() {
    return internal::KindTable<engine_nodes_plugin, engine_node_vtable,
                               &internal::CreateNode<Ts>...>::template Of<Ts...>();
  }
};
template <typename... Ts>
struct Transforms {
  static const void* Extension() {
    return internal::KindTable<engine_transforms_plugin, engine_transform_vtable,
                               &internal::CreateTransform<Ts>...>::template Of<Ts...>();
  }
};
template <typename... Ts>
struct Resources {
  static const void* Extension() {
    return internal::KindTable<engine_resources_plugin, engine_resource_vtable,
                               &internal::CreateResource<Ts>...>::template Of<Ts...>();
  }
};

template <typename N, typename T = Transforms<>, typename R = Resources<>>
constexpr engine_plugin MakePlugin(const PluginInfo& info) {
  return {sizeof(engine_plugin),
          ENGINE_PLUGIN_MAGIC,
          ENGINE_ABI_MAJOR,
          ENGINE_ABI_MINOR,
          ENGINE_ABI_TARGET % 1000,
          ENGINE_THIS_TIER,
          ENGINE_THIS_TORCH,
          ENGINE_THIS_FINGERPRINT,
          info.id,
          info.version,
          info.license,
          info.summary,
          info.url,
          info.schemas,
          info.schemas_size,
          [](const engine_host* host, void** self) -> engine_status* {
            *self = nullptr;
            return Guard([&] { return ThisHost().Open(host); });
          },
          [](void*) {},
          [](void*, const char* id) -> const void* {
            const std::string_view wanted(id);
            if (wanted == ENGINE_EXT_NODES) return N::Extension();
            if (wanted == ENGINE_EXT_TRANSFORMS) return T::Extension();
            if (wanted == ENGINE_EXT_RESOURCES) return R::Extension();
            return nullptr;
          }};
}

// ENGINE_PLUGIN(info, engine::Nodes<...>[, engine::Transforms<...>[, engine::Resources<...>]])
#define ENGINE_PLUGIN(info, ...)                                                               \
  extern "C" __attribute__((visibility("default"))) constexpr engine_plugin engine_plugin_v1 = \
      ::engine::MakePlugin<__VA_ARGS__>(info);

}  // namespace engine

#endif  // ENGINE_PLUGIN_HPP_
