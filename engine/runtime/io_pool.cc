#include "engine/runtime/io_pool.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

namespace engine::runtime {
namespace {

using boost::asio::io_context;

class Pool {
 public:
  explicit Pool(uint32_t most) : work_(context.get_executor()), most_(most) {}
  void Begun() {
    std::lock_guard lock(mutex_);
    if (++unfinished_ <= threads_ || threads_ == most_) return;
    ++threads_;
    std::thread([this] { context.run(); }).detach();
  }
  void Ended() {
    std::lock_guard lock(mutex_);
    --unfinished_;
  }
  io_context context;

 private:
  boost::asio::executor_work_guard<io_context::executor_type> work_;
  std::mutex mutex_;  // guards both below
  uint32_t threads_ = 0, unfinished_ = 0;
  const uint32_t most_;
};

// Leaked on purpose: a thread may sit in a blocking read of standard input when the process exits.
Pool& Blocking() {
  static Pool* const pool = new Pool(kMostIoThreads);
  return *pool;
}
io_context& Timers() {
  static Pool* const pool = [] {
    auto* made = new Pool(1);
    made->Begun();
    return made;
  }();
  return pool->context;
}

}  // namespace

void RunOnIo(std::function<void()> body) {
  Blocking().Begun();
  boost::asio::post(Blocking().context, [body = std::move(body)] {
    body();
    Blocking().Ended();
  });
}

void AfterOnIo(uint64_t nanoseconds, std::function<void()> body) {
  auto timer = std::make_shared<boost::asio::steady_timer>(
      Timers(), std::chrono::nanoseconds(static_cast<int64_t>(nanoseconds)));
  timer->async_wait([timer, body = std::move(body)](const boost::system::error_code&) { body(); });
}

}  // namespace engine::runtime
