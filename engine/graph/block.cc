#include "engine/graph/block.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "engine/graph/schema.h"

namespace engine::graph {

namespace pb = google::protobuf;

namespace {

const pb::FieldDescriptor* Field(const pb::Message& message, const char* name) {
  return message.GetDescriptor()->FindFieldByName(name);
}

}  // namespace

bool Block::Has(const char* field) const {
  return message->GetReflection()->HasField(*message, Field(*message, field));
}

int Block::Count(const char* field) const {
  return message->GetReflection()->FieldSize(*message, Field(*message, field));
}

std::string Block::Text(const char* name, int n) const {
  const pb::FieldDescriptor* field = Field(*message, name);
  const pb::Reflection* reflection = message->GetReflection();
  return field->is_repeated() ? reflection->GetRepeatedString(*message, field, n)
                              : reflection->GetString(*message, field);
}

uint32_t Block::Number(const char* name, uint32_t otherwise) const {
  if (!Has(name)) return otherwise;
  return message->GetReflection()->GetUInt32(*message, Field(*message, name));
}

bool Block::Flag(const char* name) const {
  return message->GetReflection()->GetBool(*message, Field(*message, name));
}

int Block::Choice(const char* name, int otherwise) const {
  if (!Has(name)) return otherwise;
  return message->GetReflection()->GetEnumValue(*message, Field(*message, name));
}

Block Block::Child(const char* name, int n) const {
  const pb::FieldDescriptor* field = Field(*message, name);
  const pb::Reflection* reflection = message->GetReflection();
  Block child;
  child.message = field->is_repeated() ? reflection->MutableRepeatedMessage(message, field, n)
                                       : reflection->MutableMessage(message, field);
  size_t left = static_cast<size_t>(n);
  for (OutlineField& f : outline->fields) {
    if (f.bad || f.name != name) continue;
    if (left < f.values.size()) {
      child.outline = f.values[left].block.get();
      child.head = f.name_span;
      break;
    }
    left -= f.values.size();
  }
  return child;
}

Span Block::At(std::string_view field, int n) const {
  const OutlineValue* value = outline->Find(field, static_cast<size_t>(n));
  return value == nullptr ? head : value->span;
}

Span Block::AtName(std::string_view field) const {
  const OutlineField* found = outline->FindField(field);
  return found == nullptr ? head : found->name_span;
}

const pb::FieldDescriptor* KindFieldOf(const pb::Message& message) {
  const pb::OneofDescriptor* kind = message.GetDescriptor()->FindOneofByName("kind");
  if (kind == nullptr) return nullptr;
  return message.GetReflection()->GetOneofFieldDescriptor(message, kind);
}

bool IsName(std::string_view text) {
  if (text.empty() || text.size() > 128) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    if (!letter && (i == 0 || !((c >= '0' && c <= '9') || c == '-'))) return false;
  }
  return true;
}

}  // namespace engine::graph
