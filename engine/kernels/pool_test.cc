#include "engine/kernels/pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace engine::kernels {
namespace {

struct Counts {
  std::vector<std::atomic<int>> hits;
  explicit Counts(size_t n) : hits(n) {}
  static void Body(void* arg, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) ++static_cast<Counts*>(arg)->hits[static_cast<size_t>(i)];
  }
  bool EachOnce() const {
    for (const auto& h : hits) {
      if (h.load() != 1) return false;
    }
    return true;
  }
};

TEST(Pool, EveryIndexOnceAtAnyCountAndNumberOfThreads) {
  for (int threads : {1, 2, 3, 7}) {
    SetPoolThreads(threads);
    EXPECT_EQ(PoolThreads(), threads);
    for (int64_t count : {1, 2, 5, 64, 1000}) {
      for (int64_t grain : {1, 3, 2000}) {
        for (int repeat = 0; repeat < 50; ++repeat) {
          Counts counts(static_cast<size_t>(count));
          PoolParallel(count, grain, &Counts::Body, &counts);
          ASSERT_TRUE(counts.EachOnce()) << threads << " threads, " << count << " by " << grain;
        }
      }
    }
  }
}

TEST(Pool, ManyShortLoopsLoseNothing) {
  SetPoolThreads(4);
  for (int i = 0; i < 20000; ++i) {
    Counts counts(8);
    PoolParallel(8, 1, &Counts::Body, &counts);
    ASSERT_TRUE(counts.EachOnce()) << "loop " << i;
  }
}

TEST(Pool, LoopsFromSeveralThreadsAndInsideEachOther) {
  SetPoolThreads(3);
  std::atomic<bool> good{true};
  std::vector<std::thread> callers;
  for (int t = 0; t < 3; ++t) {
    callers.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        Counts outer(16);
        struct Both {
          Counts* counts;
          std::atomic<bool>* good;
        } both{&outer, &good};
        PoolParallel(
            16, 1,
            [](void* arg, int64_t begin, int64_t end) {
              Counts inner(4);
              PoolParallel(4, 1, &Counts::Body, &inner);
              if (!inner.EachOnce()) *static_cast<Both*>(arg)->good = false;
              Counts::Body(static_cast<Both*>(arg)->counts, begin, end);
            },
            &both);
        if (!outer.EachOnce()) good = false;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_TRUE(good);
}

}  // namespace
}  // namespace engine::kernels
