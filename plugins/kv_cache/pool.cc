#include "pool.h"

#include <algorithm>
#include <limits>

namespace engine::kv_cache {

Status Pool::Make(const Shape& shape, uint64_t budget,
                  const std::function<Status(int64_t floats, float** out)>& allocate,
                  std::unique_ptr<Pool>* out) {
  std::unique_ptr<Pool> pool(new Pool(shape, budget));
  const uint64_t least = PageCost(shape) + kSequenceCost;
  if (budget < least) {
    return Error(ENGINE_RESOURCE_EXHAUSTED, "the budget of ", budget,
                 " bytes holds no page; one page of ", shape.page_tokens, " tokens takes ", least,
                 " bytes with its table");
  }
  pool->pages_ = (budget - kSequenceCost) / PageCost(shape);
  pool->pages_ = std::min<uint64_t>(pool->pages_, std::numeric_limits<int32_t>::max());
  const uint64_t floats = pool->pages_ * (shape.page_bytes() / 4);
  if (floats > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / 4) {
    return Error(ENGINE_OUT_OF_RANGE, "the budget of ", budget, " bytes cannot be addressed");
  }
  ENGINE_RETURN_IF_ERROR(allocate(static_cast<int64_t>(floats), &pool->memory_));
  pool->free_.reserve(pool->pages_);
  // Low pages first, so that a short run touches little memory.
  for (uint64_t p = pool->pages_; p > 0; --p) pool->free_.push_back(static_cast<int32_t>(p - 1));
  *out = std::move(pool);
  return Status();
}

float* Pool::Page(uint32_t block, int32_t index) const {
  if (index < 0 || static_cast<uint64_t>(index) >= pages_ || block >= shape_.blocks) return nullptr;
  return memory_ + (static_cast<int64_t>(index) * shape_.blocks + block) * shape_.page_floats();
}

Status Pool::Find(uint64_t sequence, const std::vector<int32_t>** out) const {
  auto it = sequences_.find(sequence);
  if (it == sequences_.end()) {
    return Error(ENGINE_NOT_FOUND, "no sequence has the number ", sequence);
  }
  *out = &it->second;
  return Status();
}

Status Pool::Open(uint64_t* sequence) {
  std::lock_guard lock(mutex_);
  const uint64_t used = (pages_ - free_.size()) * PageCost(shape_);
  if (used + (sequences_.size() + 1) * kSequenceCost > budget_) {
    return Error(ENGINE_RESOURCE_EXHAUSTED, "the KV budget of ", budget_, " bytes holds ",
                 sequences_.size(), " sequences and no further one");
  }
  *sequence = next_++;
  sequences_[*sequence];
  return Status();
}

Status Pool::Reserve(uint64_t sequence, uint64_t tokens) {
  std::lock_guard lock(mutex_);
  const std::vector<int32_t>* found = nullptr;
  ENGINE_RETURN_IF_ERROR(Find(sequence, &found));
  auto& blocks = const_cast<std::vector<int32_t>&>(*found);
  const uint64_t wanted = tokens / shape_.page_tokens + (tokens % shape_.page_tokens != 0);
  if (wanted <= blocks.size()) return Status();
  const uint64_t more = wanted - blocks.size();
  const uint64_t used = (pages_ - free_.size() + more) * PageCost(shape_);
  if (more > free_.size() || used + sequences_.size() * kSequenceCost > budget_) {
    return Error(ENGINE_RESOURCE_EXHAUSTED, "the KV pool has ", free_.size(), " of ", pages_,
                 " pages free; ", tokens, " tokens need ", more, " more (budget ", budget_,
                 " bytes; a page of ", shape_.page_tokens, " tokens takes ", shape_.page_bytes(),
                 ")");
  }
  for (uint64_t i = 0; i < more; ++i) {
    blocks.push_back(free_.back());
    free_.pop_back();
  }
  return Status();
}

Status Pool::Blocks(uint64_t sequence, const int32_t** blocks, uint32_t* count) const {
  std::lock_guard lock(mutex_);
  const std::vector<int32_t>* found = nullptr;
  ENGINE_RETURN_IF_ERROR(Find(sequence, &found));
  *blocks = found->data();
  *count = static_cast<uint32_t>(found->size());
  return Status();
}

Status Pool::Close(uint64_t sequence) {
  std::lock_guard lock(mutex_);
  const std::vector<int32_t>* found = nullptr;
  ENGINE_RETURN_IF_ERROR(Find(sequence, &found));
  free_.insert(free_.end(), found->rbegin(), found->rend());
  sequences_.erase(sequence);
  return Status();
}

engine_kv_stats Pool::Stats() const {
  std::lock_guard lock(mutex_);
  engine_kv_stats s = {};
  s.struct_size = sizeof s;
  s.sequences = static_cast<uint32_t>(sequences_.size());
  s.pages_total = pages_;
  s.pages_used = pages_ - free_.size();
  s.page_bytes = shape_.page_bytes();
  s.budget_bytes = budget_;
  s.held_bytes = s.pages_used * PageCost(shape_) + sequences_.size() * kSequenceCost;
  return s;
}

}  // namespace engine::kv_cache
