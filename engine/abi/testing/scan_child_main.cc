// The scanner's child for tests: descriptor and files as arguments, as `engine plugin scan` has
// them.
#include <cstdlib>
#include <memory>

#include "engine/abi/scan_child.h"
#include "engine/graph/schema_guard.h"

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  engine::abi::RunScanChild(std::atoi(argv[1]), std::vector<std::string>(argv + 2, argv + argc),
                            [] {
                              auto guard = std::make_shared<engine::graph::SchemaGuard>();
                              return [guard](const engine::abi::Plugin& plugin,
                                             const std::vector<engine::abi::Kind>& kinds) {
                                return guard->Add(plugin, kinds);
                              };
                            });
}
