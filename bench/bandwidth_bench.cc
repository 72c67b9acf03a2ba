// Read bandwidth at the size of a model's weights: the limit of decoding one stream.
//   bandwidth_bench [threads [MiB...]]
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "engine/kernels/packed.h"
#include "engine/kernels/parallel.h"
#include "engine/kernels/pool.h"
#include "engine/util.hpp"

namespace engine::kernels {
namespace {

constexpr int64_t kPiece = 64 * 1024;  // bytes

// GB/s, the median of 15 passes.
double Rate(const uint64_t* words, int64_t bytes, int64_t streams) {
  std::vector<double> rates;
  std::atomic<uint64_t> total{0};
  const int64_t group = kPiece * streams;
  for (int repeat = 0; repeat < 15; ++repeat) {
    const uint64_t begin = NowNs();
    ParallelFor(bytes / group, 1, [&](int64_t from, int64_t to) {
      uint64_t sums[8] = {};
      for (int64_t g = from; g < to; ++g) {
        const uint64_t* first = words + g * group / 8;
        for (int64_t line = 0; line < kPiece / 64; ++line) {
          for (int64_t s = 0; s < streams; ++s) {
            const uint64_t* at = first + s * kPiece / 8 + line * 8;
            for (int j = 0; j < 8; ++j) sums[j] ^= at[j];
          }
        }
      }
      for (const uint64_t s : sums) total ^= s;
    });
    rates.push_back(static_cast<double>(bytes / group * group) /
                    static_cast<double>(NowNs() - begin));
  }
  std::sort(rates.begin(), rates.end());
  return total.load() == 1 ? 0 : rates[rates.size() / 2];  // the sum is used
}

}  // namespace
}  // namespace engine::kernels

int main(int argc, char** argv) {
  using namespace engine;
  using namespace engine::kernels;
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  SetParallel(&PoolParallel);
  SetPoolThreads(threads);
  std::vector<int64_t> sizes;
  for (int i = 2; i < argc; ++i) sizes.push_back(std::atoll(argv[i]));
  if (sizes.empty()) sizes = {8, 32, 64, 94, 138, 260, 520};
  for (const int64_t mib : sizes) {
    const int64_t bytes = mib << 20;
    Pages pages;
    const Status status = Pages::Make(static_cast<uint64_t>(bytes), &pages);
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
      return 1;
    }
    auto* words = static_cast<uint64_t*>(pages.data());
    const int64_t count = bytes / 8;
    for (int64_t i = 0; i < count; ++i) words[i] = static_cast<uint64_t>(i);
    // Some memories give more to several streams at once, as products of several panels read them.
    double best = 0;
    for (const int64_t streams : {1, 4, 8}) {
      const double rate = Rate(words, bytes, streams);
      std::printf("%d threads, %ld MiB, %ld streams each: %.1f GB/s\n", threads, long{mib},
                  long{streams}, rate);
      best = std::max(best, rate);
    }
    std::printf("%d threads, %ld MiB: %.1f GB/s\n", threads, long{mib}, best);
  }
  return 0;
}
