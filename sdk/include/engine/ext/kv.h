/* What a KvStore site gives: pages of keys and values, and the pool that hands them to sequences.
 */
#ifndef ENGINE_EXT_KV_H_
#define ENGINE_EXT_KV_H_

#include "engine/abi.h"
#include "engine/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* engine.kv_view/1: keys and values of one block, in pages. A page index names the same page in
 * every block. A page of one block holds, 64-byte aligned:
 *   F32, F16: keys [kv_heads][head_dim][page_tokens], then values [kv_heads][page_tokens][head_dim]
 *   INT8: keys s8 [kv_heads][head_dim / 4][page_tokens][4], values s8 [kv_heads][page_tokens]
 *     [head_dim], then f32 scales of keys and of values, [kv_heads][page_tokens] each: one scale a
 *     head and position, absmax / 127 */
#define ENGINE_EXT_KV_VIEW "engine.kv_view/1"
typedef enum engine_kv_format {
  ENGINE_KV_F32 = 1,
  ENGINE_KV_F16 = 2,
  ENGINE_KV_INT8 = 3
} engine_kv_format;
typedef struct engine_kv_view {
  uint32_t struct_size;
  uint32_t page_tokens; /* a multiple of 16 */
  uint32_t block;       /* of this site */
  uint32_t format;      /* engine_kv_format */
  void* base;           /* page i of this block begins at base + i * stride bytes */
  uint64_t stride;
  uint32_t pages;
  uint32_t reserved;
} engine_kv_view;

/* engine.kv_pool/1: the pool behind the views; every KvStore site of a model gives the same one.
 * Calls are thread-safe. A sequence is a list of pages in order; pages that are shared are never
 * written: reserve gives a sequence copies of its own where it is about to write. Pages that one
 * adapter computed are never given to a sequence of another, and a session is known by its name,
 * its salt and its adapter together. */
#define ENGINE_EXT_KV_POOL "engine.kv_pool/1"
typedef enum engine_kv_open_flags {
  ENGINE_KV_OPEN_NO_SHARING = 1 /* neither takes nor gives pages of the prefix cache */
} engine_kv_open_flags;
typedef struct engine_kv_open {
  uint32_t struct_size;
  uint32_t flags;        /* engine_kv_open_flags */
  const int32_t* tokens; /* all that is known of the sequence, a session's history included */
  uint32_t token_count;
  uint32_t adapter; /* as in the steps that will compute it */
  engine_str salt;
  engine_str session; /* empty: none; the session is busy until the sequence closes */
} engine_kv_open;
typedef struct engine_kv_match {
  uint32_t struct_size;
  uint32_t cached; /* positions [0, cached) hold computed keys and values; below token_count */
  uint32_t reason; /* engine_kv_reason */
  uint32_t reserved;
} engine_kv_match;
typedef enum engine_kv_close_flags {
  ENGINE_KV_CLOSE_KEEP = 1 /* the session keeps the written positions as its history */
} engine_kv_close_flags;
typedef struct engine_kv_stats {
  uint32_t struct_size;
  uint32_t sequences, sessions, reserved;
  uint64_t pages_total;
  uint64_t pages_used; /* held by sequences */
  uint64_t
      pages_cached;    /* held by the prefix cache or by idle sessions alone: given up on demand */
  uint64_t page_bytes; /* of one page over all blocks */
  uint64_t budget_bytes, held_bytes; /* tables and indexes included; held never exceeds budget */
  uint64_t lookups, hits;            /* sequences opened; those that found something */
  uint64_t looked_up_tokens, cached_tokens;
  uint64_t evicted_pages, copied_pages; /* thrown out to make room; copied on write */
} engine_kv_stats;
typedef struct engine_kv_pool {
  uint32_t struct_size;
  uint32_t page_tokens;
  void* self;
  /* All [worker]. Begins a sequence with what is computed of it already. FAILED_PRECONDITION when
   * the session is busy; RESOURCE_EXHAUSTED when the tables have no room. */
  engine_status* (*sequence_open)(void* self, const engine_kv_open* how, uint64_t* sequence,
                                  engine_kv_match* match);
  /* Makes room to write positions [written, tokens): new pages, and copies of shared ones. Throws
   * out cached pages and idle sessions, least recently used first, when it must;
   * RESOURCE_EXHAUSTED, with nothing taken, when that is not enough. */
  engine_status* (*sequence_reserve)(void* self, uint64_t sequence, uint64_t tokens);
  /* The block table; borrowed until the next call for this sequence. */
  engine_status* (*sequence_blocks)(void* self, uint64_t sequence, const int32_t** blocks,
                                    uint32_t* count);
  /* Positions up to `count` in all are now computed; `tokens` are those of the newly written ones,
   * [written, count). Full pages become findable by others. */
  engine_status* (*sequence_written)(void* self, uint64_t sequence, const int32_t* tokens,
                                     uint64_t count);
  /* Forgets positions from `count` on. */
  engine_status* (*sequence_truncate)(void* self, uint64_t sequence, uint64_t count);
  /* A second sequence with the same written positions; pages are shared until one writes. */
  engine_status* (*sequence_fork)(void* self, uint64_t sequence, uint64_t* copy);
  engine_status* (*sequence_close)(void* self, uint64_t sequence, uint32_t flags);
  /* Tokens of the session's history, copied up to `capacity`; *count tells how many there are, 0
   * when the session is unknown. */
  engine_status* (*session_tokens)(void* self, engine_str session, engine_str salt,
                                   uint32_t adapter, int32_t* tokens, uint64_t capacity,
                                   uint64_t* count);
  engine_status* (*session_drop)(void* self, engine_str session, engine_str salt, uint32_t adapter);
  /* The session's history, keys and values as a file, and back. A file of another model, adapter,
   * format or version, a short or a damaged one is refused with what differs. */
  engine_status* (*session_save)(void* self, engine_str session, engine_str salt, uint32_t adapter,
                                 engine_str path);
  engine_status* (*session_restore)(void* self, engine_str session, engine_str salt,
                                    uint32_t adapter, engine_str path);
  void (*stats)(void* self, engine_kv_stats* out); /* [any] */
} engine_kv_pool;

#ifdef __cplusplus
}
#endif
#endif /* ENGINE_EXT_KV_H_ */
