// Writes GGUF files, version 3, little-endian. The file appears whole or not at all, and nothing
// but one tensor's rows is held in memory.
#ifndef ENGINE_MODEL_FORMATS_GGUF_WRITER_H_
#define ENGINE_MODEL_FORMATS_GGUF_WRITER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/formats/dequant.h"
#include "engine/model/formats/output_file.h"
#include "engine/status.hpp"

namespace engine::model {

class GgufWriter {
 public:
  // Metadata, stored in the order of these calls; keys are unique.
  void Add(std::string_view key, std::string_view value);
  void Add(std::string_view key, uint32_t value);
  void Add(std::string_view key, float value);
  void Add(std::string_view key, bool value);
  void Add(std::string_view key, const std::vector<std::string>& values);
  void Add(std::string_view key, const std::vector<int32_t>& values);
  // `encoded`: type and value as another GGUF file has them.
  void AddEncoded(std::string_view key, std::string_view encoded);
  // Of tensors' data; a power of two. Other than 32 it is also the metadata "general.alignment",
  // which the caller adds.
  void SetAlignment(uint32_t alignment) { alignment_ = alignment; }

  struct Tensor {
    std::string name;
    std::vector<int64_t> shape;  // row-major; of whole blocks of the encoding
    Encoding encoding = Encoding::kF32;
    // Appends the tensor's bytes, exactly as many as shape and encoding imply.
    std::function<Status(OutputFile*)> write;
  };
  Status Write(const std::string& path, const std::vector<Tensor>& tensors) const;

 private:
  void Key(std::string_view key, uint32_t type);
  std::string metadata_;
  uint64_t keys_ = 0;
  uint32_t alignment_ = 32;
};

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_GGUF_WRITER_H_
