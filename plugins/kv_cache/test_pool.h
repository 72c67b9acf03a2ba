// What the tests of this folder share: a pool in plain memory with a clock of their own, contents
// of pages that tell which tokens they were computed from, and an audit of everything counted.
#ifndef PLUGINS_KV_CACHE_TEST_POOL_H_
#define PLUGINS_KV_CACHE_TEST_POOL_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "pool.h"

namespace engine::kv_cache {

using Tokens = std::vector<int32_t>;

// A small model: two blocks, two heads of four.
Geometry SmallGeometry(uint32_t format = ENGINE_KV_F32);
// The budget that gives exactly so many pages.
uint64_t BudgetFor(const Geometry& geometry, uint32_t pages);
// 0, 1, 2, ... from `first`.
Tokens Range(int32_t first, size_t count);

struct TestPool {
  explicit TestPool(Config config);
  // With that many pages and nothing special.
  explicit TestPool(uint32_t pages);
  std::vector<char> memory;
  uint64_t now_ns = 1;
  std::unique_ptr<Pool> pool;
};

// How a test opens a sequence.
struct Ask {
  Tokens tokens;
  std::string session = {}, salt = {};
  uint32_t flags = 0;
  uint32_t adapter = 0;
};

// A sequence as its user sees it: what it is made of, and its place in the pool.
struct User {
  uint64_t id = 0;
  uint32_t cached = 0;
  uint32_t reason = 0;
  Tokens tokens;  // of all written positions
};

Status Open(Pool* pool, const Ask& ask, User* user);
// Reserves, writes contents for the tokens that follow, and says so.
Status Write(Pool* pool, User* user, const Tokens& more);
// Empty when every written position holds what its tokens computed, else what differs.
std::string Contents(Pool* pool, const User& user);
Tokens History(Pool* pool, const std::string& session, const std::string& salt = {});
// Opens, writes all of the prompt and closes; answers what was found.
User Serve(Pool* pool, const Ask& ask, uint32_t close_flags = 0);

// The bytes of position `at` in one block's piece of a page, in order of the layout.
std::vector<uint64_t> BytesOf(const Geometry& geometry, uint32_t at);

// Counts everything again and compares; empty when all is well.
struct Audit {
  static std::string Check(const Pool& pool);
};

// A folder that is gone at the end.
class Folder {
 public:
  Folder();
  ~Folder();
  std::string Path(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace engine::kv_cache

#endif  // PLUGINS_KV_CACHE_TEST_POOL_H_
