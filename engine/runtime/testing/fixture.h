// What the runtime's test programs share on GoogleTest's side.
#ifndef ENGINE_RUNTIME_TESTING_FIXTURE_H_
#define ENGINE_RUNTIME_TESTING_FIXTURE_H_

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

#include "engine/runtime/testing/kit.h"

namespace engine::runtime::testing {

// Every payload is freed at the end of a test.
class GraphTest : public ::testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(LivePayloads(), 0); }
  RunReport report_;
};

inline std::vector<int64_t> Numbers(int64_t from, int64_t to) {
  std::vector<int64_t> all(static_cast<size_t>(to - from));
  std::iota(all.begin(), all.end(), from);
  return all;
}

inline void Sleep(int microseconds) {
  std::this_thread::sleep_for(std::chrono::microseconds(microseconds));
}

}  // namespace engine::runtime::testing

#endif  // ENGINE_RUNTIME_TESTING_FIXTURE_H_
