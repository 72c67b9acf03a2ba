// The pool behind a model's KV stores, for nodes that keep or ask for sequences and sessions.
#ifndef ENGINE_KV_POOL_HPP_
#define ENGINE_KV_POOL_HPP_

#include "engine/ext/kv.h"
#include "engine/ext/model.h"
#include "engine/growth.hpp"
#include "engine/host.hpp"

namespace engine {

// Null where the model keeps no keys and values. It is the same for all stores of a model, and
// lives as long as the model's resource. `site`: where to begin to look, and where it was found;
// for those who ask again and again.
inline const engine_kv_pool* KvPoolOf(const engine_model* model, uint32_t* site = nullptr) {
  const engine_model_host* api = ThisHost().model;
  const uint32_t count = api->site_count(model);
  for (uint32_t i = site != nullptr ? *site : 0; i < count; ++i) {
    engine_site_info info = Sized<engine_site_info>();
    const Status status(api->site(model, i, &info));
    if (!status.ok() || info.kind != ENGINE_SITE_KV_STORE) continue;
    const engine_site_impl* impl = api->site_impl(model, i);
    if (impl->extension == nullptr) continue;
    const void* pool = impl->extension(impl->self, ENGINE_EXT_KV_POOL);
    if (pool == nullptr) continue;
    if (site != nullptr) *site = i;
    return static_cast<const engine_kv_pool*>(pool);
  }
  if (site != nullptr) *site = count;
  return nullptr;
}

}  // namespace engine

#endif  // ENGINE_KV_POOL_HPP_
