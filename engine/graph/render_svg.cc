// A layered layout: resources in a row at the top, nodes below in columns. A node's column is its
// longest way from a source; within a column, nodes are ordered by the middle of what feeds them.
// Feedback runs back under the boxes.
#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/topological_sort.hpp>
#include <cmath>
#include <sstream>

#include "engine/graph/render.h"

namespace engine::graph {
namespace {

constexpr double kBoxHeight = 44, kRowGap = 30, kColumnGap = 110, kMargin = 24, kLetter = 7.2;

std::string Escape(const std::string& text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

struct Box {
  double x = 0, y = 0, width = 0;
  double right() const { return x + width; }
  double middle() const { return y + kBoxHeight / 2; }
};

double WidthOf(const std::string& name, const std::string& kind) {
  return std::max(80.0, kLetter * static_cast<double>(std::max(name.size(), kind.size())) + 24);
}

std::vector<int> Columns(const Plan& plan) {
  boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS> graph(plan.nodes.size());
  for (const PlanEdge& e : plan.edges) {
    for (const PlanConsumer& c : e.consumers) {
      if (!plan.nodes[c.node].inputs[c.input].feedback) boost::add_edge(e.producer, c.node, graph);
    }
  }
  std::vector<size_t> order;
  boost::topological_sort(graph, std::back_inserter(order));
  std::vector<int> column(plan.nodes.size(), 0);
  for (auto n = order.rbegin(); n != order.rend(); ++n) {
    for (auto [e, end] = boost::out_edges(*n, graph); e != end; ++e) {
      int& to = column[boost::target(*e, graph)];
      to = std::max(to, column[*n] + 1);
    }
  }
  return column;
}

// The nodes of each column, from top to bottom.
std::vector<std::vector<size_t>> Layers(const Plan& plan) {
  const std::vector<int> column = Columns(plan);
  std::vector<std::vector<size_t>> layers;
  for (size_t n = 0; n < column.size(); ++n) {
    if (static_cast<size_t>(column[n]) >= layers.size()) layers.resize(column[n] + 1);
    layers[column[n]].push_back(n);
  }
  std::vector<double> row(plan.nodes.size(), 0);
  for (std::vector<size_t>& layer : layers) {
    std::vector<std::pair<double, size_t>> keyed;
    for (size_t n : layer) {
      double sum = 0;
      int count = 0;
      for (const PlanInput& input : plan.nodes[n].inputs) {
        if (input.feedback) continue;
        sum += row[plan.edges[input.edge].producer];
        ++count;
      }
      keyed.emplace_back(count == 0 ? static_cast<double>(keyed.size()) : sum / count, n);
    }
    std::stable_sort(keyed.begin(), keyed.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (size_t i = 0; i < layer.size(); ++i) {
      layer[i] = keyed[i].second;
      row[layer[i]] = static_cast<double>(i);
    }
  }
  return layers;
}

void Draw(const Box& box, const std::string& name, const std::string& kind, const char* style,
          std::ostream& out) {
  out << "<rect class=\"" << style << "\" x=\"" << box.x << "\" y=\"" << box.y << "\" width=\""
      << box.width << "\" height=\"" << kBoxHeight << "\" rx=\""
      << (style[0] == 'r' ? kBoxHeight / 2 : 4) << "\"/>\n";
  const double center = box.x + box.width / 2;
  out << "<text x=\"" << center << "\" y=\"" << box.y + 18 << "\">" << Escape(name) << "</text>\n"
      << "<text class=\"kind\" x=\"" << center << "\" y=\"" << box.y + 34 << "\">" << Escape(kind)
      << "</text>\n";
}

void Arrow(double x1, double y1, double x2, double y2, const std::string& label,
           std::ostream& out) {
  const double bend = std::max(30.0, (x2 - x1) / 2);
  out << "<path class=\"edge\" d=\"M" << x1 << " " << y1 << " C" << x1 + bend << " " << y1 << " "
      << x2 - bend << " " << y2 << " " << x2 << " " << y2 << "\"/>\n";
  if (label.empty()) return;
  out << "<text class=\"label\" x=\"" << (x1 + x2) / 2 << "\" y=\"" << (y1 + y2) / 2 - 5 << "\">"
      << Escape(label) << "</text>\n";
}

}  // namespace

std::string RenderSvg(const Plan& plan) {
  std::ostringstream body;
  double width = 0;
  std::vector<Box> resources;
  double x = kMargin;
  for (const PlanResource& r : plan.resources) {
    Box box{x, kMargin + 24, WidthOf(r.name, r.kind->name)};
    x = box.right() + 60;
    width = std::max(width, box.right());
    resources.push_back(box);
  }
  const double top = kMargin + 24 + (resources.empty() ? 0 : kBoxHeight + 60);
  std::vector<Box> nodes(plan.nodes.size());
  double bottom = top;
  x = kMargin;
  for (const std::vector<size_t>& layer : Layers(plan)) {
    double widest = 0, y = top;
    for (size_t n : layer) {
      nodes[n] = {x, y, WidthOf(plan.nodes[n].name, plan.nodes[n].kind->name)};
      widest = std::max(widest, nodes[n].width);
      y += kBoxHeight + kRowGap;
      bottom = std::max(bottom, y);
    }
    width = std::max(width, x + widest);
    x += widest + kColumnGap;
  }
  for (size_t i = 0; i < resources.size(); ++i) {
    const PlanResource& r = plan.resources[i];
    if (r.from >= 0) {
      Arrow(resources[r.from].right(), resources[r.from].middle(), resources[i].x,
            resources[i].middle(), "", body);
    }
  }
  for (size_t n = 0; n < nodes.size(); ++n) {
    for (int use : plan.nodes[n].uses) {
      if (use < 0) continue;
      body << "<path class=\"use\" d=\"M" << resources[use].x + resources[use].width / 2 << " "
           << resources[use].y + kBoxHeight << " L" << nodes[n].x + nodes[n].width / 2 << " "
           << nodes[n].y << "\"/>\n";
    }
  }
  double loops = 0;
  for (const PlanEdge& e : plan.edges) {
    const Box& from = nodes[e.producer];
    for (const PlanConsumer& c : e.consumers) {
      const Box& to = nodes[c.node];
      if (!plan.nodes[c.node].inputs[c.input].feedback) {
        Arrow(from.right(), from.middle(), to.x, to.middle(), e.name, body);
        continue;
      }
      const double low = bottom + 18 * ++loops;
      const double x1 = from.x + from.width / 2, x2 = to.x + to.width / 2 + 6 * loops;
      body << "<path class=\"edge feedback\" d=\"M" << x1 << " " << from.y + kBoxHeight << " V"
           << low << " H" << x2 << " V" << to.y + kBoxHeight << "\"/>\n"
           << "<text class=\"label\" x=\"" << (x1 + x2) / 2 << "\" y=\"" << low - 4 << "\">"
           << Escape(e.name) << "</text>\n";
    }
  }
  for (size_t i = 0; i < resources.size(); ++i) {
    const PlanResource& r = plan.resources[i];
    Draw(resources[i], r.name, r.kind->name, r.bypassed ? "resource bypassed" : "resource", body);
  }
  for (size_t n = 0; n < nodes.size(); ++n) {
    const PlanNode& node = plan.nodes[n];
    Draw(nodes[n], node.name, node.kind->name, node.bypassed ? "node bypassed" : "node", body);
  }
  width += kMargin;
  const double height = bottom + 18 * loops + kMargin;
  std::ostringstream out;
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" << width << "\" height=\"" << height
      << "\" viewBox=\"0 0 " << width << " " << height << "\">\n"
      << "<style>text{font:13px sans-serif;text-anchor:middle;fill:#111}"
         ".kind{font-size:11px;fill:#555}.label{font-size:11px;fill:#246}"
         "rect{stroke:#333;fill:#eef3fb}.resource{fill:#fdf3e1}.bypassed{stroke-dasharray:2 3}"
         "path{fill:none;stroke:#333}.use{stroke:#bbb}.edge{marker-end:url(#a)}"
         ".feedback{stroke-dasharray:6 4}.title{font-weight:bold;text-anchor:start}</style>\n"
      << "<defs><marker id=\"a\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" "
         "markerHeight=\"8\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" "
         "style=\"fill:#333\"/></marker></defs>\n"
      << "<rect width=\"100%\" height=\"100%\" style=\"fill:#fff;stroke:none\"/>\n"
      << "<text class=\"title\" x=\"" << kMargin << "\" y=\"" << kMargin + 4 << "\">"
      << Escape(plan.name) << "</text>\n"
      << body.str() << "</svg>\n";
  return out.str();
}

}  // namespace engine::graph
