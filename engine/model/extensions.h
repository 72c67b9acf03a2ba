// Asks what stands at a site what it is made of.
#ifndef ENGINE_MODEL_EXTENSIONS_H_
#define ENGINE_MODEL_EXTENSIONS_H_

#include "engine/ext/draft/model.h"

namespace engine::model {

// The table `id` of an implementation, or null.
template <typename Table>
const Table* Ask(const engine_site_impl& impl, const char* id) {
  return static_cast<const Table*>(impl.extension(impl.self, id));
}

}  // namespace engine::model

#endif  // ENGINE_MODEL_EXTENSIONS_H_
