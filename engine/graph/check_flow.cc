// Order and loops. Boost.Graph holds the nodes and their edges; a loop must be closed by a feedback
// port and have room for all work that the limits admit.
#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/dijkstra_shortest_paths.hpp>
#include <boost/graph/strong_components.hpp>
#include <functional>
#include <queue>

#include "engine/graph/check.h"
#include "engine/graph/diagnostic.h"
#include "engine/graph/suggest.h"

namespace engine::graph {
namespace {

struct Link {
  int node = 0, input = 0;  // the consumer's wire
  bool feedback = false;
  int capacity = 0;
};
using Graph = boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS,
                                    boost::property<boost::vertex_index_t, size_t>, Link>;

Graph BuildGraph(const Work& work, bool with_feedback) {
  Graph graph(work.nodes.size());
  for (const WorkEdge& edge : work.edges) {
    if (edge.producer < 0) continue;
    for (const auto& [n, i] : edge.consumers) {
      const Wire& wire = work.nodes[n].ins[i];
      if (wire.feedback && !with_feedback) continue;
      boost::add_edge(edge.producer, n, {n, i, wire.feedback, static_cast<int>(wire.capacity)},
                      graph);
    }
  }
  return graph;
}

// One cycle within a strong component, as a path that starts at its first node of the file.
std::vector<Link> FindCycle(const Graph& graph, const std::vector<int>& component, int start) {
  std::vector<Link> came(boost::num_vertices(graph));
  std::vector<int> before(boost::num_vertices(graph), -1);
  std::vector<int> queue{start};
  for (size_t next = 0; next < queue.size(); ++next) {
    const int at = queue[next];
    for (auto [e, end] = boost::out_edges(at, graph); e != end; ++e) {
      const int to = static_cast<int>(boost::target(*e, graph));
      if (component[to] != component[start]) continue;
      if (to == start) {
        std::vector<Link> path{graph[*e]};
        for (int back = at; back != start; back = before[back]) path.push_back(came[back]);
        std::reverse(path.begin(), path.end());
        return path;
      }
      if (before[to] >= 0) continue;
      before[to] = at;
      came[to] = graph[*e];
      queue.push_back(to);
    }
  }
  return {};
}

void CheckCycles(Work* work, const Graph& graph) {
  const size_t count = work->nodes.size();
  std::vector<int> component(count);
  if (count == 0) return;
  const int components = boost::strong_components(graph, component.data());
  std::vector<int> size(components, 0);
  for (int c : component) ++size[c];
  std::vector<bool> told(components, false);
  for (size_t n = 0; n < count; ++n) {
    const int c = component[n];
    const bool self = boost::edge(n, n, graph).second;
    if (told[c] || (size[c] == 1 && !self)) continue;
    told[c] = true;
    const std::vector<Link> cycle = FindCycle(graph, component, static_cast<int>(n));
    std::string path = work->nodes[n].item->name;
    for (const Link& link : cycle) path += " -> " + work->nodes[link.node].item->name;
    const Item& item = *work->nodes[n].item;
    const Link& last = cycle.back();
    const Connection& closing = *work->nodes[last.node].ins[last.input].written;
    Diagnostic& d =
        work->reporter->Error(closing.target_span, "nodes wait for one another: " + path);
    d.Hint("name the input port that closes the loop in feedback: of a node with policy ANY");
    for (size_t i = 0; i + 1 < cycle.size(); ++i) {
      const WorkNode& node = work->nodes[cycle[i].node];
      d.At(node.ins[cycle[i].input].written->target_span, Quote(node.item->name) + " reads here");
    }
    AddTrail(item, d);
  }
}

// Each loop goes through a feedback edge: the loop with the least room through it is that edge and
// the path with the least room back to its producer.
void CheckRoom(Work* work, const Graph& full) {
  const uint32_t needed = work->limits.max_in_flight;
  if (needed == 0) return;
  for (const WorkEdge& edge : work->edges) {
    if (edge.producer < 0) continue;
    for (const auto& [n, i] : edge.consumers) {
      const Wire& wire = work->nodes[n].ins[i];
      if (!wire.feedback) continue;
      std::vector<size_t> before(work->nodes.size());
      std::vector<int> room(work->nodes.size());
      boost::dijkstra_shortest_paths(full, n,
                                     boost::weight_map(boost::get(&Link::capacity, full))
                                         .predecessor_map(before.data())
                                         .distance_map(room.data()));
      const size_t from = static_cast<size_t>(edge.producer);
      const bool reached = from == static_cast<size_t>(n) || before[from] != from;
      if (!reached) continue;
      const uint32_t total = static_cast<uint32_t>(room[from]) + wire.capacity;
      if (total >= needed) continue;
      std::string path;
      for (size_t at = from; at != static_cast<size_t>(n); at = before[at]) {
        path = " -> " + work->nodes[at].item->name + path;
      }
      const std::string& name = work->nodes[n].item->name;
      path = name + path + " -> " + name;
      Diagnostic& d = work->reporter->Error(
          wire.written->target_span, "the loop " + path + " has room for " + std::to_string(total) +
                                         " packets, and limits.max_in_flight admits " +
                                         std::to_string(needed));
      d.Hint("give a queue of the loop " + std::to_string(needed - total) +
             " more: queue { port: \"...\" size: " +
             std::to_string(wire.capacity + needed - total) + " }");
      const Block main = work->reading->files[0]->block();
      if (main.Has("limits") && main.Child("limits").outline != nullptr) {
        d.At(main.Child("limits").At("max_in_flight"), "the limit is here");
      }
      AddTrail(*work->nodes[n].item, d);
    }
  }
}

// A domain is a numbering of packets: only packets of one numbering can be joined by key.
void CheckDomains(Work* work) {
  std::vector<int> of_edge(work->edges.size(), -1);  // the node whose packets began it
  for (int n : work->node_order) {
    WorkNode& node = work->nodes[n];
    if (node.kind == nullptr) continue;
    int domain = -1;
    const Wire* first = nullptr;
    bool told = false;
    for (const Wire& wire : node.ins) {
      if (wire.edge < 0 || wire.feedback || of_edge[wire.edge] < 0) continue;
      if (first == nullptr) {
        first = &wire;
        domain = of_edge[wire.edge];
      } else if (node.policy == abi::Policy::kJoin && of_edge[wire.edge] != domain && !told) {
        told = true;
        const std::string a = work->nodes[domain].item->name;
        const std::string b = work->nodes[of_edge[wire.edge]].item->name;
        Diagnostic& d = work->reporter->Error(
            wire.written->target_span, Quote(node.item->name) + " joins packets by key, but " +
                                           Quote(first->written->target) + " counts those of " +
                                           Quote(a) + " and " + Quote(wire.written->target) +
                                           " those of " + Quote(b));
        d.At(work->nodes[domain].item->name_span, Quote(a) + " begins the first");
        d.At(work->nodes[of_edge[wire.edge]].item->name_span, Quote(b) + " begins the second");
        AddTrail(*node.item, d);
      }
    }
    const bool begins = first == nullptr || node.policy == abi::Policy::kAny ||
                        node.policy == abi::Policy::kBatch ||
                        node.kind->emission == abi::Emission::kMany;
    // A node behind an unknown one does not begin a numbering: it is unknown too.
    const bool source = node.ins.empty();
    if (begins && first == nullptr && !source && node.policy != abi::Policy::kAny &&
        node.kind->emission != abi::Emission::kMany) {
      continue;
    }
    for (const Wire& wire : node.outs) {
      if (wire.edge >= 0) of_edge[wire.edge] = begins ? n : domain;
    }
  }
}

// A topological order that stays as near to the order of the file as it can, so that plans and
// pictures read like their text; short of nodes when there is a cycle.
std::vector<int> FileOrder(const Graph& graph) {
  std::vector<int> open(boost::num_vertices(graph), 0);
  for (size_t n = 0; n < open.size(); ++n) {
    for (auto [e, end] = boost::out_edges(n, graph); e != end; ++e)
      ++open[boost::target(*e, graph)];
  }
  std::priority_queue<int, std::vector<int>, std::greater<int>> ready;
  for (size_t n = 0; n < open.size(); ++n) {
    if (open[n] == 0) ready.push(static_cast<int>(n));
  }
  std::vector<int> order;
  while (!ready.empty()) {
    order.push_back(ready.top());
    ready.pop();
    for (auto [e, end] = boost::out_edges(order.back(), graph); e != end; ++e) {
      const int to = static_cast<int>(boost::target(*e, graph));
      if (--open[to] == 0) ready.push(to);
    }
  }
  return order;
}

}  // namespace

void CheckFlow(Work* work) {
  const Graph forward = BuildGraph(*work, false);
  CheckCycles(work, forward);
  work->node_order = FileOrder(forward);
  if (work->node_order.size() < work->nodes.size()) {
    work->node_order.clear();
    return;  // a cycle, told above
  }
  CheckRoom(work, BuildGraph(*work, true));
  CheckDomains(work);
}

}  // namespace engine::graph
