#include "engine/runtime/io_pool.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <thread>
#include <utility>

namespace engine::runtime {
namespace {

using boost::asio::io_context;

struct Pool {
  explicit Pool(uint32_t threads)
      : context(static_cast<int>(threads)), work(context.get_executor()) {
    for (uint32_t i = 0; i < threads; ++i) std::thread([this] { context.run(); }).detach();
  }
  io_context context;
  boost::asio::executor_work_guard<io_context::executor_type> work;
};

// Leaked on purpose: a thread may sit in a blocking read of standard input when the process exits.
io_context& Blocking() {
  static Pool* const pool = new Pool(kIoThreads);
  return pool->context;
}
io_context& Timers() {
  static Pool* const pool = new Pool(1);
  return pool->context;
}

}  // namespace

void RunOnIo(std::function<void()> body) { boost::asio::post(Blocking(), std::move(body)); }

void AfterOnIo(uint64_t nanoseconds, std::function<void()> body) {
  auto timer = std::make_shared<boost::asio::steady_timer>(
      Timers(), std::chrono::nanoseconds(static_cast<int64_t>(nanoseconds)));
  timer->async_wait([timer, body = std::move(body)](const boost::system::error_code&) { body(); });
}

}  // namespace engine::runtime
