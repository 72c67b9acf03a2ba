// What the host asks of implementations; see engine/made_of.hpp.
#ifndef ENGINE_MODEL_EXTENSIONS_H_
#define ENGINE_MODEL_EXTENSIONS_H_

#include "engine/ext/kv.h"
#include "engine/growth.hpp"
#include "engine/made_of.hpp"

namespace engine::model {

using engine::Ask;
using engine::Peel;
using engine::Through;

}  // namespace engine::model

#endif  // ENGINE_MODEL_EXTENSIONS_H_
