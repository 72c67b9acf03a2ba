#include "session_file.h"

#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "test_pool.h"

namespace engine::kv_cache {
namespace {

std::string Read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}
void Put(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

Config ConfigOf(uint32_t format = ENGINE_KV_F32) {
  const Geometry g = SmallGeometry(format);
  return {.geometry = g, .budget = BudgetFor(g, 8), .fingerprint = 42, .vocab = 1000};
}

// A pool with the session "chat" of 20 tokens, and its file.
struct Saved {
  explicit Saved(uint32_t format = ENGINE_KV_F32) : t(ConfigOf(format)) {
    Serve(t.pool.get(), {Range(0, 20), "chat", "red"}, ENGINE_KV_CLOSE_KEEP);
    const Status status = t.pool->SessionSave("chat", "red", path);
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(Audit::Check(*t.pool), "");
    bytes = Read(path);
  }
  Folder folder;
  std::string path = folder.Path("chat.session");
  TestPool t;
  std::string bytes;
};

TEST(SessionFile, BelongsToItsAdapter) {
  Folder folder;
  const std::string path = folder.Path("chat.session");
  TestPool t(ConfigOf());
  Serve(t.pool.get(), {.tokens = Range(0, 20), .session = "chat", .adapter = 2},
        ENGINE_KV_CLOSE_KEEP);
  EXPECT_EQ(t.pool->SessionSave("chat", "", path).code(), ENGINE_NOT_FOUND);
  EXPECT_EQ(t.pool->SessionSave("chat", "", path, 1).code(), ENGINE_NOT_FOUND);
  ASSERT_TRUE(t.pool->SessionSave("chat", "", path, 2).ok());
  TestPool other(ConfigOf());
  for (uint32_t adapter : {0u, 1u}) {
    const Status status = other.pool->SessionRestore("chat", "", path, adapter);
    EXPECT_EQ(status.code(), ENGINE_FAILED_PRECONDITION);
    EXPECT_NE(status.message().find("computed with the model's adapter 2"), std::string::npos)
        << status.message();
  }
  ASSERT_TRUE(other.pool->SessionRestore("chat", "", path, 2).ok());
  EXPECT_TRUE(History(other.pool.get(), "chat").empty());
  const Ask ask = {.tokens = Range(0, 25), .session = "chat", .adapter = 2};
  EXPECT_EQ(Serve(other.pool.get(), ask).cached, 20u);
  EXPECT_EQ(other.pool->SessionDrop("chat", "", 1).code(), ENGINE_NOT_FOUND);
  EXPECT_TRUE(other.pool->SessionDrop("chat", "", 2).ok());
}

TEST(SessionFile, ComesBackInAnotherPoolUnderAnotherSalt) {
  for (uint32_t format : {ENGINE_KV_F32, ENGINE_KV_F16, ENGINE_KV_INT8}) {
    Saved saved(format);
    TestPool other(ConfigOf(format));
    const Status status = other.pool->SessionRestore("again", "blue", saved.path);
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(Audit::Check(*other.pool), "");
    EXPECT_EQ(History(other.pool.get(), "again", "blue"), Range(0, 20));
    // Serve compares the contents of the pages.
    const User user = Serve(other.pool.get(), {Range(0, 25), "again", "blue"}, 0);
    EXPECT_EQ(user.cached, 20u);
    EXPECT_EQ(user.reason, ENGINE_KV_HIT_SESSION);
    // What came from a file is not given to others.
    EXPECT_EQ(Serve(other.pool.get(), {Range(0, 25), "", "blue"}).cached, 0u);
    // Saved again, it is the same file.
    ASSERT_TRUE(other.pool->SessionSave("again", "blue", saved.path).ok());
    EXPECT_EQ(Read(saved.path), saved.bytes);
  }
}

TEST(SessionFile, KeepsTheHistoryWhosePagesAreGone) {
  Saved saved;
  Serve(saved.t.pool.get(), {Range(500, 128)});
  ASSERT_TRUE(saved.t.pool->SessionSave("chat", "red", saved.path).ok());
  EXPECT_EQ(Read(saved.path).size(), 128u + 20 * 4 + 4);
  TestPool other(ConfigOf());
  ASSERT_TRUE(other.pool->SessionRestore("chat", "", saved.path).ok());
  EXPECT_EQ(History(other.pool.get(), "chat"), Range(0, 20));
  EXPECT_EQ(Serve(other.pool.get(), {Range(0, 21), "chat"}).reason, ENGINE_KV_MISS_EVICTED);
}

TEST(SessionFile, HoldsNothingThatOthersLeftInThePage) {
  Saved saved;
  const Geometry g = SmallGeometry();
  const size_t second = 128 + 20 * 4 + 4 + g.page_bytes + 4;
  for (uint32_t block = 0; block < g.blocks; ++block) {
    for (uint64_t byte : BytesOf(g, 4)) {
      EXPECT_EQ(saved.bytes[second + block * g.block_bytes + byte], '\0');
    }
  }
}

TEST(SessionFile, EveryFlippedByteIsRefusedAndNothingIsLost) {
  Saved saved;
  TestPool other(ConfigOf());
  Serve(other.pool.get(), {Range(700, 20), "chat", "red"}, ENGINE_KV_CLOSE_KEEP);
  for (size_t i = 0; i < saved.bytes.size(); ++i) {
    for (const int flip : {1 << (i % 8), 0x55 << (i % 2)}) {
      std::string bytes = saved.bytes;
      bytes[i] = static_cast<char>(bytes[i] ^ flip);
      Put(saved.path, bytes);
      ASSERT_FALSE(other.pool->SessionRestore("chat", "red", saved.path).ok()) << "byte " << i;
    }
  }
  EXPECT_EQ(Audit::Check(*other.pool), "");
  EXPECT_EQ(History(other.pool.get(), "chat", "red"), Range(700, 20));
  EXPECT_EQ(Serve(other.pool.get(), {Range(700, 21), "chat", "red"}).cached, 20u);
  Put(saved.path, saved.bytes);
  EXPECT_TRUE(other.pool->SessionRestore("chat", "red", saved.path).ok());
}

TEST(SessionFile, EveryCutAndEveryAddedByteIsRefused) {
  Saved saved;
  TestPool other(ConfigOf());
  for (size_t size = 0; size < saved.bytes.size(); ++size) {
    Put(saved.path, saved.bytes.substr(0, size));
    const Status status = other.pool->SessionRestore("chat", "", saved.path);
    ASSERT_EQ(status.code(), ENGINE_DATA_LOSS) << size << ": " << status.message();
  }
  Put(saved.path, saved.bytes + '\0');
  EXPECT_NE(other.pool->SessionRestore("chat", "", saved.path).message().find("behind its end"),
            std::string::npos);
  EXPECT_EQ(other.pool->Stats().sessions, 0u);
  EXPECT_EQ(other.pool->Stats().pages_cached, 0u);
  EXPECT_EQ(Audit::Check(*other.pool), "");
}

TEST(SessionFile, PagesThatChangedPlacesAreRefused) {
  Saved saved;
  const size_t page = SmallGeometry().page_bytes + 4, first = saved.bytes.size() - 2 * page;
  std::string bytes = saved.bytes;
  std::copy_n(saved.bytes.begin() + static_cast<ptrdiff_t>(first), page,
              bytes.begin() + static_cast<ptrdiff_t>(first + page));
  std::copy_n(saved.bytes.begin() + static_cast<ptrdiff_t>(first + page), page,
              bytes.begin() + static_cast<ptrdiff_t>(first));
  Put(saved.path, bytes);
  TestPool other(ConfigOf());
  const Status status = other.pool->SessionRestore("chat", "", saved.path);
  EXPECT_NE(status.message().find("checksum of a page"), std::string::npos) << status.message();
}

// Changes a field of the header and sets its checksum right, as a hostile maker would.
std::string Forged(std::string bytes, size_t at, uint64_t value, size_t size) {
  std::memcpy(bytes.data() + at, &value, size);
  const auto crc =
      static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(bytes.data()), 124));
  std::memcpy(bytes.data() + 124, &crc, 4);
  return bytes;
}

TEST(SessionFile, HostileCountsAreRefusedBeforeAnythingIsAllocated) {
  Saved saved;
  TestPool other(ConfigOf());
  Serve(other.pool.get(), {Range(700, 40)});
  constexpr size_t kTokens = 64, kComputed = 72;
  for (const size_t at : {kTokens, kComputed}) {
    for (const uint64_t value : {uint64_t{0}, uint64_t{1}, uint64_t{19}, uint64_t{21},
                                 uint64_t{1} << 32, uint64_t{1} << 62, UINT64_MAX}) {
      Put(saved.path, Forged(saved.bytes, at, value, 8));
      const Status status = other.pool->SessionRestore("chat", "", saved.path);
      // 19 computed positions fill as many pages as 20: the file would be a good one.
      if (at == kComputed && value == 19) {
        EXPECT_TRUE(status.ok()) << status.message();
        EXPECT_TRUE(other.pool->SessionDrop("chat", "").ok());
        continue;
      }
      EXPECT_EQ(status.code(), ENGINE_DATA_LOSS) << at << " " << value << status.message();
    }
  }
  EXPECT_EQ(other.pool->Stats().evicted_pages, 0u);
  EXPECT_EQ(Audit::Check(*other.pool), "");
}

TEST(SessionFile, AHistoryThatCannotFitThrowsNothingOut) {
  Folder folder;
  TestPool t(ConfigOf());
  Serve(t.pool.get(), {Range(0, 20), "chat"}, ENGINE_KV_CLOSE_KEEP);
  const Tokens tokens(20000, 7);
  SessionWriter file({SmallGeometry(), 42, 1000}, folder.Path("long"));
  ASSERT_TRUE(file.Begin(tokens.data(), tokens.size(), 0).ok());
  ASSERT_TRUE(file.Finish().ok());
  const Status status = t.pool->SessionRestore("long", "", folder.Path("long"));
  EXPECT_EQ(status.code(), ENGINE_RESOURCE_EXHAUSTED) << status.message();
  EXPECT_EQ(History(t.pool.get(), "chat"), Range(0, 20));
  EXPECT_EQ(t.pool->Stats().sessions, 1u);
  EXPECT_EQ(Audit::Check(*t.pool), "");
}

TEST(SessionFile, TokensOutsideTheVocabularyAreRefused) {
  Saved saved;
  Config small = ConfigOf();
  small.vocab = 19;
  TestPool other(small);
  const Status status = other.pool->SessionRestore("chat", "", saved.path);
  EXPECT_NE(status.message().find("token 19"), std::string::npos) << status.message();
}

TEST(SessionFile, OtherMakersAreNamed) {
  Saved saved;
  const auto refused = [&](const std::function<void(Config*)>& change, const char* word) {
    Config config = ConfigOf();
    change(&config);
    EXPECT_TRUE(config.geometry.Complete().ok());
    config.budget = BudgetFor(config.geometry, 8);
    TestPool other(config);
    const Status status = other.pool->SessionRestore("chat", "", saved.path);
    EXPECT_EQ(status.code(), ENGINE_FAILED_PRECONDITION);
    EXPECT_NE(status.message().find(word), std::string::npos) << status.message();
    EXPECT_EQ(other.pool->Stats().sessions, 0u);
  };
  refused([](Config* c) { c->fingerprint = 43; }, "another model");
  refused([](Config* c) { c->geometry.format = ENGINE_KV_F16; }, "in F32, this cache in F16");
  refused([](Config* c) { c->geometry.page_tokens = 32; }, "pages of 16 tokens");
  refused([](Config* c) { c->geometry.blocks = 3; }, "2 blocks");
  refused([](Config* c) { c->geometry.head_dim = 8; }, "heads of 4");
  Put(saved.path, Forged(saved.bytes, 8, 2, 4));
  refused([](Config*) {}, "format version 2");
}

TEST(SessionFile, PathsThatCannotBeAreRefused) {
  Saved saved;
  Pool* pool = saved.t.pool.get();
  EXPECT_EQ(pool->SessionSave("chat", "red", "").code(), ENGINE_INVALID_ARGUMENT);
  EXPECT_EQ(pool->SessionSave("chat", "red", std::string("a\0b", 3)).code(),
            ENGINE_INVALID_ARGUMENT);
  const Status nowhere = pool->SessionSave("chat", "red", saved.folder.Path("no/such/file"));
  EXPECT_NE(nowhere.message().find("No such file"), std::string::npos) << nowhere.message();
  EXPECT_EQ(pool->SessionSave("nobody", "red", saved.path).code(), ENGINE_NOT_FOUND);
  EXPECT_EQ(pool->SessionRestore("chat", "", saved.folder.Path("none")).code(), ENGINE_NOT_FOUND);
  EXPECT_EQ(pool->SessionRestore("chat", "", saved.folder.Path("")).code(),
            ENGINE_INVALID_ARGUMENT);
  // A save that fails at its end leaves neither a file nor a temporary one.
  const std::string folder = saved.folder.Path("folder");
  std::filesystem::create_directory(folder);
  EXPECT_FALSE(pool->SessionSave("chat", "red", folder).ok());
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(saved.folder.Path(""))) {
    files += entry.is_regular_file();
  }
  EXPECT_EQ(files, 1u);
  EXPECT_EQ(Audit::Check(*pool), "");
  EXPECT_EQ(Serve(pool, {Range(0, 21), "chat", "red"}).cached, 20u);
}

}  // namespace
}  // namespace engine::kv_cache
