// Writes a model as a GGUF file or as a Hugging Face folder: a checkpoint again with its weights as
// other numbers, or with the values that a model has come to hold in their place. Either appears
// whole or not at all. Invariant: what was written opens again as a checkpoint of the same config
// and tokenizer; what the other format cannot say is refused.
#ifndef ENGINE_MODEL_FORMATS_EXPORT_H_
#define ENGINE_MODEL_FORMATS_EXPORT_H_

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/formats/checkpoint.h"
#include "engine/status.hpp"

namespace engine::model {

class OutputFile;

// `matrices`: kF64, kF32, kF16 or kBF16; kQ8_0 in a GGUF file (ggml's; F32 where rows are no whole
// blocks); kI8 in a folder (compressed-tensors' "int-quantized": by groups of kExportGroup inputs,
// scales in half precision). Vectors of a folder are stored alike, but F32 beside int8; those of a
// GGUF file are F32, or F64 beside F64.
struct ExportFormat {
  bool gguf = false;  // else a Hugging Face folder
  Encoding matrices = Encoding::kF32;
};
inline constexpr ExportFormat kGgufQ8_0{true, Encoding::kQ8_0};
inline constexpr ExportFormat kFolderInt8{false, Encoding::kI8};
inline constexpr int64_t kExportGroup = 64;

// The format for a path (.gguf: a GGUF file) and a type by its name in any case: F64, F32, F16,
// BF16, Q8_0 or INT8. INVALID_ARGUMENT where the two do not go together.
Status ParseExportFormat(const std::string& path, std::string type, ExportFormat* out);

// Values that stand for a checkpoint's own.
class RowSource {
 public:
  virtual ~RowSource() = default;
  // Whether they may differ from what is stored; all others are taken from the checkpoint.
  virtual bool Replaces(const TensorInfo& tensor) const = 0;
  // As Checkpoint::ReadRows.
  virtual Status Rows(const TensorInfo& tensor, int64_t begin, int64_t end, double* to) const = 0;
};

struct ExportRequest {
  std::string path;
  ExportFormat format;
  // What is at `path` already gives way, but only a file, or a folder that holds nothing but a
  // model in one of the files that this writes; never the checkpoint's own.
  bool replace = false;
  const RowSource* rows = nullptr;  // null: the checkpoint's values
  // Where the values come from: metadata of the GGUF file or of the folder's safetensors file (keys
  // begin with kNotePrefix; such keys of the source are left out), and the text of a folder's
  // provenance.json. Empty: none.
  std::map<std::string, std::string> notes;
  std::string provenance;
};
inline constexpr std::string_view kNotePrefix = "engine.";

// Metadata of a GGUF file and JSON files of a folder are copied where the format stays the same.
// DATA_LOSS names a tensor and row with values that are not finite, or too great for the format.
Status ExportCheckpoint(const Checkpoint& checkpoint, const ExportRequest& request);

// The same refusals as ExportCheckpoint makes for a path, before anything is computed.
Status CheckExportPath(const Checkpoint& checkpoint, const ExportRequest& request);

namespace internal {

// Rows [begin, end) of one tensor.
using Rows = std::function<Status(int64_t begin, int64_t end, double* to)>;
Rows RowsOf(const Checkpoint& checkpoint, const TensorInfo& tensor, const RowSource* source);

// Appends a tensor's rows in an encoding other than kI8, some at a time.
Status WriteRows(const std::string& name, const std::vector<int64_t>& shape, Encoding encoding,
                 const Rows& rows, OutputFile* file);

// Implemented by export_gguf.cc and export_folder.cc; the file is new, the folder new and empty.
Status WriteGguf(const Checkpoint& checkpoint, const ExportRequest& request,
                 const std::string& path);
Status WriteFolder(const Checkpoint& checkpoint, const ExportRequest& request,
                   const std::string& folder);

}  // namespace internal

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_EXPORT_H_
