// Turns the C description of a kind into plain data, and refuses one that makes no sense.
#ifndef ENGINE_ABI_DESCRIBE_H_
#define ENGINE_ABI_DESCRIBE_H_

#include <string>

#include "engine/abi/kind.h"
#include "engine/ext/nodes.h"
#include "engine/status.hpp"

namespace engine::abi {

// `from_transforms`: the description came through engine.transforms/1.
Status DescribeKind(const engine_kind_desc* desc, const std::string& plugin, bool from_transforms,
                    Kind* out);

bool IsIdentifier(std::string_view name);

}  // namespace engine::abi

#endif  // ENGINE_ABI_DESCRIBE_H_
