#include "engine/cli/commands.h"
namespace engine::cli {
int BenchCommand(const BenchArgs&) { return kBadInput; }
}
