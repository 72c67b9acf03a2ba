// A message of the pipeline together with the text it was read from, so that each value can be had
// with its place. Borrows both; fields are named as in pipeline.proto.
#ifndef ENGINE_GRAPH_BLOCK_H_
#define ENGINE_GRAPH_BLOCK_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/graph/outline.h"

namespace google::protobuf {
class FieldDescriptor;
class Message;
}  // namespace google::protobuf

namespace engine::graph {

struct Block {
  google::protobuf::Message* message = nullptr;
  OutlineBlock* outline = nullptr;
  Span head;  // the word before the block: `node`, `queue`

  bool Has(const char* field) const;
  int Count(const char* field) const;
  std::string Text(const char* field, int n = 0) const;
  uint32_t Number(const char* field, uint32_t otherwise) const;
  bool Flag(const char* field) const;
  int Choice(const char* field, int otherwise) const;  // the number of an enum value
  Block Child(const char* field, int n = 0) const;
  // The value's token; the head when the text has none.
  Span At(std::string_view field, int n = 0) const;
  // The bytes of the name of the field.
  Span AtName(std::string_view field) const;
};

// The kind's field of a Node or Resource; null when it has none.
const google::protobuf::FieldDescriptor* KindFieldOf(const google::protobuf::Message& message);

// A name of a resource, node, param or executor: letters, digits, '_' and '-', not first a digit
// or '-'.
bool IsName(std::string_view text);

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_BLOCK_H_
