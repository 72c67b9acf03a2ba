// GGUF files, and what is made of their metadata: config, tensors, tokenizer.
#include "bytes_file.h"
#include "engine/model/formats/checkpoint.h"
#include "engine/model/formats/gguf.h"
#include "engine/model/formats/tokenizer.h"

using namespace engine::model;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const BytesFile file(data, size);
  std::unique_ptr<GgufFile> gguf;
  if (!GgufFile::Open(file.path(), &gguf).ok()) return 0;
  // Every tensor lies inside the file, as the reader promises.
  for (const GgufTensor& tensor : gguf->tensors()) {
    if (tensor.offset > size || tensor.bytes > size - tensor.offset) __builtin_trap();
  }
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<int32_t> ids;
  if (TokenizerFromGguf(*gguf, &tokenizer).ok() &&
      tokenizer->Encode("Hello, w\xc3\xb6rld 123", true, true, &ids).ok()) {
    tokenizer->Decode(ids, false);
  }
  std::unique_ptr<Checkpoint> checkpoint;
  if (!internal::OpenGgufCheckpoint(file.path(), file.path(), &checkpoint).ok()) return 0;
  for (const TensorInfo& tensor : checkpoint->tensors()) {
    if (tensor.columns() > 1 << 20) continue;
    std::vector<float> row(static_cast<size_t>(tensor.columns()));
    engine::Status ignored =
        checkpoint->ReadRows(tensor, tensor.rows() - 1, tensor.rows(), row.data());
  }
  return 0;
}
