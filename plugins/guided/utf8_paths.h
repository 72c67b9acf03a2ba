// A set of code points as sequences of byte ranges: its UTF-8.
#ifndef PLUGINS_GUIDED_UTF8_PATHS_H_
#define PLUGINS_GUIDED_UTF8_PATHS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "code_points.h"

namespace engine::guided {

struct Utf8Path {
  struct Bytes {
    uint8_t low = 0, high = 0;
  };
  std::array<Bytes, 4> bytes;
  uint32_t count = 0;
};

// Together they spell the set, each text by one of them.
std::vector<Utf8Path> Utf8Paths(const CodeSet& set);

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_UTF8_PATHS_H_
