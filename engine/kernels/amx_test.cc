// The logic of the tile kernels on every machine: with tiles in memory that do what the processor's
// would (Intel's Software Developer's Manual, TDPBSUD), against the plain kernel, bit for bit. The
// processor's own tiles are compared in int_kernels_test.cc where there are any.
#include "engine/kernels/amx.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "engine/kernels/int_kernels.h"
#include "engine/kernels/packed.h"
#include "engine/kernels/road.h"
#include "engine/util.hpp"

namespace engine::kernels {
namespace {

// Each uses what the one before defines.
// clang-format off
#include "engine/kernels/vector_plain_inl.h"
#include "engine/kernels/road_inl.h"
#include "engine/kernels/amx_inl.h"
// clang-format on

int dots = 0;

class EmulatedTiles {
 public:
  template <int K>
  explicit EmulatedTiles(std::integral_constant<int, K>) {
    static constexpr AmxConfig<K> config = {};
    std::memcpy(row_bytes, config.row_bytes, sizeof row_bytes);
    std::memcpy(rows, config.rows, sizeof rows);
    std::memset(bytes, 0xee, sizeof bytes);
  }
  template <int T>
  static void Zero() {
    std::memset(bytes[T], 0, sizeof bytes[T]);
  }
  template <int T>
  static void Load(const void* from, int64_t stride) {
    Zero<T>();
    for (int r = 0; r < rows[T]; ++r) {
      std::memcpy(bytes[T] + r * 64, static_cast<const char*>(from) + r * stride, row_bytes[T]);
    }
  }
  template <int C, int A, int B>
  static void Dot() {
    ++dots;
    ASSERT_EQ(row_bytes[A] / 4, rows[B]);  // else the processor faults
    ASSERT_EQ(rows[C], rows[A]);
    ASSERT_EQ(row_bytes[C], row_bytes[B]);
    for (int m = 0; m < rows[A]; ++m) {
      for (int k = 0; k < row_bytes[A] / 4; ++k) {
        for (int n = 0; n < row_bytes[B] / 4; ++n) {
          int32_t sum;
          std::memcpy(&sum, bytes[C] + m * 64 + n * 4, 4);
          for (int i = 0; i < 4; ++i) {
            sum += static_cast<int8_t>(bytes[A][m * 64 + k * 4 + i]) * bytes[B][k * 64 + n * 4 + i];
          }
          std::memcpy(bytes[C] + m * 64 + n * 4, &sum, 4);
        }
      }
    }
  }
  template <int T>
  static void Store(void* to, int64_t stride) {
    for (int r = 0; r < rows[T]; ++r) {
      std::memcpy(static_cast<char*>(to) + r * stride, bytes[T] + r * 64, row_bytes[T]);
    }
  }

 private:
  // Of the configuration in force.
  inline static uint16_t row_bytes[16];
  inline static uint8_t rows[16];
  inline static uint8_t bytes[8][16 * 64];
};

TEST(Amx, TilesGiveTheBitsOfThePlainKernel) {
  constexpr IntKernel kernel = AmxKernelOf<EmulatedTiles, PlainTiling>("emulated", nullptr);
  for (const IntScheme& scheme :
       {IntScheme{8, false, 0}, IntScheme{8, false, 32}, IntScheme{8, false, 64},
        IntScheme{8, false, 96}, IntScheme{8, false, 128}, IntScheme{4, false, 32},
        IntScheme{4, true, 32}}) {
    for (const int64_t rows : {1, 15, 16, 21, 32}) {
      dots = 0;
      EXPECT_TRUE(SameBits(kernel, PlainRoad().int_kernels[0], scheme, rows))
          << scheme.bits << " bits by " << scheme.group << ", " << rows << " rows";
      EXPECT_EQ(dots > 0, rows > 1);
    }
  }
}

}  // namespace
}  // namespace engine::kernels
