#include "engine/model/formats/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/model/formats/mapped_guard.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ENGINE_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define ENGINE_ASAN 1
#endif
#ifdef ENGINE_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace engine::model {
namespace {

// The last page of a mapping goes on behind the file's end, where a reader that looks too far finds
// zeros; AddressSanitizer is told that nothing is there.
void MarkTail([[maybe_unused]] const uint8_t* map, [[maybe_unused]] uint64_t size,
              [[maybe_unused]] bool mapped) {
#ifdef ENGINE_ASAN
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t tail = (page - size % page) % page;
  if (mapped) {
    ASAN_POISON_MEMORY_REGION(map + size, tail);
  } else {
    ASAN_UNPOISON_MEMORY_REGION(map + size, tail);
  }
#endif
}

}  // namespace

Status MappedFile::Open(const std::string& path, std::unique_ptr<MappedFile>* out) {
  if (path.empty() || path.find('\0') != std::string::npos) {
    return Error(ENGINE_INVALID_ARGUMENT, "a file path is empty or holds a NUL byte; give a path");
  }
  // O_NONBLOCK so that opening a FIFO answers at once; it changes nothing for a regular file.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    return Error(errno == ENOENT || errno == ENOTDIR ? ENGINE_NOT_FOUND : ENGINE_PERMISSION_DENIED,
                 "cannot open '", path, "': ", std::strerror(errno));
  }
  std::unique_ptr<MappedFile> file(new MappedFile);
  file->fd_ = fd;
  file->path_ = path;
  struct stat info = {};
  if (fstat(fd, &info) != 0) {
    return Error(ENGINE_UNAVAILABLE, "cannot read the size of '", path,
                 "': ", std::strerror(errno));
  }
  if (!S_ISREG(info.st_mode)) {
    return Error(ENGINE_INVALID_ARGUMENT, "'", path, "' is not a regular file");
  }
  if (info.st_size <= 0) {
    return Error(ENGINE_DATA_LOSS, "'", path, "' is empty (0 bytes); fetch the file again");
  }
  file->size_ = static_cast<uint64_t>(info.st_size);
  void* map = mmap(nullptr, file->size_, PROT_READ, MAP_PRIVATE, fd, 0);
  if (map == MAP_FAILED) {
    return Error(ENGINE_RESOURCE_EXHAUSTED, "cannot map '", path, "' (", file->size_,
                 " bytes): ", std::strerror(errno));
  }
  file->Hold(map);
  *out = std::move(file);
  return Status();
}

void MappedFile::Hold(void* map) {
  data_ = static_cast<uint8_t*>(map);
  WatchMapping(map, size_, path_);
  MarkTail(data_, size_, true);
  mapping_ = std::shared_ptr<const void>(map, [map, size = size_](const void*) {
    MarkTail(static_cast<const uint8_t*>(map), size, false);
    ForgetMapping(map);
    munmap(map, size);
  });
}

Status MappedFile::Make(const std::string& name, uint64_t size, std::unique_ptr<MappedFile>* out,
                        const std::function<void(void* bytes)>& fill) {
  std::unique_ptr<MappedFile> file(new MappedFile);
  file->path_ = name;
  const auto failed = [&] {
    return Error(ENGINE_RESOURCE_EXHAUSTED, "no memory for ", name, " (", size,
                 " bytes): ", std::strerror(errno));
  };
  file->fd_ = memfd_create(name.c_str(), MFD_CLOEXEC);
  if (file->fd_ < 0 || ftruncate(file->fd_, static_cast<off_t>(size)) != 0) return failed();
  void* map = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd_, 0);
  if (map == MAP_FAILED) return failed();
  file->size_ = size;
  file->Hold(map);
  fill(map);
  *out = std::move(file);
  return Status();
}

MappedFile::~MappedFile() {
  if (fd_ >= 0) close(fd_);
}

Status MappedFile::CheckUnchanged() const {
  struct stat info = {};
  if (fstat(fd_, &info) != 0) {
    return Error(ENGINE_UNAVAILABLE, "cannot read the size of '", path_,
                 "': ", std::strerror(errno));
  }
  if (static_cast<uint64_t>(info.st_size) < size_) {
    return Error(ENGINE_DATA_LOSS, "'", path_, "' was truncated while in use: it had ", size_,
                 " bytes and has ", info.st_size, "; replace model files by rename, not in place");
  }
  return Status();
}

void MappedFile::DropPages(uint64_t offset, uint64_t length) const {
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  if (offset >= size_) return;
  const uint64_t end = offset + std::min(length, size_ - offset);
  const uint64_t first = (offset + page - 1) / page * page;
  const uint64_t last = end == size_ ? end : end / page * page;
  if (first < last) madvise(data_ + first, last - first, MADV_DONTNEED);
}

}  // namespace engine::model
