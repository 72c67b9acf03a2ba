// The pages of all blocks and the sequences that hold them.
// Invariants: a page belongs to the free list or to exactly one sequence; memory held, tables
// included, never exceeds the budget.
#ifndef PLUGINS_KV_CACHE_POOL_H_
#define PLUGINS_KV_CACHE_POOL_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/ext/draft/model.h"
#include "engine/status.hpp"

namespace engine::kv_cache {

struct Shape {
  uint32_t page_tokens = 16;
  uint32_t blocks = 0;
  int64_t kv_heads = 0, head_dim = 0;
  // Floats of one page of one block: keys and values.
  int64_t page_floats() const { return 2 * kv_heads * head_dim * page_tokens; }
  uint64_t page_bytes() const { return static_cast<uint64_t>(page_floats()) * 4 * blocks; }
};

class Pool {
 public:
  // `allocate` gives that many zeroable floats, 64-byte aligned, alive as long as the pool.
  static Status Make(const Shape& shape, uint64_t budget,
                     const std::function<Status(int64_t floats, float** out)>& allocate,
                     std::unique_ptr<Pool>* out);

  // Start of a page of one block; null when the index is out of range.
  float* Page(uint32_t block, int32_t index) const;
  Status Open(uint64_t* sequence);
  Status Reserve(uint64_t sequence, uint64_t tokens);
  Status Blocks(uint64_t sequence, const int32_t** blocks, uint32_t* count) const;
  Status Close(uint64_t sequence);
  engine_kv_stats Stats() const;
  const Shape& shape() const { return shape_; }
  // What a page costs, its entry in a table and in the free list included.
  static uint64_t PageCost(const Shape& shape) { return shape.page_bytes() + 2 * sizeof(int32_t); }
  // What the pool costs however few pages it has, and each sequence.
  static constexpr uint64_t kSequenceCost = 256;

 private:
  Pool(const Shape& shape, uint64_t budget) : shape_(shape), budget_(budget) {}
  Status Find(uint64_t sequence, const std::vector<int32_t>** out) const;

  const Shape shape_;
  const uint64_t budget_;
  float* memory_ = nullptr;
  uint64_t pages_ = 0;
  mutable std::mutex mutex_;
  std::vector<int32_t> free_;                           // guarded by mutex_
  std::map<uint64_t, std::vector<int32_t>> sequences_;  // guarded by mutex_
  uint64_t next_ = 1;                                   // guarded by mutex_
};

}  // namespace engine::kv_cache

#endif  // PLUGINS_KV_CACHE_POOL_H_
