#include "engine/graph/refused.h"

#include <sstream>

namespace engine::graph {

void HintRefused(const abi::Refusal& refusal, const std::string& verb, const std::string& what,
                 Diagnostic* diagnostic) {
  const std::string name = refusal.id.empty() ? refusal.path : refusal.id;
  diagnostic->Hint("plugin " + name + " " + verb + ", but was refused: " + refusal.reason);
  const std::string place = diagnostic->file + ":" + std::to_string(diagnostic->line) + ":" +
                            std::to_string(diagnostic->column);
  std::stringstream lines(abi::RefusalText(refusal, place + " " + what));
  for (std::string line; std::getline(lines, line);) diagnostic->Hint(line);
}

}  // namespace engine::graph
