#include "engine/graph/schema.h"

#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/unknown_field_set.h>

#include <bit>
#include <charconv>
#include <cmath>
#include <set>

#include "engine/graph/schema_parts.h"
#include "engine/wire.hpp"

namespace engine::graph {

namespace pb = google::protobuf;

extern const unsigned char kBaseSchema[];  // made by embed.cmake
extern const size_t kBaseSchemaSize;

namespace {

constexpr char kBaseFile[] = "pipeline.proto";

class Errors : public pb::DescriptorPool::ErrorCollector {
 public:
  void AddError(const std::string&, const std::string& element, const pb::Message*, ErrorLocation,
                const std::string& message) override {
    if (!text.empty()) text += "; ";
    text += element + ": " + message;
  }
  std::string text;
};

bool IsShared(const std::string& file) {
  return file == "engine/annotations.proto" || file.rfind("google/protobuf/", 0) == 0;
}

// Two plugins may both have an options.proto: in the pool the plugin's id stands before it.
std::string NameInPool(const std::string& plugin, const std::string& file) {
  return IsShared(file) ? file : plugin + "/" + file;
}

uint32_t HashName(std::string_view name) {
  uint32_t hash = 2166136261u;
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return hash;
}

bool IsIdentifier(std::string_view name) {
  if (name.empty() || name.size() > 64 || (name[0] >= '0' && name[0] <= '9')) return false;
  for (char c : name) {
    if (!(c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))) {
      return false;
    }
  }
  return true;
}

// Adds the oneof `kind` to Node or Resource. Fields are added in the order of their names.
class KindAdder {
 public:
  KindAdder(pb::FileDescriptorProto* file, const char* message) : file_(file) {
    for (int i = 0; i < file->message_type_size(); ++i) {
      if (file->message_type(i).name() == message) index_ = i;
    }
    message_ = file->mutable_message_type(index_);
    message_->add_oneof_decl()->set_name("kind");
    for (const auto& field : message_->field()) names_.insert(field.name());
  }

  Status Add(const std::string& name, const std::string& type, const std::string& doc,
             const std::string& owner) {
    if (!IsIdentifier(name)) {
      return Error(ENGINE_INVALID_ARGUMENT, "kind \"", name, "\" of ", owner,
                   " is not an identifier");
    }
    if (!names_.insert(name).second) {
      return Error(ENGINE_INVALID_ARGUMENT, "kind \"", name, "\" of ", owner,
                   " has the name of a field that ", message_->name(), " already has");
    }
    // 1001 to 16384 costs two or three bytes; 19000 to 19999 is protobuf's own.
    uint32_t number = 1001 + HashName(name) % 15384;
    while (!numbers_.insert(number).second) number = number == 16384 ? 1001 : number + 1;
    auto* field = message_->add_field();
    field->set_name(name);
    field->set_number(static_cast<int>(number));
    field->set_label(pb::FieldDescriptorProto::LABEL_OPTIONAL);
    field->set_type(pb::FieldDescriptorProto::TYPE_MESSAGE);
    field->set_type_name(type);
    field->set_oneof_index(message_->oneof_decl_size() - 1);
    auto* place = file_->mutable_source_code_info()->add_location();
    for (int step : {4, index_, 2, message_->field_size() - 1}) place->add_path(step);
    for (int i = 0; i < 3; ++i) place->add_span(0);
    if (!doc.empty()) place->set_leading_comments(" " + doc + "\n");
    return Status();
  }

  // protobuf refuses a oneof without fields.
  void Finish() {
    if (numbers_.empty()) message_->mutable_oneof_decl()->RemoveLast();
  }

 private:
  pb::FileDescriptorProto* file_;
  pb::DescriptorProto* message_ = nullptr;
  int index_ = 0;
  std::set<std::string> names_;
  std::set<uint32_t> numbers_;
};

// The options of a subgraph, as a message beside Subgraph's own enums and messages.
std::string AddSubgraphMessage(const SubgraphKind& subgraph, pb::FileDescriptorProto* file) {
  auto* message = file->add_message_type();
  message->set_name("Subgraph_" + subgraph.name);
  int number = 0;
  for (const SubgraphOption& option : subgraph.options) {
    auto* field = message->add_field();
    field->set_name(option.name);
    field->set_number(++number);
    field->set_label(pb::FieldDescriptorProto::LABEL_OPTIONAL);
    field->set_type(option.type == OptionType::kText      ? pb::FieldDescriptorProto::TYPE_STRING
                    : option.type == OptionType::kInteger ? pb::FieldDescriptorProto::TYPE_INT64
                    : option.type == OptionType::kNumber  ? pb::FieldDescriptorProto::TYPE_DOUBLE
                                                          : pb::FieldDescriptorProto::TYPE_BOOL);
    auto* place = file->mutable_source_code_info()->add_location();
    for (int step : {4, file->message_type_size() - 1, 2, number - 1}) place->add_path(step);
    for (int i = 0; i < 3; ++i) place->add_span(0);
    if (!option.doc.empty()) place->set_leading_comments(" " + option.doc + "\n");
  }
  return ".engine." + message->name();
}

Status Compose(const std::vector<SubgraphKind>& subgraphs, Schema::Impl* impl) {
  pb::FileDescriptorProto& file = impl->composed;
  std::set<std::string> depends(file.dependency().begin(), file.dependency().end());
  for (const auto& plugin_file : impl->plugin_files) {
    if (depends.insert(plugin_file.name()).second) file.add_dependency(plugin_file.name());
  }
  KindAdder nodes(&file, "Node"), resources(&file, "Resource");
  for (const auto& [name, kind] : impl->index->kinds) {
    std::string type = ".engine.NoOptions";
    if (!kind.options_message.empty()) {
      if (impl->pool.FindMessageTypeByName(kind.options_message) == nullptr) {
        return Error(ENGINE_INVALID_ARGUMENT, "kind \"", name, "\" of plugin ", kind.plugin,
                     " names the options message ", kind.options_message,
                     ", which its schema does not have");
      }
      type = "." + kind.options_message;
    }
    KindAdder& adder = kind.role == abi::Role::kNode ? nodes : resources;
    ENGINE_RETURN_IF_ERROR(adder.Add(name, type, kind.doc, "plugin " + kind.plugin));
  }
  for (const SubgraphKind& subgraph : subgraphs) {
    if (!IsIdentifier(subgraph.name)) {
      return Error(ENGINE_INVALID_ARGUMENT, "subgraph \"", subgraph.name,
                   "\" is not an identifier");
    }
    const std::string type = AddSubgraphMessage(subgraph, &file);
    ENGINE_RETURN_IF_ERROR(nodes.Add(subgraph.name, type, subgraph.doc, "the pipeline"));
  }
  nodes.Finish();
  resources.Finish();
  Errors errors;
  if (impl->pool.BuildFileCollectingErrors(file, &errors) == nullptr) {
    return Error(ENGINE_INVALID_ARGUMENT, "the schemas do not compose: ", errors.text);
  }
  return Status();
}

}  // namespace

Status AddBase(Schema::Impl* impl) {
  pb::FileDescriptorSet base;
  if (!base.ParseFromArray(kBaseSchema, static_cast<int>(kBaseSchemaSize))) {
    return Error(ENGINE_INTERNAL, "the built-in schema cannot be read");
  }
  for (const pb::FileDescriptorProto& file : base.file()) {
    const bool is_base =
        file.name().size() >= sizeof(kBaseFile) - 1 &&
        file.name().substr(file.name().size() - sizeof(kBaseFile) + 1) == kBaseFile;
    if (is_base) {
      impl->composed = file;
      impl->composed.set_name("engine/pipeline.proto");
      continue;
    }
    Errors errors;
    if (impl->pool.BuildFileCollectingErrors(file, &errors) == nullptr) {
      return Error(ENGINE_INTERNAL, "the built-in schema is broken: ", errors.text);
    }
  }
  return Status();
}

Status AddPlugin(const abi::Plugin& plugin, Schema::Impl* impl) {
  pb::FileDescriptorSet set;
  if (!set.ParseFromString(plugin.schemas)) {
    return Error(ENGINE_INVALID_ARGUMENT, "the schema bytes of plugin ", plugin.id,
                 " cannot be read: they are no FileDescriptorSet");
  }
  for (pb::FileDescriptorProto& file : *set.mutable_file()) {
    const std::string name = NameInPool(plugin.id, file.name());
    if (impl->pool.FindFileByName(name) != nullptr) {
      if (IsShared(file.name())) continue;
      return Error(ENGINE_INVALID_ARGUMENT, "the schema of plugin ", plugin.id, " has two files \"",
                   file.name(), "\"");
    }
    if (IsShared(file.name())) {
      // Protobuf's own, so that no plugin decides what all others get.
      const pb::FileDescriptor* own =
          pb::DescriptorPool::generated_pool()->FindFileByName(file.name());
      if (own == nullptr) {
        return Error(ENGINE_INVALID_ARGUMENT, "the schema of plugin ", plugin.id,
                     " brings the file \"", file.name(), "\", which this engine does not know");
      }
      file.Clear();
      own->CopyTo(&file);
    }
    file.set_name(name);
    for (std::string& dependency : *file.mutable_dependency()) {
      dependency = NameInPool(plugin.id, dependency);
    }
    Errors errors;
    if (impl->pool.BuildFileCollectingErrors(file, &errors) == nullptr) {
      return Error(ENGINE_INVALID_ARGUMENT, "the schema of plugin ", plugin.id,
                   " does not fit with the others: ", errors.text);
    }
    impl->plugin_files.push_back(file);
  }
  return Status();
}

Schema::Schema(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Schema::~Schema() = default;

Status Schema::Build(const abi::KindIndex& index, const std::vector<SubgraphKind>& subgraphs,
                     std::unique_ptr<Schema>* schema) {
  auto impl = std::make_unique<Impl>();
  impl->index = &index;
  impl->subgraphs = subgraphs;
  ENGINE_RETURN_IF_ERROR(AddBase(impl.get()));
  for (const abi::Plugin& plugin : index.plugins) {
    ENGINE_RETURN_IF_ERROR(AddPlugin(plugin, impl.get()));
  }
  ENGINE_RETURN_IF_ERROR(Compose(subgraphs, impl.get()));
  impl->pipeline = impl->pool.FindMessageTypeByName("engine.Pipeline");
  impl->node = impl->pool.FindMessageTypeByName("engine.Node");
  impl->resource = impl->pool.FindMessageTypeByName("engine.Resource");
  schema->reset(new Schema(std::move(impl)));
  return Status();
}

const abi::KindIndex& Schema::index() const { return *impl_->index; }
const pb::Descriptor& Schema::pipeline() const { return *impl_->pipeline; }
const pb::Descriptor& Schema::node() const { return *impl_->node; }
const pb::Descriptor& Schema::resource() const { return *impl_->resource; }

std::unique_ptr<pb::Message> Schema::NewPipeline() const {
  return std::unique_ptr<pb::Message>(impl_->factory.GetPrototype(impl_->pipeline)->New());
}

const SubgraphKind* Schema::FindSubgraph(std::string_view name) const {
  for (const SubgraphKind& subgraph : impl_->subgraphs) {
    if (subgraph.name == name) return &subgraph;
  }
  return nullptr;
}

const pb::Descriptor* Schema::Options(const abi::Kind& kind) const {
  const pb::Descriptor* block = kind.role == abi::Role::kNode ? impl_->node : impl_->resource;
  const pb::FieldDescriptor* field = block->FindFieldByName(kind.name);
  return field == nullptr ? nullptr : field->message_type();
}

std::string Schema::Export() const { return ExportSchema(*impl_); }

bool HasTextOption(const Schema& schema, const abi::Kind& kind, const std::string& name) {
  const pb::Descriptor* options = schema.Options(kind);
  const auto* field = options == nullptr ? nullptr : options->FindFieldByName(name);
  return field != nullptr && field->type() == pb::FieldDescriptor::TYPE_STRING &&
         !field->is_repeated();
}

bool IsKindField(const pb::FieldDescriptor& field) { return field.number() > 1000; }

Annotations AnnotationsOf(const pb::FieldDescriptor& field) {
  // Read from the bytes: they are the same whether or not this program knows the extensions.
  Annotations result;
  if (field.options().ByteSizeLong() == 0) return result;
  pb::UnknownFieldSet set;
  if (!set.ParseFromString(field.options().SerializeAsString())) return result;
  for (int i = 0; i < set.field_count(); ++i) {
    const pb::UnknownField& entry = set.field(i);
    switch (entry.number()) {
      case 51001:
      case 51002:
        if (entry.type() == pb::UnknownField::TYPE_FIXED64) {
          (entry.number() == 51001 ? result.min : result.max) =
              std::bit_cast<double>(static_cast<uint64_t>(entry.fixed64()));
        }
        break;
      case 51003:
        if (entry.type() == pb::UnknownField::TYPE_LENGTH_DELIMITED) {
          result.unit = entry.length_delimited();
        }
        break;
      case 51004:
      case 51005:
      case 51006:
        if (entry.type() == pb::UnknownField::TYPE_VARINT) {
          (entry.number() == 51004   ? result.needed
           : entry.number() == 51005 ? result.byte_size
                                     : result.existing_path) = entry.varint() != 0;
        }
        break;
    }
  }
  return result;
}

std::string DescribeAnnotations(const Annotations& a) {
  auto number = [](double value) {
    char text[40];
    const bool whole = value == std::floor(value) && std::fabs(value) < 1e15;
    return std::string(
        text, whole ? std::to_chars(text, text + sizeof text, static_cast<int64_t>(value)).ptr
                    : std::to_chars(text, text + sizeof text, value).ptr);
  };
  std::string out;
  auto add = [&](const std::string& part) { out += (out.empty() ? "" : ", ") + part; };
  if (a.min && a.max) {
    add(number(*a.min) + " to " + number(*a.max));
  } else if (a.min) {
    add("at least " + number(*a.min));
  } else if (a.max) {
    add("at most " + number(*a.max));
  }
  if (!a.unit.empty()) out += (out.empty() ? "in " : " ") + a.unit;
  if (a.byte_size) add("a size such as \"512MiB\"");
  if (a.existing_path) add("a file or folder that exists");
  if (a.needed) add("must be given");
  return out;
}

std::optional<uint64_t> ParseByteSize(std::string_view text) {
  uint64_t bytes = 0;
  if (!wire::ParseByteSize(text, &bytes).ok()) return std::nullopt;
  return bytes;
}

}  // namespace engine::graph
