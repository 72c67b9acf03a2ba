#include "engine/model/formats/dequant.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace engine::model {
namespace {

// Stored bytes, and the bits of the floats that the gguf Python package decodes them to, in hex.
const struct {
  Encoding encoding;
  const char *stored, *floats;
} kVectors[] = {
    {Encoding::kQ8_0,
     "311cc59fee1f5308d7c6377814a6ba750f81faabd2dccc29fbd51e3d88edb8f3a102e21dfef0c9ebc7b90cc6"
     "3d25980ec6020298f4f332c227c7efd44c1e7f222c2ce0fc",
     "be774b00becb4880bd96e4003e01ef003eadf1803d062000be2bd900be731a003e6687003efb7c003da7a800"
     "bebc9d00be92b3003ef532803d7b7c00bf0513c0bcc93000beb22280be40ce00be16e400be59f4003e2bd900"
     "bca7a800be343b003dfb7c003e7fad00befb7c00bd9f4600be96e400bd59f400bec717803c062000bc3c4000"
     "bdbc4000bea1c700bdf71400bea7a900bed0d7003d8d3000beaa9a003eb36d003e59aa00bf18f4003da4b800"
     "beaa9a003c3c40003c3c4000bf18f400bd8d3000bd98f4003e931200beb65e003e656e00bea7a900bdc80400"
     "be816c003edf8c003e307c003f3ac7803e4804003e816c003e816c00be3c4000bcbc4000"},
    {Encoding::kQ4_0, "282c8432576a5db98554abcf0972347f2980d6ad98995bc96ccc97bc34660f675c58a88f",
     "be850000bec78000bd8500003e0500003ea640003d850000be478000be8500003e4780003ee8c0003d850000"
     "bec78000be8500003ee8c0003d850000bf05000000000000bea64000be478000be050000be4780003e478000"
     "00000000be4780003e0500003e850000bf050000bd850000bea64000bd850000bec780000000000080000000"
     "bdbac000be8c1000bdbac000bebac000bebac0003dbac000bebac0003ebac0003e3ac000bf2368003dbac000"
     "bebac0008000000080000000bf236800bdbac000bdbac0003e8c1000bebac0003e3ac000bebac000bdbac000"
     "be8c10003ee970003e3ac0003f3ac0003e3ac0003e8c10003e8c1000be3ac00080000000"},
    {Encoding::kQ4_1,
     "4f2c28b87432576a5da87554abbf0972337f2980ab2dcbb86766a33593326843cb99f098a3a75770",
     "be802000bec51000bd45c0003e1d60003eb618003c9c0000be3b5000be8020003e6250003efb08003db0e000"
     "bec51000bea298003efb08003db0e000bf050000bd45c000bea29800be3b5000bdecc000be3b50003e1d6000"
     "bd45c000be3b50003e1d60003e625000bf050000bd45c000bea29800bd45c000bec510003c9c00003caa8000"
     "bd8ac000beaab800be201000beaab800bed810003de00000beaab8003ec008003e4ab000bf1960003de00000"
     "beaab8003caa80003caa8000bf196000bd8ac000bd8ac0003e92b000beaab8003e4ab000beaab800bd8ac000"
     "be7ac0003eed60003e4ab0003f3ab4003e4ab0003e92b0003e92b000be2010003caa8000"},
    {Encoding::kF16, "b3b35bb6c5ac0930743536284eb189b33033d9373d2decb59ab4ae37ca2b28b8",
     "be766000becb6000bd98a0003e0120003eae80003d06c000be29c000be7120003e6600003efb20003da7a000"
     "bebd8000be9340003ef5c0003d794000bf050000"},
    {Encoding::kBF16, "76becbbe99bd013eae3e073d2abe71be663efb3ea83dbdbe93bef63e793d05bf",
     "be760000becb0000bd9900003e0100003eae00003d070000be2a0000be7100003e6600003efb00003da80000"
     "bebd0000be9300003ef600003d790000bf050000"}};

std::vector<uint8_t> FromHex(std::string_view hex) {
  std::vector<uint8_t> out;
  for (size_t k = 0; k + 1 < hex.size(); k += 2) {
    out.push_back(static_cast<uint8_t>(std::stoi(std::string(hex.substr(k, 2)), nullptr, 16)));
  }
  return out;
}

uint32_t Bits(float f) { return std::bit_cast<uint32_t>(f); }

TEST(Dequant, EqualsThePythonPackageBitForBit) {
  for (const auto& v : kVectors) {
    SCOPED_TRACE(EncodingName(v.encoding));
    std::vector<uint8_t> stored = FromHex(v.stored);
    const std::vector<uint8_t> bits = FromHex(v.floats);
    const size_t count = bits.size() / 4;
    ASSERT_EQ(stored.size(), count / static_cast<size_t>(BlockElements(v.encoding)) *
                                 static_cast<size_t>(BlockBytes(v.encoding)));
    stored.insert(stored.begin(), 0);  // data may be unaligned
    std::vector<float> got(count);
    std::vector<double> wide(count);
    std::vector<uint16_t> narrow(count);
    Decode(v.encoding, stored.data() + 1, static_cast<int64_t>(count), got.data());
    Decode(v.encoding, stored.data() + 1, static_cast<int64_t>(count), wide.data());
    DecodeBf16(v.encoding, stored.data() + 1, static_cast<int64_t>(count), narrow.data());
    for (size_t k = 0; k < count; ++k) {
      const uint32_t want = static_cast<uint32_t>(bits[4 * k]) << 24 | bits[4 * k + 1] << 16 |
                            bits[4 * k + 2] << 8 | bits[4 * k + 3];
      EXPECT_EQ(Bits(got[k]), want) << "element " << k;
      EXPECT_EQ(wide[k], static_cast<double>(got[k]));
      EXPECT_EQ(narrow[k], FloatToBf16(got[k]));
    }
    // A flipped bit of the data is seen.
    stored.back() ^= 0x40;
    std::vector<float> other(count);
    Decode(v.encoding, stored.data() + 1, static_cast<int64_t>(count), other.data());
    EXPECT_NE(std::memcmp(got.data(), other.data(), count * 4), 0);
  }
}

// By definition of the format, for every half.
TEST(Dequant, EveryHalf) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const uint32_t exponent = h >> 10 & 31, mantissa = h & 1023;
    const float got = HalfToFloat(static_cast<uint16_t>(h));
    if (exponent == 31 && mantissa != 0) {
      EXPECT_TRUE(std::isnan(got)) << h;
      continue;
    }
    double want = exponent == 0    ? std::ldexp(mantissa, -24)
                  : exponent == 31 ? INFINITY
                                   : std::ldexp(1024 + mantissa, static_cast<int>(exponent) - 25);
    if (h & 0x8000) want = -want;
    EXPECT_EQ(Bits(got), Bits(static_cast<float>(want))) << h;
  }
}

TEST(Dequant, Bf16RoundsToNearestEven) {
  EXPECT_EQ(FloatToBf16(1.0f), 0x3f80);
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // tie: down to even
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x3f818000u)), 0x3f82);  // tie: up to even
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x3f808001u)), 0x3f81);
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x7f7fffffu)), 0x7f80);  // overflows to infinity
  EXPECT_EQ(FloatToBf16(-INFINITY), 0xff80);
  EXPECT_TRUE(std::isnan(Bf16ToFloat(FloatToBf16(std::bit_cast<float>(0x7f800001u)))));
}

TEST(Dequant, DoublesKeepAllBits) {
  const double values[] = {1.0 / 3.0, -1e300};
  double got[2];
  Decode(Encoding::kF64, reinterpret_cast<const uint8_t*>(values), 2, got);
  EXPECT_EQ(got[0], values[0]);
  EXPECT_EQ(got[1], values[1]);
}

}  // namespace
}  // namespace engine::model
