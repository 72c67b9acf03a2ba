#include "engine/model/formats/dequant.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace engine::model {
namespace {

constexpr int64_t kBlock = 32;
constexpr int64_t kChunk = 1024;  // elements decoded to a buffer on the stack at a time

template <typename T>
T Load(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// Without branches, so that a loop over it becomes vector code.
inline float HalfBitsToFloat(uint32_t half) {
  const uint32_t sign = (half & 0x8000u) << 16;
  const uint32_t body = (half & 0x7fffu) << 13;
  // Normal numbers: move the exponent's bias from 15 to 127; infinity and NaN go to 255.
  const uint32_t special = body >= (31u << 23) ? (128u - 16u) << 23 : 0u;
  const uint32_t normal = body + ((127u - 15u) << 23) + special;
  // Subnormal numbers: the difference of two floats with the same exponent is exact.
  const float subnormal =
      std::bit_cast<float>(body + (113u << 23)) - std::bit_cast<float>(113u << 23);
  const uint32_t bits = body < (1u << 23) ? std::bit_cast<uint32_t>(subnormal) : normal;
  return std::bit_cast<float>(bits | sign);
}

void DecodeF64(const uint8_t* src, int64_t count, float* dst) {
  for (int64_t i = 0; i < count; ++i) dst[i] = static_cast<float>(Load<double>(src + 8 * i));
}

void DecodeF16(const uint8_t* src, int64_t count, float* dst) {
  for (int64_t i = 0; i < count; ++i) dst[i] = HalfBitsToFloat(Load<uint16_t>(src + 2 * i));
}

void DecodeBF16(const uint8_t* src, int64_t count, float* dst) {
  for (int64_t i = 0; i < count; ++i) dst[i] = Bf16ToFloat(Load<uint16_t>(src + 2 * i));
}

void DecodeQ8_0(const uint8_t* src, int64_t count, float* dst) {
  for (int64_t b = 0; b < count / kBlock; ++b, src += 34, dst += kBlock) {
    const float d = HalfBitsToFloat(Load<uint16_t>(src));
    int8_t q[kBlock];
    std::memcpy(q, src + 2, sizeof q);
    for (int i = 0; i < kBlock; ++i) dst[i] = d * static_cast<float>(q[i]);
  }
}

void DecodeQ4_0(const uint8_t* src, int64_t count, float* dst) {
  for (int64_t b = 0; b < count / kBlock; ++b, src += 18, dst += kBlock) {
    const float d = HalfBitsToFloat(Load<uint16_t>(src));
    uint8_t q[kBlock / 2];
    std::memcpy(q, src + 2, sizeof q);
    for (int i = 0; i < kBlock / 2; ++i) {
      dst[i] = d * static_cast<float>((q[i] & 15) - 8);
      dst[i + kBlock / 2] = d * static_cast<float>((q[i] >> 4) - 8);
    }
  }
}

// d has 11 significant bits and q has 4, so the product is exact and a fused multiply-add gives
// the same result as two operations.
void DecodeQ4_1(const uint8_t* src, int64_t count, float* dst) {
  for (int64_t b = 0; b < count / kBlock; ++b, src += 20, dst += kBlock) {
    const float d = HalfBitsToFloat(Load<uint16_t>(src));
    const float m = HalfBitsToFloat(Load<uint16_t>(src + 2));
    uint8_t q[kBlock / 2];
    std::memcpy(q, src + 4, sizeof q);
    for (int i = 0; i < kBlock / 2; ++i) {
      dst[i] = d * static_cast<float>(q[i] & 15) + m;
      dst[i + kBlock / 2] = d * static_cast<float>(q[i] >> 4) + m;
    }
  }
}

// Calls sink(first, values, n) for each chunk of decoded floats.
template <typename Sink>
void InChunks(Encoding e, const uint8_t* src, int64_t count, Sink sink) {
  float buffer[kChunk];
  for (int64_t i = 0; i < count; i += kChunk) {
    const int64_t n = std::min(kChunk, count - i);
    Decode(e, src + i / BlockElements(e) * BlockBytes(e), n, buffer);
    sink(i, buffer, n);
  }
}

}  // namespace

const char* EncodingName(Encoding e) {
  switch (e) {
    case Encoding::kF64:
      return "F64";
    case Encoding::kF32:
      return "F32";
    case Encoding::kF16:
      return "F16";
    case Encoding::kBF16:
      return "BF16";
    case Encoding::kQ8_0:
      return "Q8_0";
    case Encoding::kQ4_0:
      return "Q4_0";
    case Encoding::kQ4_1:
      return "Q4_1";
    case Encoding::kI8:
      return "I8";
  }
  return "?";
}

int64_t BlockElements(Encoding e) {
  return e == Encoding::kQ8_0 || e == Encoding::kQ4_0 || e == Encoding::kQ4_1 ? kBlock : 1;
}

int64_t BlockBytes(Encoding e) {
  switch (e) {
    case Encoding::kF64:
      return 8;
    case Encoding::kF32:
      return 4;
    case Encoding::kF16:
      return 2;
    case Encoding::kBF16:
      return 2;
    case Encoding::kQ8_0:
      return 34;
    case Encoding::kQ4_0:
      return 18;
    case Encoding::kQ4_1:
      return 20;
    case Encoding::kI8:
      return 1;
  }
  return 1;
}

float HalfToFloat(uint16_t half) { return HalfBitsToFloat(half); }

float Bf16ToFloat(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

uint16_t FloatToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

void Decode(Encoding e, const uint8_t* src, int64_t count, float* dst) {
  switch (e) {
    case Encoding::kF64:
      return DecodeF64(src, count, dst);
    case Encoding::kF32:
      if (count > 0) std::memcpy(dst, src, static_cast<size_t>(count) * sizeof(float));
      return;
    case Encoding::kF16:
      return DecodeF16(src, count, dst);
    case Encoding::kBF16:
      return DecodeBF16(src, count, dst);
    case Encoding::kQ8_0:
      return DecodeQ8_0(src, count, dst);
    case Encoding::kQ4_0:
      return DecodeQ4_0(src, count, dst);
    case Encoding::kQ4_1:
      return DecodeQ4_1(src, count, dst);
    case Encoding::kI8:
      for (int64_t i = 0; i < count; ++i) dst[i] = static_cast<float>(static_cast<int8_t>(src[i]));
      return;
  }
}

void Decode(Encoding e, const uint8_t* src, int64_t count, double* dst) {
  if (e == Encoding::kF64) {
    if (count > 0) std::memcpy(dst, src, static_cast<size_t>(count) * sizeof(double));
    return;
  }
  InChunks(e, src, count, [dst](int64_t at, const float* values, int64_t n) {
    for (int64_t i = 0; i < n; ++i) dst[at + i] = values[i];
  });
}

void DecodeBf16(Encoding e, const uint8_t* src, int64_t count, uint16_t* dst) {
  if (e == Encoding::kBF16) {
    if (count > 0) std::memcpy(dst, src, static_cast<size_t>(count) * sizeof(uint16_t));
    return;
  }
  InChunks(e, src, count, [dst](int64_t at, const float* values, int64_t n) {
    for (int64_t i = 0; i < n; ++i) dst[at + i] = FloatToBf16(values[i]);
  });
}

}  // namespace engine::model
