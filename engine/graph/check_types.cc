#include <algorithm>
#include <numeric>
#include <optional>

#include "engine/graph/check.h"
#include "engine/graph/diagnostic.h"
#include "engine/graph/suggest.h"

namespace engine::graph {
namespace {

// "[rows, 576]" as its parts; nothing when it is not of that form.
std::optional<std::vector<std::string>> Dimensions(const std::string& shape) {
  if (shape.size() < 2 || shape.front() != '[' || shape.back() != ']') return std::nullopt;
  std::vector<std::string> parts;
  std::string part;
  for (char c : shape.substr(1, shape.size() - 2)) {
    if (c == ' ') continue;
    if (c == ',') {
      parts.push_back(part);
      part.clear();
    } else {
      part += c;
    }
  }
  if (!part.empty() || !parts.empty()) parts.push_back(part);
  return parts;
}

bool IsNumber(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

// Symbols, each belonging to one node, joined into classes that may know their number.
class Symbols {
 public:
  int Of(int node, const std::string& symbol) {
    auto [it, fresh] = ids_.emplace(std::pair(node, symbol), static_cast<int>(parent_.size()));
    if (fresh) {
      parent_.push_back(it->second);
      number_.emplace_back();
      origin_.emplace_back();
    }
    return it->second;
  }
  int Constant(const std::string& number, const std::string& origin) {
    const int id = static_cast<int>(parent_.size());
    parent_.push_back(id);
    number_.push_back(number);
    origin_.push_back(origin);
    return id;
  }
  int Find(int x) {
    while (parent_[x] != x) x = parent_[x] = parent_[parent_[x]];
    return x;
  }
  const std::string& Number(int x) { return number_[Find(x)]; }
  const std::string& Origin(int x) { return origin_[Find(x)]; }
  bool Join(int a, int b) {
    a = Find(a);
    b = Find(b);
    if (a == b) return true;
    if (!number_[a].empty() && !number_[b].empty() && number_[a] != number_[b]) return false;
    if (number_[a].empty()) std::swap(a, b);
    parent_[b] = a;
    return true;
  }

 private:
  std::map<std::pair<int, std::string>, int> ids_;
  std::vector<int> parent_;
  std::vector<std::string> number_, origin_;
};

class TypeChecker {
 public:
  explicit TypeChecker(Work* work) : work_(work) {}

  void Run() {
    // In the order of the readers, so that of two that contradict the later one is told.
    for (size_t n = 0; n < work_->nodes.size(); ++n) {
      const WorkNode& consumer = work_->nodes[n];
      for (const Wire& wire : consumer.ins) {
        if (consumer.kind == nullptr || wire.port < 0 || wire.edge < 0) continue;
        const WorkEdge& edge = work_->edges[wire.edge];
        if (edge.producer < 0) continue;
        const WorkNode& producer = work_->nodes[edge.producer];
        const int port = producer.outs[edge.out].port;
        if (producer.kind == nullptr || port < 0) continue;
        Pair(edge, producer, producer.kind->outputs[port], consumer, wire,
             consumer.kind->inputs[wire.port], edge.producer, static_cast<int>(n));
      }
    }
    for (WorkEdge& edge : work_->edges) {
      if (edge.producer < 0) continue;
      const WorkNode& producer = work_->nodes[edge.producer];
      const int port = producer.outs[edge.out].port;
      if (producer.kind == nullptr || port < 0) continue;
      edge.shape = Resolved(edge.producer, producer.kind->outputs[port].shape);
    }
  }

 private:
  static bool Fit(const std::string& a, const std::string& b) {
    return a.empty() || b.empty() || a == "*" || b == "*" || a == b;
  }

  Diagnostic& Mismatch(const WorkEdge& edge, const WorkNode& producer, const WorkNode& consumer,
                       const Wire& wire, const std::string& message) {
    Diagnostic& d = work_->reporter->Error(wire.written->target_span, message);
    d.At(producer.outs[edge.out].written->target_span,
         Quote(producer.item->name) + " gives it here");
    return AddTrail(*consumer.item, d);
  }

  void Pair(const WorkEdge& edge, const WorkNode& producer, const abi::Port& gives,
            const WorkNode& consumer, const Wire& wire, const abi::Port& takes, int from, int to) {
    const std::string edge_name = "edge " + Quote(edge.name);
    const std::string out = gives.name + " of " + Quote(producer.item->name);
    const std::string in = takes.name + " of " + Quote(consumer.item->name);
    if (!Fit(gives.type, takes.type)) {
      Mismatch(edge, producer, consumer, wire,
               edge_name + " carries " + gives.type + " from " + out + ", and " + in + " takes " +
                   takes.type);
      return;
    }
    if (!Fit(gives.dtype, takes.dtype)) {
      Mismatch(edge, producer, consumer, wire,
               edge_name + " carries " + gives.dtype + " from " + out + ", and " + in + " takes " +
                   takes.dtype);
    }
    const auto left = Dimensions(gives.shape), right = Dimensions(takes.shape);
    if (!left || !right) return;
    if (left->size() != right->size()) {
      Mismatch(edge, producer, consumer, wire,
               edge_name + " has " + std::to_string(left->size()) + " dimensions, " + gives.shape +
                   " from " + out + ", and " + in + " takes " + takes.shape);
      return;
    }
    for (size_t d = 0; d < left->size(); ++d) {
      const int a = Id(from, (*left)[d], out), b = Id(to, (*right)[d], in);
      if (symbols_.Join(a, b)) continue;
      Diagnostic& diagnostic = Mismatch(
          edge, producer, consumer, wire,
          edge_name + " has shape " + Resolved(from, gives.shape) + " from " + out + ", and " + in +
              " takes " + Resolved(to, takes.shape) + ": dimension " + std::to_string(d + 1) +
              " is " + symbols_.Number(a) + " against " + symbols_.Number(b));
      for (const auto& [id, part] : {std::pair(a, (*left)[d]), std::pair(b, (*right)[d])}) {
        if (!IsNumber(part)) {
          diagnostic.Hint("\"" + part + "\" is " + symbols_.Number(id) + " because of " +
                          symbols_.Origin(id));
        }
      }
      return;
    }
  }

  int Id(int node, const std::string& part, const std::string& origin) {
    return IsNumber(part) ? symbols_.Constant(part, origin) : symbols_.Of(node, part);
  }

  std::string Resolved(int node, const std::string& shape) {
    const auto parts = Dimensions(shape);
    if (!parts) return shape;
    std::string out = "[";
    for (size_t i = 0; i < parts->size(); ++i) {
      std::string part = (*parts)[i];
      if (!IsNumber(part)) {
        const std::string& number = symbols_.Number(symbols_.Of(node, part));
        if (!number.empty()) part = number;
      }
      out += (i > 0 ? ", " : "") + part;
    }
    return out + "]";
  }

  Work* work_;
  Symbols symbols_;
};

}  // namespace

void CheckTypes(Work* work) { TypeChecker(work).Run(); }

}  // namespace engine::graph
