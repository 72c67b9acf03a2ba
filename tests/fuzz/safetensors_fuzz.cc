// Safetensors files: tensors lie inside the file, and can be read.
#include "bytes_file.h"
#include "engine/model/formats/safetensors.h"

using namespace engine::model;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const BytesFile bytes(data, size);
  std::unique_ptr<SafetensorsFile> file;
  if (!SafetensorsFile::Open(bytes.path(), &file).ok()) return 0;
  for (const SafetensorsTensor& tensor : file->tensors()) {
    if (tensor.offset > size || tensor.bytes > size - tensor.offset) __builtin_trap();
    std::vector<float> values;
    engine::Status ignored = file->Read(tensor, &values);
  }
  return 0;
}
