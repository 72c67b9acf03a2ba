#include "engine/model/block_cache.h"

#include <sys/mman.h>

#include <algorithm>

namespace engine::model {
namespace {

// Sizes differ by an eighth at most, so that a block fits others that are nearly as large.
size_t Round(size_t bytes) {
  size_t step = BlockCache::kLeast / 8;
  while (step * 16 <= bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

}  // namespace

BlockCache::~BlockCache() {
  for (const Kept& kept : kept_) munmap(kept.block, kept.bytes);
}

void* BlockCache::Take(size_t bytes) {
  if (bytes > SIZE_MAX / 4) return nullptr;
  const size_t size = Round(bytes);
  std::lock_guard lock(mutex_);
  void* block = nullptr;
  size_t got = size;
  const auto found = by_size_.lower_bound(size);
  if (found != by_size_.end() && found->first <= size + size / 8) {
    got = found->first;
    block = found->second->block;
    kept_.erase(found->second);
    by_size_.erase(found);
    figures_.kept -= got;
  } else {
    // What is kept makes room first.
    Drop(size);
    block = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) {
      Drop(SIZE_MAX);
      block = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (block == MAP_FAILED) return nullptr;
    }
    madvise(block, size, MADV_HUGEPAGE);
    ++figures_.mappings;
  }
  used_.emplace(block, got);
  figures_.used += got;
  figures_.most = std::max(figures_.most, figures_.used + figures_.kept);
  return block;
}

bool BlockCache::Give(void* block) {
  std::lock_guard lock(mutex_);
  const auto found = used_.find(block);
  if (found == used_.end()) return false;
  const size_t bytes = found->second;
  used_.erase(found);
  figures_.used -= bytes;
  figures_.kept += bytes;
  kept_.push_back({block, bytes});
  by_size_.emplace(bytes, std::prev(kept_.end()));
  return true;
}

void BlockCache::Drop(size_t bytes) {
  for (size_t dropped = 0; dropped < bytes && !kept_.empty();) {
    const Kept oldest = kept_.front();
    const auto [begin, end] = by_size_.equal_range(oldest.bytes);
    by_size_.erase(
        std::find_if(begin, end, [&](const auto& e) { return e.second == kept_.begin(); }));
    kept_.pop_front();
    munmap(oldest.block, oldest.bytes);
    figures_.kept -= oldest.bytes;
    dropped += oldest.bytes;
  }
}

BlockCache::Figures BlockCache::figures() const {
  std::lock_guard lock(mutex_);
  return figures_;
}

}  // namespace engine::model
