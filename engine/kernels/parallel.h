// A seam: how the kernels' parallel loops run. Unset, they run on the calling thread.
#ifndef ENGINE_KERNELS_PARALLEL_H_
#define ENGINE_KERNELS_PARALLEL_H_

#include <cstdint>

namespace engine::kernels {

using ParallelFn = void (*)(int64_t count, int64_t grain,
                            void (*body)(void* arg, int64_t begin, int64_t end), void* arg);

void SetParallel(ParallelFn fn);
void ParallelRun(int64_t count, int64_t grain, void (*body)(void*, int64_t, int64_t), void* arg);

// body(begin, end) over disjoint ranges that cover [0, count), each at least `grain` but the last.
template <typename Body>
void ParallelFor(int64_t count, int64_t grain, const Body& body) {
  if (count <= grain) {
    if (count > 0) body(int64_t{0}, count);
    return;
  }
  ParallelRun(
      count, grain,
      [](void* arg, int64_t begin, int64_t end) { (*static_cast<const Body*>(arg))(begin, end); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace engine::kernels

#endif  // ENGINE_KERNELS_PARALLEL_H_
