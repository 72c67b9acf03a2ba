#include "engine/graph/inspect.h"

#include <google/protobuf/descriptor.h>

#include <sstream>

#include "engine/graph/explain.h"
#include "engine/graph/inspect_parts.h"
#include "engine/graph/suggest.h"

namespace engine::graph {

namespace pb = google::protobuf;
using Field = pb::FieldDescriptor;

namespace {

template <typename Descriptor>
std::vector<std::string> CommentOf(const Descriptor& descriptor) {
  pb::SourceLocation place;
  std::vector<std::string> lines;
  if (!descriptor.GetSourceLocation(&place)) return lines;
  std::istringstream text(place.leading_comments.empty() ? place.trailing_comments
                                                         : place.leading_comments);
  for (std::string line; std::getline(text, line);) {
    lines.push_back(line.substr(line.empty() || line[0] != ' ' ? 0 : 1));
  }
  return lines;
}

}  // namespace

std::vector<std::string> Comment(const pb::Descriptor& message) { return CommentOf(message); }
std::vector<std::string> Comment(const Field& field) { return CommentOf(field); }
std::vector<std::string> Comment(const pb::EnumValueDescriptor& value) { return CommentOf(value); }

std::string FirstSentence(const std::string& doc) {
  const size_t end = doc.find(". ");
  return end == std::string::npos ? doc : doc.substr(0, end + 1);
}

std::string OptionType(const Field& field) {
  std::string type;
  switch (field.cpp_type()) {
    case Field::CPPTYPE_STRING:
      type = "text";
      break;
    case Field::CPPTYPE_BOOL:
      type = "true or false";
      break;
    case Field::CPPTYPE_ENUM:
      type = "one of " + field.enum_type()->name();
      break;
    case Field::CPPTYPE_FLOAT:
    case Field::CPPTYPE_DOUBLE:
      type = "number";
      break;
    case Field::CPPTYPE_MESSAGE:
      type = "block";
      break;
    default:
      type = "whole number";
  }
  return field.is_repeated() ? "list of " + type : type;
}

std::string OptionDefault(const Field& field) {
  if (!field.has_default_value()) return "";
  if (field.cpp_type() == Field::CPPTYPE_ENUM) return field.default_value_enum()->name();
  if (field.cpp_type() == Field::CPPTYPE_STRING) return Quote(field.default_value_string());
  switch (field.cpp_type()) {
    case Field::CPPTYPE_BOOL:
      return field.default_value_bool() ? "true" : "false";
    case Field::CPPTYPE_INT32:
      return std::to_string(field.default_value_int32());
    case Field::CPPTYPE_INT64:
      return std::to_string(field.default_value_int64());
    case Field::CPPTYPE_UINT32:
      return std::to_string(field.default_value_uint32());
    case Field::CPPTYPE_UINT64:
      return std::to_string(field.default_value_uint64());
    default: {
      std::ostringstream out;
      out << (field.cpp_type() == Field::CPPTYPE_FLOAT ? field.default_value_float()
                                                       : field.default_value_double());
      return out.str();
    }
  }
}

namespace {

void Option(const Field& field, const std::string& indent, int depth, std::ostream& out) {
  out << indent << field.name() << ": " << OptionType(field);
  if (std::string value = OptionDefault(field); !value.empty()) out << ", default " << value;
  const std::string limits = DescribeAnnotations(AnnotationsOf(field));
  if (!limits.empty()) out << ", " << limits;
  out << "\n";
  for (const std::string& line : Comment(field)) out << indent << "    " << line << "\n";
  if (const pb::EnumDescriptor* type = field.enum_type()) {
    for (int i = 0; i < type->value_count(); ++i) {
      out << indent << "    " << type->value(i)->name();
      std::string separator = "  ";
      for (const std::string& line : Comment(*type->value(i))) {
        out << separator << line;
        separator = " ";
      }
      out << "\n";
    }
  }
  if (const pb::Descriptor* inner = field.message_type(); inner != nullptr && depth < 8) {
    for (int i = 0; i < inner->field_count(); ++i) {
      Option(*inner->field(i), indent + "    ", depth + 1, out);
    }
  }
}

void Ports(const char* title, const char* none, const std::vector<abi::Port>& ports,
           std::ostream& out) {
  out << "\n" << title << "\n";
  if (ports.empty()) out << "  " << none << "\n";
  for (const abi::Port& port : ports) {
    out << "  " << port.name << "  " << (port.type == "*" ? "any type" : port.type);
    if (!port.shape.empty()) out << " " << port.shape;
    if (!port.dtype.empty()) out << " " << port.dtype;
    if (port.optional) out << "  (may be left open)";
    if (port.repeated) out << "  (takes several edges)";
    out << "\n";
    if (!port.doc.empty()) out << "      " << port.doc << "\n";
  }
}

}  // namespace

std::string Example(const abi::Kind& kind) {
  const bool node = kind.role == abi::Role::kNode;
  std::string line = std::string(node ? "node" : "resource") + " { name: \"my_" + kind.name + "\"";
  if (kind.role == abi::Role::kTransform) line += "  from: \"base\"";
  line += "  " + kind.name + " { }";
  for (const abi::Slot& slot : kind.uses) {
    if (!slot.optional) line += "  use: \"" + slot.name + ":...\"";
  }
  for (const abi::Port& port : kind.inputs) {
    if (!port.optional) line += "  in: \"" + port.name + ":...\"";
  }
  for (const abi::Port& port : kind.outputs) {
    if (!port.optional) line += "  out: \"" + port.name + ":...\"";
  }
  return line + " }";
}

const char* EmissionWords(abi::Emission emission) {
  switch (emission) {
    case abi::Emission::kOne:
      return "at most one packet on each output for each that comes in";
    case abi::Emission::kMany:
      return "any number of packets, with keys of its own";
    case abi::Emission::kNone:
      return "nothing";
  }
  return "";
}

namespace {

void InspectKind(const Schema& schema, const abi::Kind& kind, std::ostream& out) {
  const char* role = kind.role == abi::Role::kNode       ? "node"
                     : kind.role == abi::Role::kResource ? "resource"
                                                         : "transform";
  const abi::Plugin* plugin = schema.index().FindPlugin(kind.plugin);
  out << kind.name << "  (" << role << " of plugin " << kind.plugin
      << (plugin ? " " + plugin->version : "") << ")\n";
  if (!kind.doc.empty()) out << "  " << kind.doc << "\n";
  if (kind.role == abi::Role::kNode) {
    Ports("inputs", "none: it begins a stream", kind.inputs, out);
    Ports("outputs", "none: it ends a stream", kind.outputs, out);
  } else {
    out << "\nmakes     " << kind.provides << "\n";
    if (kind.role == abi::Role::kTransform) {
      out << "rewrites  " << kind.accepts << "\nphase     " << PhaseName(kind.phase) << "\n";
    }
  }
  if (!kind.uses.empty()) out << "\nuses\n";
  for (const abi::Slot& slot : kind.uses) {
    out << "  " << slot.name << "  " << slot.type << (slot.mutates ? "  (changes it)" : "")
        << (slot.optional ? "  (may be left open)" : "") << "\n";
    if (!slot.doc.empty()) out << "      " << slot.doc << "\n";
  }
  if (kind.role == abi::Role::kNode) {
    out << "\nruns\n  policy ";
    for (size_t i = 0; i < kind.policies.size(); ++i) {
      out << (i > 0 ? ", " : "") << PolicyName(kind.policies[i]);
    }
    out << "; gives " << EmissionWords(kind.emission) << "\n  on executor "
        << (kind.executor.empty() ? "default" : kind.executor) << ", at most " << kind.max_in_flight
        << " at once\n  bypass: " << (kind.bypass.empty() ? "none" : "runs as " + kind.bypass)
        << "\n";
  } else {
    out << "\nbypass: "
        << (kind.role == abi::Role::kTransform ? "it is left out of the chain" : "none") << "\n";
  }
  out << "\noptions\n";
  const pb::Descriptor* options = schema.Options(kind);
  if (options == nullptr || options->field_count() == 0) out << "  none\n";
  for (int i = 0; options != nullptr && i < options->field_count(); ++i) {
    Option(*options->field(i), "  ", 0, out);
  }
  out << "\nexample\n  " << Example(kind) << "\n";
}

void InspectPlugin(const Schema& schema, const abi::Plugin& plugin, std::ostream& out) {
  out << plugin.id << " " << plugin.version << "\n";
  if (!plugin.summary.empty()) out << "  " << plugin.summary << "\n";
  out << "\n";
  for (const auto& [name, value] :
       {std::pair("file", plugin.path), std::pair("licence", plugin.license),
        std::pair("url", plugin.url), std::pair("tier", plugin.tier)}) {
    if (!value.empty())
      out << name << std::string(9 - std::string(name).size(), ' ') << value << "\n";
  }
  out << "\nkinds\n";
  for (const std::string& name : plugin.kinds) {
    const abi::Kind* kind = schema.index().Find(name);
    out << "  " << name << (kind ? "  " + FirstSentence(kind->doc) : "") << "\n";
  }
}

Status InspectOption(const Schema& schema, const abi::Kind& kind, std::string_view path,
                     std::ostream& out) {
  const pb::Descriptor* at = schema.Options(kind);
  const Field* field = nullptr;
  std::string so_far = kind.name;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    const std::string name(path.substr(begin, end - begin));
    begin = end + 1;
    std::vector<std::string> names;
    for (int i = 0; at != nullptr && i < at->field_count(); ++i) {
      names.push_back(at->field(i)->name());
    }
    field = at == nullptr ? nullptr : at->FindFieldByName(name);
    if (field == nullptr) {
      return Error(
          ENGINE_NOT_FOUND, Quote(so_far), " has no option ", Quote(name), "; ",
          names.empty() ? std::string("it takes no options") : DidYouMean(name, names, "options"));
    }
    so_far += "." + name;
    at = field->message_type();
  }
  out << so_far << "\n";
  Option(*field, "  ", 0, out);
  return Status();
}

}  // namespace

Status Inspect(const Schema& schema, std::string_view what, std::string* text) {
  std::ostringstream out;
  const abi::KindIndex& index = schema.index();
  const size_t dot = what.find('.');
  if (what.empty()) {
    for (const abi::Plugin& plugin : index.plugins) {
      out << plugin.id << " " << plugin.version
          << (plugin.summary.empty() ? "" : "  " + plugin.summary) << "\n";
      for (const std::string& name : plugin.kinds) {
        const abi::Kind* kind = index.Find(name);
        out << "  " << name << (kind ? "  " + FirstSentence(kind->doc) : "") << "\n";
      }
    }
  } else if (const abi::Plugin* plugin = index.FindPlugin(what)) {
    InspectPlugin(schema, *plugin, out);
  } else if (const abi::Kind* kind = index.Find(what)) {
    InspectKind(schema, *kind, out);
  } else if (const abi::Kind* owner =
                 dot == std::string_view::npos ? nullptr : index.Find(what.substr(0, dot))) {
    ENGINE_RETURN_IF_ERROR(InspectOption(schema, *owner, what.substr(dot + 1), out));
  } else {
    std::vector<std::string> names;
    for (const auto& [name, each] : index.kinds) names.push_back(name);
    for (const abi::Plugin& each : index.plugins) names.push_back(each.id);
    for (const abi::Refusal& refusal : index.refused) {
      bool named = refusal.id == what;
      for (const std::string& name : refusal.kinds) named = named || name == what;
      if (named) {
        return Error(ENGINE_NOT_FOUND, "plugin ", refusal.id.empty() ? refusal.path : refusal.id,
                     " has ", Quote(what), ", but was refused: ", refusal.reason);
      }
    }
    return Error(ENGINE_NOT_FOUND, "there is no plugin or kind ", Quote(what), "; ",
                 DidYouMean(what, names, "kinds"));
  }
  *text = out.str();
  return Status();
}

}  // namespace engine::graph
