// Reads and writes safetensors files. Invariant of an open file: every tensor's bytes lie inside
// the data section, tensors do not overlap and leave no gap, and shape times element size is the
// number of bytes. Used for checkpoints and for LoRA adapters.
#ifndef ENGINE_MODEL_FORMATS_SAFETENSORS_H_
#define ENGINE_MODEL_FORMATS_SAFETENSORS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/formats/dequant.h"
#include "engine/model/formats/mapped_file.h"
#include "engine/model/formats/output_file.h"
#include "engine/status.hpp"

namespace engine::model {

struct SafetensorsTensor {
  std::string name;
  std::string dtype;  // as stored: "F32", "BF16", "I64", …
  std::vector<int64_t> shape;
  const uint8_t* data = nullptr;  // into the mapped file; may be unaligned
  uint64_t bytes = 0;
  uint64_t offset = 0;  // in the file
  int64_t elements = 1;
  bool floating = false;  // F64, F32, F16 or BF16: `encoding` says which
  Encoding encoding = Encoding::kF32;
};

class SafetensorsFile {
 public:
  static Status Open(const std::string& path, std::unique_ptr<SafetensorsFile>* out);

  const MappedFile& file() const { return *file_; }
  // In the order of their data.
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }
  const SafetensorsTensor* Find(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // All elements as float or double. An error when the tensor does not hold floating-point numbers,
  // or when the file was truncated since.
  Status Read(const SafetensorsTensor& tensor, std::vector<float>* out) const;
  Status Read(const SafetensorsTensor& tensor, std::vector<double>* out) const;

 private:
  template <typename T>
  Status ReadAs(const SafetensorsTensor& tensor, std::vector<T>* out) const;
  SafetensorsFile() = default;
  Status Parse();

  std::unique_ptr<MappedFile> file_;
  std::vector<SafetensorsTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  std::map<std::string, std::string> metadata_;
};

// What to write. The bytes are little-endian, of the dtype's size times the product of the shape.
struct SafetensorsSource {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  const void* data = nullptr;
  // Where set, it is called in place of `data` and appends exactly the tensor's bytes.
  std::function<Status(OutputFile*)> write = nullptr;
};

// `path` holds either its old content or all of the new; see OutputFile. Tensors are stored in the
// order given.
Status WriteSafetensors(const std::string& path, const std::vector<SafetensorsSource>& tensors,
                        const std::map<std::string, std::string>& metadata = {});

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_SAFETENSORS_H_
