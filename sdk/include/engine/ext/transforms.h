/* engine.transforms/1: kinds that rewrite a model. First plan() names the sites and what
 * it will cost, without reading a weight; then rewrite() makes what stands there instead.
 */
#ifndef ENGINE_EXT_TRANSFORMS_H_
#define ENGINE_EXT_TRANSFORMS_H_

#include "engine/ext/model.h"
#include "engine/ext/nodes.h"

#define ENGINE_EXT_TRANSFORMS "engine.transforms/1"

#ifdef __cplusplus
extern "C" {
#endif

/* The order of rewrites in a `from` chain; a later one never stands before an earlier one. */
typedef enum engine_phase {
  ENGINE_PHASE_ARCHITECTURE = 10,
  ENGINE_PHASE_CODEC = 20,
  ENGINE_PHASE_ADAPTER = 30,
  ENGINE_PHASE_KV_STORAGE = 40,
  ENGINE_PHASE_PLACEMENT = 50,
  ENGINE_PHASE_CUT = 60,
  ENGINE_PHASE_RECOMPUTE = 70,
  ENGINE_PHASE_LOWERING = 80
} engine_phase;

/* Where plan() puts its diff. */
typedef struct engine_diff {
  uint32_t struct_size;
  uint32_t reserved;
  void* self;
  /* Site `site` will be replaced; `note` says by what; the bytes are those held for the site
   * before and after, activations and pools included. A site named twice is an error. */
  engine_status* (*replace)(void* self, uint32_t site, engine_str note, int64_t bytes_before,
                            int64_t bytes_after);
} engine_diff;

typedef struct engine_transform_vtable {
  uint32_t struct_size;
  uint32_t reserved;
  /* [control] Pure: no weight is read. No site named is an error of the host's. */
  engine_status* (*plan)(void* self, const engine_model* model, const engine_diff* diff);
  /* [control] For each site of the diff, in its order. The host takes *out, which comes with its
   * size set. */
  engine_status* (*rewrite)(void* self, engine_model* model, uint32_t site, engine_site_impl* out);
  /* [control] After the last rewrite; may be NULL. */
  engine_status* (*finish)(void* self, engine_model* model);
  void (*destroy)(void* self); /* [control] after the implementations it made are gone */
} engine_transform_vtable;

/* The plugin's side of engine.transforms/1. */
typedef struct engine_transforms_plugin {
  uint32_t struct_size;
  uint32_t count;
  const engine_kind_desc* (*describe)(void* plugin, uint32_t i); /* [any] */
  engine_status* (*create)(void* plugin, uint32_t i, engine_str name, engine_str options,
                           const engine_transform_vtable** vtable, void** self); /* [control] */
} engine_transforms_plugin;

#ifdef __cplusplus
}
#endif
#endif /* ENGINE_EXT_TRANSFORMS_H_ */
