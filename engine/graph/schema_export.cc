// Writes the composed schema as one .proto file. Files of plugins have packages of their own, and a
// file can have only one: each becomes a message around its messages and enums, and the types of
// fields are renamed to match. Neither text nor encoded bytes of a pipeline name a message, so both
// stay the same. Annotations turn into words of the comments, as their file is not there.
#include <map>
#include <string>

#include "engine/graph/schema_parts.h"

namespace engine::graph {
namespace {

namespace pb = google::protobuf;

using Renames = std::map<std::string, std::string>;

void Rename(const Renames& renames, std::string* type) {
  std::string head = *type;
  while (!head.empty()) {
    if (auto it = renames.find(head); it != renames.end()) {
      *type = it->second + type->substr(head.size());
      return;
    }
    const size_t dot = head.rfind('.');
    if (dot == std::string::npos) return;
    head.resize(dot);
  }
}

void Clean(const Renames& renames, pb::DescriptorProto* message) {
  message->clear_extension();
  message->clear_extension_range();
  int synthetic = 0;
  for (auto& field : *message->mutable_field()) {
    if (field.has_type_name()) Rename(renames, field.mutable_type_name());
    field.clear_json_name();
    if (field.proto3_optional()) {
      field.clear_proto3_optional();
      field.clear_oneof_index();
      ++synthetic;  // protobuf keeps these behind the real ones
    }
  }
  for (; synthetic > 0; --synthetic) message->mutable_oneof_decl()->RemoveLast();
  for (auto& nested : *message->mutable_nested_type()) Clean(renames, &nested);
}

// Puts what the annotations of a message's fields say behind their comments.
void Explain(const pb::Descriptor& message, pb::FileDescriptorProto* file, std::vector<int> path) {
  std::map<std::vector<int>, pb::SourceCodeInfo::Location*> places;
  for (auto& place : *file->mutable_source_code_info()->mutable_location()) {
    places[{place.path().begin(), place.path().end()}] = &place;
  }
  for (int i = 0; i < message.field_count(); ++i) {
    const std::string words = DescribeAnnotations(AnnotationsOf(*message.field(i)));
    if (words.empty()) continue;
    std::vector<int> at = path;
    at.insert(at.end(), {2, i});
    if (auto it = places.find(at); it != places.end()) {
      it->second->mutable_leading_comments()->append("Limits: " + words + ".\n");
    }
  }
  for (int i = 0; i < message.nested_type_count(); ++i) {
    std::vector<int> at = path;
    at.insert(at.end(), {3, i});
    Explain(*message.nested_type(i), file, at);
  }
}

// DebugString puts "// " before each line as it is; protoc left the space behind "//" in it.
void Unindent(std::string* comment) {
  std::string out;
  for (size_t i = 0; i < comment->size(); ++i) {
    const bool begins = i == 0 || (*comment)[i - 1] == '\n';
    if (!begins || (*comment)[i] != ' ') out += (*comment)[i];
  }
  *comment = out;
}

std::string WrapperName(const std::string& file) {
  std::string name = "File_";
  for (char c : file.substr(0, file.size() - (file.ends_with(".proto") ? 6 : 0))) {
    const bool good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    name += good ? c : '_';
  }
  return name;
}

void AppendWrapped(pb::FileDescriptorProto file, const std::string& wrapper,
                   pb::FileDescriptorProto* out) {
  const int index = out->message_type_size();
  auto* around = out->add_message_type();
  around->set_name(wrapper);
  around->mutable_nested_type()->Swap(file.mutable_message_type());
  around->mutable_enum_type()->Swap(file.mutable_enum_type());
  for (const auto& place : file.source_code_info().location()) {
    // 4 and 5 are messages and enums of a file; in a message these are 3 and 4.
    if (place.path_size() < 2 || (place.path(0) != 4 && place.path(0) != 5)) continue;
    auto* moved = out->mutable_source_code_info()->add_location();
    *moved = place;
    moved->clear_path();
    for (int step : {4, index, place.path(0) - 1}) moved->add_path(step);
    for (int i = 1; i < place.path_size(); ++i) moved->add_path(place.path(i));
  }
}

}  // namespace

std::string ExportSchema(const Schema::Impl& impl) {
  auto explained = [&](const pb::FileDescriptorProto& source) {
    pb::FileDescriptorProto file = source;
    const pb::FileDescriptor* built = impl.pool.FindFileByName(file.name());
    for (int i = 0; built != nullptr && i < built->message_type_count(); ++i) {
      Explain(*built->message_type(i), &file, {4, i});
    }
    return file;
  };
  pb::FileDescriptorProto merged = explained(impl.composed);
  merged.clear_dependency();
  Renames renames;
  std::map<std::string, int> wrappers;
  for (const auto& file : impl.plugin_files) {
    if (file.name() == "google/protobuf/descriptor.proto") continue;
    std::string wrapper = WrapperName(file.name());
    if (int n = wrappers[wrapper]++; n > 0) wrapper += "_" + std::to_string(n);
    const std::string package = file.package().empty() ? "." : "." + file.package() + ".";
    for (const auto& message : file.message_type()) {
      renames[package + message.name()] = ".engine." + wrapper + "." + message.name();
    }
    for (const auto& type : file.enum_type()) {
      renames[package + type.name()] = ".engine." + wrapper + "." + type.name();
    }
    AppendWrapped(explained(file), wrapper, &merged);
  }
  for (auto& message : *merged.mutable_message_type()) Clean(renames, &message);
  merged.clear_extension();
  for (auto& place : *merged.mutable_source_code_info()->mutable_location()) {
    if (place.has_leading_comments()) Unindent(place.mutable_leading_comments());
    if (place.has_trailing_comments()) Unindent(place.mutable_trailing_comments());
    for (auto& comment : *place.mutable_leading_detached_comments()) Unindent(&comment);
  }
  merged.DiscardUnknownFields();
  pb::DescriptorPool pool;
  const pb::FileDescriptor* file = pool.BuildFile(merged);
  if (file == nullptr) return "";
  pb::DebugStringOptions options;
  options.include_comments = true;
  return "// The pipeline language with the kinds of the plugins found; written by "
         "`engine schema`.\n" +
         file->DebugStringWithOptions(options);
}

}  // namespace engine::graph
