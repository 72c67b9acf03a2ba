// A session on disk. Little endian:
//   header   128 bytes, its last four the CRC-32 of those before
//   tokens   i32 each, then their CRC-32
//   pages    for each: its bytes over all blocks, then the CRC-32 of its number and its bytes
// and nothing behind. The header tells the version, the model's fingerprint (its adapters
// included), the adapter's number and the geometry, so that a file of another model, adapter or
// engine is refused by what differs; no salt and no name is in it. The size of the file follows
// from the header and must be exactly that. Positions of the last page that hold nothing are
// zeroes: what other sequences left there does not get out.
#ifndef PLUGINS_KV_CACHE_SESSION_FILE_H_
#define PLUGINS_KV_CACHE_SESSION_FILE_H_

#include <cstdint>
#include <string>

#include "geometry.h"

namespace engine::kv_cache {

// What a file must have been made with.
struct FileShape {
  Geometry geometry;
  uint64_t fingerprint = 0;
  int64_t vocab = 0;     // tokens are below; 0: unknown
  uint32_t adapter = 0;  // number of the adapter that keys and values were computed with; 0: none
};

// Writes to a temporary file beside `path`, waits until it is on disk, then renames it. Pages are
// given in order; `piece` holds one page of one block.
class SessionWriter {
 public:
  SessionWriter(const FileShape& shape, std::string path);
  ~SessionWriter();  // removes what was not finished
  SessionWriter(const SessionWriter&) = delete;
  SessionWriter& operator=(const SessionWriter&) = delete;

  Status Begin(const int32_t* tokens, uint64_t count, uint64_t computed);
  Status Page(const char* data, char* piece);
  Status Finish();

 private:
  Status Put(const void* data, uint64_t size);
  Status Failed(const char* what) const;

  const FileShape shape_;
  const std::string path_;
  std::string temporary_;
  int file_ = -1;
  uint64_t computed_ = 0, pages_ = 0;
};

class SessionReader {
 public:
  SessionReader(const FileShape& shape, std::string path);
  ~SessionReader();
  SessionReader(const SessionReader&) = delete;
  SessionReader& operator=(const SessionReader&) = delete;

  // Reads the header and judges it; nothing is allocated by what it says.
  Status Begin();
  uint64_t tokens() const { return tokens_; }
  uint64_t computed() const { return computed_; }  // positions whose keys and values are there
  uint64_t pages() const { return pages_; }
  // In this order, each once.
  Status Tokens(int32_t* to);
  Status Page(char* to);

 private:
  Status Get(void* data, uint64_t size, const char* what);
  Status Damaged(const char* what) const;

  const FileShape shape_;
  const std::string path_;
  int file_ = -1;
  uint64_t tokens_ = 0, computed_ = 0, pages_ = 0, next_page_ = 0;
};

}  // namespace engine::kv_cache

#endif  // PLUGINS_KV_CACHE_SESSION_FILE_H_
