#include "engine/graph/explain.h"

#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/topological_sort.hpp>
#include <sstream>

namespace engine::graph {
namespace {

std::string Padded(const std::string& text, size_t width) {
  return text.size() >= width ? text : text + std::string(width - text.size(), ' ');
}

template <typename List>
size_t WidestName(const List& list) {
  size_t width = 0;
  for (const auto& each : list) width = std::max(width, each.name.size());
  return width;
}

std::string ListOf(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : ", ") + part;
  return out;
}

void Uses(const Plan& plan, const std::vector<int>& uses, const std::vector<abi::Slot>& slots,
          std::ostream& out) {
  for (size_t i = 0; i < uses.size(); ++i) {
    if (uses[i] >= 0) out << "  " << slots[i].name << "=" << plan.resources[uses[i]].name;
  }
}

void Indented(const std::string& text, std::ostream& out) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) out << "      " << line << "\n";
}

}  // namespace

const char* PolicyName(abi::Policy policy) {
  switch (policy) {
    case abi::Policy::kJoin:
      return "JOIN";
    case abi::Policy::kAny:
      return "ANY";
    case abi::Policy::kLatest:
      return "LATEST";
    case abi::Policy::kBatch:
      return "BATCH";
  }
  return "?";
}

const char* OverflowName(Overflow overflow) {
  switch (overflow) {
    case Overflow::kBlock:
      return "BLOCK";
    case Overflow::kDropOldest:
      return "DROP_OLDEST";
    case Overflow::kReject:
      return "REJECT";
  }
  return "?";
}

std::string Explain(const Plan& plan, const std::map<std::string, std::string>& diffs) {
  std::ostringstream out;
  out << "pipeline " << plan.name << "\n";
  if (!plan.requirements.empty()) out << "\nrequires\n";
  for (const PlanRequirement& r : plan.requirements) {
    out << "  " << r.plugin << " " << (r.version.empty() ? "*" : r.version) << "\n";
  }
  if (!plan.params.empty()) out << "\nparams\n";
  for (const PlanParam& p : plan.params) {
    out << "  " << Padded(p.name, WidestName(plan.params)) << " = "
        << (p.given ? p.value : "(not set)") << (p.from_command_line ? "  (command line)" : "")
        << "\n";
  }
  if (!plan.resources.empty()) out << "\nresources\n";
  for (const PlanResource& r : plan.resources) {
    out << "  " << Padded(r.name, WidestName(plan.resources)) << "  " << r.kind->name;
    if (r.from >= 0) {
      out << "  from " << plan.resources[r.from].name << "  phase " << PhaseName(r.kind->phase);
    }
    out << "  -> " << r.kind->provides;
    Uses(plan, r.uses, r.kind->uses, out);
    if (r.bypassed) out << "  (bypassed)";
    out << "\n";
    if (auto it = diffs.find(r.name); it != diffs.end()) Indented(it->second, out);
  }
  if (!plan.nodes.empty()) out << "\nnodes\n";
  for (const PlanNode& n : plan.nodes) {
    out << "  " << Padded(n.name, WidestName(plan.nodes)) << "  " << n.kind->name;
    if (n.bypassed) out << " (bypassed: " << n.runs->name << ")";
    out << "  " << PolicyName(n.policy);
    if (n.policy == abi::Policy::kBatch) {
      out << "(" << n.batch_max << ", " << n.batch_wait_us << " us)";
    }
    out << "  on " << plan.executors[n.executor].name;
    if (n.max_in_flight != 1) out << "  max_in_flight " << n.max_in_flight;
    Uses(plan, n.uses, n.kind->uses, out);
    out << "\n";
  }
  if (!plan.edges.empty()) out << "\nedges\n";
  for (const PlanEdge& e : plan.edges) {
    const PlanNode& producer = plan.nodes[e.producer];
    out << "  " << Padded(e.name, WidestName(plan.edges)) << "  " << producer.name << "."
        << producer.kind->outputs[e.producer_port].name << " -> ";
    std::vector<std::string> readers;
    for (const PlanConsumer& c : e.consumers) {
      const PlanNode& node = plan.nodes[c.node];
      const PlanInput& input = node.inputs[c.input];
      std::string reader = node.name + "." + node.kind->inputs[input.port].name + " (" +
                           std::to_string(input.capacity);
      if (input.overflow != Overflow::kBlock) {
        reader += std::string(", ") + OverflowName(input.overflow);
      }
      readers.push_back(reader + (input.feedback ? ", feedback)" : ")"));
    }
    out << ListOf(readers) << "  " << e.type;
    if (!e.shape.empty()) out << " " << e.shape;
    if (!e.dtype.empty()) out << " " << e.dtype;
    out << "\n";
  }
  out << "\nexecutors\n";
  for (const PlanExecutor& e : plan.executors) {
    out << "  " << Padded(e.name, WidestName(plan.executors)) << "  " << (e.io ? "IO" : "COMPUTE")
        << "  threads "
        << (e.threads == 0 ? std::string("as the machine gives") : std::to_string(e.threads))
        << "\n";
  }
  out << "\nlimits\n  max_in_flight "
      << (plan.limits.max_in_flight == 0 ? std::string("what the queues hold")
                                         : std::to_string(plan.limits.max_in_flight))
      << "\n  drain         " << plan.limits.drain_ms << " ms\n";
  if (!plan.trace.file.empty()) {
    out << "\ntrace\n  " << plan.trace.file << "  at most " << plan.trace.events << " events\n";
  }
  return out.str();
}

std::vector<uint32_t> CriticalPath(const Plan& plan, const std::vector<double>& weights) {
  using Graph = boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS>;
  Graph graph(plan.nodes.size());
  for (const PlanEdge& edge : plan.edges) {
    for (const PlanConsumer& c : edge.consumers) {
      if (!plan.nodes[c.node].inputs[c.input].feedback) {
        boost::add_edge(edge.producer, c.node, graph);
      }
    }
  }
  std::vector<size_t> reversed;
  boost::topological_sort(graph, std::back_inserter(reversed));
  std::vector<double> length(plan.nodes.size(), 0);
  std::vector<int> after(plan.nodes.size(), -1);
  int first = -1;
  for (size_t n : reversed) {
    for (auto [e, end] = boost::out_edges(n, graph); e != end; ++e) {
      const size_t to = boost::target(*e, graph);
      if (after[n] < 0 || length[to] > length[after[n]]) after[n] = static_cast<int>(to);
    }
    length[n] = (n < weights.size() ? weights[n] : 1.0) + (after[n] < 0 ? 0 : length[after[n]]);
    if (first < 0 || length[n] > length[first]) first = static_cast<int>(n);
  }
  std::vector<uint32_t> path;
  for (int n = first; n >= 0; n = after[n]) path.push_back(static_cast<uint32_t>(n));
  return path;
}

}  // namespace engine::graph
