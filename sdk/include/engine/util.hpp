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

// A figure of /proc/self/status in bytes, such as "VmRSS:"; 0 where the system does not tell.
inline uint64_t ProcessBytes(const char* figure) {
  std::ifstream in("/proc/self/status");
  std::string word;
  uint64_t kib = 0;
  while (in >> word) {
    if (word == figure && in >> kib) return kib * 1024;
  }
  return 0;
}
// Most memory that the process ever held.
inline uint64_t PeakBytes() { return ProcessBytes("VmHWM:"); }

// Bytes of an element of a floating-point dtype.
inline int64_t DtypeBytes(uint32_t dtype) {
  return dtype == ENGINE_F64 ? 8 : dtype == ENGINE_F32 ? 4 : 2;
}

// IEEE 754 half precision as float; exact.
inline float HalfToFloat(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  uint32_t exponent = (half >> 10) & 0x1fu, fraction = half & 0x3ffu, bits;
  if (exponent == 31) {
    bits = sign | 0x7f800000u | (fraction << 13);
  } else if (exponent != 0) {
    bits = sign | ((exponent + 112) << 23) | (fraction << 13);
  } else {
    // Subnormal: fraction * 2^-24, which a float holds exactly.
    const float value = static_cast<float>(fraction) * 5.9604644775390625e-8f;
    __builtin_memcpy(&bits, &value, 4);
    bits |= sign;
  }
  float out;
  __builtin_memcpy(&out, &bits, 4);
  return out;
}

// Rounded to nearest, ties to even; too great becomes infinite, a NaN stays a quiet NaN.
inline uint16_t FloatToHalf(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((bits >> 13) & 0x3ffu));
  if (bits >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 2^16 and above
  if (bits < 0x38800000u) {
    // Below 2^-14: adding 0.5 shifts the fraction into place, rounded by the addition itself.
    float magnitude;
    __builtin_memcpy(&magnitude, &bits, 4);
    magnitude += 0.5f;
    __builtin_memcpy(&bits, &magnitude, 4);
    return static_cast<uint16_t>(sign | (bits - 0x3f000000u));
  }
  bits += 0xc8000fffu + ((bits >> 13) & 1u);
  return static_cast<uint16_t>(sign | (bits >> 13));
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
