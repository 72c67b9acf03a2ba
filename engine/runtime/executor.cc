#include "engine/runtime/executor.h"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_group.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace engine::runtime {
namespace {

// oneTBB's workers are one fewer than the cores, for all arenas together: a node that blocks would
// hold up another executor, and on two cores nothing would run side by side. So each arena adds its
// lanes to the limit while it lives.
void AddWorkers(int lanes) {
  using oneapi::tbb::global_control;
  static std::mutex mutex;
  static auto total =
      static_cast<int>(global_control::active_value(global_control::max_allowed_parallelism));
  // Leaked: the threads of other arenas may outlive static objects.
  static auto* control = new std::unique_ptr<global_control>;
  std::lock_guard lock(mutex);
  total += lanes;
  // The smallest of all controls counts, so the old one goes first.
  control->reset();
  *control = std::make_unique<global_control>(global_control::max_allowed_parallelism,
                                              static_cast<size_t>(total));
}

class ArenaExecutor : public Executor {
 public:
  ArenaExecutor(uint32_t threads, std::function<void()> lane)
      : lanes_(static_cast<int>(threads)),
        arena_(lanes_, /*reserved_for_masters=*/0),
        lane_(std::move(lane)) {
    AddWorkers(lanes_);
  }
  ~ArenaExecutor() override {
    {
      std::unique_lock lock(mutex_);
      idle_.wait(lock, [&] { return outstanding_.load() == 0; });
    }
    AddWorkers(-lanes_);
  }
  void Wake() override {
    outstanding_.fetch_add(1, std::memory_order_release);
    arena_.enqueue(LaneTask{this});
  }

 private:
  // Not inlined, so that tests/tsan.supp can name the one read of a task's memory, which TBB hands
  // over, and nothing that comes after it.
  struct LaneTask {
    ArenaExecutor* executor;
    [[gnu::noinline]] void operator()() const { executor->Body(); }
  };
  [[gnu::noinline]] void Body() {
    // Pairs with Wake: whatever came before it is seen here, without trust in how tasks travel.
    outstanding_.load(std::memory_order_acquire);
    lane_();
    std::lock_guard lock(mutex_);
    if (outstanding_.fetch_sub(1) == 1) idle_.notify_all();
  }

  const int lanes_;
  oneapi::tbb::task_arena arena_;
  const std::function<void()> lane_;
  std::mutex mutex_;
  std::condition_variable idle_;
  std::atomic<uint32_t> outstanding_{0};  // falls under mutex_ only
};

class DedicatedExecutor : public Executor {
 public:
  DedicatedExecutor(uint32_t threads, std::function<void()> lane) : lane_(std::move(lane)) {
    for (uint32_t i = 0; i < threads; ++i) threads_.emplace_back([this] { Loop(); });
  }
  ~DedicatedExecutor() override {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  void Wake() override {
    {
      std::lock_guard lock(mutex_);
      ++wanted_;
    }
    wake_.notify_one();
  }

 private:
  void Loop() {
    oneapi::tbb::task_arena arena(1, 1);
    arena.execute([this] {
      std::unique_lock lock(mutex_);
      for (;;) {
        wake_.wait(lock, [&] { return stop_ || wanted_ != 0; });
        if (wanted_ == 0) return;
        --wanted_;
        lock.unlock();
        lane_();
        lock.lock();
      }
    });
  }

  const std::function<void()> lane_;
  std::mutex mutex_;
  std::condition_variable wake_;
  uint32_t wanted_ = 0;  // guarded by mutex_
  bool stop_ = false;    // guarded by mutex_
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<Executor> MakeArenaExecutor(uint32_t threads, std::function<void()> lane) {
  return std::make_unique<ArenaExecutor>(threads, std::move(lane));
}
std::unique_ptr<Executor> MakeDedicatedExecutor(uint32_t threads, std::function<void()> lane) {
  return std::make_unique<DedicatedExecutor>(threads, std::move(lane));
}

}  // namespace engine::runtime
