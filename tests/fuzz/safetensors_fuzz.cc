// Safetensors files: tensors lie inside the file, can be read, and come back when they are written.
#include "bytes_file.h"
#include "engine/model/formats/safetensors.h"

using namespace engine::model;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const BytesFile bytes(data, size);
  std::unique_ptr<SafetensorsFile> file;
  if (!SafetensorsFile::Open(bytes.path(), &file).ok()) return 0;
  std::vector<SafetensorsSource> sources;
  for (const SafetensorsTensor& tensor : file->tensors()) {
    if (tensor.offset > size || tensor.bytes > size - tensor.offset) __builtin_trap();
    if (file->Find(tensor.name) != &tensor) __builtin_trap();
    std::vector<float> values;
    std::vector<double> wide;
    if (file->Read(tensor, &values).ok() != tensor.floating) __builtin_trap();
    if (file->Read(tensor, &wide).ok() != tensor.floating) __builtin_trap();
    if (values.size() != wide.size()) __builtin_trap();
    sources.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.data});
  }
  const std::string path = "/dev/shm/engine_fuzz_" + std::to_string(getpid()) + ".safetensors";
  const bool written = WriteSafetensors(path, sources, file->metadata()).ok();
  const bool nameless = file->Find("") != nullptr;  // which the writer refuses
  if (written == nameless) __builtin_trap();
  if (!written) return 0;
  std::unique_ptr<SafetensorsFile> again;
  const bool read = SafetensorsFile::Open(path, &again).ok();
  unlink(path.c_str());
  if (!read || again->metadata() != file->metadata()) __builtin_trap();
  for (const SafetensorsTensor& tensor : file->tensors()) {
    const SafetensorsTensor* other = again->Find(tensor.name);
    if (other == nullptr || other->dtype != tensor.dtype || other->shape != tensor.shape ||
        !std::equal(tensor.data, tensor.data + tensor.bytes, other->data)) {
      __builtin_trap();
    }
  }
  return 0;
}
