/* engine.async/1: input and output on the host's I/O threads, so that no worker blocks. */
#ifndef ENGINE_EXT_ASYNC_H_
#define ENGINE_EXT_ASYNC_H_

#include "engine/abi.h"

#define ENGINE_EXT_ASYNC "engine.async/1"

typedef struct engine_async {
  uint32_t struct_size;
  /* [any] Runs fn(arg) once on an I/O thread, where it may block on a file, a pipe or a socket.
   * When the run is cancelled before fn began, fn still runs: it sees that by its completion. */
  engine_status* (*run)(void (*fn)(void* arg), void* arg);
  /* [any] Runs fn(arg) once on an I/O thread after that many nanoseconds. */
  engine_status* (*after)(uint64_t nanoseconds, void (*fn)(void* arg), void* arg);
} engine_async;

#endif /* ENGINE_EXT_ASYNC_H_ */
