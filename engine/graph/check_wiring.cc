#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>

#include "engine/graph/check.h"
#include "engine/graph/diagnostic.h"
#include "engine/graph/suggest.h"

namespace engine::graph {
namespace {

const char* const kPolicyNames[] = {"JOIN", "ANY", "LATEST", "BATCH"};

std::vector<std::string> PortNames(const std::vector<abi::Port>& ports) {
  std::vector<std::string> names;
  for (const abi::Port& port : ports) names.push_back(port.name);
  return names;
}

// Gives each entry of in or out its port: named ones first, then the others by order.
std::vector<Wire> PlacePorts(Work* work, const Item& item, const abi::Kind* kind,
                             const std::vector<Connection>& given, bool input) {
  std::vector<Wire> wires;
  for (const Connection& c : given) {
    Wire wire;
    wire.written = &c;
    wire.feedback = c.feedback;
    wires.push_back(wire);
  }
  if (kind == nullptr) return wires;
  const std::vector<abi::Port>& ports = input ? kind->inputs : kind->outputs;
  const std::string what = input ? "input port" : "output port";
  const std::vector<std::string> names = PortNames(ports);
  std::vector<const Connection*> taken(ports.size(), nullptr);
  for (Wire& wire : wires) {
    const Connection& c = *wire.written;
    if (c.port.empty()) continue;
    const auto it = std::find(names.begin(), names.end(), c.port);
    if (it == names.end()) {
      const std::vector<std::string> others = PortNames(input ? kind->outputs : kind->inputs);
      const bool other = std::find(others.begin(), others.end(), c.port) != others.end();
      Diagnostic& d = work->reporter->Error(
          c.port_span, Quote(kind->name) + " has no " + what + " " + Quote(c.port));
      d.Hint(other           ? c.port + " is an " + (input ? "output" : "input") + " port"
             : names.empty() ? "it has no " + what + "s"
                             : DidYouMean(c.port, names, what + "s"));
      AddTrail(item, d);
      continue;
    }
    const size_t port = static_cast<size_t>(it - names.begin());
    if (taken[port] != nullptr && !ports[port].repeated) {
      AddTrail(item, work->reporter->Error(c.port_span, what + " " + c.port + " is connected twice")
                         .At(taken[port]->port_span, "the first is here"));
      continue;
    }
    if (taken[port] == nullptr) taken[port] = &c;
    wire.port = static_cast<int>(port);
  }
  for (Wire& wire : wires) {
    const Connection& c = *wire.written;
    if (!c.port.empty()) continue;
    size_t port = 0;
    while (port < ports.size() && taken[port] != nullptr) ++port;
    if (port == ports.size() && !ports.empty() && ports.back().repeated) port = ports.size() - 1;
    if (port == ports.size()) {
      AddTrail(item, work->reporter->Error(c.target_span, Quote(kind->name) + " has no free " +
                                                              what + " for " + Quote(c.target)))
          .Hint(ports.empty() ? "it has no " + what + "s" : DidYouMean("", names, what + "s"));
      continue;
    }
    taken[port] = &c;
    wire.port = static_cast<int>(port);
  }
  for (size_t i = 0; i < ports.size(); ++i) {
    if (taken[i] != nullptr || ports[i].optional || item.damaged) continue;
    AddTrail(item,
             work->reporter->Error(item.kind_span, what + " " + ports[i].name + " of " +
                                                       Quote(kind->name) + " is not connected"))
        .Hint(std::string("write ") + (input ? "in" : "out") + ": \"" + ports[i].name + ":...\"" +
              (ports[i].type.empty() ? "" : ", which is " + ports[i].type));
  }
  return wires;
}

void CheckPolicy(Work* work, WorkNode* node) {
  const Item& item = *node->item;
  const Block block = item.block();
  const abi::Kind& kind = *node->kind;
  node->policy = kind.policies.empty() ? abi::Policy::kJoin : kind.policies[0];
  if (block.Has("policy")) {
    const auto policy = static_cast<abi::Policy>(block.Choice("policy", 0));
    const bool allowed =
        std::find(kind.policies.begin(), kind.policies.end(), policy) != kind.policies.end();
    if (!allowed) {
      std::string list;
      for (abi::Policy p : kind.policies) {
        list += (list.empty() ? "" : ", ") + std::string(kPolicyNames[static_cast<int>(p)]);
      }
      AddTrail(item, work->reporter->Error(block.At("policy"),
                                           Quote(kind.name) + " cannot run with policy " +
                                               kPolicyNames[static_cast<int>(policy)]))
          .Hint("allowed: " + list);
    } else {
      node->policy = policy;
    }
  }
  for (const char* field : {"batch_max", "batch_wait_us"}) {
    if (!block.Has(field) || node->policy == abi::Policy::kBatch) continue;
    AddTrail(item, work->reporter->Error(block.AtName(field),
                                         Quote(field) + " is for policy BATCH, and this node has " +
                                             kPolicyNames[static_cast<int>(node->policy)]));
  }
  if (block.Has("max_in_flight") && block.Number("max_in_flight", 1) > kind.max_in_flight) {
    AddTrail(item, work->reporter->Error(block.At("max_in_flight"),
                                         Quote(kind.name) + " works on at most " +
                                             std::to_string(kind.max_in_flight) +
                                             " packets at once, and this is " +
                                             std::to_string(block.Number("max_in_flight", 1))));
  }
}

void CheckExecutor(Work* work, WorkNode* node) {
  const Block block = node->item->block();
  std::string name = block.Has("executor") ? block.Text("executor") : node->kind->executor;
  if (name.empty()) name = "default";
  std::vector<std::string> names;
  for (size_t i = 0; i < work->executors.size(); ++i) {
    if (work->executors[i].name == name) {
      node->executor = static_cast<uint32_t>(i);
      return;
    }
    names.push_back(work->executors[i].name);
  }
  if (!block.Has("executor")) {  // a kind's wish that nobody declared
    return;
  }
  AddTrail(*node->item,
           work->reporter->Error(block.At("executor"), "no executor has the name " + Quote(name)))
      .Hint(DidYouMean(name, names, "executors"));
}

void CheckBypass(Work* work, WorkNode* node) {
  node->runs = node->kind;
  const Block block = node->item->block();
  if (!block.Flag("bypass")) return;
  const Item& item = *node->item;
  if (node->kind->bypass.empty()) {
    AddTrail(item, work->reporter->Error(
                       block.AtName("bypass"),
                       Quote(node->kind->name) + " has no plain stand-in and cannot be bypassed"));
    return;
  }
  const abi::Kind* stand_in = work->index().Find(node->kind->bypass);
  if (stand_in == nullptr || stand_in->role != abi::Role::kNode) {
    AddTrail(item,
             work->reporter->Error(block.AtName("bypass"),
                                   "the plain stand-in of " + Quote(node->kind->name) + " is " +
                                       Quote(node->kind->bypass) + ", which no plugin has"));
    return;
  }
  auto same = [](const std::vector<abi::Port>& a, const std::vector<abi::Port>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](const abi::Port& x, const abi::Port& y) { return x.name == y.name; });
  };
  const bool slots = std::equal(stand_in->uses.begin(), stand_in->uses.end(),
                                node->kind->uses.begin(), node->kind->uses.end(),
                                [](const auto& x, const auto& y) { return x.name == y.name; });
  if (!same(stand_in->inputs, node->kind->inputs) ||
      !same(stand_in->outputs, node->kind->outputs) || !slots) {
    AddTrail(item, work->reporter->Error(block.AtName("bypass"),
                                         "the plain stand-in " + Quote(stand_in->name) +
                                             " has other ports than " + Quote(node->kind->name)));
    return;
  }
  node->bypassed = true;
  node->runs = stand_in;
}

void CheckFeedback(Work* work, WorkNode* node) {
  const Item& item = *node->item;
  const abi::Kind& kind = *node->kind;
  const std::vector<std::string> names = PortNames(kind.inputs);
  std::vector<std::string> seen;
  bool listed = false;
  for (const auto& [name, span] : item.feedback) {
    const auto it = std::find(names.begin(), names.end(), name);
    if (it == names.end()) {
      const std::vector<std::string> outs = PortNames(kind.outputs);
      const bool is_out = std::find(outs.begin(), outs.end(), name) != outs.end();
      Diagnostic& d =
          work->reporter->Error(span, Quote(kind.name) + " has no input port " + Quote(name));
      d.Hint(is_out ? name + " is an output port; feedback names the input that closes the loop"
                    : DidYouMean(name, names, "input ports"));
      AddTrail(item, d);
      continue;
    }
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) {
      AddTrail(item, work->reporter->Error(span, "feedback names " + name + " twice"));
      continue;
    }
    seen.push_back(name);
    bool connected = false;
    for (Wire& wire : node->ins) {
      if (wire.port != it - names.begin()) continue;
      wire.feedback = connected = true;
    }
    if (!connected && !item.damaged) {
      AddTrail(item, work->reporter->Error(span, "feedback port " + name + " is not connected"));
    }
    if (node->policy != abi::Policy::kAny && !listed) {
      listed = true;
      const bool can = std::find(kind.policies.begin(), kind.policies.end(), abi::Policy::kAny) !=
                       kind.policies.end();
      AddTrail(item, work->reporter->Error(
                         span, "a node with feedback needs policy ANY, and this one has " +
                                   std::string(kPolicyNames[static_cast<int>(node->policy)])))
          .Hint(can ? "write policy: ANY" : Quote(kind.name) + " cannot run with ANY");
    }
  }
}

void CheckQueues(Work* work, WorkNode* node) {
  const Item& item = *node->item;
  const Block block = item.block();
  const std::vector<std::string> names = PortNames(node->kind->inputs);
  std::map<std::string, Span> seen;
  // Blocks without a port first: one that names a port is stronger, wherever it stands.
  for (const bool named : {false, true}) {
    for (int i = 0; i < block.Count("queue"); ++i) {
      const Block queue = block.Child("queue", i);
      if (queue.Has("port") != named) continue;
      const std::string name = queue.Text("port");
      const auto it = std::find(names.begin(), names.end(), name);
      if (named && it == names.end()) {
        AddTrail(item,
                 work->reporter->Error(queue.At("port"), Quote(node->kind->name) +
                                                             " has no input port " + Quote(name)))
            .Hint(DidYouMean(name, names, "input ports"));
        continue;
      }
      const Span at = named ? queue.At("port") : queue.head;
      auto [first, fresh] = seen.emplace(name, at);
      if (!fresh) {
        AddTrail(item, work->reporter
                           ->Error(at, named ? "a second queue block for port " + name
                                             : "a second queue block for all ports")
                           .At(first->second, "the first is here"));
        continue;
      }
      for (Wire& wire : node->ins) {
        if (named && wire.port != it - names.begin()) continue;
        wire.capacity = queue.Number("size", wire.capacity);
        if (queue.Has("overflow")) {
          wire.overflow = static_cast<Overflow>(queue.Choice("overflow", 0));
        }
      }
    }
  }
}

int EdgeOf(Work* work, std::map<std::string, int>* by_name, const std::string& name) {
  auto [it, fresh] = by_name->emplace(name, static_cast<int>(work->edges.size()));
  if (fresh) {
    work->edges.emplace_back();
    work->edges.back().name = name;
  }
  return it->second;
}

void ConnectEdges(Work* work) {
  std::map<std::string, int> by_name;
  for (size_t n = 0; n < work->nodes.size(); ++n) {
    WorkNode& node = work->nodes[n];
    for (size_t i = 0; i < node.outs.size(); ++i) {
      const Connection& c = *node.outs[i].written;
      const int e = EdgeOf(work, &by_name, c.target);
      WorkEdge& edge = work->edges[e];
      edge.loose = edge.loose || c.loose;
      if (edge.producer >= 0) {
        const WorkNode& first = work->nodes[edge.producer];
        AddTrail(
            *node.item,
            work->reporter
                ->Error(c.target_span, "edge " + Quote(c.target) + " has a producer already, " +
                                           Quote(first.item->name))
                .At(first.outs[edge.out].written->target_span, "it is given here"));
        continue;
      }
      node.outs[i].edge = e;
      edge.producer = static_cast<int>(n);
      edge.out = static_cast<int>(i);
    }
  }
  std::vector<std::string> produced;
  bool unknown = false;  // a node that lost its outputs may have produced anything
  for (const WorkEdge& edge : work->edges) produced.push_back(edge.name);
  for (const WorkNode& node : work->nodes) unknown = unknown || node.item->damaged;
  for (size_t n = 0; n < work->nodes.size(); ++n) {
    WorkNode& node = work->nodes[n];
    for (size_t i = 0; i < node.ins.size(); ++i) {
      const Connection& c = *node.ins[i].written;
      auto it = by_name.find(c.target);
      if (it == by_name.end()) {
        const bool told = c.loose || work->flat->loose.count(c.target) > 0 ||
                          (unknown && Nearest(c.target, produced).empty());
        if (!told) {
          AddTrail(*node.item,
                   work->reporter->Error(c.target_span, "no node gives edge " + Quote(c.target)))
              .Hint(DidYouMean(c.target, produced, "edges"));
        }
        continue;
      }
      node.ins[i].edge = it->second;
      work->edges[it->second].consumers.emplace_back(static_cast<int>(n), static_cast<int>(i));
    }
  }
  // A name that nobody reads is as likely the slip as the name that nobody gives: told once.
  std::vector<std::string> missing;
  for (const WorkNode& node : work->nodes) {
    for (const Wire& wire : node.ins) {
      if (wire.edge < 0) missing.push_back(wire.written->target);
    }
  }
  for (const WorkEdge& edge : work->edges) {
    if (edge.producer < 0 || !edge.consumers.empty() || edge.loose || unknown) continue;
    if (work->flat->loose.count(edge.name)) continue;
    if (!Nearest(edge.name, missing).empty()) continue;
    const WorkNode& node = work->nodes[edge.producer];
    AddTrail(*node.item, work->reporter->Error(node.outs[edge.out].written->target_span,
                                               "nobody reads edge " + Quote(edge.name)));
  }
}

}  // namespace

void CheckWiring(Work* work) {
  for (WorkNode& node : work->nodes) {
    node.ins = PlacePorts(work, *node.item, node.kind, node.item->ins, true);
    node.outs = PlacePorts(work, *node.item, node.kind, node.item->outs, false);
    if (node.kind == nullptr) {
      // Its feedback cannot be checked, but must not become a cycle.
      for (Wire& wire : node.ins) {
        for (const auto& [name, span] : node.item->feedback) {
          wire.feedback = wire.feedback || wire.written->port == name;
        }
      }
      continue;
    }
    CheckPolicy(work, &node);
    CheckExecutor(work, &node);
    CheckBypass(work, &node);
    CheckFeedback(work, &node);
    CheckQueues(work, &node);
    for (const Wire& wire : node.ins) {
      const bool from_outside = wire.feedback && wire.written->feedback;
      if (!from_outside || node.policy == abi::Policy::kAny) continue;
      AddTrail(*node.item, work->reporter->Error(wire.written->target_span,
                                                 "a node with feedback needs policy ANY"));
    }
  }
  ConnectEdges(work);
}

}  // namespace engine::graph
