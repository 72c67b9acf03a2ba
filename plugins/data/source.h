// The file of a data set: mapped, never read as a whole, with an index of where its examples begin.
// An example is a piece of the mapping and lives as long as this does. A file that is cut short
// while it is mapped kills the process, as with every mapping: files under use must not shrink.
#ifndef PLUGINS_DATA_SOURCE_H_
#define PLUGINS_DATA_SOURCE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/status.hpp"

namespace engine::data {

// Bytes of a file; unmapped at the end.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();
  // An empty file is an error: no data set is.
  Status Open(const std::string& path);
  std::string_view bytes() const { return bytes_; }

 private:
  std::string_view bytes_;
};

enum class Form { kLines, kList, kText, kTokens };

// An error names the first line that is no UTF-8.
Status CheckUtf8(const std::string& path, std::string_view bytes);

// By the name's end, else by the first byte that is no white space.
Form FormOf(std::string_view path, std::string_view bytes);

// JSON objects, one a line or in one list.
class ObjectIndex {
 public:
  // `bytes` must outlive this.
  Status Build(const std::string& path, std::string_view bytes, Form form, size_t longest);
  uint64_t size() const { return begins_.size(); }
  // The text of an object; longer ones than allowed are an error.
  Status At(uint64_t i, std::string_view* out) const;
  // "path:line" of it.
  std::string Where(uint64_t i) const;

 private:
  Status BuildList();
  void Push(uint64_t begin);
  std::string path_;
  std::string_view bytes_;
  Form form_ = Form::kLines;
  size_t longest_ = 0;
  std::vector<uint64_t> begins_;
  // Line numbers of every kStride-th object, so that a place is found without the whole file.
  static constexpr uint64_t kStride = 1024;
  std::vector<uint64_t> lines_;
};

// Token ids one after the other, cut into stretches.
class TokenFile {
 public:
  // `width` is 2 or 4 bytes; `bytes` must outlive this.
  Status Build(const std::string& path, std::string_view bytes, size_t header, size_t width,
               uint32_t vocab, size_t stretch);
  uint64_t size() const { return (count_ + stretch_ - 1) / stretch_; }
  Status At(uint64_t i, std::vector<int32_t>* out) const;

 private:
  std::string path_;
  std::string_view bytes_;  // without the header
  size_t width_ = 2, stretch_ = 1;
  uint64_t count_ = 0;
  uint32_t vocab_ = 0;
};

}  // namespace engine::data

#endif  // PLUGINS_DATA_SOURCE_H_
