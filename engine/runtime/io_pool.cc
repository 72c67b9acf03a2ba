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

// Leaked on purpose: a thread may sit in a blocking read of standard input when the process exits.
boost::asio::io_context& Context() {
  static auto* context = [] {
    auto* made = new boost::asio::io_context(kIoThreads);
    new boost::asio::executor_work_guard<boost::asio::io_context::executor_type>(
        made->get_executor());
    for (uint32_t i = 0; i < kIoThreads; ++i) std::thread([made] { made->run(); }).detach();
    return made;
  }();
  return *context;
}

}  // namespace

void RunOnIo(std::function<void()> body) { boost::asio::post(Context(), std::move(body)); }

void AfterOnIo(uint64_t nanoseconds, std::function<void()> body) {
  auto timer = std::make_shared<boost::asio::steady_timer>(
      Context(), std::chrono::nanoseconds(static_cast<int64_t>(nanoseconds)));
  timer->async_wait([timer, body = std::move(body)](const boost::system::error_code&) { body(); });
}

}  // namespace engine::runtime
