#include <set>

#include "engine/graph/check.h"
#include "engine/graph/diagnostic.h"
#include "engine/graph/suggest.h"

namespace engine::graph {
namespace {

bool TypesFit(const std::string& a, const std::string& b) {
  return a.empty() || b.empty() || a == "*" || b == "*" || a == b;
}

std::vector<std::string> NamesOf(const Flat& flat) {
  std::vector<std::string> names;
  for (const Item& item : flat.resources) names.push_back(item.name);
  return names;
}

// What `from` names, and whether the kind takes one at all.
void FindFrom(Work* work, const std::map<std::string, int>& by_name, WorkResource* resource) {
  const Item& item = *resource->item;
  const bool given = item.block().Has("from");
  const bool transform = resource->kind && resource->kind->role == abi::Role::kTransform;
  if (resource->kind != nullptr && given && !transform) {
    work->reporter->Error(item.block().AtName("from"), Quote(resource->kind->name) + " makes " +
                                                           resource->kind->provides +
                                                           " by itself and takes no \"from\"");
    return;
  }
  if (!given) {
    if (transform && !item.damaged) {
      work->reporter
          ->Error(item.kind_span, "transform " + Quote(resource->kind->name) + " needs a \"from\"")
          .Hint("write from: with the name of the resource that it rewrites");
    }
    return;
  }
  const std::string name = item.block().Text("from");
  auto it = by_name.find(name);
  if (it == by_name.end()) {
    for (const Item& node : work->flat->nodes) {
      if (node.name != name) continue;
      work->reporter->Error(item.block().At("from"), Quote(name) + " is a node, not a resource")
          .At(node.name_span, "it is here");
      return;
    }
    work->reporter->Error(item.block().At("from"), "no resource has the name " + Quote(name))
        .Hint(DidYouMean(name, NamesOf(*work->flat), "resources"));
    return;
  }
  resource->from = it->second;
}

// Orders resources after what they need; reports a cycle of from and use.
class Order {
 public:
  explicit Order(Work* work) : work_(work), state_(work->resources.size(), 0) {}
  void Run() {
    for (size_t i = 0; i < state_.size(); ++i) Visit(static_cast<int>(i));
  }

 private:
  void Visit(int root) {
    // A chain can be as long as a file: no recursion.
    struct Frame {
      int at;
      size_t next = 0;
    };
    if (state_[root] != 0) return;
    std::vector<Frame> stack{{root}};
    state_[root] = 1;
    while (!stack.empty()) {
      Frame& frame = stack.back();
      WorkResource& resource = work_->resources[frame.at];
      if (frame.next > resource.uses.size()) {
        state_[frame.at] = 2;
        work_->resource_order.push_back(frame.at);
        stack.pop_back();
        continue;
      }
      const size_t step = frame.next++;
      const int to = step == 0 ? resource.from : resource.uses[step - 1];
      if (to < 0 || state_[to] == 2) continue;
      if (state_[to] == 0) {
        state_[to] = 1;
        stack.push_back({to});
        continue;
      }
      std::string path;
      size_t first = 0;
      while (stack[first].at != to) ++first;
      for (size_t i = first; i < stack.size(); ++i) path += NameOf(stack[i].at) + " -> ";
      const Item& item = *resource.item;
      Diagnostic& d =
          work_->reporter->Error(step == 0 ? item.block().At("from") : item.block().At("use"),
                                 "resources need one another: " + path + NameOf(to));
      for (size_t i = first; i < stack.size(); ++i) {
        const Item& other = *work_->resources[stack[i].at].item;
        if (&other != &item) d.At(other.name_span, Quote(other.name) + " is here");
      }
      (step == 0 ? resource.from : resource.uses[step - 1]) = -1;
    }
  }
  const std::string& NameOf(int i) const { return work_->resources[i].item->name; }

  Work* work_;
  std::vector<int> state_;  // 0 new, 1 open, 2 done
};

int LineOf(const Span& span) { return LocationOf(span).line; }

// Types along from, and the order of phases.
void CheckChain(Work* work, WorkResource* resource) {
  const abi::Kind* kind = resource->kind;
  if (kind == nullptr) return;
  const Item& item = *resource->item;
  resource->type = kind->provides;
  if (resource->from < 0) return;
  const WorkResource& before = work->resources[resource->from];
  if (!TypesFit(before.type, kind->accepts)) {
    work->reporter
        ->Error(item.block().At("from"), Quote(before.item->name) + " is " + before.type +
                                             ", and " + Quote(kind->name) + " rewrites " +
                                             kind->accepts)
        .At(before.item->name_span, Quote(before.item->name) + " is made here");
    resource->type.clear();
    return;
  }
  if (resource->bypassed) resource->type = before.type;
  if (before.kind == nullptr || before.kind->role != abi::Role::kTransform) return;
  if (before.kind->phase > kind->phase) {
    const Span& mine = item.kind_span;
    const Span& other = before.item->kind_span;
    const bool same_file = mine.file == other.file;
    work->reporter
        ->Error(mine, Quote(kind->name) + " (" + std::string(PhaseName(kind->phase)) +
                          ") must come before " + Quote(before.kind->name) + " (" +
                          std::string(PhaseName(before.kind->phase)) + ")")
        .Hint("swap " + (same_file ? "lines " + std::to_string(LineOf(other)) + " and " +
                                         std::to_string(LineOf(mine))
                                   : ShortPlace(other) + " and " + ShortPlace(mine)))
        .At(other, "the other line");
  }
}

struct Owner {
  const Item* item;
  Span at;
};

void CheckOwners(Work* work) {
  std::map<int, Owner> owners;
  auto take = [&](const Item& item, const abi::Kind* kind, const std::vector<int>& uses) {
    if (kind == nullptr) return;
    for (size_t slot = 0; slot < uses.size(); ++slot) {
      if (uses[slot] < 0 || !kind->uses[slot].mutates) continue;
      Span at = item.name_span;
      for (const Connection& c : item.uses) {
        if (c.target == work->resources[uses[slot]].item->name) at = c.target_span;
      }
      auto [first, fresh] = owners.emplace(uses[slot], Owner{&item, at});
      if (fresh || first->second.item == &item) continue;
      const std::string name = work->resources[uses[slot]].item->name;
      AddTrail(item,
               work->reporter
                   ->Error(at, Quote(item.name) + " and " + Quote(first->second.item->name) +
                                   " both change " + Quote(name) + ", which can have one owner")
                   .At(first->second.at, Quote(first->second.item->name) + " changes it here"));
    }
  };
  for (const WorkResource& r : work->resources) take(*r.item, r.kind, r.uses);
  for (const WorkNode& n : work->nodes) take(*n.item, n.kind, n.uses);
}

// A resource that nothing works with is a slip more often than not; `from` counts as work.
void WarnUnused(Work* work) {
  std::set<int> used;
  bool unknown = false;  // what is broken might have used anything
  for (const WorkResource& r : work->resources) {
    if (r.from >= 0) used.insert(r.from);
    used.insert(r.uses.begin(), r.uses.end());
    unknown = unknown || r.kind == nullptr || r.item->damaged;
  }
  for (const WorkNode& n : work->nodes) {
    used.insert(n.uses.begin(), n.uses.end());
    unknown = unknown || n.kind == nullptr || n.item->damaged;
  }
  // A file without nodes is a list of models for tools to look at.
  if (unknown || work->nodes.empty() || work->reporter->has_errors()) return;
  for (size_t i = 0; i < work->resources.size(); ++i) {
    if (used.count(static_cast<int>(i))) continue;
    const Item& item = *work->resources[i].item;
    work->reporter->Warning(item.name_span, "nothing uses resource " + Quote(item.name));
  }
}

}  // namespace

std::vector<int> FillSlots(const Work& work, const Item& item, const abi::Kind& kind,
                           const std::map<std::string, int>& resources) {
  std::vector<int> slots(kind.uses.size(), -1);
  std::vector<const Connection*> taken(kind.uses.size(), nullptr);
  std::vector<std::string> known;
  for (const abi::Slot& slot : kind.uses) known.push_back(slot.name);
  auto find = [&](const Connection& c) {
    auto it = resources.find(c.target);
    if (it != resources.end()) return it->second;
    for (const Item& node : work.flat->nodes) {
      if (node.name != c.target) continue;
      AddTrail(item,
               work.reporter->Error(c.target_span, Quote(c.target) + " is a node, not a resource"))
          .At(node.name_span, "it is here");
      return -1;
    }
    if (c.loose) return -1;
    AddTrail(item,
             work.reporter->Error(c.target_span, "no resource has the name " + Quote(c.target)))
        .Hint(DidYouMean(c.target, NamesOf(*work.flat), "resources"));
    return -1;
  };
  auto put = [&](size_t slot, const Connection& c, int resource) {
    taken[slot] = &c;
    if (resource < 0) return;
    const std::string& type = work.resources[resource].type;
    if (!TypesFit(type, kind.uses[slot].type)) {
      AddTrail(
          item,
          work.reporter
              ->Error(c.target_span, "slot " + kind.uses[slot].name + " of " + Quote(kind.name) +
                                         " takes " + kind.uses[slot].type + ", and " +
                                         Quote(c.target) + " is " + type)
              .At(work.resources[resource].item->name_span, Quote(c.target) + " is made here"));
      return;
    }
    slots[slot] = resource;
  };
  for (const Connection& c : item.uses) {
    if (c.port.empty()) continue;
    const int resource = find(c);
    size_t slot = 0;
    while (slot < known.size() && known[slot] != c.port) ++slot;
    if (slot == known.size()) {
      AddTrail(item, work.reporter->Error(c.port_span,
                                          Quote(kind.name) + " has no slot " + Quote(c.port)))
          .Hint(known.empty() ? "it uses no resources" : DidYouMean(c.port, known, "slots"));
    } else if (taken[slot] != nullptr) {
      AddTrail(item, work.reporter->Error(c.port_span, "slot " + c.port + " is filled twice")
                         .At(taken[slot]->port_span, "the first is here"));
    } else {
      put(slot, c, resource);
    }
  }
  for (const Connection& c : item.uses) {
    if (!c.port.empty()) continue;
    const int resource = find(c);
    // The first free slot whose type fits; the first free one of any type for the message.
    int fitting = -1, free = -1;
    for (size_t i = known.size(); i-- > 0;) {
      if (taken[i] != nullptr) continue;
      free = static_cast<int>(i);
      if (resource < 0 || TypesFit(work.resources[resource].type, kind.uses[i].type)) {
        fitting = static_cast<int>(i);
      }
    }
    if (free < 0) {
      AddTrail(item,
               work.reporter->Error(c.target_span,
                                    Quote(kind.name) + " has no free slot for " + Quote(c.target)))
          .Hint(known.empty() ? "it uses no resources" : "");
    } else {
      put(static_cast<size_t>(fitting < 0 ? free : fitting), c, resource);
    }
  }
  for (size_t i = 0; i < known.size(); ++i) {
    if (taken[i] != nullptr || kind.uses[i].optional || item.damaged) continue;
    AddTrail(item, work.reporter->Error(item.kind_span, Quote(kind.name) + " needs a " +
                                                            kind.uses[i].type + " in its slot " +
                                                            known[i]))
        .Hint("write use: with the name of a resource");
  }
  return slots;
}

void CheckResources(Work* work) {
  std::map<std::string, int> by_name;
  for (const Item& item : work->flat->resources) {
    by_name.emplace(item.name, static_cast<int>(work->resources.size()));
    WorkResource resource;
    resource.item = &item;
    resource.kind = item.kind;
    resource.bypassed = item.block().Flag("bypass");
    if (resource.bypassed && item.kind && item.kind->role != abi::Role::kTransform) {
      work->reporter->Error(
          item.block().AtName("bypass"),
          "only a transform can be bypassed, and " + Quote(item.kind->name) + " is none");
      resource.bypassed = false;
    }
    work->resources.push_back(std::move(resource));
  }
  for (WorkResource& resource : work->resources) FindFrom(work, by_name, &resource);
  // Types first, for the slots: in the order of `from` alone.
  Order(work).Run();
  for (int i : work->resource_order) CheckChain(work, &work->resources[i]);
  work->resource_order.clear();
  for (WorkResource& r : work->resources) {
    if (r.kind != nullptr) r.uses = FillSlots(*work, *r.item, *r.kind, by_name);
  }
  Order(work).Run();
  for (WorkNode& n : work->nodes) {
    if (n.kind != nullptr) n.uses = FillSlots(*work, *n.item, *n.kind, by_name);
  }
  CheckOwners(work);
  WarnUnused(work);
}

}  // namespace engine::graph
