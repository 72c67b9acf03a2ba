// Asks what stands at a site what it is made of: the tables of engine/ext/model.h.
#ifndef ENGINE_MADE_OF_HPP_
#define ENGINE_MADE_OF_HPP_

#include <vector>

#include "engine/ext/model.h"

namespace engine {

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

// What stands under all low-rank branches; they are added to `branches`, the innermost first.
inline const engine_site_impl& Peel(const engine_site_impl& top,
                                    std::vector<const engine_low_rank*>* branches) {
  const engine_site_impl* at = &Through(top);
  while (const auto* low = Ask<engine_low_rank>(*at, ENGINE_EXT_LOW_RANK)) {
    branches->insert(branches->begin(), low);
    at = &Through(*low->base);
  }
  return *at;
}

}  // namespace engine

#endif  // ENGINE_MADE_OF_HPP_
