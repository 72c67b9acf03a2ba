/* What a plugin is: one exported constant, engine_plugin_v1, that the host reads and judges
 * before it calls anything. See abi.h for the rules of ownership, errors and threads.
 */
#ifndef ENGINE_PLUGIN_H_
#define ENGINE_PLUGIN_H_

#include "engine/abi.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a plugin touches tensors. NONE: not at all, or through raw views. STABLE: through LibTorch's
 * stable ABI, built with TORCH_TARGET_VERSION; runs with that LibTorch and later ones. NATIVE: with
 * LibTorch's C++ headers; the fingerprint must equal the host's. */
typedef enum engine_tier {
  ENGINE_TIER_NONE = 0,
  ENGINE_TIER_STABLE = 1,
  ENGINE_TIER_NATIVE = 2
} engine_tier;

/* The host as a plugin sees it. Lives as long as the process. */
typedef struct engine_host {
  uint32_t struct_size;
  uint16_t abi_major;
  uint16_t abi_minor;
  engine_str version; /* semver of the engine */
  /* [any] The table of a host service, e.g. ENGINE_EXT_NODES, or NULL when this host has none. */
  const void* (*extension)(const struct engine_host* host, const char* id);
} engine_host;

/* "EnPl", which tells a manifest from other data of that name. */
#define ENGINE_PLUGIN_MAGIC 0x6c506e45u

typedef struct engine_plugin {
  uint32_t struct_size;
  uint32_t magic;          /* ENGINE_PLUGIN_MAGIC */
  uint16_t abi_major;      /* must equal the host's */
  uint16_t abi_built;      /* minor compiled against; may exceed the host's */
  uint16_t abi_min;        /* least host minor that works: that of ENGINE_ABI_TARGET */
  uint16_t tier;           /* engine_tier */
  uint64_t torch_target;   /* STABLE: TORCH_TARGET_VERSION (major in the top byte), else 0 */
  const char* fingerprint; /* NATIVE: see fingerprint.h; else "" */
  /* Zero-terminated UTF-8. */
  const char* id;      /* "com.acme.lora": letters, digits, '.', '_', '-' */
  const char* version; /* semver */
  const char* license;
  const char* summary;
  const char* url;
  /* Serialized google.protobuf.FileDescriptorSet, with source info, of the option messages. */
  const uint8_t* schemas;
  size_t schemas_size;
  /* [control] Once, before any other call. `self` is handed to every later call. */
  engine_status* (*open)(const engine_host* host, void** self);
  /* [control] Once for each successful open; the library stays mapped. */
  void (*close)(void* self);
  /* [any] The plugin's table for an extension id, or NULL. Pure. */
  const void* (*extension)(void* self, const char* id);
} engine_plugin;

/* Every plugin exports exactly this symbol and hides all others. */
ENGINE_EXPORT const engine_plugin engine_plugin_v1;

#ifdef __cplusplus
}
#endif
#endif /* ENGINE_PLUGIN_H_ */
