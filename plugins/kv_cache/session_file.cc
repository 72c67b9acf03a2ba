#include "session_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

namespace engine::kv_cache {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little endian");

constexpr char kMagic[8] = {'E', 'N', 'G', 'K', 'V', 'S', 'E', 'S'};
constexpr uint32_t kVersion = 1;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t header_bytes;
  uint64_t fingerprint;
  uint32_t format;
  uint32_t page_tokens;
  uint32_t blocks;
  uint32_t adapter;
  uint64_t kv_heads, head_dim, page_bytes;
  uint64_t tokens, computed;
  uint8_t zero[44];
  uint32_t crc;  // of all before
};
static_assert(sizeof(Header) == 128 && offsetof(Header, crc) == 124);

uint32_t Crc(uint32_t crc, const void* data, uint64_t size) {
  const auto* at = static_cast<const Bytef*>(data);
  while (size != 0) {
    const uInt n = static_cast<uInt>(std::min<uint64_t>(size, 1u << 30));
    crc = static_cast<uint32_t>(crc32(crc, at, n));
    at += n;
    size -= n;
  }
  return crc;
}
// Begins a page's checksum, so that pages that changed places are noticed.
uint32_t PageCrc(uint64_t number) { return Crc(0, &number, sizeof number); }

uint64_t PagesFor(uint64_t tokens, const Geometry& g) {
  return tokens / g.page_tokens + (tokens % g.page_tokens != 0);
}

// False when such a file could not be addressed.
bool FileBytes(uint64_t tokens, uint64_t pages, const Geometry& g, uint64_t* bytes) {
  uint64_t all_pages = 0, all_tokens = 0;
  return !__builtin_mul_overflow(pages, g.page_bytes + 4, &all_pages) &&
         !__builtin_mul_overflow(tokens, uint64_t{4}, &all_tokens) &&
         !__builtin_add_overflow(all_pages, all_tokens, bytes) &&
         !__builtin_add_overflow(*bytes, sizeof(Header) + 4, bytes);
}

}  // namespace

// --- writing ------------------------------------------------------------------------------------

SessionWriter::SessionWriter(const FileShape& shape, std::string path)
    : shape_(shape), path_(std::move(path)) {}

SessionWriter::~SessionWriter() {
  if (file_ >= 0) close(file_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

Status SessionWriter::Failed(const char* what) const {
  const int code = errno;
  return Error(code == ENOSPC || code == EDQUOT ? ENGINE_RESOURCE_EXHAUSTED : ENGINE_UNAVAILABLE,
               "session file '", path_, "' cannot be ", what, ": ", std::strerror(code));
}

Status SessionWriter::Put(const void* data, uint64_t size) {
  const auto* at = static_cast<const char*>(data);
  while (size != 0) {
    const ssize_t n = write(file_, at, std::min<uint64_t>(size, 1u << 30));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Failed("written");
    at += n;
    size -= static_cast<uint64_t>(n);
  }
  return Status();
}

Status SessionWriter::Begin(const int32_t* tokens, uint64_t count, uint64_t computed) {
  static std::atomic<uint64_t> number{0};
  if (path_.empty() || path_.find('\0') != std::string::npos) {
    return Error(ENGINE_INVALID_ARGUMENT, "a session file needs a path without zero bytes");
  }
  std::string temporary =
      path_ + ".tmp." + std::to_string(getpid()) + "." + std::to_string(number.fetch_add(1));
  // What was said in a session is its owner's alone.
  file_ = open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file_ < 0) return Failed("made");
  temporary_ = std::move(temporary);
  computed_ = computed;
  const Geometry& g = shape_.geometry;
  Header h = {};
  std::memcpy(h.magic, kMagic, sizeof kMagic);
  h.version = kVersion;
  h.header_bytes = sizeof h;
  h.fingerprint = shape_.fingerprint;
  h.format = g.format;
  h.page_tokens = g.page_tokens;
  h.blocks = g.blocks;
  h.adapter = shape_.adapter;
  h.kv_heads = static_cast<uint64_t>(g.kv_heads);
  h.head_dim = static_cast<uint64_t>(g.head_dim);
  h.page_bytes = g.page_bytes;
  h.tokens = count;
  h.computed = computed;
  h.crc = Crc(0, &h, offsetof(Header, crc));
  ENGINE_RETURN_IF_ERROR(Put(&h, sizeof h));
  ENGINE_RETURN_IF_ERROR(Put(tokens, count * sizeof(int32_t)));
  const uint32_t crc = Crc(0, tokens, count * sizeof(int32_t));
  return Put(&crc, sizeof crc);
}

Status SessionWriter::Page(const char* data, char* piece) {
  const Geometry& g = shape_.geometry;
  const uint64_t begin = pages_ * g.page_tokens;
  const uint64_t held = computed_ - std::min(computed_, begin);
  uint32_t crc = PageCrc(pages_++);
  for (uint32_t block = 0; block < g.blocks; ++block, data += g.block_bytes) {
    const char* from = data;
    if (held < g.page_tokens) {
      std::memcpy(piece, data, g.block_bytes);
      g.ClearPositions(piece, static_cast<uint32_t>(held));
      from = piece;
    }
    crc = Crc(crc, from, g.block_bytes);
    ENGINE_RETURN_IF_ERROR(Put(from, g.block_bytes));
  }
  return Put(&crc, sizeof crc);
}

Status SessionWriter::Finish() {
  if (fsync(file_) != 0) return Failed("brought to disk");
  if (close(std::exchange(file_, -1)) != 0) return Failed("closed");
  if (rename(temporary_.c_str(), path_.c_str()) != 0) return Failed("put in its place");
  temporary_.clear();
  // The name is on disk only when its folder is.
  const size_t slash = path_.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
  const int at = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (at < 0) return Failed("brought to disk");
  const bool done = fsync(at) == 0 || errno == EINVAL;  // some file systems have no such thing
  const Status status = done ? Status() : Failed("brought to disk");
  close(at);
  return status;
}

// --- reading ------------------------------------------------------------------------------------

SessionReader::SessionReader(const FileShape& shape, std::string path)
    : shape_(shape), path_(std::move(path)) {}

SessionReader::~SessionReader() {
  if (file_ >= 0) close(file_);
}

Status SessionReader::Damaged(const char* what) const {
  return Error(ENGINE_DATA_LOSS, "session file '", path_, "' is damaged: ", what);
}

Status SessionReader::Get(void* data, uint64_t size, const char* what) {
  auto* at = static_cast<char*>(data);
  while (size != 0) {
    const ssize_t n = read(file_, at, std::min<uint64_t>(size, 1u << 30));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      return Error(ENGINE_UNAVAILABLE, "session file '", path_,
                   "' cannot be read: ", std::strerror(errno));
    }
    if (n == 0) return Error(ENGINE_DATA_LOSS, "session file '", path_, "' ends within ", what);
    at += n;
    size -= static_cast<uint64_t>(n);
  }
  return Status();
}

Status SessionReader::Begin() {
  if (path_.empty() || path_.find('\0') != std::string::npos) {
    return Error(ENGINE_INVALID_ARGUMENT, "a session file needs a path without zero bytes");
  }
  // Without O_NONBLOCK, a pipe in its place would wait for a writer.
  file_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat info = {};
  if (file_ < 0 || fstat(file_, &info) != 0) {
    return Error(errno == ENOENT ? ENGINE_NOT_FOUND : ENGINE_UNAVAILABLE, "session file '", path_,
                 "' cannot be opened: ", std::strerror(errno));
  }
  if (!S_ISREG(info.st_mode)) {
    return Error(ENGINE_INVALID_ARGUMENT, "'", path_, "' is no file, so it holds no session");
  }
  Header h = {};
  ENGINE_RETURN_IF_ERROR(Get(&h, sizeof h, "its header"));
  if (std::memcmp(h.magic, kMagic, sizeof kMagic) != 0) {
    return Error(ENGINE_INVALID_ARGUMENT, "'", path_, "' is no session file: it does not begin as ",
                 "one");
  }
  if (h.version != kVersion) {
    return Error(ENGINE_FAILED_PRECONDITION, "session file '", path_, "' has format version ",
                 h.version, "; this engine reads version ", kVersion);
  }
  if (h.crc != Crc(0, &h, offsetof(Header, crc)) || h.header_bytes != sizeof h) {
    return Damaged("the checksum of its header is another");
  }
  const Geometry& g = shape_.geometry;
  if (h.fingerprint != shape_.fingerprint) {
    return Error(ENGINE_FAILED_PRECONDITION, "session file '", path_,
                 "' was made with another model: its fingerprint is ", h.fingerprint,
                 ", this model's ", shape_.fingerprint,
                 " (weights, their format and adapters count)");
  }
  if (h.adapter != shape_.adapter) {
    return Error(ENGINE_FAILED_PRECONDITION, "session file '", path_,
                 "' was computed with the model's adapter ", h.adapter,
                 ", and is to be restored for adapter ", shape_.adapter,
                 " (0: none); name the adapter that it was saved under");
  }
  if (h.format != g.format) {
    return Error(ENGINE_FAILED_PRECONDITION, "session file '", path_, "' keeps keys and values in ",
                 FormatName(h.format), ", this cache in ", FormatName(g.format),
                 "; set the option dtype to the former");
  }
  if (h.page_tokens != g.page_tokens || h.blocks != g.blocks ||
      h.kv_heads != static_cast<uint64_t>(g.kv_heads) ||
      h.head_dim != static_cast<uint64_t>(g.head_dim) || h.page_bytes != g.page_bytes) {
    return Error(ENGINE_FAILED_PRECONDITION, "session file '", path_, "' has pages of ",
                 h.page_tokens, " tokens, ", h.blocks, " blocks, ", h.kv_heads, " heads of ",
                 h.head_dim, "; this cache has ", g.page_tokens, ", ", g.blocks, ", ", g.kv_heads,
                 " and ", g.head_dim);
  }
  if (h.computed > h.tokens || h.tokens == 0) return Damaged("its counts contradict each other");
  uint64_t bytes = 0;
  const uint64_t pages = PagesFor(h.computed, g);
  if (!FileBytes(h.tokens, pages, g, &bytes)) return Damaged("its counts cannot be addressed");
  const auto size = static_cast<uint64_t>(info.st_size);
  if (size != bytes) {
    return Error(ENGINE_DATA_LOSS, "session file '", path_, "' has ", size,
                 " bytes and should have ", bytes,
                 size < bytes ? ": it was cut short" : ": something stands behind its end");
  }
  tokens_ = h.tokens;
  computed_ = h.computed;
  pages_ = pages;
  return Status();
}

Status SessionReader::Tokens(int32_t* to) {
  ENGINE_RETURN_IF_ERROR(Get(to, tokens_ * sizeof(int32_t), "its tokens"));
  uint32_t crc = 0;
  ENGINE_RETURN_IF_ERROR(Get(&crc, sizeof crc, "its tokens"));
  if (crc != Crc(0, to, tokens_ * sizeof(int32_t))) {
    return Damaged("the checksum of its tokens is another");
  }
  for (uint64_t i = 0; i < tokens_; ++i) {
    if (to[i] < 0 || (shape_.vocab > 0 && to[i] >= shape_.vocab)) {
      return Error(ENGINE_DATA_LOSS, "session file '", path_, "' has the token ", to[i],
                   ", which this model does not know");
    }
  }
  return Status();
}

Status SessionReader::Page(char* to) {
  const uint64_t bytes = shape_.geometry.page_bytes;
  ENGINE_RETURN_IF_ERROR(Get(to, bytes, "its pages"));
  uint32_t crc = 0;
  ENGINE_RETURN_IF_ERROR(Get(&crc, sizeof crc, "its pages"));
  if (crc != Crc(PageCrc(next_page_++), to, bytes)) {
    return Damaged("the checksum of a page is another");
  }
  return Status();
}

}  // namespace engine::kv_cache
