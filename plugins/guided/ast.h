// The syntax tree of a language: what regular expressions and schemas are turned into, and what a
// program is made of. Nodes are numbers; a tree is built from the leaves up, so that it has no
// cycle but those that go through a rule.
// Invariant: when a limit is met the first error stays, and whatever is built afterwards is
// Nothing(); callers look at status() once, at the end, and at ok() in their loops.
#ifndef PLUGINS_GUIDED_AST_H_
#define PLUGINS_GUIDED_AST_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "budget.h"
#include "code_points.h"
#include "engine/status.hpp"

namespace engine::guided {

using Node = uint32_t;
using Rule = uint32_t;
constexpr uint32_t kInfinite = UINT32_MAX;
// Copies of a repeated part are written side by side up to this many instructions; beyond, a
// counter does it.
constexpr uint64_t kUnrolled = 48;

enum class Op : uint8_t {
  kNothing,   // no text at all
  kEmpty,     // the empty text
  kClass,     // one code point of `set`
  kText,      // `text`
  kSequence,  // the children, one after another
  kEither,    // one of the children
  kRepeat,    // the child, `min` to `max` times
  kQuoted,    // the child, written as the content of a JSON string
  kCall,      // what a rule says
  kGraph,     // a way through a graph from its first state to one that accepts
  kTexts,     // one of `texts`; bytes, never escaped
};

// Edges are labelled with nodes. Edges labelled Empty() may form cycles.
struct Graph {
  struct Edge {
    Node label = 0;
    uint32_t to = 0;
  };
  struct State {
    std::vector<Edge> edges;
    bool accepts = false;
  };
  std::vector<State> states;  // the first one is where it begins

  uint32_t Add(bool accepts = false) {
    states.push_back({{}, accepts});
    return static_cast<uint32_t>(states.size() - 1);
  }
  void Join(uint32_t from, Node label, uint32_t to) { states[from].edges.push_back({label, to}); }
};

class Grammar {
 public:
  Grammar(const Limits& limits, Budget* budget);

  Node Nothing() const { return 0; }
  Node Empty() const { return 1; }
  Node Class(const CodeSet& set);
  Node Text(std::string_view utf8);
  Node Sequence(std::vector<Node> children);
  Node Either(std::vector<Node> children);
  Node Repeat(Node child, uint32_t min, uint32_t max);
  Node Optional(Node child) { return Repeat(child, 0, 1); }
  Node Quoted(Node child);
  Node Of(Graph graph);
  Node Texts(std::vector<std::string> texts);
  // A rule may be called before it is defined, so that rules may need one another. `name` is for
  // errors.
  Rule NewRule(std::string name);
  void Define(Rule rule, Node node) { rules_[rule].node = node; }
  Node Call(Rule rule);

  struct Data {
    Op op = Op::kNothing;
    bool nullable = false;      // holds the empty text; false for calls
    uint16_t depth = 0;         // of the tree below
    uint32_t size = 0;          // about the instructions that it takes; saturates
    uint32_t first = 0;         // of its children, or the number of its set, text, graph, rule
    uint32_t count = 0;         // of its children
    uint32_t min = 0, max = 0;  // of a repetition
  };
  // Whether a repetition keeps a count instead of copies.
  bool Counts(Node repeat) const;
  const Data& at(Node node) const { return nodes_[node]; }
  Node child(Node node, uint32_t i) const { return children_[nodes_[node].first + i]; }
  const CodeSet& set(Node node) const { return sets_[nodes_[node].first]; }
  const std::string& text(Node node) const { return texts_[nodes_[node].first]; }
  const Graph& graph(Node node) const { return graphs_[nodes_[node].first]; }
  const std::vector<std::string>& texts(Node node) const { return lists_[nodes_[node].first]; }
  Node definition(Rule rule) const { return rules_[rule].node; }
  const std::string& name(Rule rule) const { return rules_[rule].name; }
  size_t rules() const { return rules_.size(); }

  // Why something was impossible; the first time counts. Only an error when there is no way around.
  void Note(std::string_view why) {
    if (note_.empty()) note_ = why;
  }
  const std::string& note() const { return note_; }
  const Limits& limits() const { return limits_; }
  Budget* budget() const { return budget_; }
  // Keeps the first error.
  Node Fail(Status status);
  // False after an error; counts a step of work.
  bool ok();
  const Status& status() const { return status_; }

 private:
  struct RuleData {
    std::string name;
    Node node = 0;
  };
  Node Add(Data data);
  Node WithChildren(Data data, const std::vector<Node>& children);

  const Limits limits_;
  Budget* const budget_;
  Status status_;
  std::string note_;
  std::vector<Data> nodes_;
  std::vector<Node> children_;
  std::vector<CodeSet> sets_;
  std::vector<std::string> texts_;
  std::vector<Graph> graphs_;
  std::vector<std::vector<std::string>> lists_;
  std::vector<RuleData> rules_;
};

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_AST_H_
