/* engine.state/1 (draft): what a resource or node must keep to resume. The plugin offers the
 * table; the host calls it between two keys and stores the bytes. */
#ifndef ENGINE_EXT_DRAFT_STATE_H_
#define ENGINE_EXT_DRAFT_STATE_H_

#include "engine/abi.h"

#define ENGINE_EXT_STATE "engine.state/1"

typedef struct engine_state {
  uint32_t struct_size;
  /* [control] Gives the state of `instance` to write(arg, bytes), in one or more pieces. */
  engine_status* (*save)(void* instance, engine_status* (*write)(void* arg, engine_str bytes),
                         void* arg);
  /* [control] Restores what save wrote. Bytes of another version are refused with both named. */
  engine_status* (*load)(void* instance, engine_str bytes);
} engine_state;

#endif /* ENGINE_EXT_DRAFT_STATE_H_ */
