// Gives bytes a path, for readers that map files, without touching the disk.
#ifndef TESTS_FUZZ_BYTES_FILE_H_
#define TESTS_FUZZ_BYTES_FILE_H_

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

class BytesFile {
 public:
  BytesFile(const uint8_t* data, size_t size) : fd_(memfd_create("fuzz", 0)) {
    if (fd_ < 0 || write(fd_, data, size) != static_cast<ssize_t>(size)) __builtin_trap();
  }
  ~BytesFile() { close(fd_); }
  BytesFile(const BytesFile&) = delete;
  BytesFile& operator=(const BytesFile&) = delete;
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  const int fd_;
};

#endif  // TESTS_FUZZ_BYTES_FILE_H_
