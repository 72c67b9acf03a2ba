// Element encodings of stored tensors and their decoders. Blocks are those of ggml: 32 elements,
// a scale in half precision (and a minimum for Q4_1), low nibbles first. Decoded values are bit
// for bit those of the `gguf` Python package.
#ifndef ENGINE_MODEL_FORMATS_DEQUANT_H_
#define ENGINE_MODEL_FORMATS_DEQUANT_H_

#include <cstdint>

namespace engine::model {

// kI8 is a plain signed byte; what it is scaled by lies elsewhere, see Checkpoint::Source.
enum class Encoding { kF64, kF32, kF16, kBF16, kQ8_0, kQ4_0, kQ4_1, kI8 };

const char* EncodingName(Encoding e);
// Elements in the smallest unit that is stored as a whole (1 for plain numbers), and its bytes.
int64_t BlockElements(Encoding e);
int64_t BlockBytes(Encoding e);

float HalfToFloat(uint16_t half);
float Bf16ToFloat(uint16_t bits);
// Round to nearest, ties to even; a NaN stays a (quiet) NaN.
uint16_t FloatToBf16(float value);

// Decode `count` elements at src, which need not be aligned.
// REQUIRES: count is a multiple of BlockElements(e).
void Decode(Encoding e, const uint8_t* src, int64_t count, float* dst);
// kF64 is exact; all others are decoded to float first, which is exact for them.
void Decode(Encoding e, const uint8_t* src, int64_t count, double* dst);
void DecodeBf16(Encoding e, const uint8_t* src, int64_t count, uint16_t* dst);

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_DEQUANT_H_
