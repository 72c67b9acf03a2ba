// From what was read to a flat list: subgraphs replaced by their nodes, params and `--set` applied,
// every node and resource with its own copy of its message. Names inside of a subgraph get the name
// of its use in front ("outer/inner"); each item remembers where the subgraphs around it were used,
// for the notes of its errors.
#ifndef ENGINE_GRAPH_EXPAND_H_
#define ENGINE_GRAPH_EXPAND_H_

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/graph/block.h"
#include "engine/graph/plan.h"
#include "engine/graph/reader.h"

namespace engine::graph {

struct Diagnostic;
class Reporter;

// What the command line says beside the pipeline's name.
struct Overrides {
  std::vector<std::string> sets = {};        // "path=value" of --set, in order
  std::vector<std::string> positional = {};  // bare arguments
};

inline constexpr size_t kMaxItems = 10000;  // nodes and resources
inline constexpr int kMaxSubgraphDepth = 16;

// Where the subgraph that an item stands in was used.
struct Trail {
  std::string name;
  Span used_at;
  std::shared_ptr<const Trail> outer;
};

// One entry of in, out or use: "PORT:name" or "name".
struct Connection {
  std::string port, target;  // the target's full name
  Span port_span, target_span;
  bool feedback = false;
  bool loose = false;  // an edge of a subgraph's port that was not connected, told already
};

struct Item {
  std::string name;
  Span name_span;
  std::unique_ptr<google::protobuf::Message> message;
  std::shared_ptr<OutlineBlock> outline;
  Span head;
  const abi::Kind* kind = nullptr;  // null: it has none, which is told already
  Span kind_span;
  bool damaged = false;  // parts of it were left out: what is missing is not to be told
  std::shared_ptr<const Trail> trail;
  std::vector<Connection> ins, outs, uses;
  std::vector<std::pair<std::string, Span>> feedback;

  Block block() const { return {message.get(), outline.get(), head}; }
};

struct Flat {
  std::vector<Item> nodes, resources;
  std::vector<PlanParam> params;
  std::set<std::string> loose;  // edges whose other end was refused: not to be told as open
};

// REQUIRES: `reading` outlives the result. `command_line` holds the overrides, one a line, as
// `CommandLineText` wrote them.
void Expand(const Reading& reading, const Overrides& overrides, const SourceFile& command_line,
            Flat* flat, Reporter* reporter);

std::string CommandLineText(const Overrides& overrides);

// Adds the places where the subgraphs around an item were used.
Diagnostic& AddTrail(const Item& item, Diagnostic& diagnostic);

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_EXPAND_H_
