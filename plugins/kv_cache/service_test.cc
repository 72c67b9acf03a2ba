#include "service.h"

#include <map>
#include <string>

#include "test_pool.h"

namespace engine::kv_cache {
namespace {

// A host's metrics in a map.
std::map<std::string, double>* g_metrics = nullptr;
const engine_metrics kHost = {
    sizeof(engine_metrics),
    [](uint32_t, engine_str name, engine_str, engine_metric** out) -> engine_status* {
      *out = reinterpret_cast<engine_metric*>(&(*g_metrics)[std::string(View(name))]);
      return nullptr;
    },
    [](engine_metric* metric, double value) { *reinterpret_cast<double*>(metric) += value; },
    nullptr, nullptr};

TEST(Service, TheTableServesAndCounts) {
  std::map<std::string, double> metrics;
  g_metrics = &metrics;
  TestPool t(8);
  {
    Service service(std::move(t.pool), &kHost);
    const engine_kv_pool* table = service.table();
    EXPECT_EQ(table->page_tokens, 16u);
    const Tokens tokens = Range(0, 40);
    engine_kv_open how = Sized<engine_kv_open>();
    how.tokens = tokens.data();
    how.token_count = 40;
    how.session = Str("chat");
    for (int turn = 0; turn < 2; ++turn) {
      uint64_t id = 0, copy = 0;
      engine_kv_match match = Sized<engine_kv_match>();
      ASSERT_EQ(table->sequence_open(table->self, &how, &id, &match), nullptr);
      EXPECT_EQ(match.cached, turn == 0 ? 0u : 39u);
      ASSERT_EQ(table->sequence_reserve(table->self, id, 40), nullptr);
      const int32_t* blocks = nullptr;
      uint32_t count = 0;
      ASSERT_EQ(table->sequence_blocks(table->self, id, &blocks, &count), nullptr);
      EXPECT_EQ(count, 3u);
      ASSERT_EQ(table->sequence_written(table->self, id, tokens.data() + match.cached, 40),
                nullptr);
      ASSERT_EQ(table->sequence_fork(table->self, id, &copy), nullptr);
      ASSERT_EQ(table->sequence_truncate(table->self, copy, 3), nullptr);
      ASSERT_EQ(table->sequence_close(table->self, copy, 0), nullptr);
      EXPECT_EQ(metrics["engine_kv_pages_used"], 3);
      ASSERT_EQ(table->sequence_close(table->self, id, ENGINE_KV_CLOSE_KEEP), nullptr);
    }
    uint64_t count = 0;
    ASSERT_EQ(table->session_tokens(table->self, Str("chat"), Str(""), 0, nullptr, 0, &count),
              nullptr);
    EXPECT_EQ(count, 40u);
    EXPECT_EQ(metrics["engine_kv_lookups_total"], 2);
    EXPECT_EQ(metrics["engine_kv_hits_total"], 1);
    EXPECT_EQ(metrics["engine_kv_hits_session_total"], 1);
    EXPECT_EQ(metrics["engine_kv_misses_cold_total"], 1);
    EXPECT_EQ(metrics["engine_kv_cached_tokens_total"], 39);
    EXPECT_EQ(metrics["engine_kv_pages_used"], 0);
    EXPECT_EQ(metrics["engine_kv_pages_cached"], 3);
    EXPECT_EQ(metrics["engine_kv_sessions"], 1);
    engine_kv_stats stats = Sized<engine_kv_stats>();
    table->stats(table->self, &stats);
    EXPECT_EQ(stats.struct_size, sizeof stats);
    EXPECT_EQ(stats.lookups, 2u);
    EXPECT_EQ(metrics["engine_kv_held_bytes"], static_cast<double>(stats.held_bytes));
    // A caller of an older SDK gets the part that it knows.
    engine_kv_stats old = Sized<engine_kv_stats>();
    old.struct_size = offsetof(engine_kv_stats, lookups);
    old.lookups = 77;
    table->stats(table->self, &old);
    EXPECT_EQ(old.pages_total, 8u);
    EXPECT_EQ(old.lookups, 77u);
    ASSERT_EQ(table->session_drop(table->self, Str("chat"), Str(""), 0), nullptr);
  }
  // The pool is gone and so are its pages; what happened stays counted.
  EXPECT_EQ(metrics["engine_kv_pages_cached"], 0);
  EXPECT_EQ(metrics["engine_kv_held_bytes"], 0);
  EXPECT_EQ(metrics["engine_kv_lookups_total"], 2);
}

TEST(Service, NonsenseIsAnswered) {
  TestPool t(4);
  Service service(std::move(t.pool), nullptr);
  const engine_kv_pool* table = service.table();
  const auto code = [](engine_status* taken) { return Status(taken).code(); };
  engine_kv_open how = {};
  uint64_t id = 0;
  EXPECT_EQ(code(table->sequence_open(table->self, nullptr, &id, nullptr)),
            ENGINE_INVALID_ARGUMENT);
  EXPECT_EQ(code(table->sequence_open(table->self, &how, &id, nullptr)), ENGINE_INVALID_ARGUMENT);
  how.struct_size = sizeof how;
  how.token_count = 3;
  EXPECT_EQ(code(table->sequence_open(table->self, &how, &id, nullptr)), ENGINE_INVALID_ARGUMENT);
  how.token_count = 0;
  EXPECT_EQ(code(table->sequence_open(table->self, &how, nullptr, nullptr)),
            ENGINE_INVALID_ARGUMENT);
  ASSERT_EQ(table->sequence_open(table->self, &how, &id, nullptr), nullptr);
  EXPECT_EQ(code(table->sequence_blocks(table->self, id, nullptr, nullptr)),
            ENGINE_INVALID_ARGUMENT);
  EXPECT_EQ(code(table->sequence_fork(table->self, id, nullptr)), ENGINE_INVALID_ARGUMENT);
  EXPECT_EQ(code(table->sequence_reserve(table->self, 99, 1)), ENGINE_NOT_FOUND);
  EXPECT_EQ(code(table->sequence_written(table->self, id, nullptr, 1)), ENGINE_INVALID_ARGUMENT);
  const int32_t token = 1;
  EXPECT_EQ(code(table->sequence_written(table->self, id, &token, UINT64_MAX)),
            ENGINE_FAILED_PRECONDITION);
  EXPECT_EQ(code(table->session_tokens(table->self, {}, {}, 0, nullptr, 0, nullptr)),
            ENGINE_INVALID_ARGUMENT);
  EXPECT_EQ(code(table->session_drop(table->self, {}, {}, 0)), ENGINE_INVALID_ARGUMENT);
  EXPECT_EQ(code(table->session_save(table->self, {}, {}, 0, {})), ENGINE_INVALID_ARGUMENT);
  EXPECT_EQ(code(table->session_restore(table->self, Str("x"), {}, 0, {})),
            ENGINE_INVALID_ARGUMENT);
}

}  // namespace
}  // namespace engine::kv_cache
