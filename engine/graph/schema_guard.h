// Finds out whether a plugin's schema fits to those that were accepted before it, so that a bad one
// harms its own plugin only: what passes here, Schema::Build takes.
#ifndef ENGINE_GRAPH_SCHEMA_GUARD_H_
#define ENGINE_GRAPH_SCHEMA_GUARD_H_

#include <memory>
#include <vector>

#include "engine/abi/kind.h"
#include "engine/status.hpp"

namespace engine::graph {

class SchemaGuard {
 public:
  SchemaGuard();
  ~SchemaGuard();

  // Accepts the plugin and its kinds, or says what is wrong with them and forgets them.
  Status Add(const abi::Plugin& plugin, const std::vector<abi::Kind>& kinds);

 private:
  struct State;

  void Reset();  // to what was accepted

  std::vector<abi::Plugin> accepted_;
  std::unique_ptr<State> state_;
};

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_SCHEMA_GUARD_H_
