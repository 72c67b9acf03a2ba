#include "engine/kernels/parallel.h"

#include <atomic>

namespace engine::kernels {
namespace {
std::atomic<ParallelFn> g_parallel{nullptr};
}

void SetParallel(ParallelFn fn) { g_parallel.store(fn); }

void ParallelRun(int64_t count, int64_t grain, void (*body)(void*, int64_t, int64_t), void* arg) {
  const ParallelFn fn = g_parallel.load(std::memory_order_relaxed);
  if (fn == nullptr) {
    body(arg, 0, count);
  } else {
    fn(count, grain, body, arg);
  }
}

}  // namespace engine::kernels
