// Languages over code points as graphs.
#include "automaton.h"

#include <algorithm>
#include <unordered_map>

namespace engine::guided {
namespace {

// Writes nodes behind a state and answers the state behind them. Children are written at the state
// itself, so nothing may lead back to it: a loop begins with a state of its own.
class Unroller {
 public:
  Unroller(Grammar* grammar, Graph* graph) : grammar_(*grammar), graph_(*graph) {}

  uint32_t Write(Node node, uint32_t from) {
    const Grammar::Data data = grammar_.at(node);
    switch (data.op) {
      case Op::kEmpty:
        return from;
      case Op::kClass:
        return Next(from, node);
      case Op::kText: {
        const std::string text = grammar_.text(node);
        std::string_view rest = text;
        uint32_t code = 0;
        while (TakeCodePoint(&rest, &code)) {
          from = Next(from, grammar_.Class(CodeSet::Of(code)));
        }
        return from;
      }
      case Op::kSequence:
        for (uint32_t i = 0; i < data.count; ++i) from = Write(grammar_.child(node, i), from);
        return from;
      case Op::kEither: {
        const uint32_t end = Add();
        for (uint32_t i = 0; i < data.count; ++i) {
          graph_.Join(Write(grammar_.child(node, i), from), grammar_.Empty(), end);
        }
        return end;
      }
      case Op::kRepeat: {
        const Node child = grammar_.child(node, 0);
        for (uint32_t i = 0; i < data.min && fits(); ++i) from = Write(child, from);
        if (data.max == kInfinite) {
          const uint32_t head = Next(from, grammar_.Empty());
          graph_.Join(Write(child, head), grammar_.Empty(), head);
          return head;
        }
        const uint32_t end = Add();
        for (uint32_t i = data.min; i < data.max && fits(); ++i) {
          graph_.Join(from, grammar_.Empty(), end);
          from = Write(child, from);
        }
        graph_.Join(from, grammar_.Empty(), end);
        return end;
      }
      default:
        return Add();  // no way leads there
    }
  }
  bool fits() { return graph_.states.size() <= grammar_.limits().automaton && grammar_.ok(); }

 private:
  uint32_t Add() { return fits() ? graph_.Add() : 0; }
  uint32_t Next(uint32_t from, Node label) {
    const uint32_t to = Add();
    graph_.Join(from, label, to);
    return to;
  }

  Grammar& grammar_;
  Graph& graph_;
};

// Leaves out edges to where no text ends.
void Trim(Graph* graph) {
  std::vector<std::vector<uint32_t>> back(graph->states.size());
  std::vector<bool> good(graph->states.size());
  std::vector<uint32_t> work;
  for (uint32_t i = 0; i < graph->states.size(); ++i) {
    for (const Graph::Edge& edge : graph->states[i].edges) back[edge.to].push_back(i);
    if (!graph->states[i].accepts) continue;
    good[i] = true;
    work.push_back(i);
  }
  while (!work.empty()) {
    const uint32_t at = work.back();
    work.pop_back();
    for (const uint32_t from : back[at]) {
      if (good[from]) continue;
      good[from] = true;
      work.push_back(from);
    }
  }
  for (Graph::State& state : graph->states) {
    std::erase_if(state.edges, [&](const Graph::Edge& edge) { return !good[edge.to]; });
  }
}

}  // namespace

bool ToAutomaton(Grammar* grammar, Node node, Graph* graph) {
  *graph = Graph();
  graph->Add();
  Unroller unroller(grammar, graph);
  const uint32_t end = unroller.Write(node, 0);
  if (!unroller.fits()) return false;
  graph->states[end].accepts = true;
  return true;
}

bool Intersect(Grammar* grammar, const Graph& a, const Graph& b, Graph* both) {
  *both = Graph();
  std::unordered_map<uint64_t, uint32_t> known;      // pairs of states
  std::unordered_map<uint64_t, Node> intersections;  // of pairs of classes
  std::vector<uint64_t> pairs;
  const auto state = [&](uint32_t x, uint32_t y) {
    const uint64_t key = uint64_t{x} << 32 | y;
    const auto [it, fresh] = known.try_emplace(key, static_cast<uint32_t>(pairs.size()));
    if (fresh) {
      pairs.push_back(key);
      both->Add(a.states[x].accepts && b.states[y].accepts);
    }
    return it->second;
  };
  const Node empty = grammar->Empty();
  const uint32_t most = grammar->limits().automaton;
  size_t edges = 0;
  state(0, 0);
  for (uint32_t i = 0; i < pairs.size(); ++i) {
    const auto x = static_cast<uint32_t>(pairs[i] >> 32), y = static_cast<uint32_t>(pairs[i]);
    for (const Graph::Edge& e : a.states[x].edges) {
      if (e.label == empty) both->Join(i, empty, state(e.to, y));
    }
    for (const Graph::Edge& f : b.states[y].edges) {
      if (f.label == empty) both->Join(i, empty, state(x, f.to));
    }
    for (const Graph::Edge& e : a.states[x].edges) {
      if (e.label == empty) continue;
      for (const Graph::Edge& f : b.states[y].edges) {
        if (f.label == empty) continue;
        if (!grammar->ok()) return false;
        const auto [it, fresh] =
            intersections.try_emplace(uint64_t{e.label} << 32 | f.label, grammar->Nothing());
        if (fresh) {
          it->second = grammar->Class(grammar->set(e.label).And(grammar->set(f.label)));
        }
        if (it->second == grammar->Nothing()) continue;
        both->Join(i, it->second, state(e.to, f.to));
        ++edges;
      }
    }
    if (pairs.size() > most || edges > 4 * size_t{most}) return false;
  }
  Trim(both);
  return true;
}

bool Lengths(Grammar* grammar, uint32_t min, uint32_t max, Graph* graph) {
  const uint32_t last = max == kInfinite ? min : max;
  if (last > grammar->limits().automaton) return false;
  *graph = Graph();
  const Node any = grammar->Class(CodeSet::All());
  for (uint32_t i = 0; i <= last; ++i) {
    graph->Add(i >= min);
    if (i > 0) graph->Join(i - 1, any, i);
  }
  if (max == kInfinite) graph->Join(last, any, last);
  return true;
}

bool AllBut(Grammar* grammar, const CodeSet& set, std::vector<std::string> words, Graph* graph) {
  *graph = Graph();
  const uint32_t start = graph->Add(true), free = graph->Add(true);
  graph->Join(free, grammar->Class(set), free);
  std::sort(words.begin(), words.end());
  std::vector<std::vector<std::pair<uint32_t, uint32_t>>> next(2);  // code point, state
  for (const std::string& word : words) {
    uint32_t at = start;
    std::string_view rest = word;
    uint32_t code = 0;
    while (TakeCodePoint(&rest, &code)) {
      if (!grammar->ok() || graph->states.size() > grammar->limits().automaton) return false;
      // Words are sorted: what they share, the last one has.
      if (next[at].empty() || next[at].back().first != code) {
        const uint32_t fresh = graph->Add(true);
        next[at].push_back({code, fresh});
        next.emplace_back();
      }
      at = next[at].back().second;
    }
    graph->states[at].accepts = false;
  }
  for (uint32_t i = 0; i < next.size(); ++i) {
    if (i == free) continue;
    std::vector<CodeRange> taken;
    for (const auto& [code, to] : next[i]) {
      graph->Join(i, grammar->Class(CodeSet::Of(code).And(set)), to);
      taken.push_back({code, code});
    }
    graph->Join(i, grammar->Class(set.And(CodeSet(std::move(taken)).Not())), free);
  }
  for (Graph::State& state : graph->states) {
    std::erase_if(state.edges, [&](const Graph::Edge& e) { return e.label == grammar->Nothing(); });
  }
  return true;
}

bool Holds(const Grammar& grammar, const Graph& graph, std::string_view text) {
  std::vector<uint32_t> now = {0}, after;
  std::vector<bool> in(graph.states.size());
  const auto close = [&](std::vector<uint32_t>* states) {
    std::fill(in.begin(), in.end(), false);
    for (const uint32_t s : *states) in[s] = true;
    for (size_t i = 0; i < states->size(); ++i) {
      for (const Graph::Edge& edge : graph.states[(*states)[i]].edges) {
        if (edge.label != grammar.Empty() || in[edge.to]) continue;
        in[edge.to] = true;
        states->push_back(edge.to);
      }
    }
  };
  close(&now);
  uint32_t code = 0;
  while (!text.empty()) {
    if (!TakeCodePoint(&text, &code)) return false;
    after.clear();
    std::fill(in.begin(), in.end(), false);
    for (const uint32_t s : now) {
      for (const Graph::Edge& edge : graph.states[s].edges) {
        if (edge.label == grammar.Empty() || in[edge.to] || !grammar.set(edge.label).Has(code)) {
          continue;
        }
        in[edge.to] = true;
        after.push_back(edge.to);
      }
    }
    now.swap(after);
    close(&now);
  }
  return std::any_of(now.begin(), now.end(), [&](uint32_t s) { return graph.states[s].accepts; });
}

LengthRange LengthsOf(const Grammar& grammar, Node node) {
  const auto sum = [](uint32_t a, uint32_t b) { return a > kInfinite - b ? kInfinite : a + b; };
  const auto times = [](uint32_t a, uint32_t b) -> uint32_t {
    if (a == 0 || b == 0) return 0;
    const uint64_t product = uint64_t{a} * b;
    return a == kInfinite || b == kInfinite || product > kInfinite ? kInfinite
                                                                   : static_cast<uint32_t>(product);
  };
  const Grammar::Data& data = grammar.at(node);
  switch (data.op) {
    case Op::kEmpty:
      return {0, 0};
    case Op::kClass:
      return {1, 1};
    case Op::kText: {
      const auto size = static_cast<uint32_t>(
          std::count_if(grammar.text(node).begin(), grammar.text(node).end(),
                        [](char c) { return (static_cast<uint8_t>(c) & 0xc0) != 0x80; }));
      return {size, size};
    }
    case Op::kSequence: {
      LengthRange all;
      for (uint32_t i = 0; i < data.count; ++i) {
        const LengthRange one = LengthsOf(grammar, grammar.child(node, i));
        all = {sum(all.min, one.min), sum(all.max, one.max)};
      }
      return all;
    }
    case Op::kEither: {
      LengthRange any = {kInfinite, 0};
      for (uint32_t i = 0; i < data.count; ++i) {
        const LengthRange one = LengthsOf(grammar, grammar.child(node, i));
        any = {std::min(any.min, one.min), std::max(any.max, one.max)};
      }
      return any;
    }
    case Op::kRepeat: {
      const LengthRange one = LengthsOf(grammar, grammar.child(node, 0));
      return {times(one.min, data.min), times(one.max, data.max)};
    }
    case Op::kNothing:
      return {kInfinite, 0};
    default:
      return {0, kInfinite};
  }
}

}  // namespace engine::guided
