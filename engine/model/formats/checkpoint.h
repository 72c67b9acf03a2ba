// A model's weights as stored, under Hugging Face's names and in Hugging Face's row order,
// whatever the file. Invariant of an open checkpoint: the config is valid and every tensor that
// the architecture needs is there with the shape that the config implies.
#ifndef ENGINE_MODEL_FORMATS_CHECKPOINT_H_
#define ENGINE_MODEL_FORMATS_CHECKPOINT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/formats/config.h"
#include "engine/model/formats/dequant.h"
#include "engine/model/formats/mapped_file.h"
#include "engine/status.hpp"

namespace engine::model {

class Tokenizer;

struct TensorInfo {
  std::string name;            // for example model.layers.0.self_attn.q_proj.weight
  std::vector<int64_t> shape;  // logical, row-major [out, in]
  Encoding encoding = Encoding::kF32;
  uint64_t bytes = 0;  // as stored, without the scales of kI8
  // Of kI8: neighbouring elements of a row that share a scale (the last group of a row may be
  // shorter), 0 when the whole row does; and whether every scale is a number of half precision.
  int64_t group = 0;
  bool half_scales = false;

  int64_t groups() const { return group == 0 ? 1 : (columns() + group - 1) / group; }
  int64_t rows() const { return shape.size() < 2 ? 1 : shape.front(); }
  int64_t columns() const { return shape.back(); }
};

class Checkpoint {
 public:
  // Where a tensor's bytes are. rotary_head_dim > 0: within each head of that many rows, the file
  // interleaves the two halves that rotary embedding pairs, as GGUF's llama converter does.
  struct Source {
    const MappedFile* file = nullptr;
    uint64_t offset = 0;
    int64_t rotary_head_dim = 0;
    // Of kI8: the tensor [rows, groups] of what its codes are multiplied with.
    const MappedFile* scales_file = nullptr;
    uint64_t scales_offset = 0;
    Encoding scales_encoding = Encoding::kF32;
  };

  virtual ~Checkpoint() = default;

  const ModelConfig& config() const { return config_; }
  // As it was given to OpenCheckpoint.
  const std::string& path() const { return path_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* Find(std::string_view name) const;

  // Decode rows [begin, end) of a matrix (a vector is one row) to dst. `tensor` is one of
  // tensors(). [any thread, at once for distinct dst]
  Status ReadRows(const TensorInfo& tensor, int64_t begin, int64_t end, float* dst) const;
  Status ReadRows(const TensorInfo& tensor, int64_t begin, int64_t end, double* dst) const;
  // Rounded to nearest, ties to even.
  Status ReadRowsBf16(const TensorInfo& tensor, int64_t begin, int64_t end, uint16_t* dst) const;

  // Where each row of a matrix begins, as stored; to [rows]. The bytes live as long as the
  // checkpoint. [any thread]
  Status StoredRows(const TensorInfo& tensor, const uint8_t** to) const;
  // A tensor's values as one array in their own encoding and logical order, where they lie aligned;
  // else null. `keep` holds the bytes, which change when somebody writes to the file in place.
  // [any thread]
  const uint8_t* AsStored(const TensorInfo& tensor, std::shared_ptr<const void>* keep) const;
  // The scales of a row of a kI8 tensor; to [groups()]. [any thread]
  Status ReadScales(const TensorInfo& tensor, int64_t row, float* to) const;
  // The container, when it is a GGUF file; else null.
  virtual const GgufFile* gguf() const { return nullptr; }
  // True where the weights are in no file; path() and gguf() are then those of the model whose
  // tokenizer it has.
  virtual bool random() const { return false; }
  // Names, shapes and encodings of all tensors with some bytes of each: differs for checkpoints
  // that compute another function, but for those that differ in none of the bytes looked at.
  std::string Identity() const;

  // The file's pages of this tensor stop counting in the resident size. [any thread]
  void Drop(const TensorInfo& tensor) const;

  virtual Status MakeTokenizer(std::unique_ptr<Tokenizer>* out) const = 0;

 protected:
  Checkpoint() = default;
  // Two tensors under one name is an error.
  Status Add(TensorInfo info, Source source);
  // Where a tensor that was added is after all.
  void Place(const std::string& name, Source source) { sources_[index_.at(name)] = source; }
  // The config by itself, and all tensors against it. Called once by each Open.
  Status CheckComplete() const;

  ModelConfig config_;
  std::string path_;

 private:
  Status SourceOf(const TensorInfo& tensor, const Source** out) const;
  template <typename T>
  Status ReadInt8(const TensorInfo& tensor, int64_t begin, int64_t end, T* dst) const;
  template <typename T, typename DecodeFn>
  Status ReadWith(const TensorInfo& tensor, int64_t begin, int64_t end, T* dst, DecodeFn fn) const;

  std::vector<TensorInfo> tensors_;
  std::vector<Source> sources_;
  std::map<std::string, size_t, std::less<>> index_;
};

// A GGUF file, a folder with exactly one .gguf file, or a Hugging Face folder (config.json with
// model.safetensors or model.safetensors.index.json and its shards).
Status OpenCheckpoint(const std::string& path, std::unique_ptr<Checkpoint>* out);

// The tokenizer that belongs to a checkpoint: GGUF metadata or tokenizer.json.
Status OpenTokenizer(const Checkpoint& checkpoint, std::unique_ptr<Tokenizer>* out);

namespace internal {
// Implemented by gguf_checkpoint.cc and hf_folder.cc.
Status OpenGgufCheckpoint(const std::string& path, const std::string& file,
                          std::unique_ptr<Checkpoint>* out);
Status OpenHfFolder(const std::string& path, std::unique_ptr<Checkpoint>* out);
}  // namespace internal

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_CHECKPOINT_H_
