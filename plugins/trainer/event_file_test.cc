#include "event_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "engine/wire.hpp"

namespace engine::trainer {
namespace {

using wire::Reader;

TEST(Crc32c, IsThatOfTheStandard) {
  EXPECT_EQ(Crc32c(""), 0u);
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);
  // RFC 3720, B.4: 32 bytes of zeros, of ones, rising, falling.
  std::string zeros(32, '\0'), ones(32, '\xff'), rising, falling;
  for (int i = 0; i < 32; ++i) {
    rising += static_cast<char>(i);
    falling += static_cast<char>(31 - i);
  }
  EXPECT_EQ(Crc32c(zeros), 0x8A9136AAu);
  EXPECT_EQ(Crc32c(ones), 0x62A8AB43u);
  EXPECT_EQ(Crc32c(rising), 0x46DD794Eu);
  EXPECT_EQ(Crc32c(falling), 0x113FDB5Cu);
  // 0xE3069283 rotated right by 15 is 0x2507C60D.
  EXPECT_EQ(MaskedCrc32c("123456789"), 0x2507C60Du + 0xA282EAD8u);
}

TEST(Record, IsLengthDataAndTheirSums) {
  const std::string record = Record("abc");
  ASSERT_EQ(record.size(), 8u + 4 + 3 + 4);
  const auto u32 = [&](size_t at) {
    uint32_t v;
    std::memcpy(&v, record.data() + at, 4);
    return v;
  };
  uint64_t length;
  std::memcpy(&length, record.data(), 8);
  EXPECT_EQ(length, 3u);
  EXPECT_EQ(u32(8), MaskedCrc32c(record.substr(0, 8)));
  EXPECT_EQ(record.substr(12, 3), "abc");
  EXPECT_EQ(u32(15), MaskedCrc32c("abc"));
}

TEST(Event, BeginsAFile) {
  const std::string bytes = VersionEvent(2.5);
  // wall_time 2.5, file_version "brain.Event:2", by hand.
  EXPECT_EQ(bytes, std::string("\x09\0\0\0\0\0\0\x04\x40\x1a\x0d", 11) + "brain.Event:2");
}

TEST(Event, HoldsScalarsOfAStep) {
  const std::string bytes = ScalarEvent(1.5, 300, {{"train/loss", 0.25}, {"mem/peak_bytes", 3e9}});
  Reader event(bytes);
  double wall = 0;
  int64_t step = 0;
  std::map<std::string, float> scalars;
  while (const uint32_t field = event.Next()) {
    if (field == 1) {
      wall = event.F64();
    } else if (field == 2) {
      step = event.I64();
    } else {
      ASSERT_EQ(field, 5u);
      Reader summary(event.Bytes());
      while (const uint32_t part = summary.Next()) {
        ASSERT_EQ(part, 1u);
        Reader value(summary.Bytes());
        ASSERT_EQ(value.Next(), 1u);
        const std::string tag(value.Bytes());
        ASSERT_EQ(value.Next(), 2u);
        scalars[tag] = value.F32();
        EXPECT_EQ(value.Next(), 0u);
        EXPECT_FALSE(value.failed());
      }
    }
  }
  EXPECT_FALSE(event.failed());
  EXPECT_EQ(wall, 1.5);
  EXPECT_EQ(step, 300);
  EXPECT_EQ(scalars,
            (std::map<std::string, float>{{"train/loss", 0.25f}, {"mem/peak_bytes", 3e9f}}));
}

}  // namespace
}  // namespace engine::trainer
