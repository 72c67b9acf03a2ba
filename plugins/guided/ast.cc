// The syntax tree of a language.
#include "ast.h"

#include <algorithm>

namespace engine::guided {
namespace {

constexpr uint32_t kDeepest = 1000;  // what follows a tree calls itself for each level

uint32_t Sum(uint32_t a, uint32_t b) { return a > UINT32_MAX - b ? UINT32_MAX : a + b; }

// About the byte sequences that a set takes in UTF-8.
uint32_t SizeOf(const CodeSet& set) {
  uint32_t size = 1;
  for (const CodeRange& r : set.ranges()) size += r.high < 0x80 ? 0 : r.high < 0x800 ? 2 : 8;
  return size;
}

}  // namespace

Grammar::Grammar(const Limits& limits, Budget* budget) : limits_(limits), budget_(budget) {
  nodes_.push_back({Op::kNothing});
  nodes_.push_back({Op::kEmpty, true});
}

bool Grammar::ok() {
  if (!status_.ok()) return false;
  if (budget_->Spend()) return true;
  Fail(Error(ENGINE_DEADLINE_EXCEEDED, "compiling the form took longer than ",
             limits_.compile.count(), " ms; a simpler one would do"));
  return false;
}

Node Grammar::Fail(Status status) {
  if (status_.ok()) status_ = std::move(status);
  return Nothing();
}

Node Grammar::Add(Data data) {
  if (!ok()) return Nothing();
  if (nodes_.size() + children_.size() >= limits_.nodes) {
    return Fail(Error(ENGINE_INVALID_ARGUMENT, "the form needs more than ", limits_.nodes,
                      " nodes; a simpler one would do"));
  }
  if (data.depth > kDeepest) {
    return Fail(Error(ENGINE_INVALID_ARGUMENT, "the form is nested deeper than ", kDeepest,
                      " levels; a flatter one would do"));
  }
  nodes_.push_back(data);
  return static_cast<Node>(nodes_.size() - 1);
}

Node Grammar::Class(const CodeSet& set) {
  if (set.empty()) return Nothing();
  Data data{.op = Op::kClass, .depth = 1, .size = SizeOf(set)};
  data.first = static_cast<uint32_t>(sets_.size());
  const Node node = Add(data);
  if (node != Nothing()) sets_.push_back(set);
  return node;
}

Node Grammar::Text(std::string_view utf8) {
  if (utf8.empty()) return Empty();
  Data data{.op = Op::kText, .depth = 1, .size = static_cast<uint32_t>(utf8.size())};
  data.first = static_cast<uint32_t>(texts_.size());
  const Node node = Add(data);
  if (node != Nothing()) texts_.emplace_back(utf8);
  return node;
}

Node Grammar::WithChildren(Data data, const std::vector<Node>& children) {
  data.first = static_cast<uint32_t>(children_.size());
  data.count = static_cast<uint32_t>(children.size());
  uint32_t depth = 0;
  for (const Node child : children) {
    depth = std::max<uint32_t>(depth, nodes_[child].depth);
    data.size = Sum(data.size, Sum(nodes_[child].size, 1));
  }
  data.depth = static_cast<uint16_t>(depth + 1);
  const Node node = Add(data);
  if (node != Nothing()) children_.insert(children_.end(), children.begin(), children.end());
  return node;
}

Node Grammar::Sequence(std::vector<Node> children) {
  std::erase(children, Empty());
  for (const Node child : children) {
    if (child == Nothing()) return Nothing();
  }
  if (children.empty()) return Empty();
  if (children.size() == 1) return children[0];
  Data data{.op = Op::kSequence};
  data.nullable = std::all_of(children.begin(), children.end(),
                              [&](Node child) { return nodes_[child].nullable; });
  return WithChildren(data, children);
}

Node Grammar::Either(std::vector<Node> children) {
  std::erase(children, Nothing());
  if (children.empty()) return Nothing();
  if (children.size() == 1) return children[0];
  Data data{.op = Op::kEither};
  data.nullable = std::any_of(children.begin(), children.end(),
                              [&](Node child) { return nodes_[child].nullable; });
  return WithChildren(data, children);
}

Node Grammar::Repeat(Node child, uint32_t min, uint32_t max) {
  if (min > max) return Nothing();
  if (child == Nothing()) return min == 0 ? Empty() : Nothing();
  if (max == 0 || child == Empty()) return Empty();
  if (min == 1 && max == 1) return child;
  Data data{.op = Op::kRepeat};
  // Rounds of nothing fill up what is missing to `min`.
  data.min = nodes_[child].nullable ? 0 : min;
  data.max = max;
  data.nullable = data.min == 0;
  data.size = 3;
  const Node node = WithChildren(data, {child});
  if (node != Nothing() && !Counts(node)) {
    nodes_[node].size *= std::max(1u, max == kInfinite ? min : max);
  }
  return node;
}

bool Grammar::Counts(Node repeat) const {
  const Data& data = nodes_[repeat];
  const uint64_t copies = data.max == kInfinite ? data.min : data.max;
  return copies > 1 && (uint64_t{nodes_[child(repeat, 0)].size} + 1) * copies > kUnrolled;
}

Node Grammar::Quoted(Node child) {
  if (child == Nothing() || child == Empty()) return child;
  Data data{.op = Op::kQuoted};
  data.nullable = nodes_[child].nullable;
  return WithChildren(data, {child});
}

Node Grammar::Of(Graph graph) {
  Data data{.op = Op::kGraph};
  uint32_t depth = 0;
  for (const Graph::State& state : graph.states) {
    data.size = Sum(data.size, 1);
    for (const Graph::Edge& edge : state.edges) {
      if (!ok()) return Nothing();
      data.size = Sum(data.size, Sum(1, nodes_[edge.label].size));
      depth = std::max<uint32_t>(depth, nodes_[edge.label].depth);
    }
  }
  // A path of empty edges would make it so too; only a repetition of it would want to know.
  data.nullable = graph.states[0].accepts;
  data.depth = static_cast<uint16_t>(depth + 1);
  data.first = static_cast<uint32_t>(graphs_.size());
  const Node node = Add(data);
  if (node != Nothing()) graphs_.push_back(std::move(graph));
  return node;
}

Node Grammar::Texts(std::vector<std::string> texts) {
  std::sort(texts.begin(), texts.end());
  texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
  if (texts.empty()) return Nothing();
  Data data{.op = Op::kTexts};
  for (const std::string& text : texts) {
    data.size = Sum(data.size, static_cast<uint32_t>(text.size()));
  }
  data.nullable = texts[0].empty();
  data.depth = 1;
  data.first = static_cast<uint32_t>(lists_.size());
  const Node node = Add(data);
  if (node != Nothing()) lists_.push_back(std::move(texts));
  return node;
}

Rule Grammar::NewRule(std::string name) {
  rules_.push_back({std::move(name), Nothing()});
  // Each costs a node as well, so that their number is bounded.
  Add({.op = Op::kCall});
  return static_cast<Rule>(rules_.size() - 1);
}

Node Grammar::Call(Rule rule) {
  return Add({.op = Op::kCall, .depth = 1, .size = 1, .first = rule});
}

}  // namespace engine::guided
