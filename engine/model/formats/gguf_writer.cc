#include "engine/model/formats/gguf_writer.h"

namespace engine::model {
namespace {

constexpr uint32_t kUint32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8, kArray = 9;

template <typename T>
void Put(T value, std::string* to) {
  to->append(reinterpret_cast<const char*>(&value), sizeof value);
}

void PutString(std::string_view text, std::string* to) {
  Put<uint64_t>(text.size(), to);
  *to += text;
}

uint32_t TypeOf(Encoding e) {
  switch (e) {
    case Encoding::kF32:
      return 0;
    case Encoding::kF16:
      return 1;
    case Encoding::kQ4_0:
      return 2;
    case Encoding::kQ4_1:
      return 3;
    case Encoding::kQ8_0:
      return 8;
    case Encoding::kI8:
      return 24;
    case Encoding::kF64:
      return 28;
    case Encoding::kBF16:
      return 30;
  }
  return 0;
}

}  // namespace

void GgufWriter::Key(std::string_view key, uint32_t type) {
  ++keys_;
  PutString(key, &metadata_);
  Put(type, &metadata_);
}

void GgufWriter::Add(std::string_view key, std::string_view value) {
  Key(key, kString);
  PutString(value, &metadata_);
}

void GgufWriter::Add(std::string_view key, uint32_t value) {
  Key(key, kUint32);
  Put(value, &metadata_);
}

void GgufWriter::Add(std::string_view key, float value) {
  Key(key, kFloat32);
  Put(value, &metadata_);
}

void GgufWriter::Add(std::string_view key, bool value) {
  Key(key, kBool);
  Put<uint8_t>(value ? 1 : 0, &metadata_);
}

void GgufWriter::Add(std::string_view key, const std::vector<std::string>& values) {
  Key(key, kArray);
  Put(kString, &metadata_);
  Put<uint64_t>(values.size(), &metadata_);
  for (const std::string& value : values) PutString(value, &metadata_);
}

void GgufWriter::Add(std::string_view key, const std::vector<int32_t>& values) {
  Key(key, kArray);
  Put(kInt32, &metadata_);
  Put<uint64_t>(values.size(), &metadata_);
  for (const int32_t value : values) Put(value, &metadata_);
}

void GgufWriter::AddEncoded(std::string_view key, std::string_view encoded) {
  ++keys_;
  PutString(key, &metadata_);
  metadata_ += encoded;
}

Status GgufWriter::Write(const std::string& path, const std::vector<Tensor>& tensors) const {
  std::string head = "GGUF";
  Put<uint32_t>(3, &head);
  Put<uint64_t>(tensors.size(), &head);
  Put<uint64_t>(keys_, &head);
  head += metadata_;
  std::vector<uint64_t> sizes;
  uint64_t at = 0;
  for (const Tensor& t : tensors) {
    PutString(t.name, &head);
    Put(static_cast<uint32_t>(t.shape.size()), &head);
    uint64_t elements = 1;
    for (auto d = t.shape.rbegin(); d != t.shape.rend(); ++d) {
      Put(static_cast<uint64_t>(*d), &head);
      elements *= static_cast<uint64_t>(*d);
    }
    Put(TypeOf(t.encoding), &head);
    Put(at, &head);
    sizes.push_back(elements / static_cast<uint64_t>(BlockElements(t.encoding)) *
                    static_cast<uint64_t>(BlockBytes(t.encoding)));
    at = (at + sizes.back() + alignment_ - 1) / alignment_ * alignment_;
  }
  OutputFile file;
  ENGINE_RETURN_IF_ERROR(file.Open(path));
  ENGINE_RETURN_IF_ERROR(file.Append(head));
  ENGINE_RETURN_IF_ERROR(file.Align(alignment_));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t begin = file.size();
    ENGINE_RETURN_IF_ERROR(tensors[i].write(&file));
    if (file.size() - begin != sizes[i]) {
      return Error(ENGINE_INTERNAL, "tensor '", tensors[i].name, "' gave ", file.size() - begin,
                   " bytes; its shape takes ", sizes[i]);
    }
    ENGINE_RETURN_IF_ERROR(file.Align(alignment_));
  }
  return file.Commit();
}

}  // namespace engine::model
