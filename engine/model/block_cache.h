// Large blocks of memory that are used again: tensors of a training step come and go with the same
// few sizes, which the C library's heap answers with fragments that keep twice the memory, and
// separate mappings with page faults. Invariant: blocks in use and blocks kept together never
// exceed the most that was in use at once, but for rounding.
#ifndef ENGINE_MODEL_BLOCK_CACHE_H_
#define ENGINE_MODEL_BLOCK_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <unordered_map>

namespace engine::model {

class BlockCache {
 public:
  // Blocks at least that large are worth a mapping of their own.
  static constexpr size_t kLeast = size_t{1} << 20;

  BlockCache() = default;
  BlockCache(const BlockCache&) = delete;
  ~BlockCache();  // blocks in use are left alone

  // A block of at least `bytes`, at a multiple of a page; null where the system has no more.
  void* Take(size_t bytes);
  // Whether the block was of this cache; if so it is kept for later.
  bool Give(void* block);

  struct Figures {
    size_t used = 0, kept = 0;  // bytes
    size_t most = 0;            // of the two together, at once
    uint64_t mappings = 0;      // asked of the system so far
  };
  Figures figures() const;

 private:
  struct Kept {
    void* block;
    size_t bytes;
  };
  using Order = std::list<Kept>;  // the one that was given longest ago first

  void Drop(size_t bytes);

  mutable std::mutex mutex_;
  std::unordered_map<void*, size_t> used_;
  Order kept_;
  std::multimap<size_t, Order::iterator> by_size_;
  Figures figures_;
};

// Makes LibTorch take large CPU tensors from a cache. Later calls do nothing.
void InstallTensorMemory();

}  // namespace engine::model

#endif  // ENGINE_MODEL_BLOCK_CACHE_H_
