// A file that appears whole or not at all: written beside its place under another name, flushed to
// the disk, then renamed. Invariant: until Commit answers OK, `path` holds what it held before, and
// whatever was written so far is removed when the object goes.
#ifndef ENGINE_MODEL_FORMATS_OUTPUT_FILE_H_
#define ENGINE_MODEL_FORMATS_OUTPUT_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.hpp"

namespace engine::model {

class OutputFile {
 public:
  OutputFile() = default;
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  Status Open(const std::string& path);
  // RESOURCE_EXHAUSTED when the disk takes no more.
  Status Append(const void* data, uint64_t bytes);
  Status Append(std::string_view text) { return Append(text.data(), text.size()); }
  // Zeros up to the next multiple of `alignment`.
  Status Align(uint64_t alignment);
  uint64_t size() const { return size_; }
  Status Commit();

 private:
  Status Flush();
  std::string path_, temporary_;
  std::vector<char> buffer_;
  uint64_t size_ = 0;
  int fd_ = -1;
};

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_OUTPUT_FILE_H_
