// The cache of large blocks as LibTorch's CPU allocator; small tensors go where they went before.
#include <c10/core/CPUAllocator.h>

#include "engine/model/block_cache.h"

namespace engine::model {
namespace {

// Leaked on purpose: tensors may outlive everything else.
BlockCache& Cache() {
  static auto* cache = new BlockCache;
  return *cache;
}
c10::Allocator*& Small() {
  static c10::Allocator* small = nullptr;
  return small;
}

void Delete(void* block) {
  // Only blocks of the cache begin at pages as a rule, so that few others ask it.
  constexpr uintptr_t kPage = 4096;
  if (reinterpret_cast<uintptr_t>(block) % kPage == 0 && Cache().Give(block)) return;
  Small()->raw_deallocate(block);
}

class TensorMemory : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* block = bytes >= BlockCache::kLeast ? Cache().Take(bytes) : nullptr;
    // The other one fails in LibTorch's own words where there is no more.
    if (block == nullptr) return Small()->allocate(bytes);
    return {block, block, &Delete, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &Delete; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

}  // namespace

void InstallTensorMemory() {
#if !defined(__SANITIZE_ADDRESS__)
  static const bool once = [] {
    Small() = c10::GetCPUAllocator();
    c10::SetCPUAllocator(new TensorMemory, /*priority=*/1);
    return true;
  }();
  static_cast<void>(once);
#endif
}

}  // namespace engine::model
