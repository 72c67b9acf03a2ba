// Pictures of a plan, as text that needs no other tool of ours: DOT for Graphviz, Mermaid for
// Markdown, and SVG laid out here. Nodes are boxes, resources are rounded, feedback is dashed. All
// text of the pipeline is escaped.
#ifndef ENGINE_GRAPH_RENDER_H_
#define ENGINE_GRAPH_RENDER_H_

#include <string>

#include "engine/graph/plan.h"

namespace engine::graph {

std::string RenderDot(const Plan& plan);
std::string RenderMermaid(const Plan& plan);
std::string RenderSvg(const Plan& plan);

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_RENDER_H_
