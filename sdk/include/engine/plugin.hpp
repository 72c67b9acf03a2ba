// Makes a plugin of nodes and transforms: ENGINE_PLUGIN in exactly one source file.
//
//   ENGINE_PLUGIN((engine::PluginInfo{.id = "com.acme.upper", .version = "0.1.0",
//                                     .summary = "Capitals.", .license = "MIT"}),
//                 engine::Kinds<Upper>)
#ifndef ENGINE_PLUGIN_HPP_
#define ENGINE_PLUGIN_HPP_

#include <array>
#include <memory>
#include <type_traits>

#include "engine/node.hpp"
#include "engine/transform.hpp"

#if defined(TORCH_TARGET_VERSION)
#define ENGINE_THIS_TIER ENGINE_TIER_STABLE
#define ENGINE_THIS_TORCH TORCH_TARGET_VERSION
#else
#define ENGINE_THIS_TIER ENGINE_TIER_NONE
#define ENGINE_THIS_TORCH 0
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
      d.executor = Str(info.executor);
      d.bypass = Str(info.bypass);
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
          *out = SiteImpl::Wrap(std::move(impl));
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

}  // namespace internal

// The nodes of a plugin.
template <typename... Ts>
struct Nodes {
  static const void* Extension() {
    if constexpr (sizeof...(Ts) == 0) {
      return nullptr;
    } else {
      static constexpr auto kTable = engine_nodes_plugin{
          sizeof(engine_nodes_plugin), sizeof...(Ts),
          [](void*, uint32_t i) { return internal::Table<Ts...>::At(i); },
          [](void*, uint32_t i, engine_str name, engine_str options,
             const engine_node_vtable** vtable, void** self) -> engine_status* {
            using Create =
                engine_status* (*)(engine_str, engine_str, const engine_node_vtable**, void**);
            static constexpr Create kCreate[] = {&internal::CreateNode<Ts>...};
            if (i >= sizeof...(Ts)) return internal::NoSuchKind(i);
            return kCreate[i](name, options, vtable, self);
          }};
      return &kTable;
    }
  }
};

// The transforms of a plugin.
template <typename... Ts>
struct Transforms {
  static const void* Extension() {
    if constexpr (sizeof...(Ts) == 0) {
      return nullptr;
    } else {
      static constexpr auto kTable = engine_transforms_plugin{
          sizeof(engine_transforms_plugin), sizeof...(Ts),
          [](void*, uint32_t i) { return internal::Table<Ts...>::At(i); },
          [](void*, uint32_t i, engine_str name, engine_str options,
             const engine_transform_vtable** vtable, void** self) -> engine_status* {
            using Create =
                engine_status* (*)(engine_str, engine_str, const engine_transform_vtable**, void**);
            static constexpr Create kCreate[] = {&internal::CreateTransform<Ts>...};
            if (i >= sizeof...(Ts)) return internal::NoSuchKind(i);
            return kCreate[i](name, options, vtable, self);
          }};
      return &kTable;
    }
  }
};

template <typename N, typename T = Transforms<>>
constexpr engine_plugin MakePlugin(const PluginInfo& info) {
  return {sizeof(engine_plugin),
          ENGINE_ABI_MAJOR,
          ENGINE_ABI_MINOR,
          0,
          ENGINE_THIS_TIER,
          ENGINE_THIS_TORCH,
          "",
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
            return nullptr;
          }};
}

// ENGINE_PLUGIN(info, engine::Nodes<...>[, engine::Transforms<...>])
#define ENGINE_PLUGIN(info, ...)                                                               \
  extern "C" __attribute__((visibility("default"))) constexpr engine_plugin engine_plugin_v1 = \
      ::engine::MakePlugin<__VA_ARGS__>(info);

}  // namespace engine

#endif  // ENGINE_PLUGIN_HPP_
