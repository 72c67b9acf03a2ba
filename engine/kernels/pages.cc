#include "engine/kernels/pages.h"

#include <sys/mman.h>

#include <mutex>

namespace engine::kernels {
namespace {

constexpr uint64_t kHuge = 2u << 20;
constexpr uint64_t kChunk = 32u << 20;

// A mapping of `bytes` that begins at a multiple of a huge page. Pages that nobody touches take no
// memory.
Status Map(uint64_t bytes, std::shared_ptr<void>* out) {
  const uint64_t size = bytes + kHuge;
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    return Error(ENGINE_RESOURCE_EXHAUSTED, "no memory for ", bytes, " bytes of weights");
  }
  const auto first = (reinterpret_cast<uintptr_t>(data) + kHuge - 1) / kHuge * kHuge;
  void* begin = reinterpret_cast<void*>(first);
  madvise(begin, bytes, MADV_HUGEPAGE);
  *out = std::shared_ptr<void>(begin, [data, size](void*) { munmap(data, size); });
  return Status();
}

}  // namespace

Status Pages::Make(uint64_t bytes, Pages* out) {
  if (bytes > (uint64_t{1} << 46)) {
    return Error(ENGINE_RESOURCE_EXHAUSTED, "no memory for ", bytes, " bytes of weights");
  }
  Pages pages;
  pages.bytes_ = (bytes + 63) / 64 * 64;
  if (pages.bytes_ > kChunk / 4) {
    ENGINE_RETURN_IF_ERROR(Map((pages.bytes_ + kHuge - 1) / kHuge * kHuge, &pages.chunk_));
    pages.data_ = pages.chunk_.get();
  } else {
    // The chunk that small pieces are cut from; leaked with the process.
    static std::mutex mutex;
    static auto* current = new std::shared_ptr<void>;
    static uint64_t used = kChunk;
    std::lock_guard lock(mutex);
    if (used + pages.bytes_ > kChunk) {
      ENGINE_RETURN_IF_ERROR(Map(kChunk, current));
      used = 0;
    }
    pages.chunk_ = *current;
    pages.data_ = static_cast<char*>(current->get()) + used;
    used += pages.bytes_;
  }
  *out = std::move(pages);
  return Status();
}

}  // namespace engine::kernels
