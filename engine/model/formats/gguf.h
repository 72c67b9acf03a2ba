// Reads the container of GGUF files (versions 2 and 3, little-endian): metadata and the table of
// tensors. Every length is checked against the bytes that remain before anything is allocated or
// read. Invariant of an open file: all tensors lie inside the data section, aligned, not
// overlapping, with unique names and a known encoding.
#ifndef ENGINE_MODEL_FORMATS_GGUF_H_
#define ENGINE_MODEL_FORMATS_GGUF_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/formats/dequant.h"
#include "engine/model/formats/mapped_file.h"
#include "engine/status.hpp"

namespace engine::model {

// One metadata value. Strings point into the mapped file.
struct GgufValue {
  enum class Kind { kUnsigned, kSigned, kFloat, kBool, kString, kArray };
  Kind kind = Kind::kUnsigned;
  uint64_t u = 0;
  int64_t i = 0;
  double f = 0;
  bool b = false;
  std::string_view s;
  // Of an array: the kind of its elements, and one of the vectors.
  Kind element = Kind::kUnsigned;
  std::vector<std::string_view> strings;
  std::vector<int64_t> integers;  // also bools; uint64 above 2^63-1 is refused
  std::vector<double> floats;
};

struct GgufTensor {
  std::string name;
  std::vector<int64_t> shape;  // row-major: GGUF's dimensions reversed
  Encoding encoding = Encoding::kF32;
  uint64_t offset = 0;  // in the file
  uint64_t bytes = 0;
};

class GgufFile {
 public:
  static Status Open(const std::string& path, std::unique_ptr<GgufFile>* out);

  const MappedFile& file() const { return *file_; }
  uint32_t version() const { return version_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufValue* Find(std::string_view key) const;
  // A metadata entry as it is stored: its type and value, undecoded.
  struct Entry {
    std::string_view key, encoded;
  };
  // In the order of the file.
  const std::vector<Entry>& entries() const { return entries_; }
  uint64_t alignment() const { return alignment_; }

  // Each leaves *out alone and answers OK when an optional key is absent; a value of another kind
  // is an error that names the key.
  enum Need { kRequired, kOptional };
  Status GetInt(std::string_view key, Need need, int64_t* out) const;
  Status GetFloat(std::string_view key, Need need, double* out) const;
  Status GetBool(std::string_view key, Need need, bool* out) const;
  Status GetString(std::string_view key, Need need, std::string* out) const;
  // *out stays null when absent.
  Status GetArray(std::string_view key, Need need, GgufValue::Kind element,
                  const GgufValue** out) const;

 private:
  friend class GgufParser;
  GgufFile() = default;
  Status Missing(std::string_view key, Need need) const;
  Status WrongKind(std::string_view key, std::string_view wanted) const;

  std::unique_ptr<MappedFile> file_;
  uint32_t version_ = 0;
  uint64_t alignment_ = 32;
  std::vector<Entry> entries_;
  std::map<std::string, GgufValue, std::less<>> values_;
  std::vector<GgufTensor> tensors_;
};

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_GGUF_H_
