#include "engine/graph/expand.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <map>
#include <set>

#include "engine/graph/diagnostic.h"
#include "engine/graph/params.h"
#include "engine/graph/suggest.h"

namespace engine::graph {

namespace pb = google::protobuf;

namespace {

struct Target {
  std::string name;
  bool loose = false;
};

// Where nodes stand: the pipeline itself, or one use of a subgraph.
struct Scope {
  std::string prefix;                   // "" or "outer/"
  std::map<std::string, Target> edges;  // inner names of connected ports
  std::map<std::string, Target> uses;   // inner names of slots
  std::set<std::string> feedback;       // inner edges that the use marks as feedback
  std::shared_ptr<const Trail> trail;
  std::vector<std::string> stack;  // subgraphs around
};

class Expander {
 public:
  Expander(const Reading& reading, CommandLine* command_line, Flat* flat, Reporter* reporter)
      : reading_(reading), command_line_(command_line), flat_(flat), reporter_(reporter) {}

  void Run() {
    std::vector<Block> params;
    for (const auto& file : reading_.files) {
      const Block root = file->block();
      for (int i = 0; i < root.Count("subgraph"); ++i) {
        const Block subgraph = root.Child("subgraph", i);
        subgraphs_.emplace(subgraph.Text("name"), subgraph);
      }
      for (int i = 0; i < root.Count("param"); ++i) params.push_back(root.Child("param", i));
    }
    ReadParams(params, "", nullptr, command_line_, &assignments_, &flat_->params, reporter_);
    // --set comes last, so that it wins.
    assignments_.insert(assignments_.end(), command_line_->assignments.begin(),
                        command_line_->assignments.end());
    Scope root_scope;
    for (const auto& file : reading_.files) {
      const Block root = file->block();
      for (int i = 0; i < root.Count("resource") && Room(root.Child("resource", i)); ++i) {
        AddResource(root.Child("resource", i));
      }
      for (int i = 0; i < root.Count("node") && Room(root.Child("node", i)); ++i) {
        AddNode(root.Child("node", i), root_scope);
      }
    }
    ReportUnmatched(assignments_, names_in_order_, reporter_);
    for (const auto& [name, block] : subgraphs_) {
      if (!used_.count(name) && !name.empty()) {
        reporter_->Warning(block.At("name"), "subgraph " + Quote(name) + " is never used");
      }
    }
  }

 private:
  bool Room(const Block& block) {
    if (flat_->nodes.size() + flat_->resources.size() < kMaxItems) return true;
    if (!full_) {
      reporter_->Error(block.head, "more than " + std::to_string(kMaxItems) +
                                       " nodes and resources after expansion");
    }
    full_ = true;
    return false;
  }

  // Name, message and kind; false when the item is to be left out.
  bool Start(const Block& block, const Scope& scope, Item* item) {
    item->message.reset(block.message->New());
    item->message->CopyFrom(*block.message);
    item->outline = std::make_shared<OutlineBlock>(*block.outline);
    item->head = block.head;
    item->damaged = block.outline->damaged();
    item->trail = scope.trail;
    const std::string name = block.Text("name");
    item->name_span = block.At("name");
    if (name.empty()) {
      item->name = scope.prefix + "?" + std::to_string(++nameless_);
    } else if (!IsName(name)) {
      AddTrail(*item, reporter_->Error(item->name_span,
                                       "a name has letters, digits, '_' and '-' only, and begins "
                                       "with a letter or '_'"));
      item->name = scope.prefix + name;
    } else {
      item->name = scope.prefix + name;
      auto [first, fresh] = names_.emplace(item->name, item->name_span);
      if (!fresh) {
        reporter_->Error(item->name_span, "a second node or resource with the name " + Quote(name))
            .At(first->second, "the first is here");
        item->name += "?" + std::to_string(++nameless_);
      } else {
        names_in_order_.push_back(item->name);
      }
    }
    ApplyAssignments(item);
    if (const pb::FieldDescriptor* kind = KindFieldOf(*item->message)) {
      item->kind = reading_.schema->index().Find(kind->name());
      item->kind_span = block.AtName(kind->name());
    } else if (!item->damaged) {
      const bool node = item->message->GetDescriptor() == &reading_.schema->node();
      AddTrail(*item, reporter_->Error(item->name_span, std::string(node ? "node " : "resource ") +
                                                            Quote(name) + " has no kind"))
          .Hint("write one as a block: " + std::string(node ? "sample" : "load") + " { }");
    }
    return true;
  }

  void ApplyAssignments(Item* item) {
    for (Assignment& a : assignments_) {
      if (a.target == item->name) Apply(&a, item, reporter_);
    }
  }

  static void Split(const Block& block, const char* field, int i, Connection* connection) {
    const std::string text = block.Text(field, i);
    const OutlineValue* token = block.outline->Find(field, static_cast<size_t>(i));
    const size_t colon = text.find(':');
    if (colon == std::string::npos) {
      connection->target = text;
      if (token) connection->target_span = token->Part(0, text.size());
    } else {
      connection->port = text.substr(0, colon);
      connection->target = text.substr(colon + 1);
      if (token) {
        connection->port_span = token->Part(0, colon);
        connection->target_span = token->Part(colon + 1, text.size() - colon - 1);
      }
    }
    if (!token) connection->target_span = block.head;
    if (!connection->port_span) connection->port_span = connection->target_span;
  }

  // Entries of in, out or use; malformed ones are reported and left out.
  std::vector<Connection> Connections(const Item& item, const char* field, bool* damaged) {
    std::vector<Connection> result;
    const Block block = item.block();
    for (int i = 0; i < block.Count(field); ++i) {
      Connection connection;
      Split(block, field, i, &connection);
      const std::string text = block.Text(field, i);
      const bool port = text.find(':') != std::string::npos;
      if ((port && !IsName(connection.port)) || !IsName(connection.target)) {
        AddTrail(item,
                 reporter_->Error(block.At(field, i), Quote(text) + " is neither \"name\" nor "
                                                                    "\"PORT:name\""));
        *damaged = true;
        continue;
      }
      result.push_back(std::move(connection));
    }
    return result;
  }

  void AddResource(const Block& block) {
    Item item;
    Scope scope;
    if (!Start(block, scope, &item)) return;
    item.uses = Connections(item, "use", &item.damaged);
    flat_->resources.push_back(std::move(item));
  }

  void AddNode(const Block& block, const Scope& scope) {
    Item item;
    if (!Start(block, scope, &item)) return;
    item.ins = Connections(item, "in", &item.damaged);
    item.outs = Connections(item, "out", &item.damaged);
    item.uses = Connections(item, "use", &item.damaged);
    auto resolve = [&](Connection* c, const std::map<std::string, Target>& known,
                       const std::string& prefix) {
      auto it = known.find(c->target);
      c->loose = it != known.end() && it->second.loose;
      c->feedback = scope.feedback.count(c->target) > 0;
      c->target = it == known.end() ? prefix + c->target : it->second.name;
    };
    for (Connection& c : item.ins) resolve(&c, scope.edges, scope.prefix);
    for (Connection& c : item.outs) resolve(&c, scope.edges, scope.prefix);
    for (Connection& c : item.uses) resolve(&c, scope.uses, "");
    for (int i = 0; i < item.block().Count("feedback"); ++i) {
      item.feedback.emplace_back(item.block().Text("feedback", i), item.block().At("feedback", i));
    }
    if (const pb::FieldDescriptor* kind = KindFieldOf(*item.message);
        kind != nullptr && item.kind == nullptr) {
      AddSubgraph(item, kind->name(), scope);
      return;
    }
    flat_->nodes.push_back(std::move(item));
  }

  void AddSubgraph(const Item& use, const std::string& kind, const Scope& outer) {
    used_.insert(kind);
    const size_t errors = reporter_->error_count();
    AddSubgraphNodes(use, kind, outer);
    if (reporter_->error_count() == errors) return;
    // What went wrong may have left its edges open on the other side.
    for (const auto* list : {&use.ins, &use.outs}) {
      for (const Connection& c : *list) flat_->loose.insert(c.target);
    }
  }

  void AddSubgraphNodes(const Item& use, const std::string& kind, const Scope& outer) {
    const auto found = subgraphs_.find(kind);
    if (found == subgraphs_.end()) return;  // its file could not be read, which is told already
    const Block& definition = found->second;
    for (size_t i = 0; i < outer.stack.size(); ++i) {
      if (outer.stack[i] != kind) continue;
      std::string cycle;
      for (size_t k = i; k < outer.stack.size(); ++k) cycle += outer.stack[k] + " -> ";
      AddTrail(use, reporter_->Error(use.kind_span, "subgraph " + Quote(kind) +
                                                        " contains itself: " + cycle + kind));
      return;
    }
    if (outer.stack.size() >= kMaxSubgraphDepth) {
      AddTrail(use,
               reporter_->Error(use.kind_span, "subgraphs go deeper than " +
                                                   std::to_string(kMaxSubgraphDepth) + " levels"));
      return;
    }
    for (const char* field :
         {"executor", "policy", "batch_max", "batch_wait_us", "max_in_flight", "bypass"}) {
      if (!use.block().Has(field)) continue;
      AddTrail(use,
               reporter_->Error(use.block().AtName(field), "a subgraph takes no " + Quote(field) +
                                                               "; set it on the nodes inside"));
    }
    if (use.block().Count("queue") > 0) {
      AddTrail(use, reporter_->Error(use.block().AtName("queue"),
                                     "a subgraph takes no \"queue\"; set it on the nodes inside"));
    }
    Scope inner;
    inner.prefix = use.name + "/";
    inner.trail = std::make_shared<const Trail>(Trail{use.name, use.name_span, use.trail});
    inner.stack = outer.stack;
    inner.stack.push_back(kind);
    std::map<std::string, std::string> in_ports;
    Connect(use, definition, "in", use.ins, &inner.edges, &in_ports);
    std::map<std::string, std::string> out_ports;
    Connect(use, definition, "out", use.outs, &inner.edges, &out_ports);
    std::map<std::string, std::string> slots;
    Connect(use, definition, "use", use.uses, &inner.uses, &slots);
    for (const Connection& c : use.ins) {
      if (!c.feedback) continue;
      for (const auto& [name, target] : inner.edges) {
        if (target.name == c.target) inner.feedback.insert(name);
      }
    }
    for (const auto& [port, span] : use.feedback) {
      auto it = in_ports.find(port);
      if (it == in_ports.end()) {
        std::vector<std::string> known;
        for (const auto& [name, edge] : in_ports) known.push_back(name);
        AddTrail(use, reporter_->Error(
                          span, "subgraph " + Quote(kind) + " has no input port " + Quote(port)))
            .Hint(DidYouMean(port, known, "ports"));
      } else {
        inner.feedback.insert(it->second);
      }
    }
    const Block options = use.block().Child(kind.c_str());
    std::vector<Block> params;
    for (int i = 0; i < definition.Count("param"); ++i) {
      params.push_back(definition.Child("param", i));
    }
    std::vector<Assignment> inside;
    std::vector<PlanParam> values;
    ReadParams(params, inner.prefix, &options, command_line_, &inside, &values, reporter_);
    // Before the others: what the outer world sets is stronger.
    assignments_.insert(assignments_.begin(), inside.begin(), inside.end());
    for (int i = 0; i < definition.Count("node") && Room(definition.Child("node", i)); ++i) {
      AddNode(definition.Child("node", i), inner);
    }
  }

  // Matches the ports that a subgraph declares with what its use connects.
  void Connect(const Item& use, const Block& definition, const char* field,
               const std::vector<Connection>& given, std::map<std::string, Target>* inner,
               std::map<std::string, std::string>* ports) {
    std::vector<std::pair<std::string, std::string>> declared;  // port, inner name
    for (int i = 0; i < definition.Count(field); ++i) {
      Connection c;
      Split(definition, field, i, &c);
      if (!IsName(c.port) || !IsName(c.target)) {
        reporter_->Error(definition.At(field, i), "a subgraph's port is written \"PORT:name\"");
        continue;
      }
      if (!ports->emplace(c.port, c.target).second) {
        reporter_->Error(definition.At(field, i), "a second port " + Quote(c.port));
        continue;
      }
      declared.emplace_back(c.port, c.target);
    }
    const std::string what = std::string(field) == "use" ? "slot" : std::string(field) + " port";
    std::map<std::string, const Connection*> taken;
    std::vector<std::string> known;
    for (const auto& [port, name] : declared) known.push_back(port);
    for (const Connection& c : given) {
      if (c.port.empty()) continue;
      if (!ports->count(c.port)) {
        AddTrail(use, reporter_->Error(c.port_span, "subgraph " + Quote(definition.Text("name")) +
                                                        " has no " + what + " " + Quote(c.port)))
            .Hint(DidYouMean(c.port, known, "ports"));
      } else if (!taken.emplace(c.port, &c).second) {
        AddTrail(use,
                 reporter_->Error(c.port_span, what + " " + Quote(c.port) + " is connected twice"))
            .At(taken[c.port]->port_span, "the first is here");
      }
    }
    for (const Connection& c : given) {
      if (!c.port.empty()) continue;
      bool placed = false;
      for (const auto& [port, name] : declared) {
        if (taken.count(port)) continue;
        taken[port] = &c;
        placed = true;
        break;
      }
      if (!placed) {
        AddTrail(use, reporter_->Error(c.target_span, "subgraph " + Quote(definition.Text("name")) +
                                                          " has no free " + what + " for " +
                                                          Quote(c.target)));
      }
    }
    for (const auto& [port, name] : declared) {
      auto it = taken.find(port);
      if (it == taken.end()) {
        if (!use.damaged) {
          AddTrail(use, reporter_->Error(use.kind_span, what + " " + Quote(port) + " of subgraph " +
                                                            Quote(definition.Text("name")) +
                                                            " is not connected"))
              .Hint("write " + std::string(field) + ": \"" + port + ":...\"");
        }
        inner->emplace(name, Target{use.name + "/" + name, true});
      } else {
        inner->emplace(name, Target{it->second->target, it->second->loose});
      }
    }
  }

  const Reading& reading_;
  CommandLine* command_line_;
  Flat* flat_;
  Reporter* reporter_;
  std::vector<Assignment> assignments_;
  std::map<std::string, Block> subgraphs_;
  std::set<std::string> used_;
  std::map<std::string, Span> names_;
  std::vector<std::string> names_in_order_;
  int nameless_ = 0;
  bool full_ = false;
};

}  // namespace

void Expand(const Reading& reading, const Overrides& overrides, const SourceFile& command_line,
            Flat* flat, Reporter* reporter) {
  CommandLine parsed =
      ReadCommandLine(overrides, command_line, reading.files[0]->block(), reporter);
  Expander(reading, &parsed, flat, reporter).Run();
}

std::string CommandLineText(const Overrides& overrides) {
  std::string text;
  for (const auto* list : {&overrides.sets, &overrides.positional}) {
    for (const std::string& line : *list) text += line + "\n";
  }
  return text;
}

Diagnostic& AddTrail(const Item& item, Diagnostic& diagnostic) {
  for (const Trail* trail = item.trail.get(); trail != nullptr; trail = trail->outer.get()) {
    diagnostic.At(trail->used_at, "in " + Quote(trail->name) + ", used here");
  }
  return diagnostic;
}

}  // namespace engine::graph
