// Times the matrix products of one forward pass of SmolLM2-135M's shapes, by format and number of
// rows: the ceiling of everything that is built on them. Weights are random; there is nothing else
// in the loop.
//   products_bench [threads [format...]]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <random>
#include <string>
#include <vector>

#include "engine/kernels/int_kernels.h"
#include "engine/kernels/isa.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/parallel.h"
#include "engine/kernels/pool.h"
#include "engine/util.hpp"

namespace engine::kernels {
namespace {

constexpr int64_t kHidden = 576, kKv = 192, kMlp = 1536, kVocab = 49152, kBlocks = 30;

std::shared_ptr<PackedMatrix> Make(const std::string& format, int64_t out, int64_t in) {
  std::shared_ptr<PackedMatrix> m;
  Status status;
  std::mt19937 gen(1);
  const auto codes = [&](size_t count) {
    std::vector<int8_t> q(count);
    for (int8_t& v : q) v = static_cast<int8_t>(static_cast<int>(gen() % 255) - 127);
    return q;
  };
  if (format == "f32" || format == "bf16") {
    status = PackedMatrix::Make(format == "f32" ? Format::kF32 : Format::kBf16, out, in, &m);
    std::vector<float> rows(static_cast<size_t>(kPanel * in), 0.25f);
    for (int64_t r = 0; status.ok() && r < out; r += kPanel) {
      m->SetRows(r, std::min(kPanel, out - r), rows.data());
    }
  } else if (format == "q8_0" || format == "q4_0" || format == "q4_1") {
    status = PackedMatrix::MakeInt({format == "q8_0" ? 8 : 4, format == "q4_1", 32}, out, in, &m);
    const int64_t block = format == "q8_0" ? 34 : format == "q4_0" ? 18 : 20;
    std::vector<uint8_t> row(static_cast<size_t>(in / 32 * block), 0x11);
    const std::vector<const uint8_t*> rows(kPanel, row.data());
    for (int64_t r = 0; status.ok() && r < out; r += kPanel) {
      m->SetRowsBlocks(r, std::min(kPanel, out - r), rows.data());
    }
  } else {
    const int64_t group = format == "int8" ? 0 : std::stoll(format.substr(5));
    status = PackedMatrix::MakeInt({8, false, group}, out, in, &m);
    const std::vector<int8_t> q = codes(static_cast<size_t>(in));
    for (int64_t r = 0; status.ok() && r < out; ++r) {
      const std::vector<float> scales(static_cast<size_t>(m->groups()), 0.5f);
      m->SetRowInt8(r, q.data(), scales.data());
    }
  }
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
    std::exit(1);
  }
  return m;
}

struct Block {
  std::shared_ptr<PackedMatrix> q, k, v, o, gate, up, down;
};

// With one thread its processor time, which other processes disturb least; else the time that
// passed.
uint64_t Clock(int threads) {
  if (threads > 1) return NowNs();
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

int Main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  SetParallel(&PoolParallel);
  SetPoolThreads(threads);
  std::printf("isa %s, %d threads\n", IsaReport().c_str(), threads);
  std::vector<std::string> formats(argv + std::min(argc, 2), argv + argc);
  if (formats.empty()) formats = {"q8_0", "q4_1", "int8", "int8/64", "bf16", "f32"};
  for (const std::string& format : formats) {
    std::vector<Block> blocks;
    uint64_t bytes = 0;
    for (int64_t b = 0; b < kBlocks; ++b) {
      blocks.push_back({Make(format, kHidden, kHidden), Make(format, kKv, kHidden),
                        Make(format, kKv, kHidden), Make(format, kHidden, kHidden),
                        Make(format, kMlp, kHidden), Make(format, kMlp, kHidden),
                        Make(format, kHidden, kMlp)});
      for (const auto& m : {blocks.back().q, blocks.back().k, blocks.back().v, blocks.back().o,
                            blocks.back().gate, blocks.back().up, blocks.back().down}) {
        bytes += m->bytes();
      }
    }
    const auto head = Make(format, kVocab, kHidden);
    bytes += head->bytes();
    if (head->format() == Format::kInt) {
      ChooseIntKernels({&head->scheme(), 1}, "");
      std::printf("%s\n", IntKernelReport().c_str());
    }
    for (const int64_t rows : {1, 2, 4, 16, 32, 64, 512}) {
      std::vector<float> x(static_cast<size_t>(rows * kMlp), 0.5f), y(x), z(x);
      std::vector<float> q(x), k(x), v(x), norm(kHidden, 1.0f), normed(x);
      const int64_t wanted = rows == 512 ? 1 : rows;
      std::vector<float> logits(static_cast<size_t>(wanted * kVocab));
      Scratch scratch;
      std::vector<double> times;
      for (int repeat = 0; repeat < (rows < 64 ? 30 : 8); ++repeat) {
        const uint64_t begin = Clock(threads);
        for (const Block& b : blocks) {
          const Rows in{x.data(), kHidden, rows, norm.data(), 1e-5f, normed.data()};
          const Product qkv[3] = {{b.q.get(), q.data(), kHidden},
                                  {b.k.get(), k.data(), kKv},
                                  {b.v.get(), v.data(), kKv}};
          Multiply(in, qkv, &scratch);
          const Product o{b.o.get(), x.data(), kHidden, true, 1e-3f};
          Multiply({q.data(), kHidden, rows}, {&o, 1}, &scratch);
          const Product mlp[2] = {{b.gate.get(), y.data(), kMlp}, {b.up.get(), z.data(), kMlp}};
          Multiply(in, mlp, &scratch, true);
          const Product down{b.down.get(), x.data(), kHidden, true, 1e-3f};
          Multiply({y.data(), kMlp, rows}, {&down, 1}, &scratch);
        }
        const Product last{head.get(), logits.data(), kVocab};
        Multiply({x.data(), kHidden, wanted, norm.data(), 1e-5f, normed.data()}, {&last, 1},
                 &scratch);
        times.push_back(static_cast<double>(Clock(threads) - begin) * 1e-9);
        std::fill(x.begin(), x.end(), 0.5f);
      }
      std::sort(times.begin(), times.end());
      const double t = times[times.size() / 2];
      const double ops =
          2 * (static_cast<double>(rows) * 30 * (2 * 576 * 576 + 2 * 192 * 576 + 3 * 576 * 1536) +
               static_cast<double>(wanted) * kVocab * kHidden);
      std::printf(
          "%-8s rows %3ld: %7.2f ms (best %7.2f), %6.0f tokens/s, %5.1f GB/s, %5.0f Gop/s\n",
          format.c_str(), static_cast<long>(rows), t * 1e3, times[0] * 1e3,
          static_cast<double>(rows) / t, static_cast<double>(bytes) / t * 1e-9, ops / t * 1e-9);
    }
  }
  return 0;
}

}  // namespace
}  // namespace engine::kernels

int main(int argc, char** argv) { return engine::kernels::Main(argc, argv); }
