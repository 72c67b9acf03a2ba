// Words of the manual that its two forms, text and Markdown, share.
#ifndef ENGINE_GRAPH_INSPECT_PARTS_H_
#define ENGINE_GRAPH_INSPECT_PARTS_H_

#include <string>
#include <vector>

#include "engine/graph/schema.h"

namespace engine::graph {

// The comment before an element, one line each, without the leading space.
std::vector<std::string> Comment(const google::protobuf::Descriptor& message);
std::vector<std::string> Comment(const google::protobuf::FieldDescriptor& field);
std::vector<std::string> Comment(const google::protobuf::EnumValueDescriptor& value);

std::string FirstSentence(const std::string& doc);
// "list of whole number"
std::string OptionType(const google::protobuf::FieldDescriptor& field);
// Empty: it has none.
std::string OptionDefault(const google::protobuf::FieldDescriptor& field);
// A line that can be pasted into a pipeline.
std::string Example(const abi::Kind& kind);
// What a call of a node gives.
const char* EmissionWords(abi::Emission emission);

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_INSPECT_PARTS_H_
