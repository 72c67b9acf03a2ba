// The pipeline language as it stands with the plugins found: pipeline.proto, the option messages of
// every plugin, and Node and Resource with one field of the oneof `kind` for each kind and each
// subgraph. A kind's field number depends on its name alone (unless two names collide), so that
// text, schema and encoded bytes agree across machines with different plugins.
#ifndef ENGINE_GRAPH_SCHEMA_H_
#define ENGINE_GRAPH_SCHEMA_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/abi/kind.h"
#include "engine/status.hpp"

namespace google::protobuf {
class Descriptor;
class EnumValueDescriptor;
class FieldDescriptor;
class Message;
}  // namespace google::protobuf

namespace engine::graph {

// What annotations.proto says of a field.
struct Annotations {
  std::optional<double> min, max;
  std::string unit;
  bool needed = false, byte_size = false, existing_path = false;
};
Annotations AnnotationsOf(const google::protobuf::FieldDescriptor& field);

// "1 to 65536 tokens, must be given"; empty without annotations.
std::string DescribeAnnotations(const Annotations& annotations);

// The value of "1GiB", "512MiB", "4096", "1.5 GB"; nothing when it is no size.
std::optional<uint64_t> ParseByteSize(std::string_view text);

enum class OptionType { kText = 0, kInteger = 1, kNumber = 2, kBool = 3 };  // as Param.Type

struct SubgraphOption {
  std::string name, doc;
  OptionType type = OptionType::kText;
};

struct SubgraphKind {
  std::string name, doc;
  std::vector<SubgraphOption> options;
};

class Schema {
 public:
  // REQUIRES: `index` outlives the schema. Fails, naming the plugin, on schemas that cannot be
  // read, that contradict one another, or that lack a message that a kind names.
  static Status Build(const abi::KindIndex& index, const std::vector<SubgraphKind>& subgraphs,
                      std::unique_ptr<Schema>* schema);
  ~Schema();

  const abi::KindIndex& index() const;
  const google::protobuf::Descriptor& pipeline() const;
  const google::protobuf::Descriptor& node() const;
  const google::protobuf::Descriptor& resource() const;
  std::unique_ptr<google::protobuf::Message> NewPipeline() const;

  const SubgraphKind* FindSubgraph(std::string_view name) const;
  // The message with a kind's options; null for a kind that is not there.
  const google::protobuf::Descriptor* Options(const abi::Kind& kind) const;

  // One file of proto2 that needs no other: what `engine schema` prints.
  std::string Export() const;

  struct Impl;

 private:
  explicit Schema(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Whether the kind has an option of that name that takes one text.
bool HasTextOption(const Schema& schema, const abi::Kind& kind, const std::string& name);

// Whether the field is a kind's, and not one of pipeline.proto itself.
bool IsKindField(const google::protobuf::FieldDescriptor& field);

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_SCHEMA_H_
