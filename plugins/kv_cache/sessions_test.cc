#include "test_pool.h"

namespace engine::kv_cache {
namespace {

constexpr uint32_t kKeep = ENGINE_KV_CLOSE_KEEP;

TEST(Sessions, ATurnContinuesItsOwnBegunPage) {
  TestPool t(8);
  EXPECT_EQ(Serve(t.pool.get(), {Range(0, 20), "chat"}, kKeep).reason, ENGINE_KV_MISS_COLD);
  EXPECT_EQ(History(t.pool.get(), "chat"), Range(0, 20));
  EXPECT_EQ(t.pool->Stats().sessions, 1u);
  const User next = Serve(t.pool.get(), {Range(0, 30), "chat"}, kKeep);
  EXPECT_EQ(next.cached, 20u);
  EXPECT_EQ(next.reason, ENGINE_KV_HIT_SESSION);
  EXPECT_EQ(History(t.pool.get(), "chat"), Range(0, 30));
  EXPECT_EQ(t.pool->Stats().copied_pages, 0u);
}

TEST(Sessions, NamesBelongToTheirSalt) {
  TestPool t(8);
  Serve(t.pool.get(), {Range(0, 20), "chat", "red"}, kKeep);
  EXPECT_TRUE(History(t.pool.get(), "chat", "blue").empty());
  EXPECT_TRUE(History(t.pool.get(), "chat").empty());
  EXPECT_EQ(History(t.pool.get(), "chat", "red").size(), 20u);
}

TEST(Sessions, ABusyOneIsRefused) {
  TestPool t(8);
  Serve(t.pool.get(), {Range(0, 20), "chat"}, kKeep);
  User a, b;
  ASSERT_TRUE(Open(t.pool.get(), {Range(0, 25), "chat"}, &a).ok());
  const Status busy = Open(t.pool.get(), {Range(0, 25), "chat"}, &b);
  EXPECT_EQ(busy.code(), ENGINE_FAILED_PRECONDITION);
  EXPECT_NE(busy.message().find("session 'chat' is busy"), std::string::npos) << busy.message();
  EXPECT_EQ(t.pool->SessionDrop("chat", "").code(), ENGINE_FAILED_PRECONDITION);
  EXPECT_EQ(t.pool->SessionSave("chat", "", "/nowhere/x").code(), ENGINE_FAILED_PRECONDITION);
  EXPECT_EQ(History(t.pool.get(), "chat").size(), 20u);
  ASSERT_TRUE(t.pool->Close(a.id, kKeep).ok());
  EXPECT_TRUE(t.pool->SessionDrop("chat", "").ok());
  EXPECT_EQ(t.pool->SessionDrop("chat", "").code(), ENGINE_NOT_FOUND);
  EXPECT_EQ(Audit::Check(*t.pool), "");
}

TEST(Sessions, WithoutKeepTheFormerHistoryStays) {
  TestPool t(8);
  Serve(t.pool.get(), {Range(0, 20), "chat"}, kKeep);
  Serve(t.pool.get(), {Range(0, 40), "chat"}, 0);
  EXPECT_EQ(History(t.pool.get(), "chat"), Range(0, 20));
  const User next = Serve(t.pool.get(), {Range(0, 21), "chat"}, kKeep);
  EXPECT_EQ(next.cached, 20u);
  EXPECT_EQ(next.reason, ENGINE_KV_HIT_SESSION);
  // A session that never kept anything is none.
  Serve(t.pool.get(), {Range(0, 20), "other"}, 0);
  EXPECT_EQ(t.pool->Stats().sessions, 1u);
}

TEST(Sessions, AChangedHistoryIsUsedAsFarAsItAgrees) {
  TestPool t(8);
  Serve(t.pool.get(), {Range(0, 30), "chat", "", ENGINE_KV_OPEN_NO_SHARING}, kKeep);
  Tokens other = Range(0, 30);
  other[21] = 900;
  const User next = Serve(t.pool.get(), {other, "chat"}, kKeep);
  EXPECT_EQ(next.cached, 21u);
  EXPECT_EQ(next.reason, ENGINE_KV_HIT_SESSION);
  EXPECT_EQ(History(t.pool.get(), "chat"), other);
  // It asked once not to share, and what it kept then is not given later.
  EXPECT_EQ(Serve(t.pool.get(), {other}).reason, ENGINE_KV_MISS_COLD);
}

TEST(Sessions, LostPagesAreToldAndTheHistoryStays) {
  TestPool t(4);
  Serve(t.pool.get(), {Range(0, 40), "chat"}, kKeep);
  Serve(t.pool.get(), {Range(500, 64)});
  EXPECT_EQ(History(t.pool.get(), "chat"), Range(0, 40));
  const User next = Serve(t.pool.get(), {Range(0, 41), "chat"}, kKeep);
  EXPECT_EQ(next.cached, 0u);
  EXPECT_EQ(next.reason, ENGINE_KV_MISS_EVICTED);
  // Pages that nobody else could find count among the evicted too.
  TestPool lone(4);
  Serve(lone.pool.get(), {Range(0, 40), "chat", "", ENGINE_KV_OPEN_NO_SHARING}, kKeep);
  Serve(lone.pool.get(), {Range(500, 64)});
  EXPECT_EQ(lone.pool->Stats().evicted_pages, 3u);
}

TEST(Sessions, PagesOfADroppedOneAreAsOldAsItsLastUse) {
  TestPool t(6);
  Serve(t.pool.get(), {Range(0, 32)});
  Serve(t.pool.get(), {Range(100, 32), "chat"}, kKeep);
  ASSERT_TRUE(t.pool->SessionDrop("chat", "").ok());
  Serve(t.pool.get(), {Range(500, 48)});  // one page more than are free
  EXPECT_EQ(Serve(t.pool.get(), {Range(100, 32)}).cached, 31u);
}

TEST(Sessions, OldestPagesMakeRoomFirst) {
  TestPool t(8);
  Serve(t.pool.get(), {Range(0, 32), "first", "", ENGINE_KV_OPEN_NO_SHARING}, kKeep);
  Serve(t.pool.get(), {Range(100, 32), "second", "", ENGINE_KV_OPEN_NO_SHARING}, kKeep);
  Serve(t.pool.get(), {Range(0, 33), "first"}, kKeep);
  Serve(t.pool.get(), {Range(500, 64)});
  EXPECT_EQ(Serve(t.pool.get(), {Range(0, 34), "first"}, kKeep).reason, ENGINE_KV_HIT_SESSION);
  EXPECT_EQ(Serve(t.pool.get(), {Range(100, 33), "second"}, kKeep).reason, ENGINE_KV_MISS_EVICTED);
}

TEST(Sessions, IdleOnesAreForgotten) {
  TestPool t(8);  // after 1000 ns
  Serve(t.pool.get(), {Range(0, 20), "chat"}, kKeep);
  t.now_ns += 999;
  EXPECT_EQ(History(t.pool.get(), "chat").size(), 20u);
  t.now_ns += 1;
  EXPECT_TRUE(History(t.pool.get(), "chat").empty());
  EXPECT_EQ(t.pool->Stats().sessions, 0u);
  EXPECT_EQ(Audit::Check(*t.pool), "");
}

TEST(Sessions, TheirBudgetBoundsThem) {
  const Geometry g = SmallGeometry();
  TestPool t(
      Config{.geometry = g, .budget = BudgetFor(g, 16), .session_budget = 4 * g.page_bytes + 2500});
  for (int32_t n = 0; n < 3; ++n) {
    Serve(t.pool.get(), {Range(100 * n, 32), std::to_string(n), "", ENGINE_KV_OPEN_NO_SHARING},
          kKeep);
  }
  // Room for two: the first has its history alone.
  EXPECT_EQ(t.pool->Stats().pages_cached, 4u);
  EXPECT_EQ(History(t.pool.get(), "0"), Range(0, 32));
  EXPECT_EQ(Serve(t.pool.get(), {Range(200, 33), "2"}).reason, ENGINE_KV_HIT_SESSION);
  EXPECT_EQ(Serve(t.pool.get(), {Range(0, 33), "0"}).reason, ENGINE_KV_MISS_EVICTED);
}

TEST(Sessions, HistoriesGiveWayToSequences) {
  TestPool t(4);
  for (int n = 0; n < 200; ++n) {
    Serve(t.pool.get(), {Range(n, 60), "session " + std::to_string(n)}, kKeep);
  }
  EXPECT_LT(t.pool->Stats().sessions, 200u);
  EXPECT_GT(t.pool->Stats().sessions, 5u);
  EXPECT_TRUE(History(t.pool.get(), "session 0").empty());
  EXPECT_EQ(History(t.pool.get(), "session 199"), Range(199, 60));
}

TEST(Sessions, HostileNamesAreRefused) {
  TestPool t(4);
  User user;
  EXPECT_EQ(Open(t.pool.get(), {Range(0, 4), std::string(100000, 'x')}, &user).code(),
            ENGINE_INVALID_ARGUMENT);
  EXPECT_TRUE(Open(t.pool.get(), {Range(0, 4), std::string("a\0b", 3)}, &user).ok());
  EXPECT_EQ(Audit::Check(*t.pool), "");
}

}  // namespace
}  // namespace engine::kv_cache
