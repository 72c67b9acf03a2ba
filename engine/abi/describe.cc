#include "engine/abi/describe.h"

namespace engine::abi {
namespace {

constexpr uint32_t kMaxPorts = 64;
constexpr size_t kMaxText = 64 * 1024;

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
    Port port;
    ENGINE_RETURN_IF_ERROR(Text(ports[i].name, "a port's name", &port.name));
    ENGINE_RETURN_IF_ERROR(Text(ports[i].type, "a port's type", &port.type));
    ENGINE_RETURN_IF_ERROR(Text(ports[i].shape, "a port's shape", &port.shape));
    ENGINE_RETURN_IF_ERROR(Text(ports[i].dtype, "a port's dtype", &port.dtype));
    ENGINE_RETURN_IF_ERROR(Text(ports[i].doc, "a port's text", &port.doc));
    port.optional = (ports[i].flags & ENGINE_PORT_OPTIONAL) != 0;
    port.repeated = (ports[i].flags & ENGINE_PORT_REPEATED) != 0;
    port.errors = (ports[i].flags & ENGINE_PORT_ERRORS) != 0;
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
  if (name.empty() || name.size() > 128 || (name[0] >= '0' && name[0] <= '9')) return false;
  for (char c : name) {
    const bool fits =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    if (!fits) return false;
  }
  return true;
}

Status DescribeKind(const engine_kind_desc* d, const std::string& plugin, bool from_transforms,
                    Kind* out) {
  if (d == nullptr) return Error(ENGINE_INVALID_ARGUMENT, "describe() gave no description");
  if (d->struct_size < sizeof(engine_kind_desc)) {
    return Error(ENGINE_INVALID_ARGUMENT, "a kind's description has ", d->struct_size,
                 " bytes; the least is ", sizeof(engine_kind_desc));
  }
  Kind kind;
  kind.plugin = plugin;
  ENGINE_RETURN_IF_ERROR(Text(d->name, "a kind's name", &kind.name));
  if (!IsIdentifier(kind.name)) {
    return Error(ENGINE_INVALID_ARGUMENT, "kind name '", kind.name, "' is no identifier");
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
      Slot slot;
      ENGINE_RETURN_IF_ERROR(Text(d->slots[i].name, "a slot's name", &slot.name));
      ENGINE_RETURN_IF_ERROR(Text(d->slots[i].type, "a slot's type", &slot.type));
      ENGINE_RETURN_IF_ERROR(Text(d->slots[i].doc, "a slot's text", &slot.doc));
      slot.mutates = d->slots[i].mutates != 0;
      slot.optional = d->slots[i].optional != 0;
      kind.uses.push_back(std::move(slot));
    }
    const uint32_t role = from_transforms ? ENGINE_ROLE_TRANSFORM : ENGINE_ROLE_NODE;
    if (d->role != role) {
      return Error(ENGINE_INVALID_ARGUMENT, "its role is ", d->role, "; its table holds role ",
                   role);
    }
    kind.role = from_transforms ? Role::kTransform : Role::kNode;
    kind.phase = static_cast<Phase>(d->phase);
    if (from_transforms) {
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
    return Status();
  }();
  if (!parts.ok()) return parts.Prefix("kind '" + kind.name + "': ");
  *out = std::move(kind);
  return Status();
}

}  // namespace engine::abi
