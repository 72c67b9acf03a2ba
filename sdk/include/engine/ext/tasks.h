/* engine.tasks/1: parallel work on the host's compute threads. Plugins start no threads. */
#ifndef ENGINE_EXT_TASKS_H_
#define ENGINE_EXT_TASKS_H_

#include "engine/abi.h"

#define ENGINE_EXT_TASKS "engine.tasks/1"

typedef struct engine_tasks {
  uint32_t struct_size;
  uint32_t reserved;
  uint32_t (*threads)(void); /* [any] How many the host computes with, at least 1. */
  /* [worker][control] Calls body(arg, begin, end) over disjoint ranges that cover [0, count), each
   * at least `grain` long but the last, and returns when all are done. `body` must not throw.
   * Nested calls run on the calling thread. */
  void (*parallel_for)(int64_t count, int64_t grain,
                       void (*body)(void* arg, int64_t begin, int64_t end), void* arg);
} engine_tasks;

#endif /* ENGINE_EXT_TASKS_H_ */
