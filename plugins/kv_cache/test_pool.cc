#include "test_pool.h"

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <sstream>

namespace engine::kv_cache {

Geometry SmallGeometry(uint32_t format) {
  Geometry g;
  g.format = format;
  g.blocks = 2;
  g.kv_heads = 2;
  g.head_dim = 4;
  EXPECT_TRUE(g.Complete().ok());
  return g;
}

uint64_t BudgetFor(const Geometry& geometry, uint32_t pages) {
  uint64_t low = 0, high = uint64_t{1} << 40;
  while (low + 1 < high) {
    const uint64_t middle = (low + high) / 2;
    uint32_t got = 0;
    const bool enough = Pool::PagesWithin(geometry, middle, &got).ok() && got >= pages;
    (enough ? high : low) = middle;
  }
  return high;
}

Tokens Range(int32_t first, size_t count) {
  Tokens tokens(count);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

TestPool::TestPool(Config config) {
  config.now_ns = [this] { return now_ns; };
  const Status status = Pool::Make(
      std::move(config),
      [this](uint64_t bytes, char** out) {
        // What a page held before must never matter.
        memory.assign(bytes, char{0x5a});
        *out = memory.data();
        return Status();
      },
      &pool);
  EXPECT_TRUE(status.ok()) << status.message();
}

TestPool::TestPool(uint32_t pages)
    : TestPool(Config{.geometry = SmallGeometry(),
                      .budget = BudgetFor(SmallGeometry(), pages),
                      .session_timeout_ns = 1000}) {
  EXPECT_EQ(pool->pages(), pages);
}

// --- contents -----------------------------------------------------------------------------------

std::vector<uint64_t> BytesOf(const Geometry& g, uint32_t at) {
  const auto heads = static_cast<uint64_t>(g.kv_heads), dim = static_cast<uint64_t>(g.head_dim);
  const uint64_t element = g.format == ENGINE_KV_F32 ? 4 : g.format == ENGINE_KV_F16 ? 2 : 1;
  const uint64_t keys = heads * dim * g.page_tokens * element;
  std::vector<uint64_t> bytes;
  const auto add = [&](uint64_t offset, uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) bytes.push_back(offset + i);
  };
  for (uint64_t h = 0; h < heads; ++h) {
    if (g.format == ENGINE_KV_INT8) {
      for (uint64_t d = 0; d < dim / 4; ++d) add(((h * dim / 4 + d) * g.page_tokens + at) * 4, 4);
    } else {
      for (uint64_t d = 0; d < dim; ++d) {
        add(((h * dim + d) * g.page_tokens + at) * element, element);
      }
    }
    add(keys + (h * g.page_tokens + at) * dim * element, dim * element);
    if (g.format == ENGINE_KV_INT8) {
      add(2 * keys + (h * g.page_tokens + at) * 4, 4);
      add(2 * keys + ((heads + h) * g.page_tokens + at) * 4, 4);
    }
  }
  return bytes;
}

namespace {

// What a position's bytes are depends on all tokens up to it, as keys and values do.
uint64_t Mix(uint64_t seed, uint64_t value) {
  seed ^= value + 0x9e3779b97f4a7c15u + (seed << 6) + (seed >> 2);
  return seed * 0xff51afd7ed558ccdu;
}
char Byte(uint64_t prefix, uint32_t block, uint64_t i) {
  return static_cast<char>(Mix(Mix(prefix, block), i) >> 40);
}

template <typename Visit>
void ForBytes(Pool* pool, const User& user, uint64_t from, Visit&& visit) {
  const Geometry& g = pool->geometry();
  const int32_t* table = nullptr;
  uint32_t count = 0;
  const Status status = pool->Blocks(user.id, &table, &count);
  ASSERT_TRUE(status.ok()) << status.message();
  ASSERT_GE(uint64_t{count} * g.page_tokens, user.tokens.size());
  std::vector<std::vector<uint64_t>> layout;
  for (uint32_t at = 0; at < g.page_tokens; ++at) layout.push_back(BytesOf(g, at));
  uint64_t prefix = 1;
  for (uint64_t p = 0; p < user.tokens.size(); ++p) {
    prefix = Mix(prefix, static_cast<uint64_t>(user.tokens[p]));
    if (p < from) continue;
    const std::vector<uint64_t>& bytes = layout[p % g.page_tokens];
    for (uint32_t b = 0; b < g.blocks; ++b) {
      char* const piece = pool->Piece(b, table[p / g.page_tokens]);
      for (uint64_t i = 0; i < bytes.size(); ++i) visit(p, piece + bytes[i], Byte(prefix, b, i));
    }
  }
}

}  // namespace

Status Open(Pool* pool, const Ask& ask, User* user) {
  engine_kv_open how = Sized<engine_kv_open>();
  how.flags = ask.flags;
  how.tokens = ask.tokens.data();
  how.token_count = static_cast<uint32_t>(ask.tokens.size());
  how.adapter = ask.adapter;
  how.salt = Str(ask.salt);
  how.session = Str(ask.session);
  engine_kv_match match = Sized<engine_kv_match>();
  ENGINE_RETURN_IF_ERROR(pool->Open(how, &user->id, &match));
  user->cached = match.cached;
  user->reason = match.reason;
  user->tokens.assign(ask.tokens.begin(), ask.tokens.begin() + match.cached);
  return Status();
}

Status Write(Pool* pool, User* user, const Tokens& more) {
  const uint64_t from = user->tokens.size();
  ENGINE_RETURN_IF_ERROR(pool->Reserve(user->id, from + more.size()));
  user->tokens.insert(user->tokens.end(), more.begin(), more.end());
  ForBytes(pool, *user, from, [](uint64_t, char* at, char byte) { *at = byte; });
  return pool->Written(user->id, more.data(), user->tokens.size());
}

std::string Contents(Pool* pool, const User& user) {
  std::string wrong;
  ForBytes(pool, user, 0, [&](uint64_t p, const char* at, char byte) {
    if (*at == byte || !wrong.empty()) return;
    wrong = "position " + std::to_string(p) + " of sequence " + std::to_string(user.id) +
            " holds keys and values of other tokens";
  });
  return wrong;
}

Tokens History(Pool* pool, const std::string& session, const std::string& salt) {
  uint64_t count = 0;
  EXPECT_TRUE(pool->SessionTokens(session, salt, nullptr, 0, &count).ok());
  Tokens tokens(count);
  EXPECT_TRUE(pool->SessionTokens(session, salt, tokens.data(), count, &count).ok());
  return tokens;
}

User Serve(Pool* pool, const Ask& ask, uint32_t close_flags) {
  User user;
  Status status = Open(pool, ask, &user);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(Contents(pool, user), "");
  status = Write(pool, &user, Tokens(ask.tokens.begin() + user.cached, ask.tokens.end()));
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(Contents(pool, user), "");
  status = pool->Close(user.id, close_flags);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(Audit::Check(*pool), "");
  return user;
}

// --- the audit ----------------------------------------------------------------------------------

std::string Audit::Check(const Pool& pool) {
  std::lock_guard lock(pool.mutex_);
  std::ostringstream wrong;
  const Pages& pages = pool.pages_;
  const uint32_t total = pages.total();
  const uint64_t pt = pool.page_tokens_;
  std::vector<uint32_t> sequences(total), sessions(total), children(total);
  uint64_t held =
      Pool::FixedCost(pool.config_.geometry) + total * Pool::PageCost(pool.config_.geometry);
  for (const auto& [id, s] : pool.sequences_) {
    held += Pool::SequenceCost() + s.table.held();
    if (s.table.size() < (s.written + pt - 1) / pt) wrong << "sequence " << id << " has holes; ";
    if (s.chained > s.written / pt) wrong << "sequence " << id << " chains unwritten pages; ";
    for (uint64_t i = 0; i < s.table.size(); ++i) {
      const int32_t page = s.table[i];
      ++sequences[page];
      const int32_t before = i == 0 ? kNoPage : s.table[i - 1];
      if (pages.at(page).findable && pages.at(page).parent != before) {
        wrong << "sequence " << id << " holds page " << page << " without its parent; ";
      }
    }
  }
  pool.sessions_.ForEach([&](const Session& s) {
    held += Sessions::CostOf(s.key->name) + s.tokens.held() + s.pages.held();
    if (s.state == SessionState::kInUse && !s.pages.empty()) wrong << "a busy session has pages; ";
    if (s.computed > s.tokens.size() || s.pages.size() != (s.computed + pt - 1) / pt) {
      wrong << "a session has " << s.pages.size() << " pages for " << s.computed << " positions; ";
    }
    for (uint64_t i = 0; i < s.pages.size(); ++i) {
      ++(s.state == SessionState::kIdle ? sessions : sequences)[s.pages[i]];
    }
  });
  if (held != pool.ledger_.held()) {
    wrong << "the ledger holds " << pool.ledger_.held() << ", counted again " << held << "; ";
  }
  if (pool.ledger_.held() > pool.config_.budget) wrong << "the budget is exceeded; ";

  uint32_t used = 0, cached = 0, by_sessions = 0, leaves = 0;
  for (uint32_t i = 0; i < total; ++i) {
    const Page& p = pages.at(static_cast<int32_t>(i));
    if (p.findable && p.parent != kNoPage) ++children[p.parent];
    if (p.sequences != sequences[i] || p.sessions != sessions[i]) {
      wrong << "page " << i << " counts " << p.sequences << " sequences and " << p.sessions
            << " sessions; " << sequences[i] << " and " << sessions[i] << " hold it; ";
    }
    used += sequences[i] != 0;
    by_sessions += sessions[i] != 0;
    cached += sequences[i] == 0 && (sessions[i] != 0 || p.findable);
  }
  uint32_t free = 0;
  for (int32_t i = pages.first_free_; i != kNoPage && free <= total; i = pages.at(i).next) {
    const Page& p = pages.at(i);
    if (p.findable || p.sequences + p.sessions != 0) wrong << "free page " << i << " is held; ";
    ++free;
  }
  if (free != pages.free() || used != pages.used() || cached != pages.cached() ||
      by_sessions != pages.held_by_sessions() || free + used + cached != total) {
    wrong << "of " << total << " pages " << pages.free() << "/" << pages.used() << "/"
          << pages.cached() << " are free/used/cached; counted again " << free << "/" << used << "/"
          << cached << "; ";
  }
  uint64_t stamp = 0;
  for (int32_t i = pages.oldest_; i != kNoPage && leaves <= total; i = pages.at(i).newer) {
    if (!pages.at(i).listed || pages.at(i).stamp < stamp) wrong << "leaf " << i << " misplaced; ";
    stamp = pages.at(i).stamp;
    ++leaves;
  }
  for (uint32_t i = 0; i < total; ++i) {
    const Page& p = pages.at(static_cast<int32_t>(i));
    const bool leaf = p.findable && p.sequences + p.sessions == 0 && children[i] == 0;
    leaves -= leaf;
    if (leaf != p.listed) wrong << "page " << i << (leaf ? " is no" : " is a") << " leaf; ";
    if (!p.findable) continue;
    if (p.children != children[i]) wrong << "page " << i << " counts its children wrongly; ";
    if (p.parent != kNoPage && !pages.at(p.parent).findable) wrong << "page " << i << " is lost; ";
    // Its own tokens lead to it, and to nothing else.
    const Prefix& index = pool.prefix_;
    const int32_t* tokens = pages.tokens(static_cast<int32_t>(i));
    if (p.hash != index.HashPage(p.parent, p.salt, tokens)) {
      wrong << "page " << i << " has other tokens than when it was full; ";
    }
    uint32_t steps = 0, met = 0;
    for (int32_t j = index.chains_[p.hash & (index.buckets_ - 1)]; j != kNoPage && steps++ <= total;
         j = pages.at(j).next) {
      const Page& q = pages.at(j);
      met += q.hash == p.hash && q.parent == p.parent && q.salt == p.salt &&
             std::equal(tokens, tokens + pt, pages.tokens(j));
    }
    if (met != 1) wrong << "page " << i << " is found " << met << " times; ";
  }
  if (leaves != 0) wrong << "the list of leaves is of another length; ";
  return wrong.str();
}

// --- files --------------------------------------------------------------------------------------

Folder::Folder() {
  std::string name = (std::filesystem::temp_directory_path() / "kv_cache_XXXXXX").string();
  EXPECT_NE(mkdtemp(name.data()), nullptr);
  path_ = name;
}

Folder::~Folder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace engine::kv_cache
