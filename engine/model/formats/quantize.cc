#include "engine/model/formats/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/model/formats/dequant.h"
#include "engine/util.hpp"

namespace engine::model {
namespace {

// The greatest magnitude; what is not finite makes it NaN or infinite.
float AbsMax(const float* x, int64_t count) {
  float top = 0, poison = 0;
  for (int64_t i = 0; i < count; ++i) {
    top = std::max(top, std::fabs(x[i]));
    poison += x[i] - x[i];
  }
  return top + poison;
}

bool Representable(uint16_t half) { return (half & 0x7c00u) != 0x7c00u; }

}  // namespace

bool EncodeQ8_0(const float* x, int64_t count, uint8_t* to) {
  for (int64_t b = 0; b < count; b += 32, to += 34) {
    const float d = AbsMax(x + b, 32) / 127.0f;
    const uint16_t half = FloatToHalf(d);
    if (!Representable(half)) return false;
    std::memcpy(to, &half, 2);
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    for (int64_t i = 0; i < 32; ++i) {
      // An inverse beyond float's range comes with a d whose half is zero: any code decodes to 0.
      const float q = std::clamp(std::round(x[b + i] * inverse), -127.0f, 127.0f);
      to[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(std::isnan(q) ? 0.0f : q));
    }
  }
  return true;
}

bool EncodeInt8Groups(const float* x, int64_t count, int64_t group, int8_t* q, uint16_t* scales) {
  for (int64_t g = 0; g * group < count; ++g) {
    const int64_t begin = g * group, end = std::min(count, begin + group);
    scales[g] = FloatToHalf(AbsMax(x + begin, end - begin) / 127.0f);
    if (!Representable(scales[g])) return false;
    const float scale = HalfToFloat(scales[g]);
    const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
    for (int64_t i = begin; i < end; ++i) {
      q[i] = static_cast<int8_t>(std::clamp(std::nearbyint(x[i] * inverse), -127.0f, 127.0f));
    }
  }
  return true;
}

}  // namespace engine::model
