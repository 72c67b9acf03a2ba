// Small things that plugins of all kinds need.
#ifndef ENGINE_UTIL_HPP_
#define ENGINE_UTIL_HPP_

#include <cstdint>
#include <ctime>
#include <fstream>
#include <string>

#include "engine/status.hpp"

namespace engine {

// CLOCK_MONOTONIC, as all times of types.h.
inline uint64_t NowNs() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

// Most memory that the process ever held (VmHWM); 0 where the system does not tell.
inline uint64_t PeakBytes() {
  std::ifstream in("/proc/self/status");
  std::string word;
  uint64_t kib = 0;
  while (in >> word) {
    if (word == "VmHWM:" && in >> kib) return kib * 1024;
  }
  return 0;
}

// Bytes of an element of a floating-point dtype.
inline int64_t DtypeBytes(uint32_t dtype) {
  return dtype == ENGINE_F64 ? 8 : dtype == ENGINE_F32 ? 4 : 2;
}

// An engine_put that appends to the std::string behind `arg`.
inline engine_status* AppendTo(void* arg, engine_str piece) {
  return Guard([&] {
    static_cast<std::string*>(arg)->append(View(piece));
    return Status();
  });
}

}  // namespace engine

#endif  // ENGINE_UTIL_HPP_
