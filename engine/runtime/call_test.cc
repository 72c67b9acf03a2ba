#include "engine/runtime/call.h"

#include <gtest/gtest.h>

#include "engine/runtime/packet.h"

namespace engine::runtime {
namespace {

TEST(Call, TellsWhatItHoldsAndRefusesWhatItHasNot) {
  engine_call call;
  call.owner = std::this_thread::get_id();
  call.control = true;
  const engine_nodes_host* host = NodesHost();
  EXPECT_EQ(host->input_count(&call, 3), 0u);
  EXPECT_EQ(host->input(&call, 3, 0), nullptr);
  EXPECT_EQ(host->resource(&call, 1), nullptr);
  engine_completion* completion = nullptr;
  const Status defer(host->defer(&call, &completion));
  EXPECT_NE(defer.message().find("only process may defer"), std::string_view::npos);
  const Status nothing(host->emit(&call, 0, nullptr, 0));
  EXPECT_NE(nothing.message().find("no packet"), std::string_view::npos);
  engine_packet* packet = nullptr;
  static int freed = 0;
  ASSERT_EQ(host->packet_new(
                Str("t/1"), nullptr, [](void*) { ++freed; }, &packet),
            nullptr);
  const Status control(host->emit(&call, 0, packet, 0));
  EXPECT_NE(control.message().find("not open or close"), std::string_view::npos);
  EXPECT_EQ(freed, 1) << "a packet that was not taken is freed all the same";
}

#ifdef ENGINE_CHECK_THREADS
TEST(CallDeathTest, AnotherThreadIsToldSo) {
  engine_call call;
  call.owner = std::this_thread::get_id();
  EXPECT_DEATH(std::thread([&] { NodesHost()->finish(&call); }).join(),
               "finish of a node was called on another thread");
}

TEST(CallDeathTest, ACallThatIsKeptIsToldSo) {
  engine_call call;  // no thread is inside
  EXPECT_DEATH(NodesHost()->input(&call, 0, 0), "input of a node was called after its call");
}
#endif

}  // namespace
}  // namespace engine::runtime
