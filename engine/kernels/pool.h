// The compute pool of the kernels. A parallel loop hands out chunks; the caller works too, and
// waits only for workers that hold a chunk. So a worker that the system keeps from running costs
// nothing, where a barrier of a fixed team (OpenMP) would wait for it in every one of the 150 loops
// of a token. Invariants: one loop at a time uses the workers; a second one at the same moment, or
// one inside another, runs on its own thread. A worker that finds nothing for kSpinNs sleeps.
#ifndef ENGINE_KERNELS_POOL_H_
#define ENGINE_KERNELS_POOL_H_

#include <cstdint>

namespace engine::kernels {

// Threads that loops run on, the caller included; at least 1. Not while a loop runs.
void SetPoolThreads(int threads);
int PoolThreads();

// A ParallelFn.
void PoolParallel(int64_t count, int64_t grain, void (*body)(void* arg, int64_t begin, int64_t end),
                  void* arg);

}  // namespace engine::kernels

#endif  // ENGINE_KERNELS_POOL_H_
