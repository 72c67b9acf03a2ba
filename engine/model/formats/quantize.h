// Encoders of weights as 8-bit integers with scales in half precision. A row's encoding depends on
// that row alone.
#ifndef ENGINE_MODEL_FORMATS_QUANTIZE_H_
#define ENGINE_MODEL_FORMATS_QUANTIZE_H_

#include <cstdint>

namespace engine::model {

// ggml's Q8_0: of each 32 values d = absmax / 127 and q = round(x / d), halves away from zero; d is
// stored rounded to half precision but divides unrounded. `to` receives count / 32 * 34 bytes.
// False when a value is not finite or d exceeds half precision.
// REQUIRES: count is a multiple of 32.
bool EncodeQ8_0(const float* x, int64_t count, uint8_t* to);

// Groups of `group` neighbouring values (the last may be shorter): scale = absmax / 127 rounded to
// half precision, q = x / scale rounded to the nearest even, within ±127. This is the int8
// plugin's rule for GROUPS. scales receives ceil(count / group) numbers. False as above.
bool EncodeInt8Groups(const float* x, int64_t count, int64_t group, int8_t* q, uint16_t* scales);

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_QUANTIZE_H_
