// The one account of memory: whoever holds some has charged it here first.
// Invariant: held() never exceeds the capacity, and what a Charge or a Buffer took it gives back
// when it ends. Not thread-safe; the pool's mutex guards it.
#ifndef PLUGINS_KV_CACHE_LEDGER_H_
#define PLUGINS_KV_CACHE_LEDGER_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

namespace engine::kv_cache {

class Ledger {
 public:
  // What a child is charged counts in its parent too.
  explicit Ledger(uint64_t capacity, Ledger* parent = nullptr)
      : capacity_(capacity), parent_(parent) {}
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  // False, with nothing charged, when there is no room.
  bool Charge(uint64_t bytes) {
    if (bytes > capacity_ - held_) return false;
    if (parent_ != nullptr && !parent_->Charge(bytes)) return false;
    held_ += bytes;
    return true;
  }
  void Release(uint64_t bytes) {
    held_ -= bytes;
    if (parent_ != nullptr) parent_->Release(bytes);
  }
  uint64_t held() const { return held_; }
  uint64_t left() const {
    return std::min(capacity_ - held_, parent_ == nullptr ? UINT64_MAX : parent_->left());
  }

  // Bytes that the allocator takes for a block: its head, and whole 16s.
  static uint64_t BlockCost(uint64_t bytes) { return (bytes + 15) / 16 * 16 + 16; }

 private:
  const uint64_t capacity_;
  Ledger* const parent_;
  uint64_t held_ = 0;
};

// Bytes charged for as long as this lives.
class Charge {
 public:
  Charge() = default;
  Charge(Charge&& other) noexcept
      : ledger_(std::exchange(other.ledger_, nullptr)), bytes_(other.bytes_) {}
  Charge& operator=(Charge&& other) noexcept {
    std::swap(ledger_, other.ledger_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Charge() {
    if (ledger_ != nullptr) ledger_->Release(bytes_);
  }
  // REQUIRES: nothing is charged yet. False when there is no room.
  bool Take(Ledger* ledger, uint64_t bytes) {
    if (!ledger->Charge(bytes)) return false;
    ledger_ = ledger;
    bytes_ = bytes;
    return true;
  }

 private:
  Ledger* ledger_ = nullptr;
  uint64_t bytes_ = 0;
};

// A growable array of plain values whose memory is charged before it is allocated.
template <typename T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit Buffer(Ledger* ledger) : ledger_(ledger) {}
  Buffer(Buffer&& other) noexcept
      : ledger_(other.ledger_),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(ledger_, other.ledger_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }
  ~Buffer() { Clear(); }

  // What must be left in the ledger for Resize(n) to succeed: old and new stand side by side while
  // one is copied.
  uint64_t CostOf(uint64_t n) const {
    return n <= capacity_ ? 0 : Ledger::BlockCost(Rounded(n) * sizeof(T));
  }
  // Keeps the values that stay; new ones are not set. False, with nothing changed, when there is
  // no room.
  bool Resize(uint64_t n) {
    if (n > capacity_) {
      if (n > UINT64_MAX / 2 / sizeof(T)) return false;
      const uint64_t cost = CostOf(n);
      if (!ledger_->Charge(cost)) return false;
      T* made = new (std::nothrow) T[Rounded(n)];
      if (made == nullptr) {
        ledger_->Release(cost);
        return false;
      }
      const uint64_t size = size_;
      if (size != 0) std::memcpy(made, data_, size * sizeof(T));
      Clear();
      data_ = made;
      capacity_ = Rounded(n);
    }
    size_ = n;
    return true;
  }
  void Clear() {
    if (data_ == nullptr) return;
    ledger_->Release(held());
    delete[] data_;
    data_ = nullptr;
    size_ = capacity_ = 0;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  uint64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  // What it is charged for now.
  uint64_t held() const { return data_ == nullptr ? 0 : Ledger::BlockCost(capacity_ * sizeof(T)); }
  T& operator[](uint64_t i) { return data_[i]; }
  const T& operator[](uint64_t i) const { return data_[i]; }

 private:
  static uint64_t Rounded(uint64_t n) { return (n + 31) / 32 * 32; }

  Ledger* ledger_;
  T* data_ = nullptr;
  uint64_t size_ = 0, capacity_ = 0;
};

}  // namespace engine::kv_cache

#endif  // PLUGINS_KV_CACHE_LEDGER_H_
