#include "engine/graph/render.h"

#include <sstream>
#include <vector>

namespace engine::graph {
namespace {

std::string Escape(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string MermaidText(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '"') {
      out += "#quot;";
    } else if (c == '<') {
      out += "#lt;";
    } else if (c == '>') {
      out += "#gt;";
    } else {
      out += c;
    }
  }
  return out;
}

struct Vertex {
  std::string name, kind;
  bool resource = false, bypassed = false;
};
struct Line {
  size_t from = 0, to = 0;
  std::string label;
  bool feedback = false, use = false;
};
struct Picture {
  std::vector<Vertex> vertices;  // resources first, then nodes
  std::vector<Line> lines;
};

Picture ToPicture(const Plan& plan) {
  Picture picture;
  const size_t base = plan.resources.size();
  auto use = [&](int from, size_t to, const char* label) {
    if (from >= 0) {
      picture.lines.push_back({static_cast<size_t>(from), to, label, false, true});
    }
  };
  for (size_t i = 0; i < base; ++i) {
    const PlanResource& r = plan.resources[i];
    picture.vertices.push_back({r.name, r.kind->name, true, r.bypassed});
    use(r.from, i, "from");
    for (int resource : r.uses) use(resource, i, "");
  }
  for (size_t i = 0; i < plan.nodes.size(); ++i) {
    const PlanNode& n = plan.nodes[i];
    picture.vertices.push_back({n.name, n.kind->name, false, n.bypassed});
    for (int resource : n.uses) use(resource, base + i, "");
  }
  for (const PlanEdge& e : plan.edges) {
    for (const PlanConsumer& c : e.consumers) {
      const bool feedback = plan.nodes[c.node].inputs[c.input].feedback;
      picture.lines.push_back({base + e.producer, base + c.node, e.name, feedback, false});
    }
  }
  return picture;
}

}  // namespace

std::string RenderDot(const Plan& plan) {
  const Picture picture = ToPicture(plan);
  std::ostringstream out;
  out << "digraph pipeline {\n  label=\"" << Escape(plan.name) << "\"; rankdir=LR;\n";
  for (size_t v = 0; v < picture.vertices.size(); ++v) {
    const Vertex& x = picture.vertices[v];
    std::string style = x.resource ? "rounded" : "";
    if (x.bypassed) style += style.empty() ? "dotted" : ",dotted";
    out << "  v" << v << " [label=\"" << Escape(x.name) << "\\n"
        << Escape(x.kind) << "\", shape=box";
    if (!style.empty()) out << ", style=\"" << style << "\"";
    out << "];\n";
  }
  for (const Line& x : picture.lines) {
    out << "  v" << x.from << " -> v" << x.to << " [label=\"" << Escape(x.label) << "\"";
    if (x.feedback) out << ", style=dashed, constraint=false";
    if (x.use) out << ", color=gray, arrowhead=open";
    out << "];\n";
  }
  out << "}\n";
  return out.str();
}

std::string RenderMermaid(const Plan& plan) {
  const Picture picture = ToPicture(plan);
  std::ostringstream out;
  out << "flowchart LR\n";
  for (size_t v = 0; v < picture.vertices.size(); ++v) {
    const Vertex& x = picture.vertices[v];
    const std::string label = "\"" + MermaidText(x.name) + "<br/>" + MermaidText(x.kind) +
                              (x.bypassed ? " (bypassed)" : "") + "\"";
    out << "  v" << v << (x.resource ? "(" + label + ")" : "[" + label + "]") << "\n";
  }
  for (const Line& x : picture.lines) {
    out << "  v" << x.from << (x.feedback || x.use ? " -.->" : " -->");
    if (!x.label.empty()) out << "|\"" << MermaidText(x.label) << "\"|";
    out << " v" << x.to << "\n";
  }
  return out.str();
}

}  // namespace engine::graph
