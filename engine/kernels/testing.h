// What tests of kernels share: numbers, and each road that this machine has.
#ifndef ENGINE_KERNELS_TESTING_H_
#define ENGINE_KERNELS_TESTING_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "engine/kernels/isa.h"

namespace engine::kernels {

inline std::vector<float> Random(int64_t count, uint32_t seed) {
  std::mt19937 gen(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(static_cast<size_t>(count));
  for (float& x : v) x = normal(gen);
  return v;
}

// The active road is that of the parameter while a test runs.
class EachRoad : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const Isa before = ActiveIsa();
    if (!ForceIsa(GetParam()).ok()) GTEST_SKIP() << "this machine has no " << GetParam();
    restore_ = IsaName(before);
  }
  void TearDown() override {
    if (!restore_.empty()) {
      EXPECT_TRUE(ForceIsa(restore_).ok());
    }
  }
  std::string restore_;
};

}  // namespace engine::kernels

#endif  // ENGINE_KERNELS_TESTING_H_
