#include "pool.h"

#include <algorithm>
#include <random>
#include <thread>

#include "test_pool.h"

namespace engine::kv_cache {
namespace {

Tokens Join(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

#define EXPECT_OK(expr)                             \
  do {                                              \
    const Status status_ = (expr);                  \
    EXPECT_TRUE(status_.ok()) << status_.message(); \
  } while (0)

// --- prefixes -----------------------------------------------------------------------------------

TEST(Prefix, LaterPromptsFindFullPages) {
  TestPool t(16);
  const User cold = Serve(t.pool.get(), {Range(0, 40)});
  EXPECT_EQ(cold.cached, 0u);
  EXPECT_EQ(cold.reason, ENGINE_KV_MISS_COLD);
  // Two pages of three were full.
  const User hit = Serve(t.pool.get(), {Range(0, 40)});
  EXPECT_EQ(hit.cached, 32u);
  EXPECT_EQ(hit.reason, ENGINE_KV_HIT_PREFIX);
  const User fork = Serve(t.pool.get(), {Join(Range(0, 20), Range(900, 20))});
  EXPECT_EQ(fork.cached, 16u);
  const engine_kv_stats s = t.pool->Stats();
  EXPECT_EQ(s.lookups, 3u);
  EXPECT_EQ(s.hits, 2u);
  EXPECT_EQ(s.looked_up_tokens, 120u);
  EXPECT_EQ(s.cached_tokens, 48u);
  EXPECT_EQ(s.pages_used, 0u);
  EXPECT_EQ(s.pages_cached, 3u);
}

TEST(Prefix, OneTokenIsAlwaysComputed) {
  TestPool t(16);
  Serve(t.pool.get(), {Range(0, 32)});
  const User again = Serve(t.pool.get(), {Range(0, 32)});
  EXPECT_EQ(again.cached, 31u);
  // The last position was written into a copy, which gave way to the page that was there.
  const engine_kv_stats s = t.pool->Stats();
  EXPECT_EQ(s.copied_pages, 1u);
  EXPECT_EQ(s.pages_cached, 2u);
  EXPECT_EQ(Serve(t.pool.get(), {Range(0, 17)}).cached, 16u);
  EXPECT_EQ(Serve(t.pool.get(), {Range(0, 16)}).cached, 15u);
}

TEST(Prefix, EqualPromptsSideBySideEndInOneSetOfPages) {
  TestPool t(16);
  User a, b;
  EXPECT_OK(Open(t.pool.get(), {Range(0, 48)}, &a));
  EXPECT_OK(Open(t.pool.get(), {Range(0, 48)}, &b));
  EXPECT_OK(Write(t.pool.get(), &a, Range(0, 48)));
  EXPECT_OK(Write(t.pool.get(), &b, Range(0, 48)));
  EXPECT_EQ(t.pool->Stats().pages_used, 3u);
  EXPECT_EQ(Contents(t.pool.get(), b), "");
  EXPECT_EQ(Audit::Check(*t.pool), "");
  EXPECT_OK(t.pool->Close(a.id, 0));
  EXPECT_EQ(Contents(t.pool.get(), b), "");
}

TEST(Prefix, SaltsKeepApart) {
  TestPool t(16);
  Serve(t.pool.get(), {Range(0, 40), "", "red"});
  const User other = Serve(t.pool.get(), {Range(0, 40), "", "blue"});
  EXPECT_EQ(other.cached, 0u);
  EXPECT_EQ(other.reason, ENGINE_KV_MISS_SALT);
  EXPECT_EQ(Serve(t.pool.get(), {Range(0, 40), "", "red"}).cached, 32u);
}

TEST(Prefix, AdaptersKeepApart) {
  TestPool t(16);
  for (uint32_t adapter : {0u, 1u, 2u}) {
    const User cold = Serve(t.pool.get(), {.tokens = Range(0, 40), .adapter = adapter});
    EXPECT_EQ(cold.cached, 0u);
    EXPECT_EQ(cold.reason, adapter == 0 ? ENGINE_KV_MISS_COLD : ENGINE_KV_MISS_SALT);
  }
  for (uint32_t adapter : {0u, 1u, 2u}) {
    EXPECT_EQ(Serve(t.pool.get(), {.tokens = Range(0, 40), .adapter = adapter}).cached, 32u);
    EXPECT_EQ(Serve(t.pool.get(), {.tokens = Range(0, 40), .salt = "x", .adapter = adapter}).reason,
              ENGINE_KV_MISS_SALT);
  }
  EXPECT_EQ(Audit::Check(*t.pool), "");
}

TEST(Prefix, ReasonsAreTold) {
  TestPool t(4);
  EXPECT_EQ(Serve(t.pool.get(), {Range(0, 15)}).reason, ENGINE_KV_MISS_SHORT);
  EXPECT_EQ(Serve(t.pool.get(), {Range(0, 32), "", "", ENGINE_KV_OPEN_NO_SHARING}).reason,
            ENGINE_KV_MISS_OFF);
  // That one gave nothing either.
  EXPECT_EQ(Serve(t.pool.get(), {Range(0, 32)}).reason, ENGINE_KV_MISS_COLD);
  EXPECT_EQ(Serve(t.pool.get(), {Range(0, 32)}).reason, ENGINE_KV_HIT_PREFIX);
  EXPECT_EQ(Serve(t.pool.get(), {Range(500, 64)}).reason, ENGINE_KV_MISS_COLD);
  EXPECT_EQ(Serve(t.pool.get(), {Range(0, 32)}).reason, ENGINE_KV_MISS_EVICTED);
  const auto reasons = t.pool->Reasons();
  EXPECT_EQ(reasons[ENGINE_KV_MISS_SHORT], 1u);
  EXPECT_EQ(reasons[ENGINE_KV_MISS_OFF], 1u);
  EXPECT_EQ(reasons[ENGINE_KV_MISS_COLD], 2u);
  EXPECT_EQ(reasons[ENGINE_KV_MISS_EVICTED], 1u);
  EXPECT_EQ(reasons[ENGINE_KV_HIT_PREFIX], 1u);
}

TEST(Prefix, SharingCanBeSwitchedOff) {
  TestPool t(Config{.geometry = SmallGeometry(),
                    .budget = BudgetFor(SmallGeometry(), 8),
                    .prefix_sharing = false});
  Serve(t.pool.get(), {Range(0, 32)});
  EXPECT_EQ(Serve(t.pool.get(), {Range(0, 32)}).reason, ENGINE_KV_MISS_OFF);
  EXPECT_EQ(t.pool->Stats().pages_cached, 0u);
}

TEST(Prefix, CollidingHashesNeverGiveOtherTokens) {
  TestPool t(Config{
      .geometry = SmallGeometry(), .budget = BudgetFor(SmallGeometry(), 32), .keys = {.mask = 0}});
  for (int32_t first = 0; first < 8; ++first) {
    const User user = Serve(t.pool.get(), {Range(first, 40)});
    EXPECT_EQ(user.cached, 0u) << first;
  }
  for (int32_t first = 0; first < 8; ++first) {
    EXPECT_EQ(Serve(t.pool.get(), {Range(first, 40)}).cached, 32u) << first;
  }
}

TEST(Prefix, LeavesGoFirstAndTheOldestAmongThem) {
  TestPool t(6);
  Serve(t.pool.get(), {Range(0, 48)});    // three pages
  Serve(t.pool.get(), {Range(500, 32)});  // two
  Serve(t.pool.get(), {Range(900, 32)});  // needs one of them: the third of the first prompt
  EXPECT_EQ(t.pool->Stats().evicted_pages, 1u);
  EXPECT_EQ(Serve(t.pool.get(), {Range(0, 33)}).cached, 32u);
}

// --- sequences ----------------------------------------------------------------------------------

TEST(Pool, ARefusedReserveTakesNothing) {
  TestPool t(4);
  User a, b;
  EXPECT_OK(Open(t.pool.get(), {{}}, &a));
  EXPECT_OK(Open(t.pool.get(), {{}}, &b));
  EXPECT_OK(t.pool->Reserve(a.id, 33));
  const Status full = t.pool->Reserve(b.id, 17);
  EXPECT_EQ(full.code(), ENGINE_RESOURCE_EXHAUSTED);
  EXPECT_NE(full.message().find("1 of 4 pages to give; 17 tokens need 2"), std::string::npos)
      << full.message();
  EXPECT_EQ(t.pool->Stats().pages_used, 3u);
  EXPECT_OK(t.pool->Reserve(b.id, 16));
  EXPECT_EQ(t.pool->Reserve(b.id, UINT64_MAX).code(), ENGINE_RESOURCE_EXHAUSTED);
  EXPECT_EQ(Audit::Check(*t.pool), "");
  EXPECT_OK(t.pool->Close(a.id, 0));
  EXPECT_OK(t.pool->Reserve(b.id, 64));
  EXPECT_EQ(t.pool->Close(a.id, 0).code(), ENGINE_NOT_FOUND);
}

TEST(Pool, AForkSharesUntilOneWrites) {
  TestPool t(8);
  User a;
  EXPECT_OK(Open(t.pool.get(), {{}}, &a));
  EXPECT_OK(Write(t.pool.get(), &a, Range(0, 20)));
  User b = a;
  EXPECT_OK(t.pool->Fork(a.id, &b.id));
  EXPECT_EQ(t.pool->Stats().pages_used, 2u);
  // Without a reserve, nobody may write the shared page.
  const Tokens one = {7};
  EXPECT_EQ(t.pool->Written(a.id, one.data(), 21).code(), ENGINE_FAILED_PRECONDITION);
  EXPECT_OK(Write(t.pool.get(), &b, {100, 101}));
  EXPECT_EQ(t.pool->Stats().copied_pages, 1u);
  EXPECT_OK(Write(t.pool.get(), &a, {7}));
  EXPECT_EQ(t.pool->Stats().copied_pages, 1u);  // it had the page to itself again
  EXPECT_EQ(Contents(t.pool.get(), a), "");
  EXPECT_EQ(Contents(t.pool.get(), b), "");
  EXPECT_EQ(Audit::Check(*t.pool), "");
}

TEST(Pool, TruncatedPositionsAreWrittenAnewInACopy) {
  TestPool t(8);
  User a;
  EXPECT_OK(Open(t.pool.get(), {{}}, &a));
  EXPECT_OK(Write(t.pool.get(), &a, Range(0, 40)));
  EXPECT_EQ(t.pool->Truncate(a.id, 41).code(), ENGINE_OUT_OF_RANGE);
  EXPECT_OK(t.pool->Truncate(a.id, 30));
  a.tokens.resize(30);
  EXPECT_EQ(t.pool->Stats().pages_used, 2u);
  EXPECT_OK(Write(t.pool.get(), &a, {700, 701, 702}));
  EXPECT_EQ(Contents(t.pool.get(), a), "");
  EXPECT_EQ(Audit::Check(*t.pool), "");
  // What others may find is still what it was.
  EXPECT_EQ(Serve(t.pool.get(), {Range(0, 33)}).cached, 32u);
  EXPECT_OK(t.pool->Truncate(a.id, 0));
  EXPECT_EQ(t.pool->Written(a.id, nullptr, 1).code(), ENGINE_INVALID_ARGUMENT);
  EXPECT_EQ(t.pool->Stats().pages_used, 0u);
}

TEST(Pool, APromptThatFillsThePoolCanBeAskedTwice) {
  // The copy of its last page finds no room: the page itself is written.
  TestPool t(2);
  for (int i = 0; i < 3; ++i) {
    const User user = Serve(t.pool.get(), {Range(0, 32)});
    EXPECT_EQ(user.cached, i == 0 ? 0u : 31u);
  }
  EXPECT_EQ(t.pool->Stats().copied_pages, 0u);
}

TEST(Pool, ABudgetWithoutAPageIsRefused) {
  uint32_t pages = 0;
  const Status status = Pool::PagesWithin(SmallGeometry(), 1000, &pages);
  EXPECT_EQ(status.code(), ENGINE_RESOURCE_EXHAUSTED);
  EXPECT_NE(status.message().find("give at least"), std::string::npos) << status.message();
  EXPECT_OK(Pool::PagesWithin(SmallGeometry(), BudgetFor(SmallGeometry(), 1), &pages));
  EXPECT_EQ(pages, 1u);
}

TEST(Pool, TablesAreBoundedToo) {
  TestPool t(4);
  std::vector<User> users;
  Status status;
  while (status.ok() && users.size() < 100000) {
    users.emplace_back();
    status = Open(t.pool.get(), {{}}, &users.back());
    ASSERT_EQ(Audit::Check(*t.pool), "");
  }
  EXPECT_EQ(status.code(), ENGINE_RESOURCE_EXHAUSTED);
  EXPECT_NE(status.message().find("no room in its tables"), std::string::npos) << status.message();
  EXPECT_GT(users.size(), 20u);
  EXPECT_LE(t.pool->Stats().held_bytes, t.pool->Stats().budget_bytes);
  EXPECT_OK(t.pool->Close(users.front().id, 0));
  EXPECT_OK(Open(t.pool.get(), {{}}, &users.back()));
}

// --- threads ------------------------------------------------------------------------------------

TEST(Pool, ThreadsShareIt) {
  TestPool t(24);
  Folder folder;
  std::atomic<int> served{0};
  std::vector<std::thread> threads;
  for (unsigned n = 0; n < 4; ++n) {
    threads.emplace_back([&, n] {
      std::mt19937 random(n);
      for (int i = 0; i < 300; ++i) {
        const Tokens prompt = Join(Range(static_cast<int32_t>(random() % 3), 20),
                                   Range(static_cast<int32_t>(random() % 5), random() % 30));
        const std::string name = random() % 3 == 0 ? "session " + std::to_string(n) : "";
        User user;
        if (!Open(t.pool.get(), {prompt, name}, &user).ok()) continue;
        const Tokens rest(prompt.begin() + user.cached, prompt.end());
        EXPECT_EQ(Contents(t.pool.get(), user), "");
        if (Write(t.pool.get(), &user, rest).ok()) {
          EXPECT_EQ(Contents(t.pool.get(), user), "");
          ++served;
        }
        EXPECT_OK(t.pool->Close(user.id, ENGINE_KV_CLOSE_KEEP));
        if (name.empty() || random() % 4 != 0) continue;
        // What another thread's prompts threw out cannot be saved; all else must work.
        const std::string path = folder.Path(std::to_string(n));
        if (t.pool->SessionSave(name, "", path).ok()) {
          const Status back = t.pool->SessionRestore(name, "", path);
          EXPECT_TRUE(back.ok() || back.code() == ENGINE_RESOURCE_EXHAUSTED) << back.message();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(served, 600);
  EXPECT_EQ(Audit::Check(*t.pool), "");
  EXPECT_EQ(t.pool->Stats().pages_used, 0u);
}

}  // namespace
}  // namespace engine::kv_cache
