#include "engine/model/formats/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

namespace engine::model {
namespace {

constexpr size_t kBuffer = 1u << 20;

}  // namespace

OutputFile::~OutputFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temporary_.c_str());
}

Status OutputFile::Open(const std::string& path) {
  path_ = path;
  temporary_ = path + ".tmp." + std::to_string(getpid());
  fd_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd_ < 0) {
    return Error(errno == ENOENT ? ENGINE_NOT_FOUND : ENGINE_PERMISSION_DENIED, "cannot create '",
                 temporary_, "': ", std::strerror(errno));
  }
  buffer_.reserve(kBuffer);
  return Status();
}

Status OutputFile::Append(const void* data, uint64_t bytes) {
  const auto* p = static_cast<const char*>(data);
  size_ += bytes;
  while (bytes > 0) {
    const size_t n = std::min<uint64_t>(bytes, kBuffer - buffer_.size());
    buffer_.insert(buffer_.end(), p, p + n);
    p += n;
    bytes -= n;
    if (buffer_.size() == kBuffer) ENGINE_RETURN_IF_ERROR(Flush());
  }
  return Status();
}

Status OutputFile::Align(uint64_t alignment) {
  const std::string zeros((alignment - size_ % alignment) % alignment, '\0');
  return Append(zeros);
}

Status OutputFile::Flush() {
  size_t at = 0;
  while (at < buffer_.size()) {
    const ssize_t n = write(fd_, buffer_.data() + at, buffer_.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      return Error(ENGINE_RESOURCE_EXHAUSTED, "cannot write '", path_, "' beyond ",
                   size_ - buffer_.size() + at, " bytes: ", std::strerror(errno),
                   "; free some disk space or choose another place");
    }
    at += static_cast<size_t>(n);
  }
  buffer_.clear();
  return Status();
}

Status OutputFile::Commit() {
  ENGINE_RETURN_IF_ERROR(Flush());
  if (fsync(fd_) != 0) {
    return Error(ENGINE_UNAVAILABLE, "cannot flush '", path_, "': ", std::strerror(errno));
  }
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    return Error(ENGINE_UNAVAILABLE, "cannot rename '", temporary_, "' to '", path_,
                 "': ", std::strerror(errno));
  }
  close(fd_);
  fd_ = -1;
  return Status();
}

}  // namespace engine::model
