// A set of code points as sequences of byte ranges.
#include "utf8_paths.h"

#include <algorithm>
#include <string>

namespace engine::guided {
namespace {

// `low` and `high` take equally many bytes. A range is cut until all bytes behind the first one
// that differs run over all of 80..BF.
void Cut(uint32_t low, uint32_t high, uint32_t bytes, std::vector<Utf8Path>* paths) {
  for (uint32_t i = 1; i < bytes; ++i) {
    const uint32_t below = (1u << (6 * i)) - 1;  // the bits of the last i bytes
    if ((low & ~below) == (high & ~below)) continue;
    if ((low & below) != 0) {
      Cut(low, low | below, bytes, paths);
      Cut((low | below) + 1, high, bytes, paths);
      return;
    }
    if ((high & below) != below) {
      Cut(low, (high & ~below) - 1, bytes, paths);
      Cut(high & ~below, high, bytes, paths);
      return;
    }
  }
  std::string from, to;
  AppendUtf8(low, &from);
  AppendUtf8(high, &to);
  Utf8Path path;
  path.count = bytes;
  for (uint32_t i = 0; i < bytes; ++i) {
    path.bytes[i] = {static_cast<uint8_t>(from[i]), static_cast<uint8_t>(to[i])};
  }
  paths->push_back(path);
}

}  // namespace

std::vector<Utf8Path> Utf8Paths(const CodeSet& set) {
  constexpr uint32_t last[] = {0x7f, 0x7ff, 0xffff, kLastCodePoint};
  std::vector<Utf8Path> paths;
  for (const CodeRange& r : set.ranges()) {
    uint32_t low = r.low;
    for (uint32_t bytes = 1; bytes <= 4 && low <= r.high; ++bytes) {
      if (low > last[bytes - 1]) continue;
      const uint32_t high = std::min(r.high, last[bytes - 1]);
      Cut(low, high, bytes, &paths);
      low = high + 1;
    }
  }
  return paths;
}

}  // namespace engine::guided
