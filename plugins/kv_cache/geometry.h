// What a page holds and how many bytes that is, by format; see engine.kv_view/1 for the layout.
#ifndef PLUGINS_KV_CACHE_GEOMETRY_H_
#define PLUGINS_KV_CACHE_GEOMETRY_H_

#include <cstdint>

#include "engine/ext/kv.h"
#include "engine/ext/model.h"
#include "engine/growth.hpp"

namespace engine::kv_cache {

struct Geometry {
  uint32_t format = ENGINE_KV_F32;
  uint32_t page_tokens = 16;
  uint32_t blocks = 0;
  int64_t kv_heads = 0, head_dim = 0;
  // Set by Complete, multiples of 64: one page of one block, and of all blocks.
  uint64_t block_bytes = 0, page_bytes = 0;

  // Checks the numbers against each other and works the sizes out.
  Status Complete();
  // Zeroes positions [from, page_tokens) of one block's piece of a page.
  void ClearPositions(char* piece, uint32_t from) const;
};

const char* FormatName(uint32_t format);

}  // namespace engine::kv_cache

#endif  // PLUGINS_KV_CACHE_GEOMETRY_H_
