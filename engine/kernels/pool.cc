#include "engine/kernels/pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/util.hpp"

namespace engine::kernels {
namespace {

constexpr uint64_t kSpinNs = 100'000;
constexpr int64_t kChunksPerThread = 4;
constexpr uint64_t kOpen = uint64_t{1} << 63;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

class Pool {
 public:
  void SetThreads(int threads) {
    std::lock_guard loop(loop_mutex_);
    Stop();
    threads_ = std::max(1, threads);
    shares_ = std::vector<Share>(static_cast<size_t>(threads_));
    stop_ = false;
    for (int i = 1; i < threads_; ++i) workers_.emplace_back([this, i] { Work(i); });
  }
  int threads() const { return threads_; }

  void Run(int64_t count, int64_t grain, void (*body)(void*, int64_t, int64_t), void* arg) {
    std::unique_lock loop(loop_mutex_, std::try_to_lock);
    if (workers_.empty() || count <= grain || !loop.owns_lock()) {
      body(arg, 0, count);
      return;
    }
    body_ = body;
    arg_ = arg;
    const int64_t pieces = kChunksPerThread * threads_;
    chunk_ = std::max(grain, (count + pieces - 1) / pieces);
    for (int i = 0; i < threads_; ++i) {
      Share& share = shares_[static_cast<size_t>(i)];
      share.next.store(count * i / threads_, std::memory_order_relaxed);
      share.end = count * (i + 1) / threads_;
    }
    entrance_.store(kOpen, std::memory_order_release);
    epoch_.fetch_add(1);
    if (sleepers_.load() != 0) {
      { std::lock_guard lock(sleep_mutex_); }
      wake_.notify_all();
    }
    Chunks(0);
    // Nobody may enter any longer; whoever is inside holds the last chunks.
    uint64_t inside = entrance_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
    for (uint32_t spins = 0; inside != 0; inside = entrance_.load(std::memory_order_acquire)) {
      if (++spins % 4096 == 0) {
        std::this_thread::yield();
      } else {
        Pause();
      }
    }
  }

 private:
  // A part of the loop that one thread begins with; others help when theirs is done. So threads
  // seldom write to the same line, and each streams through memory of its own.
  struct Share {
    alignas(64) std::atomic<int64_t> next{0};
    int64_t end = 0;
    Share() = default;
    Share(const Share&) {}
  };

  void Chunks(int mine) {
    for (int i = 0; i < threads_; ++i) {
      Share& share = shares_[static_cast<size_t>((mine + i) % threads_)];
      while (share.next.load(std::memory_order_relaxed) < share.end) {
        const int64_t begin = share.next.fetch_add(chunk_, std::memory_order_relaxed);
        if (begin >= share.end) break;
        body_(arg_, begin, std::min(share.end, begin + chunk_));
      }
    }
  }

  bool Enter() {
    uint64_t seen = entrance_.load(std::memory_order_acquire);
    while ((seen & kOpen) != 0) {
      if (entrance_.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) return true;
    }
    return false;
  }

  void Work(int id) {
    uint64_t seen = epoch_.load();
    uint64_t idle_since = NowNs();
    for (;;) {
      for (int i = 0; i < 64 && epoch_.load(std::memory_order_acquire) == seen; ++i) Pause();
      if (epoch_.load() == seen) {
        if (NowNs() - idle_since < kSpinNs) continue;
        std::unique_lock lock(sleep_mutex_);
        sleepers_.fetch_add(1);
        wake_.wait(lock, [&] { return stop_ || epoch_.load() != seen; });
        sleepers_.fetch_sub(1);
        if (stop_) return;
      }
      seen = epoch_.load();
      if (Enter()) {
        Chunks(id);
        entrance_.fetch_sub(1, std::memory_order_acq_rel);
      }
      idle_since = NowNs();
    }
  }

  void Stop() {
    {
      std::lock_guard lock(sleep_mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
  }

  std::mutex loop_mutex_;  // held by the loop that uses the workers
  int threads_ = 1;
  std::vector<std::thread> workers_;

  // Of the loop under way; written before the entrance opens.
  void (*body_)(void*, int64_t, int64_t) = nullptr;
  void* arg_ = nullptr;
  int64_t chunk_ = 1;
  std::vector<Share> shares_;
  // Open bit, and how many workers are inside.
  alignas(64) std::atomic<uint64_t> entrance_{0};
  alignas(64) std::atomic<uint64_t> epoch_{0};

  std::mutex sleep_mutex_;
  std::condition_variable wake_;
  std::atomic<int> sleepers_{0};
  bool stop_ = false;  // guarded by sleep_mutex_
};

// Leaked on purpose: workers sleep until the process ends.
Pool& ThePool() {
  static auto* pool = new Pool;
  return *pool;
}

}  // namespace

void SetPoolThreads(int threads) { ThePool().SetThreads(threads); }
int PoolThreads() { return ThePool().threads(); }
void PoolParallel(int64_t count, int64_t grain, void (*body)(void*, int64_t, int64_t), void* arg) {
  ThePool().Run(count, grain, body, arg);
}

}  // namespace engine::kernels
