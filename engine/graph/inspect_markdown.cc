// The manual as Markdown: docs/reference is made of it. Nothing of this machine is in it, no path
// and no file, so that the pages are the same wherever they are made.
#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "engine/graph/explain.h"
#include "engine/graph/inspect.h"
#include "engine/graph/inspect_parts.h"
#include "engine/graph/suggest.h"

namespace engine::graph {
namespace {

namespace pb = google::protobuf;
using Field = pb::FieldDescriptor;

// Text in a cell of a table: one line, without what would end the cell.
std::string Cell(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '|' || c == '<' || c == '*' || c == '_') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}
std::string Code(const std::string& text) { return text.empty() ? "" : "`" + text + "`"; }

std::string Joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += (text.empty() ? "" : " ") + line;
  return text;
}

void Rows(const pb::Descriptor& message, const std::string& prefix, int depth, std::ostream& out) {
  for (int i = 0; i < message.field_count(); ++i) {
    const Field& field = *message.field(i);
    std::string doc = Cell(Joined(Comment(field)));
    if (const pb::EnumDescriptor* type = field.enum_type()) {
      for (int v = 0; v < type->value_count(); ++v) {
        const std::string words = Joined(Comment(*type->value(v)));
        doc += (doc.empty() ? "" : "<br>") + Code(type->value(v)->name());
        if (!words.empty()) doc += ": " + Cell(words);
      }
    }
    out << "| " << Code(prefix + field.name()) << " | " << OptionType(field) << " | "
        << Code(OptionDefault(field)) << " | " << Cell(DescribeAnnotations(AnnotationsOf(field)))
        << " | " << doc << " |\n";
    if (field.message_type() != nullptr && depth < 8) {
      Rows(*field.message_type(), prefix + field.name() + ".", depth + 1, out);
    }
  }
}

// What an example says within the comment of the options message is kept as it stands.
void MessageComment(const pb::Descriptor& message, std::ostream& out) {
  bool code = false;
  for (const std::string& line : Comment(message)) {
    const bool indented = line.rfind("  ", 0) == 0;
    if (indented != code) out << (code ? "```\n\n" : "\n```\n");
    code = indented;
    out << (indented ? line.substr(2) : line) << "\n";
  }
  if (code) out << "```\n";
  out << "\n";
}

void Ports(const char* title, const std::vector<abi::Port>& ports, std::ostream& out) {
  if (ports.empty()) return;
  out << "| " << title << " | type | | |\n|---|---|---|---|\n";
  for (const abi::Port& port : ports) {
    std::string notes = port.shape.empty() ? "" : Code(port.shape);
    const auto note = [&](bool there, const std::string& words) {
      if (there) notes += (notes.empty() ? "" : ", ") + words;
    };
    note(!port.dtype.empty(), Code(port.dtype));
    note(port.optional, "may be left open");
    note(port.repeated, "takes several edges");
    note(port.errors, "takes failures");
    out << "| " << Code(port.name) << " | " << (port.type == "*" ? "any" : Code(port.type)) << " | "
        << notes << " | " << Cell(port.doc) << " |\n";
  }
  out << "\n";
}

void Kind(const Schema& schema, const abi::Kind& kind, std::ostream& out) {
  const bool node = kind.role == abi::Role::kNode;
  out << "## " << kind.name << "\n\n"
      << (node                                ? "Node. "
          : kind.role == abi::Role::kResource ? "Resource. "
                                              : "Transform. ")
      << kind.doc << "\n\n```\n"
      << Example(kind) << "\n```\n\n";
  const pb::Descriptor* options = schema.Options(kind);
  if (options != nullptr) MessageComment(*options, out);
  Ports("input", kind.inputs, out);
  Ports("output", kind.outputs, out);
  if (!kind.uses.empty()) {
    out << "| uses | type | | |\n|---|---|---|---|\n";
    for (const abi::Slot& slot : kind.uses) {
      out << "| " << Code(slot.name) << " | " << Code(slot.type) << " | "
          << (slot.mutates ? "changes it" : "") << (slot.mutates && slot.optional ? ", " : "")
          << (slot.optional ? "may be left open" : "") << " | " << Cell(slot.doc) << " |\n";
    }
    out << "\n";
  }
  if (options != nullptr && options->field_count() != 0) {
    out << "| option | takes | default | limits | |\n|---|---|---|---|---|\n";
    Rows(*options, "", 0, out);
    out << "\n";
  }
  if (node) {
    out << "Policy ";
    for (size_t i = 0; i < kind.policies.size(); ++i) {
      out << (i > 0 ? ", " : "") << PolicyName(kind.policies[i]);
    }
    out << "; gives " << EmissionWords(kind.emission) << ". Executor "
        << (kind.executor.empty() ? "default" : kind.executor) << ", at most " << kind.max_in_flight
        << " at once. Bypassed, it "
        << (kind.bypass.empty() ? std::string("cannot be") : "runs as " + Code(kind.bypass))
        << ".\n\n";
  } else {
    out << "Makes " << Code(kind.provides);
    if (kind.role == abi::Role::kTransform) {
      out << " of " << Code(kind.accepts) << ", in the phase " << PhaseName(kind.phase)
          << "; bypassed, it is left out of the chain";
    }
    out << ".\n\n";
  }
}

std::string Page(const Schema& schema, const abi::Plugin& plugin) {
  std::ostringstream out;
  out << "# " << plugin.id
      << "\n\n<!-- Made by `make reference` of the plugin's own description; do "
         "not edit. -->\n\n"
      << plugin.summary << (plugin.summary.empty() ? "" : "\n\n");
  if (!plugin.path.empty()) {
    out << "Version " << plugin.version << ", tier " << plugin.tier << ", licence "
        << plugin.license << ".\n\n";
  }
  for (const std::string& name : plugin.kinds) {
    if (const abi::Kind* kind = schema.index().Find(name)) Kind(schema, *kind, out);
  }
  std::string text = out.str();
  while (text.size() > 1 && text[text.size() - 2] == '\n') text.pop_back();
  return text;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> ReferencePages(const Schema& schema) {
  std::map<std::string, std::string> pages;
  std::ostringstream all;
  all << "# Reference\n\n<!-- Made by `make reference`; do not edit. -->\n\nAll kinds of the "
         "engine "
         "and of the plugins that ship with it, as `engine inspect KIND` tells them.\n\n"
         "| kind | | plugin |\n|---|---|---|\n";
  for (const abi::Plugin& plugin : schema.index().plugins) {
    pages[plugin.id + ".md"] = Page(schema, plugin);
  }
  for (const auto& [name, kind] : schema.index().kinds) {
    const std::string page = kind.plugin + ".md";
    if (pages.count(page) == 0) continue;
    std::string anchor = name;
    all << "| [" << Code(name) << "](" << page << "#" << anchor << ") | "
        << Cell(FirstSentence(kind.doc)) << " | [" << kind.plugin << "](" << page << ") |\n";
  }
  pages["README.md"] = all.str();
  return {pages.begin(), pages.end()};
}

Status InspectMarkdown(const Schema& schema, std::string_view what, std::string* text) {
  text->clear();
  const abi::KindIndex& index = schema.index();
  for (const abi::Plugin& plugin : index.plugins) {
    if (what.empty() || what == plugin.id) {
      *text += (text->empty() ? "" : "\n") + Page(schema, plugin);
    }
  }
  if (!text->empty()) return Status();
  const abi::Kind* kind = index.Find(what);
  // Where there is none, the other form says so, with the nearest name.
  if (kind == nullptr) return Inspect(schema, what, text);
  std::ostringstream out;
  Kind(schema, *kind, out);
  *text = out.str();
  return Status();
}

}  // namespace engine::graph
