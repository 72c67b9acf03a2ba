// Zeroed memory for weights and buffers, cut from large chunks that the system backs with huge
// pages: a step reads all weights once, and with small pages it would look up a translation every 4
// KiB. Invariant: a piece begins at a multiple of 64; a chunk lives as long as any piece of it.
#ifndef ENGINE_KERNELS_PAGES_H_
#define ENGINE_KERNELS_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "engine/status.hpp"

namespace engine::kernels {

class Pages {
 public:
  Pages() = default;
  // [any thread]
  static Status Make(uint64_t bytes, Pages* out);
  void* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<void> chunk_;
  void* data_ = nullptr;
  uint64_t bytes_ = 0;
};

// Lets a std::vector begin at a cache line: vector loads that cross lines cost two.
template <typename T>
struct LineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};
  LineAllocator() = default;
  template <typename U>
  LineAllocator(const LineAllocator<U>&) {}
  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), kLine)); }
  void deallocate(T* at, size_t) { ::operator delete(at, kLine); }
  template <typename U>
  bool operator==(const LineAllocator<U>&) const {
    return true;
  }
};

}  // namespace engine::kernels

#endif  // ENGINE_KERNELS_PAGES_H_
