/* engine.resources/1: kinds that make something once for a pipeline, which its nodes then share: a
 * table, an index, a connection. A node names what it needs by a slot of the type that the resource
 * provides, and gets the object behind it in each call.
 */
#ifndef ENGINE_EXT_RESOURCES_H_
#define ENGINE_EXT_RESOURCES_H_

#include "engine/ext/nodes.h"

#define ENGINE_EXT_RESOURCES "engine.resources/1"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct engine_resource_vtable {
  uint32_t struct_size;
  uint32_t reserved;
  /* [control] The object, of the type that the contract's `provides` names: that name says what it
   * is and which threads may do what with it. Never NULL; lives until destroy. */
  void* (*object)(void* self);
  void (*destroy)(void* self); /* [control] after all nodes that use it are gone */
} engine_resource_vtable;

/* The plugin's side of engine.resources/1. */
typedef struct engine_resources_plugin {
  uint32_t struct_size;
  uint32_t count;
  /* [any] Contract of kind i; pure, the same answer each time. Its role is ENGINE_ROLE_RESOURCE. */
  const engine_kind_desc* (*describe)(void* plugin, uint32_t i);
  /* [control] Makes the resource: reads, computes, allocates. `options` as for nodes. */
  engine_status* (*create)(void* plugin, uint32_t i, engine_str name, engine_str options,
                           const engine_resource_vtable** vtable, void** self);
} engine_resources_plugin;

#ifdef __cplusplus
}
#endif
#endif /* ENGINE_EXT_RESOURCES_H_ */
