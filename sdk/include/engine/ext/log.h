/* engine.log/1: one line into the host's log. */
#ifndef ENGINE_EXT_LOG_H_
#define ENGINE_EXT_LOG_H_

#include "engine/abi.h"

#define ENGINE_EXT_LOG "engine.log/1"

typedef enum engine_log_level {
  ENGINE_LOG_DEBUG = 0,
  ENGINE_LOG_INFO = 1,
  ENGINE_LOG_WARNING = 2,
  ENGINE_LOG_ERROR = 3
} engine_log_level;

typedef struct engine_log {
  uint32_t struct_size;
  /* [any] `source` is the plugin's id or node's name. Control characters are escaped. */
  void (*write)(uint32_t level, engine_str source, engine_str text);
} engine_log;

#endif /* ENGINE_EXT_LOG_H_ */
