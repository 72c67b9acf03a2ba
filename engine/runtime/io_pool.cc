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

// Leaked on purpose: a thread may sit in a blocking read of standard input when the process exits.
io_context* MakeContext(uint32_t threads) {
  auto* made = new io_context(static_cast<int>(threads));
  new boost::asio::executor_work_guard<io_context::executor_type>(made->get_executor());
  for (uint32_t i = 0; i < threads; ++i) std::thread([made] { made->run(); }).detach();
  return made;
}

io_context& Blocking() {
  static io_context* const context = MakeContext(kIoThreads);
  return *context;
}
io_context& Timers() {
  static io_context* const context = MakeContext(1);
  return *context;
}

}  // namespace

void RunOnIo(std::function<void()> body) { boost::asio::post(Blocking(), std::move(body)); }

void AfterOnIo(uint64_t nanoseconds, std::function<void()> body) {
  auto timer = std::make_shared<boost::asio::steady_timer>(
      Timers(), std::chrono::nanoseconds(static_cast<int64_t>(nanoseconds)));
  timer->async_wait([timer, body = std::move(body)](const boost::system::error_code&) { body(); });
}

}  // namespace engine::runtime
