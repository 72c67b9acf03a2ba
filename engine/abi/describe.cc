#include "engine/abi/describe.h"

#include "engine/growth.hpp"

namespace engine::abi {
namespace {

constexpr uint32_t kMaxPorts = 64;
constexpr size_t kMaxText = 64 * 1024;
constexpr size_t kMaxStruct = 64 * 1024;

// An element of an array whose maker may know a longer struct than this host: the first one tells
// how far they lie apart, and the others must agree.
template <typename T>
Status Element(const T* array, uint32_t i, const char* what, const T** out) {
  const std::string name = std::string("the description of ") + what + " " + std::to_string(i);
  if (i == 0) ENGINE_RETURN_IF_ERROR(CheckComplete(array, name));
  if (array->struct_size > kMaxStruct || array->struct_size % alignof(T) != 0) {
    return Error(ENGINE_INVALID_ARGUMENT, name, " has a struct_size of ", array->struct_size);
  }
  const T& element = At(array, i);
  if (element.struct_size != array->struct_size) {
    return Error(ENGINE_INVALID_ARGUMENT, name, " has a struct_size of ", element.struct_size,
                 ", and the first one of ", array->struct_size);
  }
  *out = &element;
  return Status();
}

// Text of a description; oversized or null text with a size is refused.
Status Text(engine_str s, const char* what, std::string* out) {
  if (s.size > kMaxText || (s.data == nullptr && s.size != 0)) {
    return Error(ENGINE_INVALID_ARGUMENT, what, " is no text (", s.size, " bytes)");
  }
  *out = std::string(View(s));
  return Status();
}

Status Ports(const engine_port_desc* ports, uint32_t count, const char* what,
             std::vector<Port>* out) {
  if (count > kMaxPorts || (count != 0 && ports == nullptr)) {
    return Error(ENGINE_INVALID_ARGUMENT, "it declares ", count, " ", what, "s");
  }
  for (uint32_t i = 0; i < count; ++i) {
    const engine_port_desc* desc = nullptr;
    ENGINE_RETURN_IF_ERROR(Element(ports, i, what, &desc));
    const engine_port_desc& d = *desc;
    Port port;
    ENGINE_RETURN_IF_ERROR(Text(d.name, "a port's name", &port.name));
    ENGINE_RETURN_IF_ERROR(Text(d.type, "a port's type", &port.type));
    ENGINE_RETURN_IF_ERROR(Text(d.shape, "a port's shape", &port.shape));
    ENGINE_RETURN_IF_ERROR(Text(d.dtype, "a port's dtype", &port.dtype));
    ENGINE_RETURN_IF_ERROR(Text(d.doc, "a port's text", &port.doc));
    port.optional = (d.flags & ENGINE_PORT_OPTIONAL) != 0;
    port.repeated = (d.flags & ENGINE_PORT_REPEATED) != 0;
    port.errors = (d.flags & ENGINE_PORT_ERRORS) != 0;
    if (!IsIdentifier(port.name) || port.type.empty()) {
      return Error(ENGINE_INVALID_ARGUMENT, what, " ", i, " has the name '", port.name,
                   "' and the type '", port.type, "'");
    }
    out->push_back(std::move(port));
  }
  return Status();
}

}  // namespace

bool IsIdentifier(std::string_view name) {
  if (name.empty() || name.size() > 64 || (name[0] >= '0' && name[0] <= '9')) return false;
  for (char c : name) {
    const bool fits =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    if (!fits) return false;
  }
  return true;
}

Status DescribeKind(const engine_kind_desc* d, const std::string& plugin, engine_role role,
                    Kind* out) {
  if (d == nullptr) return Error(ENGINE_INVALID_ARGUMENT, "describe() gave no description");
  ENGINE_RETURN_IF_ERROR(CheckComplete(d, "a kind's description"));
  if (d->struct_size > kMaxStruct) {
    return Error(ENGINE_INVALID_ARGUMENT, "a kind's description has a struct_size of ",
                 d->struct_size);
  }
  Kind kind;
  kind.plugin = plugin;
  ENGINE_RETURN_IF_ERROR(Text(d->name, "a kind's name", &kind.name));
  if (!IsIdentifier(kind.name)) {
    return Error(ENGINE_INVALID_ARGUMENT, "its kind '", Printable(kind.name),
                 "' has a name that is no identifier of letters, digits and '_', at most 64");
  }
  const Status parts = [&]() -> Status {
    ENGINE_RETURN_IF_ERROR(Text(d->doc, "its text", &kind.doc));
    ENGINE_RETURN_IF_ERROR(Text(d->options, "its options' name", &kind.options_message));
    ENGINE_RETURN_IF_ERROR(Text(d->executor, "its executor", &kind.executor));
    ENGINE_RETURN_IF_ERROR(Text(d->bypass, "its bypass", &kind.bypass));
    ENGINE_RETURN_IF_ERROR(Text(d->provides, "what it provides", &kind.provides));
    ENGINE_RETURN_IF_ERROR(Text(d->accepts, "what it accepts", &kind.accepts));
    ENGINE_RETURN_IF_ERROR(Ports(d->inputs, d->input_count, "input", &kind.inputs));
    ENGINE_RETURN_IF_ERROR(Ports(d->outputs, d->output_count, "output", &kind.outputs));
    if (d->slot_count > kMaxPorts || (d->slot_count != 0 && d->slots == nullptr)) {
      return Error(ENGINE_INVALID_ARGUMENT, "it declares ", d->slot_count, " slots");
    }
    for (uint32_t i = 0; i < d->slot_count; ++i) {
      const engine_slot_desc* desc = nullptr;
      ENGINE_RETURN_IF_ERROR(Element(d->slots, i, "slot", &desc));
      const engine_slot_desc& s = *desc;
      Slot slot;
      ENGINE_RETURN_IF_ERROR(Text(s.name, "a slot's name", &slot.name));
      ENGINE_RETURN_IF_ERROR(Text(s.type, "a slot's type", &slot.type));
      ENGINE_RETURN_IF_ERROR(Text(s.doc, "a slot's text", &slot.doc));
      slot.mutates = s.mutates != 0;
      slot.optional = s.optional != 0;
      kind.uses.push_back(std::move(slot));
    }
    if (d->role != static_cast<uint32_t>(role)) {
      return Error(ENGINE_INVALID_ARGUMENT, "its role is ", d->role, "; its table holds role ",
                   static_cast<uint32_t>(role));
    }
    kind.role = role == ENGINE_ROLE_TRANSFORM  ? Role::kTransform
                : role == ENGINE_ROLE_RESOURCE ? Role::kResource
                                               : Role::kNode;
    if (kind.role != Role::kNode && kind.provides.empty()) {
      return Error(ENGINE_INVALID_ARGUMENT, "it does not say what type it provides");
    }
    if (kind.role == Role::kResource) return Status();
    kind.phase = static_cast<Phase>(d->phase);
    if (kind.role == Role::kTransform) {
      if (PhaseName(kind.phase) == "unknown" || kind.phase == Phase::kImport) {
        return Error(ENGINE_INVALID_ARGUMENT, "its phase is ", d->phase, ", which is none");
      }
      return Status();
    }
    kind.policies.clear();
    const auto add = [&](uint32_t bit, Policy policy) {
      if ((d->policies & bit) == 0) return;
      // The default stands first.
      kind.policies.insert(d->default_policy == bit ? kind.policies.begin() : kind.policies.end(),
                           policy);
    };
    add(ENGINE_POLICY_JOIN, Policy::kJoin);
    add(ENGINE_POLICY_ANY, Policy::kAny);
    add(ENGINE_POLICY_LATEST, Policy::kLatest);
    add(ENGINE_POLICY_BATCH, Policy::kBatch);
    if (kind.policies.empty() || (d->default_policy & d->policies) == 0 ||
        (d->default_policy & (d->default_policy - 1)) != 0) {
      return Error(ENGINE_INVALID_ARGUMENT, "its policies are ", d->policies, " with default ",
                   d->default_policy);
    }
    switch (d->emission) {
      case ENGINE_EMIT_ONE:
        kind.emission = Emission::kOne;
        break;
      case ENGINE_EMIT_MANY:
        kind.emission = Emission::kMany;
        break;
      case ENGINE_EMIT_NONE:
        kind.emission = Emission::kNone;
        break;
      default:
        return Error(ENGINE_INVALID_ARGUMENT, "its emission is ", d->emission, ", which is none");
    }
    kind.max_in_flight = d->max_in_flight;
    if (kind.max_in_flight == 0 || kind.max_in_flight > 4096) {
      return Error(ENGINE_INVALID_ARGUMENT, "its max_in_flight is ", d->max_in_flight);
    }
    kind.unordered = (Known(*d).flags & ENGINE_KIND_UNORDERED) != 0;
    if (kind.unordered && kind.emission == Emission::kOne) {
      return Error(ENGINE_INVALID_ARGUMENT,
                   "it is unordered and emits one packet a key: keys come in their order");
    }
    kind.hears = (Known(*d).flags & ENGINE_KIND_HEARS) != 0;
    if (kind.hears && (kind.emission != Emission::kMany || kind.policies.front() != Policy::kAny)) {
      return Error(ENGINE_INVALID_ARGUMENT,
                   "it hears its feedback at any time, which needs the policy ANY and MANY packets");
    }
    return Status();
  }();
  if (!parts.ok()) return parts.Prefix("kind '" + kind.name + "': ");
  *out = std::move(kind);
  return Status();
}

}  // namespace engine::abi
