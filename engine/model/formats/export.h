// Writes a checkpoint again with 8-bit weights: a GGUF file, or a Hugging Face folder whose int8
// weights have the layout of compressed-tensors' "int-quantized". Either appears whole or not at
// all. Invariant: what was written opens again as a checkpoint of the same config and tokenizer;
// what the other format cannot say is refused.
#ifndef ENGINE_MODEL_FORMATS_EXPORT_H_
#define ENGINE_MODEL_FORMATS_EXPORT_H_

#include <string>

#include "engine/model/formats/checkpoint.h"
#include "engine/status.hpp"

namespace engine::model {

enum class ExportFormat {
  kGgufQ8_0,    // matrices in ggml's Q8_0 (F32 where rows are no whole blocks), all else F32
  kFolderInt8,  // matrices int8 by groups of kExportGroup inputs with scales in half precision
};
inline constexpr int64_t kExportGroup = 64;

// `replace`: what is at `path` already gives way, but only a file, or a folder that holds nothing
// but a model in one of the files that this writes; never the checkpoint's own. Metadata of a GGUF
// file and JSON files of a folder are copied where the format stays the same.
Status ExportQuantized(const Checkpoint& checkpoint, ExportFormat format, const std::string& path,
                       bool replace);

// The same refusals as ExportQuantized makes for a path, before anything is computed.
Status CheckExportPath(const Checkpoint& checkpoint, ExportFormat format, const std::string& path,
                       bool replace);

namespace internal {
// Implemented by export_gguf.cc and export_folder.cc; the file is new, the folder new and empty.
Status WriteQuantizedGguf(const Checkpoint& checkpoint, const std::string& path);
Status WriteQuantizedFolder(const Checkpoint& checkpoint, const std::string& folder);
}  // namespace internal

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_EXPORT_H_
