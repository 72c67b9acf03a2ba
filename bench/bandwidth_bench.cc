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
    std::vector<double> rates;
    uint64_t sink = 0;
    for (int repeat = 0; repeat < 15; ++repeat) {
      std::atomic<uint64_t> total{0};
      const uint64_t begin = NowNs();
      // Pieces as those of a matrix product: lines in order, eight sums at once.
      ParallelFor(count / 64, 4096, [&](int64_t from, int64_t to) {
        uint64_t sums[8] = {};
        for (const uint64_t* at = words + from * 64; at < words + to * 64; at += 8) {
          for (int j = 0; j < 8; ++j) sums[j] ^= at[j];
        }
        for (uint64_t s : sums) total ^= s;
      });
      rates.push_back(static_cast<double>(bytes) / static_cast<double>(NowNs() - begin));
      sink ^= total.load();
    }
    std::sort(rates.begin(), rates.end());
    std::printf("%d threads, %ld MiB: %.1f GB/s (%.1f to %.1f)%s\n", threads, long{mib},
                rates[rates.size() / 2], rates.front(), rates.back(), sink == 1 ? " " : "");
  }
  return 0;
}
