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

// Looks through implementations that compute the same function as what they replaced.
inline const engine_site_impl& Through(const engine_site_impl& impl) {
  const engine_site_impl* at = &impl;
  while (const auto* same = Ask<engine_same_function>(*at, ENGINE_EXT_SAME_FUNCTION)) {
    at = same->base;
  }
  return *at;
}

}  // namespace engine::model

#endif  // ENGINE_MODEL_EXTENSIONS_H_
