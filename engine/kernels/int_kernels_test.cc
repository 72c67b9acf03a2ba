#include "engine/kernels/int_kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "engine/kernels/isa.h"
#include "engine/kernels/kernels.h"

namespace engine::kernels {
namespace {

const IntScheme kSchemes[] = {{8, false, 0},   {8, false, 32}, {8, false, 64}, {8, false, 96},
                              {8, false, 128}, {4, false, 32}, {4, true, 32}};

// Every kernel that this machine can run, of each of its roads.
TEST(IntKernels, AllOfARoadGiveTheSameBits) {
  const std::string before = IsaName(ActiveIsa());
  int compared = 0;
  for (const char* name : {"plain", "avx2", "avx512"}) {
    if (!ForceIsa(name).ok()) continue;
    const Road& road = ActiveRoad();
    for (int64_t i = 0; i < road.int_kernel_count; ++i) {
      const IntKernel& kernel = road.int_kernels[i];
      if (kernel.there != nullptr && !kernel.there()) continue;
      for (const IntScheme& scheme : kSchemes) {
        for (const int64_t rows : {1, 2, 3, 5, 16, 37}) {
          // Integer sums are exact and the rest is the same on each lane: roads agree as well.
          EXPECT_TRUE(SameBits(kernel, PlainRoad().int_kernels[0], scheme, rows))
              << name << ", " << kernel.name << ", " << scheme.bits << " bits by " << scheme.group
              << ", " << rows << " rows";
          ++compared;
        }
      }
    }
  }
  EXPECT_TRUE(ForceIsa(before).ok());
  EXPECT_GE(compared, 42);
}

// One code in many, one bit off: as a kernel that saturates would be.
void AlmostRight(const PanelArgs& a, int64_t begin, int64_t end) {
  PlainRoad().int_kernels[0].panels_int8(a, begin, end);
  if (begin == 0 && a.rows > 1) a.y[a.ldy + 3] = std::nextafter(a.y[a.ldy + 3], 1e9f);
}

TEST(IntKernels, OneBitOffIsNoticed) {
  IntKernel wrong = PlainRoad().int_kernels[0];
  wrong.panels_int8 = &AlmostRight;
  EXPECT_FALSE(SameBits(wrong, PlainRoad().int_kernels[0], {8, false, 32}, 4));
  EXPECT_TRUE(SameBits(wrong, PlainRoad().int_kernels[0], {4, true, 32}, 4));
}

TEST(IntKernels, ChoicesAreKeptInAFileAndNonsenseInItIsNone) {
  if (ActiveRoad().int_kernel_count == 1) GTEST_SKIP() << "there is nothing to choose from";
  const std::string folder = testing::TempDir() + "int_kernels_test";
  std::filesystem::remove_all(folder);
  const std::string file = folder + "/within/" + IntKernelFileName();
  ChooseIntKernels(kSchemes, file);
  const std::string report = IntKernelReport();
  for (const char* form : {"s8 row: 1 ", "s8/32: 1 ", "u4 + minimum: 1 "}) {
    EXPECT_NE(report.find(form), std::string::npos) << report;
  }
  // A second time everything is known already; nothing is written.
  ChooseIntKernels(kSchemes, folder + "/other");
  EXPECT_FALSE(std::filesystem::exists(folder + "/other"));
  std::ifstream in(file);
  int lines = 0;
  for (std::string line; std::getline(in, line);) ++lines;
  EXPECT_EQ(lines, 49);
  const IntKernel& chosen = IntKernelFor({8, false, 32}, 20);
  EXPECT_NE(report.find("16 " + std::string(chosen.name)), std::string::npos);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace engine::kernels
