// Where nodes run. An executor offers lanes; a lane asks the run for work until there is none.
// Invariant: at most `threads` lanes of one executor are inside the run at once.
#ifndef ENGINE_RUNTIME_EXECUTOR_H_
#define ENGINE_RUNTIME_EXECUTOR_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "engine/runtime/spec.h"

namespace engine::runtime {

class Executor {
 public:
  virtual ~Executor() = default;
  // Has `lane` called once, soon, on one of the executor's threads and never inside Wake, since the
  // caller holds the lock that `lane` takes. Never more than `threads` calls are outstanding.
  virtual void Wake() = 0;
};

// oneTBB: a task_arena whose workers run lanes as tasks.
std::unique_ptr<Executor> MakeArenaExecutor(uint32_t threads, std::function<void()> lane);
// One dedicated OS thread a lane, each inside an arena of its own: libgomp keeps a team for every
// thread that opens a parallel region, so LibTorch work must stay on few threads.
std::unique_ptr<Executor> MakeDedicatedExecutor(uint32_t threads, std::function<void()> lane);

}  // namespace engine::runtime

#endif  // ENGINE_RUNTIME_EXECUTOR_H_
