#include "engine/graph/schema_guard.h"

#include "engine/graph/schema_parts.h"

namespace engine::graph {

namespace pb = google::protobuf;

struct SchemaGuard::State {
  Schema::Impl schema;
  Status broken;  // of the base itself: nothing can be said of plugins then
};

SchemaGuard::SchemaGuard() { Reset(); }
SchemaGuard::~SchemaGuard() = default;

void SchemaGuard::Reset() {
  state_ = std::make_unique<State>();
  Schema::Impl& schema = state_->schema;
  state_->broken = AddBase(&schema);
  // pipeline.proto as well, whose names no plugin may have.
  if (state_->broken.ok() && schema.pool.BuildFile(schema.composed) == nullptr) {
    state_->broken = Error(ENGINE_INTERNAL, "the built-in schema is broken");
  }
  for (const abi::Plugin& plugin : accepted_) {
    if (state_->broken.ok()) state_->broken = AddPlugin(plugin, &schema);
  }
}

Status SchemaGuard::Add(const abi::Plugin& plugin, const std::vector<abi::Kind>& kinds) {
  const Status status = [&]() -> Status {
    ENGINE_RETURN_IF_ERROR(state_->broken);
    const pb::DescriptorPool& pool = state_->schema.pool;
    ENGINE_RETURN_IF_ERROR(AddPlugin(plugin, &state_->schema));
    for (const abi::Kind& kind : kinds) {
      const char* block = kind.role == abi::Role::kNode ? "Node" : "Resource";
      const pb::Descriptor* message = pool.FindMessageTypeByName(std::string("engine.") + block);
      // All that stands in a message shares one space of names with its fields, and so will the
      // oneof `kind`.
      if (message->FindFieldByName(kind.name) != nullptr ||
          message->FindNestedTypeByName(kind.name) != nullptr ||
          message->FindEnumTypeByName(kind.name) != nullptr ||
          message->FindEnumValueByName(kind.name) != nullptr || kind.name == "kind") {
        return Error(ENGINE_ALREADY_EXISTS, "its kind '", kind.name,
                     "' has the name of something that ", block, " already has");
      }
      if (!kind.options_message.empty() &&
          pool.FindMessageTypeByName(kind.options_message) == nullptr) {
        return Error(ENGINE_NOT_FOUND, "its kind '", kind.name, "' names the options message ",
                     kind.options_message, ", which its schema does not have");
      }
    }
    return Status();
  }();
  if (status.ok()) {
    accepted_.push_back(plugin);
    accepted_.back().kinds.clear();
  } else {
    Reset();  // the pool cannot forget files
  }
  return status;
}

}  // namespace engine::graph
