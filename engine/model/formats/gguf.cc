#include "engine/model/formats/gguf.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>

#include "engine/model/formats/printable.h"

namespace engine::model {
namespace {

constexpr uint64_t kMaxKeyBytes = 65535;
constexpr uint64_t kMaxTensorName = 63;
constexpr uint64_t kMaxAlignment = 1u << 20;
constexpr uint32_t kTypeBool = 7, kTypeString = 8, kTypeArray = 9, kTypeCount = 13;
constexpr int kTypeBytes[kTypeCount] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

struct StoredType {
  uint32_t id;
  const char* name;
  int encoding;  // -1: known by name only
};
constexpr StoredType kStoredTypes[] = {
    {0, "F32", static_cast<int>(Encoding::kF32)},
    {1, "F16", static_cast<int>(Encoding::kF16)},
    {2, "Q4_0", static_cast<int>(Encoding::kQ4_0)},
    {3, "Q4_1", static_cast<int>(Encoding::kQ4_1)},
    {8, "Q8_0", static_cast<int>(Encoding::kQ8_0)},
    {28, "F64", static_cast<int>(Encoding::kF64)},
    {30, "BF16", static_cast<int>(Encoding::kBF16)},
    {6, "Q5_0", -1},
    {7, "Q5_1", -1},
    {9, "Q8_1", -1},
    {10, "Q2_K", -1},
    {11, "Q3_K", -1},
    {12, "Q4_K", -1},
    {13, "Q5_K", -1},
    {14, "Q6_K", -1},
    {15, "Q8_K", -1},
    {16, "IQ2_XXS", -1},
    {17, "IQ2_XS", -1},
    {18, "IQ3_XXS", -1},
    {19, "IQ1_S", -1},
    {20, "IQ4_NL", -1},
    {21, "IQ3_S", -1},
    {22, "IQ2_S", -1},
    {23, "IQ4_XS", -1},
    {24, "I8", -1},
    {25, "I16", -1},
    {26, "I32", -1},
    {27, "I64", -1},
    {29, "IQ1_M", -1},
    {34, "TQ1_0", -1},
    {35, "TQ2_0", -1},
    {39, "MXFP4", -1},
};

bool IsPrintableAscii(std::string_view s) {
  return std::all_of(s.begin(), s.end(), [](char c) { return c >= 32 && c < 127; });
}

}  // namespace

// Reads once from front to back; pos_ never passes size_.
class GgufParser {
 public:
  explicit GgufParser(GgufFile* out)
      : out_(out), data_(out->file_->data()), size_(out->file_->size()) {}

  Status Parse() {
    ENGINE_RETURN_IF_ERROR(Header());
    for (uint64_t k = 0; k < kv_count_; ++k) ENGINE_RETURN_IF_ERROR(KeyValue(k));
    ENGINE_RETURN_IF_ERROR(Alignment());
    for (uint64_t t = 0; t < tensor_count_; ++t) ENGINE_RETURN_IF_ERROR(TensorEntry(t));
    return Place();
  }

 private:
  template <typename... Parts>
  Status Bad(const Parts&... parts) const {
    return Error(ENGINE_DATA_LOSS, "GGUF file '", out_->file_->path(), "', byte ", pos_, ": ",
                 parts...);
  }

  template <typename T>
  Status Take(std::string_view what, T* value) {
    if (size_ - pos_ < sizeof(T)) {
      return Bad("the file ends inside ", what, " (", size_ - pos_, " of ", sizeof(T),
                 " bytes are left); it is truncated, fetch it again");
    }
    std::memcpy(value, data_ + pos_, sizeof(T));
    pos_ += sizeof(T);
    return Status();
  }

  Status TakeString(std::string_view what, uint64_t max, std::string_view* s) {
    uint64_t length = 0;
    ENGINE_RETURN_IF_ERROR(Take(what, &length));
    if (length > max) {
      return Bad("the length of ", what, " is ", length, "; at most ", max, " is allowed");
    }
    if (length > size_ - pos_) {
      return Bad("the length of ", what, " is ", length, " but only ", size_ - pos_,
                 " bytes are left in the file");
    }
    *s = std::string_view(reinterpret_cast<const char*>(data_ + pos_), length);
    pos_ += length;
    return Status();
  }

  Status Header() {
    if (size_ < 4 || std::memcmp(data_, "GGUF", 4) != 0) {
      return Bad("the magic bytes are not 'GGUF'; this is not a GGUF file");
    }
    pos_ = 4;
    ENGINE_RETURN_IF_ERROR(Take("the version", &out_->version_));
    const uint32_t v = out_->version_;
    if (v != 0 && (v & 0xffffu) == 0) {
      return Bad("version field ", v,
                 " is byte-swapped: a big-endian file; convert it to "
                 "little-endian");
    }
    if (v != 2 && v != 3) {
      return Bad("version ", v, " is not supported; versions 2 and 3 are");
    }
    ENGINE_RETURN_IF_ERROR(Take("the number of tensors", &tensor_count_));
    ENGINE_RETURN_IF_ERROR(Take("the number of metadata keys", &kv_count_));
    // The smallest entries: name length 8 + 1, dims 4, one dimension 8, type 4, offset 8; and key
    // length 8 + 1, type 4, one byte of value.
    if (tensor_count_ > (size_ - pos_) / 33) {
      return Bad("the number of tensors is ", tensor_count_, ", more than the file's ", size_,
                 " bytes can hold");
    }
    if (kv_count_ > (size_ - pos_) / 14) {
      return Bad("the number of metadata keys is ", kv_count_, ", more than the file's ", size_,
                 " bytes can hold");
    }
    return Status();
  }

  // One scalar of a fixed-size type, as all of the kinds it fits.
  Status Scalar(uint32_t type, std::string_view what, GgufValue* v) {
    using Kind = GgufValue::Kind;
    const auto unsigned_value = [&](auto zero) -> Status {
      ENGINE_RETURN_IF_ERROR(Take(what, &zero));
      v->kind = Kind::kUnsigned;
      v->u = zero;
      return Status();
    };
    const auto signed_value = [&](auto zero) -> Status {
      ENGINE_RETURN_IF_ERROR(Take(what, &zero));
      v->kind = Kind::kSigned;
      v->i = zero;
      return Status();
    };
    const auto float_value = [&](auto zero) -> Status {
      ENGINE_RETURN_IF_ERROR(Take(what, &zero));
      v->kind = Kind::kFloat;
      v->f = static_cast<double>(zero);
      return Status();
    };
    switch (type) {
      case 0:
        return unsigned_value(uint8_t{});
      case 1:
        return signed_value(int8_t{});
      case 2:
        return unsigned_value(uint16_t{});
      case 3:
        return signed_value(int16_t{});
      case 4:
        return unsigned_value(uint32_t{});
      case 5:
        return signed_value(int32_t{});
      case 6:
        return float_value(float{});
      case 10:
        return unsigned_value(uint64_t{});
      case 11:
        return signed_value(int64_t{});
      case 12:
        return float_value(double{});
      default:
        break;
    }
    uint8_t byte = 0;
    ENGINE_RETURN_IF_ERROR(Take(what, &byte));
    if (byte > 1) return Bad(what, " is a bool with the byte ", int{byte}, "; 0 or 1 is valid");
    v->kind = Kind::kBool;
    v->b = byte == 1;
    return Status();
  }

  Status Array(std::string_view what, GgufValue* v) {
    using Kind = GgufValue::Kind;
    uint32_t type = 0;
    uint64_t count = 0;
    ENGINE_RETURN_IF_ERROR(Take(what, &type));
    ENGINE_RETURN_IF_ERROR(Take(what, &count));
    v->kind = Kind::kArray;
    if (type == kTypeArray || type >= kTypeCount) {
      return Bad(what, " is an array of type ", type, "; scalars and strings are supported");
    }
    const uint64_t least = type == kTypeString ? 8 : static_cast<uint64_t>(kTypeBytes[type]);
    if (count > (size_ - pos_) / least) {
      return Bad(what, " is an array of ", count, " elements but only ", size_ - pos_,
                 " bytes are left in the file");
    }
    if (type == kTypeString) {
      v->element = Kind::kString;
      v->strings.resize(count);
      for (auto& s : v->strings) ENGINE_RETURN_IF_ERROR(TakeString(what, size_, &s));
      return Status();
    }
    GgufValue item;
    const bool is_float = type == 6 || type == 12;
    if (is_float) v->floats.reserve(count);
    if (!is_float) v->integers.reserve(count);
    v->element = is_float ? Kind::kFloat : Kind::kSigned;
    for (uint64_t k = 0; k < count; ++k) {
      ENGINE_RETURN_IF_ERROR(Scalar(type, what, &item));
      if (is_float) {
        v->floats.push_back(item.f);
      } else if (item.kind == Kind::kUnsigned) {
        if (item.u > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
          return Bad(what, " holds ", item.u, ", which does not fit in 63 bits");
        }
        v->integers.push_back(static_cast<int64_t>(item.u));
      } else {
        v->integers.push_back(item.kind == Kind::kBool ? item.b : item.i);
      }
    }
    return Status();
  }

  Status KeyValue(uint64_t index) {
    std::string_view key;
    ENGINE_RETURN_IF_ERROR(TakeString("metadata key " + std::to_string(index), kMaxKeyBytes, &key));
    if (key.empty()) return Bad("metadata key ", index, " is empty");
    const std::string what = "metadata '" + Printable(key) + "'";
    uint32_t type = 0;
    const uint64_t begin = pos_;
    ENGINE_RETURN_IF_ERROR(Take(what, &type));
    if (type >= kTypeCount) {
      return Bad(what, " has type ", type, "; types 0 to ", kTypeCount - 1, " exist");
    }
    GgufValue value;
    if (type == kTypeArray) {
      ENGINE_RETURN_IF_ERROR(Array(what, &value));
    } else if (type == kTypeString) {
      value.kind = GgufValue::Kind::kString;
      ENGINE_RETURN_IF_ERROR(TakeString(what, size_, &value.s));
    } else {
      ENGINE_RETURN_IF_ERROR(Scalar(type, what, &value));
    }
    out_->entries_.push_back({key, {reinterpret_cast<const char*>(data_ + begin), pos_ - begin}});
    if (!out_->values_.emplace(std::string(key), std::move(value)).second) {
      return Bad(what, " appears twice");
    }
    return Status();
  }

  Status Alignment() {
    const GgufValue* v = out_->Find("general.alignment");
    if (v == nullptr) return Status();
    if (v->kind != GgufValue::Kind::kUnsigned || v->u == 0 || (v->u & (v->u - 1)) != 0 ||
        v->u > kMaxAlignment) {
      return Bad("general.alignment must be an unsigned power of two, at most ", kMaxAlignment,
                 v->kind == GgufValue::Kind::kUnsigned ? "; it is " + std::to_string(v->u)
                                                       : std::string("; it has another type"));
    }
    alignment_ = out_->alignment_ = v->u;
    return Status();
  }

  Status TensorEntry(uint64_t index) {
    std::string_view name;
    ENGINE_RETURN_IF_ERROR(
        TakeString("the name of tensor " + std::to_string(index), kMaxTensorName, &name));
    if (name.empty()) return Bad("the name of tensor ", index, " is empty");
    if (!IsPrintableAscii(name)) {
      return Bad("the name of tensor ", index, ", '", Printable(name), "', is not printable ASCII");
    }
    GgufTensor t;
    t.name = std::string(name);
    const std::string what = "tensor '" + t.name + "'";
    uint32_t dims = 0;
    ENGINE_RETURN_IF_ERROR(Take(what, &dims));
    if (dims < 1 || dims > 4) return Bad(what, " has ", dims, " dimensions; 1 to 4 are valid");
    uint64_t elements = 1;
    for (uint32_t d = 0; d < dims; ++d) {
      uint64_t n = 0;
      ENGINE_RETURN_IF_ERROR(Take(what, &n));
      if (n == 0) return Bad(what, " has dimension ", d, " of 0 elements");
      if (n > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ||
          __builtin_mul_overflow(elements, n, &elements) ||
          elements > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        return Bad(what, ": the number of elements overflows 63 bits at dimension ", d, " = ", n);
      }
      t.shape.insert(t.shape.begin(), static_cast<int64_t>(n));
    }
    uint32_t type = 0;
    ENGINE_RETURN_IF_ERROR(Take(what, &type));
    ENGINE_RETURN_IF_ERROR(FindEncoding(what, type, &t.encoding));
    const auto block = static_cast<uint64_t>(BlockElements(t.encoding));
    if (static_cast<uint64_t>(t.shape.back()) % block != 0) {
      return Bad(what, ": rows of ", t.shape.back(), " elements are not whole blocks of ", block,
                 " (", EncodingName(t.encoding), ")");
    }
    if (__builtin_mul_overflow(elements / block, static_cast<uint64_t>(BlockBytes(t.encoding)),
                               &t.bytes)) {
      return Bad(what, ": the size in bytes overflows 64 bits");
    }
    ENGINE_RETURN_IF_ERROR(Take(what, &t.offset));
    if (t.offset % alignment_ != 0) {
      return Bad(what, ": offset ", t.offset, " is not a multiple of the alignment ", alignment_);
    }
    if (!names_.insert(t.name).second) return Bad(what, " appears twice");
    out_->tensors_.push_back(std::move(t));
    return Status();
  }

  Status FindEncoding(const std::string& what, uint32_t type, Encoding* encoding) const {
    const char* name = "an unknown type";
    for (const StoredType& s : kStoredTypes) {
      if (s.id != type) continue;
      if (s.encoding >= 0) {
        *encoding = static_cast<Encoding>(s.encoding);
        return Status();
      }
      name = s.name;
    }
    const auto code = type <= 64 ? ENGINE_UNIMPLEMENTED : ENGINE_DATA_LOSS;
    return Error(code, "GGUF file '", out_->file_->path(), "': ", what, " is stored as ", name,
                 " (type ", type, "); supported are F64, F32, F16, BF16, Q8_0, Q4_0 and Q4_1");
  }

  // Turns offsets within the data section into offsets within the file, and checks them.
  Status Place() {
    auto& tensors = out_->tensors_;
    const uint64_t start = (pos_ + alignment_ - 1) / alignment_ * alignment_;
    if (start > size_ && !tensors.empty()) {
      return Bad("the file ends before its data section at ", start, "; it is truncated");
    }
    std::vector<const GgufTensor*> order;
    for (GgufTensor& t : tensors) {
      const uint64_t room = size_ - start;
      if (t.offset > room || t.bytes > room - t.offset) {
        return Bad("tensor '", t.name, "' needs ", t.bytes, " bytes at offset ", t.offset,
                   " but the data section has ", room, "; the file is truncated or corrupt");
      }
      t.offset += start;
      order.push_back(&t);
    }
    std::sort(order.begin(), order.end(),
              [](const auto* a, const auto* b) { return a->offset < b->offset; });
    for (size_t k = 1; k < order.size(); ++k) {
      if (order[k - 1]->offset + order[k - 1]->bytes > order[k]->offset) {
        return Bad("tensors '", order[k - 1]->name, "' and '", order[k]->name, "' overlap");
      }
    }
    return Status();
  }

  GgufFile* out_;
  const uint8_t* data_;
  uint64_t size_;
  uint64_t pos_ = 0;
  uint64_t tensor_count_ = 0, kv_count_ = 0;
  uint64_t alignment_ = 32;
  std::set<std::string> names_;
};

Status GgufFile::Open(const std::string& path, std::unique_ptr<GgufFile>* out) {
  std::unique_ptr<GgufFile> file(new GgufFile);
  ENGINE_RETURN_IF_ERROR(MappedFile::Open(path, &file->file_));
  ENGINE_RETURN_IF_ERROR(GgufParser(file.get()).Parse());
  *out = std::move(file);
  return Status();
}

const GgufValue* GgufFile::Find(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

Status GgufFile::Missing(std::string_view key, Need need) const {
  if (need == kOptional) return Status();
  return Error(ENGINE_DATA_LOSS, "GGUF file '", file_->path(), "' has no metadata '", key,
               "', which this architecture needs");
}

Status GgufFile::WrongKind(std::string_view key, std::string_view wanted) const {
  return Error(ENGINE_DATA_LOSS, "GGUF file '", file_->path(), "': metadata '", key, "' must be ",
               wanted);
}

Status GgufFile::GetInt(std::string_view key, Need need, int64_t* out) const {
  const GgufValue* v = Find(key);
  if (v == nullptr) return Missing(key, need);
  if (v->kind == GgufValue::Kind::kSigned) {
    *out = v->i;
  } else if (v->kind == GgufValue::Kind::kUnsigned &&
             v->u <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    *out = static_cast<int64_t>(v->u);
  } else {
    return WrongKind(key, "an integer below 2^63");
  }
  return Status();
}

Status GgufFile::GetFloat(std::string_view key, Need need, double* out) const {
  const GgufValue* v = Find(key);
  if (v == nullptr) return Missing(key, need);
  if (v->kind != GgufValue::Kind::kFloat) return WrongKind(key, "a floating-point number");
  *out = v->f;
  return Status();
}

Status GgufFile::GetBool(std::string_view key, Need need, bool* out) const {
  const GgufValue* v = Find(key);
  if (v == nullptr) return Missing(key, need);
  if (v->kind != GgufValue::Kind::kBool) return WrongKind(key, "a bool");
  *out = v->b;
  return Status();
}

Status GgufFile::GetString(std::string_view key, Need need, std::string* out) const {
  const GgufValue* v = Find(key);
  if (v == nullptr) return Missing(key, need);
  if (v->kind != GgufValue::Kind::kString) return WrongKind(key, "a string");
  *out = std::string(v->s);
  return Status();
}

Status GgufFile::GetArray(std::string_view key, Need need, GgufValue::Kind element,
                          const GgufValue** out) const {
  const GgufValue* v = Find(key);
  if (v == nullptr) return Missing(key, need);
  if (v->kind != GgufValue::Kind::kArray || v->element != element) {
    return WrongKind(key, element == GgufValue::Kind::kString  ? "an array of strings"
                          : element == GgufValue::Kind::kFloat ? "an array of floats"
                                                               : "an array of integers");
  }
  *out = v;
  return Status();
}

}  // namespace engine::model
