// A load description: what arrives, when, and how long it is. Invariant of a parsed spec: all
// numbers are within their bounds, and either streams or rate is set.
#ifndef PLUGINS_TRAFFIC_SPEC_H_
#define PLUGINS_TRAFFIC_SPEC_H_

#include <cstdint>
#include <string>

#include "engine/status.hpp"

namespace engine::traffic {

struct Range {
  uint32_t least = 0, most = 0;
};

struct Spec {
  uint32_t streams = 1, requests = 0, prefix = 0, turns = 1, waves = 1, warmup = 1;
  Range prompt{128, 128}, out{64, 64};
  double rate = 0, cancel = 0;
  uint64_t seed = 0;
};

// See TrafficOptions.load. Errors name the key, what was found and what would work.
Status ParseSpec(const std::string& text, Spec* out);

}  // namespace engine::traffic

#endif  // PLUGINS_TRAFFIC_SPEC_H_
