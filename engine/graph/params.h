// Values that come from outside of an option: params with their defaults, `--set` and the bare
// argument. Weakest first: a param's default, what the file writes, a param's value from the
// command line, `--set node.option=value`.
#ifndef ENGINE_GRAPH_PARAMS_H_
#define ENGINE_GRAPH_PARAMS_H_

#include <string>
#include <vector>

#include "engine/graph/block.h"
#include "engine/graph/expand.h"

namespace engine::graph {

// A value on its way to one field of one item.
struct Assignment {
  enum class Strength { kDefault, kParam, kSet };
  std::string target;   // full name of the item
  std::string path;     // the rest: "kind.option" or "option"
  std::string written;  // the whole path as its author wrote it
  std::string value;
  Span path_span, value_span;
  Strength strength = Strength::kDefault;
  std::string param;     // its name, if it comes from one
  bool spoiled = false;  // its value was refused already; the field is then not told to be missing
  bool matched = false;
};

// Sorts what the command line says: values of params, assignments, and fields of limits and trace,
// which are set at once on the main file's message.
struct CommandLine {
  struct Value {
    std::string name, value;
    Span name_span, value_span;
    bool used = false;
  };
  std::vector<Value> params;
  std::vector<Value> bare;
  std::vector<Assignment> assignments;
};
CommandLine ReadCommandLine(const Overrides& overrides, const SourceFile& source, Block main,
                            Reporter* reporter);

// Reads the params of a pipeline or subgraph and appends what they assign in the scope `prefix`
// ("" or "outer/"). `instance` is the subgraph's options where it was used, else null.
void ReadParams(const std::vector<Block>& params, const std::string& prefix, const Block* instance,
                CommandLine* command_line, std::vector<Assignment>* assignments,
                std::vector<PlanParam>* result, Reporter* reporter);

// Sets the field; says what is wrong with the path or the value.
void Apply(Assignment* assignment, Item* item, Reporter* reporter);

// Reports the assignments that met no item.
void ReportUnmatched(const std::vector<Assignment>& assignments,
                     const std::vector<std::string>& items, Reporter* reporter);

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_PARAMS_H_
