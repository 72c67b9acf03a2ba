#include "engine/model/formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>

#include "engine/model/formats/json_problem.h"
#include "engine/model/formats/printable.h"
#include "nlohmann/json.hpp"

namespace engine::model {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxHeader = 100'000'000;  // as the reference implementation
constexpr size_t kMaxTensors = 65536;         // of one file; large models are split in many

struct Dtype {
  const char* name;
  int64_t bytes;
  int encoding;  // -1: not floating point
};
constexpr Dtype kDtypes[] = {
    {"F64", 8, static_cast<int>(Encoding::kF64)},
    {"F32", 4, static_cast<int>(Encoding::kF32)},
    {"F16", 2, static_cast<int>(Encoding::kF16)},
    {"BF16", 2, static_cast<int>(Encoding::kBF16)},
    {"I64", 8, -1},
    {"U64", 8, -1},
    {"I32", 4, -1},
    {"U32", 4, -1},
    {"I16", 2, -1},
    {"U16", 2, -1},
    {"I8", 1, -1},
    {"U8", 1, -1},
    {"BOOL", 1, -1},
};

const Dtype* FindDtype(std::string_view name) {
  for (const Dtype& d : kDtypes) {
    if (name == d.name) return &d;
  }
  return nullptr;
}

// Of tensors: any UTF-8, as the format has it, but nothing that would act on a terminal or a log.
bool HasControls(std::string_view name) {
  return std::any_of(name.begin(), name.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127; });
}

// Looks at a header before it is turned into objects: JSON with a key twice is legal, and a parser
// keeps the last; a file of many or deep entries should cost nothing. Stops at the first problem.
class KeyCheck : public nlohmann::json_sax<json> {
 public:
  std::string problem;

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return Enter(); }
  bool start_array(size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }
  bool key(string_t& key) override {
    if (depth_ != 1) return true;
    if (!seen_.insert(key).second) {
      problem = "'" + Printable(key) + "' appears twice in the header";
    } else if (seen_.size() > kMaxTensors) {
      problem = "the header has more than " + std::to_string(kMaxTensors) + " entries";
    }
    return problem.empty();
  }
  bool parse_error(size_t, const std::string&, const json::exception&) override { return false; }

 private:
  bool Enter() {
    if (++depth_ > 4) problem = "the header is nested too deeply";
    return problem.empty();
  }
  bool Leave() {
    --depth_;
    return true;
  }
  int depth_ = 0;
  std::set<std::string> seen_;
};

// An integer of JSON that is not negative and fits in 63 bits.
bool AsSize(const json& v, int64_t* out) {
  if (!v.is_number_unsigned()) return false;
  const auto u = v.get<uint64_t>();
  if (u > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return false;
  *out = static_cast<int64_t>(u);
  return true;
}

// shape product times element size; false on overflow of 63 bits.
bool SizeOf(const std::vector<int64_t>& shape, int64_t element, int64_t* count, int64_t* bytes) {
  *count = 1;
  bool zero = false;
  for (int64_t n : shape) {
    if (n < 0) return false;
    if (n == 0) zero = true;
    if (n != 0 && __builtin_mul_overflow(*count, n, count)) return false;
  }
  if (zero) *count = 0;
  return !__builtin_mul_overflow(*count, element, bytes);
}

}  // namespace

Status SafetensorsFile::Open(const std::string& path, std::unique_ptr<SafetensorsFile>* out) {
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile);
  ENGINE_RETURN_IF_ERROR(MappedFile::Open(path, &file->file_));
  ENGINE_RETURN_IF_ERROR(file->Parse());
  *out = std::move(file);
  return Status();
}

Status SafetensorsFile::Parse() {
  const auto bad = [this](const auto&... parts) {
    return Error(ENGINE_DATA_LOSS, "safetensors file '", file_->path(), "': ", parts...);
  };
  const uint64_t size = file_->size();
  if (size < 8) return bad("it has ", size, " bytes; the header's length alone takes 8");
  uint64_t header = 0;
  std::memcpy(&header, file_->data(), sizeof header);
  if (header > kMaxHeader) {
    return bad("the header's length is ", header, "; at most ", kMaxHeader, " is allowed");
  }
  if (header > size - 8) {
    return bad("the header's length is ", header, " but only ", size - 8,
               " bytes follow; the file is truncated");
  }
  const char* text = reinterpret_cast<const char*>(file_->data()) + 8;
  if (header < 2 || text[0] != '{') return bad("the header does not begin with '{'");

  KeyCheck check;
  const bool parsed = json::sax_parse(text, text + header, &check);
  if (!check.problem.empty()) return bad(check.problem);
  if (!parsed) return bad("its header: ", JsonProblem({text, header}));
  const json root = json::parse(text, text + header, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return bad("the header is not a JSON object");

  const uint64_t data_start = 8 + header, data_size = size - data_start;
  for (const auto& [name, entry] : root.items()) {
    const std::string what = "tensor '" + Printable(name) + "'";
    if (name == "__metadata__") {
      if (!entry.is_object()) return bad("__metadata__ is not an object");
      for (const auto& [key, value] : entry.items()) {
        if (!value.is_string()) {
          return bad("__metadata__ '", Printable(key), "' is ", value.type_name(),
                     "; only strings are allowed");
        }
        metadata_[key] = value.get<std::string>();
      }
      continue;
    }
    if (!entry.is_object()) return bad(what, ": its entry is not an object");
    if (HasControls(name)) return bad(what, ": its name holds a control character");
    SafetensorsTensor t;
    t.name = name;
    const auto dtype = entry.find("dtype"), shape = entry.find("shape"),
               offsets = entry.find("data_offsets");
    if (dtype == entry.end() || !dtype->is_string()) return bad(what, ": it has no dtype");
    t.dtype = dtype->get<std::string>();
    const Dtype* kind = FindDtype(t.dtype);
    if (kind == nullptr) {
      return bad(what, ": dtype '", Printable(t.dtype),
                 "' is not supported; F64, F32, F16, BF16 "
                 "and the integers are");
    }
    t.floating = kind->encoding >= 0;
    if (t.floating) t.encoding = static_cast<Encoding>(kind->encoding);
    if (shape == entry.end() || !shape->is_array() || shape->size() > 8) {
      return bad(what, ": shape must be an array of at most 8 sizes");
    }
    for (const json& n : *shape) {
      int64_t dim = 0;
      if (!AsSize(n, &dim))
        return bad(what, ": shape holds ", n.dump(), "; sizes are integers >= 0");
      t.shape.push_back(dim);
    }
    int64_t begin = 0, end = 0, bytes = 0;
    if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2 ||
        !AsSize((*offsets)[0], &begin) || !AsSize((*offsets)[1], &end)) {
      return bad(what, ": data_offsets must be two integers >= 0");
    }
    if (end < begin || static_cast<uint64_t>(end) > data_size) {
      return bad(what, ": data_offsets [", begin, ", ", end, "] are not inside the ", data_size,
                 " bytes of data; the file is truncated or corrupt");
    }
    if (!SizeOf(t.shape, kind->bytes, &t.elements, &bytes)) {
      return bad(what, ": shape ", shape->dump(), " times ", kind->bytes, " bytes overflows");
    }
    if (bytes != end - begin) {
      return bad(what, ": shape ", shape->dump(), " of ", t.dtype, " takes ", bytes,
                 " bytes but data_offsets give it ", end - begin);
    }
    t.bytes = static_cast<uint64_t>(bytes);
    t.offset = data_start + static_cast<uint64_t>(begin);
    t.data = file_->data() + t.offset;
    tensors_.push_back(std::move(t));
  }
  std::stable_sort(tensors_.begin(), tensors_.end(), [](const auto& a, const auto& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
  });
  uint64_t at = data_start;
  for (size_t k = 0; k < tensors_.size(); ++k) {
    const auto& t = tensors_[k];
    if (t.offset != at) {
      return bad("tensor '", Printable(t.name), "' begins at ", t.offset - data_start,
                 t.offset < at ? ", inside the one before it" : ", after a gap");
    }
    at += t.bytes;
    index_[t.name] = k;
  }
  if (at != size) return bad(size - at, " bytes follow the last tensor's data");
  return Status();
}

const SafetensorsTensor* SafetensorsFile::Find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

Status SafetensorsFile::Read(const SafetensorsTensor& tensor, std::vector<float>* out) const {
  return ReadAs(tensor, out);
}
Status SafetensorsFile::Read(const SafetensorsTensor& tensor, std::vector<double>* out) const {
  return ReadAs(tensor, out);
}

template <typename T>
Status SafetensorsFile::ReadAs(const SafetensorsTensor& tensor, std::vector<T>* out) const {
  if (!tensor.floating) {
    return Error(ENGINE_INVALID_ARGUMENT, "tensor '", Printable(tensor.name), "' of '",
                 file_->path(), "' holds ", tensor.dtype, "; floating-point numbers are needed");
  }
  ENGINE_RETURN_IF_ERROR(file_->CheckUnchanged());
  out->resize(static_cast<size_t>(tensor.elements));
  Decode(tensor.encoding, tensor.data, tensor.elements, out->data());
  return Status();
}

Status WriteSafetensors(const std::string& path, const std::vector<SafetensorsSource>& tensors,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json root = nlohmann::ordered_json::object();
  if (!metadata.empty()) root["__metadata__"] = metadata;
  int64_t at = 0;
  std::vector<int64_t> sizes;
  for (const SafetensorsSource& t : tensors) {
    const Dtype* kind = FindDtype(t.dtype);
    int64_t count = 0, bytes = 0, end = 0;
    if (kind == nullptr || t.name.empty() || t.name == "__metadata__" || root.contains(t.name)) {
      return Error(ENGINE_INVALID_ARGUMENT, "cannot store tensor '", Printable(t.name),
                   "' of dtype '", Printable(t.dtype),
                   "': names are unique and not empty, dtypes are those of safetensors");
    }
    if (!SizeOf(t.shape, kind->bytes, &count, &bytes) || __builtin_add_overflow(at, bytes, &end)) {
      return Error(ENGINE_INVALID_ARGUMENT, "cannot store tensor '", Printable(t.name),
                   "': its size overflows or a dimension is negative");
    }
    root[t.name] = {{"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {at, end}}};
    sizes.push_back(bytes);
    at = end;
  }
  std::string header = root.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  header.resize((header.size() + 7) / 8 * 8, ' ');

  const uint64_t length = header.size();
  OutputFile file;
  ENGINE_RETURN_IF_ERROR(file.Open(path));
  ENGINE_RETURN_IF_ERROR(file.Append(&length, sizeof length));
  ENGINE_RETURN_IF_ERROR(file.Append(header));
  for (size_t k = 0; k < tensors.size(); ++k) {
    const uint64_t begin = file.size(), size = static_cast<uint64_t>(sizes[k]);
    ENGINE_RETURN_IF_ERROR(tensors[k].write ? tensors[k].write(&file)
                                            : file.Append(tensors[k].data, size));
    if (file.size() - begin != size) {
      return Error(ENGINE_INTERNAL, "tensor '", Printable(tensors[k].name), "' gave ",
                   file.size() - begin, " bytes; its shape takes ", size);
    }
  }
  return file.Commit();
}

}  // namespace engine::model
