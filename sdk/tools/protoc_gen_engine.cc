// protoc-gen-engine: turns a plugin's options.proto into a header with one plain struct a message,
// its reader over engine/wire.hpp, and the schema's bytes. The plugin links no protobuf.
// Invariant: what the header reads is what the schema bytes in it describe, since both come from
// the same descriptors.
#include <google/protobuf/compiler/code_generator.h>
#include <google/protobuf/compiler/plugin.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/io/printer.h>
#include <google/protobuf/io/zero_copy_stream.h>

#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <string>

namespace pb = google::protobuf;

namespace {

using Vars = std::map<std::string, std::string>;

std::string CppNamespace(const std::string& package) {
  std::string out;
  for (char c : package) out += c == '.' ? std::string("::") : std::string(1, c);
  return out;
}

// A C++ literal of the text.
std::string Quoted(const std::string& text) {
  std::string out = "\"";
  for (unsigned char c : text) {
    char buffer[8];
    std::snprintf(buffer, sizeof buffer, "\\%03o", static_cast<unsigned>(c));
    out += c >= 0x20 && c < 0x7f && c != '"' && c != '\\' && c != '?' ? std::string(1, char(c))
                                                                      : std::string(buffer);
  }
  return out + "\"";
}

std::string TypeOf(const pb::FieldDescriptor& f) {
  switch (f.cpp_type()) {
    case pb::FieldDescriptor::CPPTYPE_INT32:
      return "int32_t";
    case pb::FieldDescriptor::CPPTYPE_INT64:
      return "int64_t";
    case pb::FieldDescriptor::CPPTYPE_UINT32:
      return "uint32_t";
    case pb::FieldDescriptor::CPPTYPE_UINT64:
      return "uint64_t";
    case pb::FieldDescriptor::CPPTYPE_DOUBLE:
      return "double";
    case pb::FieldDescriptor::CPPTYPE_FLOAT:
      return "float";
    case pb::FieldDescriptor::CPPTYPE_BOOL:
      return "bool";
    case pb::FieldDescriptor::CPPTYPE_STRING:
      return "std::string";
    case pb::FieldDescriptor::CPPTYPE_ENUM:
      return f.enum_type()->name();
    case pb::FieldDescriptor::CPPTYPE_MESSAGE:
      return f.message_type()->name();
  }
  return "";
}

std::string DefaultOf(const pb::FieldDescriptor& f) {
  switch (f.cpp_type()) {
    case pb::FieldDescriptor::CPPTYPE_INT32:
      return std::to_string(f.default_value_int32());
    case pb::FieldDescriptor::CPPTYPE_INT64:
      return std::to_string(f.default_value_int64());
    case pb::FieldDescriptor::CPPTYPE_UINT32:
      return std::to_string(f.default_value_uint32()) + "u";
    case pb::FieldDescriptor::CPPTYPE_UINT64:
      return std::to_string(f.default_value_uint64()) + "u";
    case pb::FieldDescriptor::CPPTYPE_DOUBLE:
    case pb::FieldDescriptor::CPPTYPE_FLOAT: {
      char text[64];
      const bool is_double = f.cpp_type() == pb::FieldDescriptor::CPPTYPE_DOUBLE;
      std::snprintf(
          text, sizeof text, is_double ? "%.17g" : "%.9gf",
          is_double ? f.default_value_double() : static_cast<double>(f.default_value_float()));
      std::string out = text;
      if (out.find_first_of(".e") == std::string::npos)
        out.insert(out.find_last_of("0123456789") + 1, ".0");
      return out;
    }
    case pb::FieldDescriptor::CPPTYPE_BOOL:
      return f.default_value_bool() ? "true" : "false";
    case pb::FieldDescriptor::CPPTYPE_STRING:
      return Quoted(f.default_value_string());
    case pb::FieldDescriptor::CPPTYPE_ENUM:
      return f.enum_type()->name() + "::" + f.default_value_enum()->name();
    case pb::FieldDescriptor::CPPTYPE_MESSAGE:
      return "";
  }
  return "";
}

// The call of wire::Reader that reads one value.
std::string ReadCall(const pb::FieldDescriptor& f) {
  switch (f.type()) {
    case pb::FieldDescriptor::TYPE_SINT32:
    case pb::FieldDescriptor::TYPE_SINT64:
      return "static_cast<" + TypeOf(f) + ">(in.S64())";
    case pb::FieldDescriptor::TYPE_INT32:
    case pb::FieldDescriptor::TYPE_INT64:
    case pb::FieldDescriptor::TYPE_ENUM:
      return "static_cast<" + TypeOf(f) + ">(in.I64())";
    case pb::FieldDescriptor::TYPE_UINT32:
    case pb::FieldDescriptor::TYPE_UINT64:
      return "static_cast<" + TypeOf(f) + ">(in.U64())";
    case pb::FieldDescriptor::TYPE_FIXED64:
    case pb::FieldDescriptor::TYPE_SFIXED64:
      return "static_cast<" + TypeOf(f) + ">(in.Fixed64())";
    case pb::FieldDescriptor::TYPE_FIXED32:
    case pb::FieldDescriptor::TYPE_SFIXED32:
      return "static_cast<" + TypeOf(f) + ">(in.Fixed32())";
    case pb::FieldDescriptor::TYPE_DOUBLE:
      return "in.F64()";
    case pb::FieldDescriptor::TYPE_FLOAT:
      return "in.F32()";
    case pb::FieldDescriptor::TYPE_BOOL:
      return "in.Bool()";
    case pb::FieldDescriptor::TYPE_STRING:
    case pb::FieldDescriptor::TYPE_BYTES:
      return "std::string(in.Bytes())";
    default:
      return "";
  }
}

void PrintEnum(const pb::EnumDescriptor& e, pb::io::Printer* p) {
  p->Print("enum class $name$ : int32_t {\n", "name", e.name());
  for (int i = 0; i < e.value_count(); ++i) {
    p->Print("  $name$ = $number$,\n", "name", e.value(i)->name(), "number",
             std::to_string(e.value(i)->number()));
  }
  p->Print("};\n");
}

void PrintMessage(const pb::Descriptor& m, pb::io::Printer* p) {
  p->Print("struct $name$ {\n", "name", m.name());
  p->Indent();
  p->Print("static constexpr std::string_view kMessage = \"$name$\";\n", "name", m.full_name());
  for (int i = 0; i < m.enum_type_count(); ++i) PrintEnum(*m.enum_type(i), p);
  for (int i = 0; i < m.nested_type_count(); ++i) PrintMessage(*m.nested_type(i), p);
  for (int i = 0; i < m.field_count(); ++i) {
    const pb::FieldDescriptor& f = *m.field(i);
    const Vars vars = {{"type", TypeOf(f)}, {"name", f.name()}, {"value", DefaultOf(f)}};
    if (f.is_repeated()) {
      p->Print(vars, "std::vector<$type$> $name$;\n");
      continue;
    }
    p->Print(vars, f.message_type() != nullptr ? "$type$ $name$;\n" : "$type$ $name$ = $value$;\n");
    p->Print(vars, "bool has_$name$ = false;\n");
  }
  p->Print(
      "\n// False when the bytes are no message of this type.\n"
      "bool Read(std::string_view bytes) {\n"
      "  ::engine::wire::Reader in(bytes);\n"
      "  while (const uint32_t field = in.Next()) {\n"
      "    switch (field) {\n");
  p->Indent();
  p->Indent();
  p->Indent();
  for (int i = 0; i < m.field_count(); ++i) {
    const pb::FieldDescriptor& f = *m.field(i);
    const Vars vars = {
        {"number", std::to_string(f.number())}, {"name", f.name()}, {"read", ReadCall(f)}};
    p->Print(vars, "case $number$:\n");
    if (f.message_type() != nullptr) {
      p->Print(vars, f.is_repeated()
                         ? "  if (!$name$.emplace_back().Read(in.Bytes())) return false;\n"
                         : "  if (!$name$.Read(in.Bytes())) return false;\n");
    } else {
      p->Print(vars, f.is_repeated() ? "  $name$.push_back($read$);\n" : "  $name$ = $read$;\n");
    }
    if (!f.is_repeated()) p->Print(vars, "  has_$name$ = true;\n");
    p->Print("  break;\n");
  }
  p->Print("default:\n  in.Skip();\n");
  p->Outdent();
  p->Outdent();
  p->Outdent();
  p->Print("    }\n  }\n  return !in.failed();\n}\n");
  p->Outdent();
  p->Print("};\n\n");
}

// The file and all it imports, imports first, each once.
void Collect(const pb::FileDescriptor& file, std::set<std::string>* seen,
             pb::FileDescriptorSet* out) {
  if (!seen->insert(file.name()).second) return;
  for (int i = 0; i < file.dependency_count(); ++i) Collect(*file.dependency(i), seen, out);
  pb::FileDescriptorProto* copy = out->add_file();
  file.CopyTo(copy);
  file.CopySourceCodeInfoTo(copy);
}

class Generator : public pb::compiler::CodeGenerator {
 public:
  bool Generate(const pb::FileDescriptor* file, const std::string&,
                pb::compiler::GeneratorContext* context, std::string* error) const override {
    if (file->package().empty()) {
      *error = file->name() + ": needs a package, since its messages share one schema with others";
      return false;
    }
    std::string name = file->name();
    name.resize(name.size() - std::string(".proto").size());
    std::unique_ptr<pb::io::ZeroCopyOutputStream> stream(context->Open(name + ".engine.hpp"));
    pb::io::Printer p(stream.get(), '$');
    p.Print(
        "// Made by protoc-gen-engine from $file$; do not edit.\n"
        "#pragma once\n\n#include <cstdint>\n#include <string>\n#include <string_view>\n"
        "#include <vector>\n\n#include \"engine/wire.hpp\"\n\nnamespace $ns$ {\n\n",
        "file", file->name(), "ns", CppNamespace(file->package()));
    for (int i = 0; i < file->enum_type_count(); ++i) PrintEnum(*file->enum_type(i), &p);
    for (int i = 0; i < file->message_type_count(); ++i) PrintMessage(*file->message_type(i), &p);

    pb::FileDescriptorSet set;
    std::set<std::string> seen;
    Collect(*file, &seen, &set);
    const std::string bytes = set.SerializeAsString();
    p.Print("// google.protobuf.FileDescriptorSet with source info.\n");
    p.Print("inline constexpr uint8_t kSchema[] = {");
    for (size_t i = 0; i < bytes.size(); ++i) {
      if (i % 24 == 0) p.Print("\n    ");
      p.Print("$b$,", "b",
              std::to_string(static_cast<unsigned>(static_cast<unsigned char>(bytes[i]))));
    }
    p.Print("};\n\n}  // namespace $ns$\n", "ns", CppNamespace(file->package()));
    return true;
  }
};

}  // namespace

int main(int argc, char** argv) {
  Generator generator;
  return pb::compiler::PluginMain(argc, argv, &generator);
}
