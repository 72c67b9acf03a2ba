// Turns the C description of a kind into plain data, and refuses one that makes no sense.
#ifndef ENGINE_ABI_DESCRIBE_H_
#define ENGINE_ABI_DESCRIBE_H_

#include <string>

#include "engine/abi/kind.h"
#include "engine/ext/nodes.h"
#include "engine/status.hpp"

namespace engine::abi {

// `role`: of the extension whose table the description came through.
Status DescribeKind(const engine_kind_desc* desc, const std::string& plugin, engine_role role,
                    Kind* out);

bool IsIdentifier(std::string_view name);

}  // namespace engine::abi

#endif  // ENGINE_ABI_DESCRIBE_H_
