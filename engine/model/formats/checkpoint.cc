#include "engine/model/formats/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <sstream>

#include "engine/model/formats/tokenizer.h"

namespace engine::model {
namespace {

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::ostringstream out;
  out << "[";
  for (size_t k = 0; k < shape.size(); ++k) out << (k > 0 ? ", " : "") << shape[k];
  out << "]";
  return out.str();
}

// Nothing below throws on purpose; memory that runs out and the standard library's own exceptions
// end here.
template <typename Body>
Status Caught(Body&& body) {
  return Status(Guard(std::forward<Body>(body)));
}

}  // namespace

const TensorInfo* Checkpoint::Find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

Status Checkpoint::Add(TensorInfo info, Source source) {
  if (!index_.emplace(info.name, tensors_.size()).second) {
    return Error(ENGINE_DATA_LOSS, "'", path_, "': tensor '", info.name, "' is stored twice");
  }
  tensors_.push_back(std::move(info));
  sources_.push_back(source);
  return Status();
}

Status Checkpoint::CheckComplete() const {
  const ModelConfig& c = config_;
  ENGINE_RETURN_IF_ERROR(ValidateConfig(c, "'" + path_ + "'"));
  size_t used = 0;
  const auto check = [&](const std::string& name, std::vector<int64_t> want) -> Status {
    const TensorInfo* t = Find(name);
    if (t == nullptr) {
      return Error(ENGINE_DATA_LOSS, "'", path_, "': tensor '", name, "' ", ShapeText(want),
                   " is missing");
    }
    if (t->shape != want) {
      return Error(ENGINE_DATA_LOSS, "'", path_, "': tensor '", name, "' has shape ",
                   ShapeText(t->shape), "; the config implies ", ShapeText(want));
    }
    ++used;
    return Status();
  };
  const int64_t q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  ENGINE_RETURN_IF_ERROR(check("model.embed_tokens.weight", {c.vocab, c.hidden}));
  ENGINE_RETURN_IF_ERROR(check("model.norm.weight", {c.hidden}));
  if (!c.tied_embedding) ENGINE_RETURN_IF_ERROR(check("lm_head.weight", {c.vocab, c.hidden}));
  for (int64_t b = 0; b < c.blocks; ++b) {
    const std::string p = "model.layers." + std::to_string(b) + ".";
    ENGINE_RETURN_IF_ERROR(check(p + "input_layernorm.weight", {c.hidden}));
    ENGINE_RETURN_IF_ERROR(check(p + "self_attn.q_proj.weight", {q, c.hidden}));
    ENGINE_RETURN_IF_ERROR(check(p + "self_attn.k_proj.weight", {kv, c.hidden}));
    ENGINE_RETURN_IF_ERROR(check(p + "self_attn.v_proj.weight", {kv, c.hidden}));
    ENGINE_RETURN_IF_ERROR(check(p + "self_attn.o_proj.weight", {c.hidden, q}));
    ENGINE_RETURN_IF_ERROR(check(p + "post_attention_layernorm.weight", {c.hidden}));
    ENGINE_RETURN_IF_ERROR(check(p + "mlp.gate_proj.weight", {c.mlp, c.hidden}));
    ENGINE_RETURN_IF_ERROR(check(p + "mlp.up_proj.weight", {c.mlp, c.hidden}));
    ENGINE_RETURN_IF_ERROR(check(p + "mlp.down_proj.weight", {c.hidden, c.mlp}));
  }
  if (used == tensors_.size()) return Status();
  // A tensor that nothing reads would make a model that answers wrongly.
  for (const TensorInfo& t : tensors_) {
    const bool layer = t.name.rfind("model.layers.", 0) == 0;
    const bool known = !layer && (t.name == "model.embed_tokens.weight" ||
                                  t.name == "model.norm.weight" || t.name == "lm_head.weight");
    if (known) continue;
    static constexpr std::string_view kParts[] = {
        "input_layernorm.weight",          "self_attn.q_proj.weight", "self_attn.k_proj.weight",
        "self_attn.v_proj.weight",         "self_attn.o_proj.weight", "mlp.gate_proj.weight",
        "post_attention_layernorm.weight", "mlp.up_proj.weight",      "mlp.down_proj.weight"};
    const size_t dot = layer ? t.name.find('.', 13) : std::string::npos;
    const std::string_view part =
        dot == std::string::npos ? std::string_view() : std::string_view(t.name).substr(dot + 1);
    const bool fits = std::find(std::begin(kParts), std::end(kParts), part) != std::end(kParts);
    if (!fits) {
      return Error(ENGINE_UNIMPLEMENTED, "'", path_, "': tensor '", t.name,
                   "' is not part of the llama architecture; linear layers without bias, RMS "
                   "norms and the embedding are supported");
    }
    if (std::stoll("0" + t.name.substr(13, std::min<size_t>(dot - 13, 9))) >= c.blocks) {
      return Error(ENGINE_DATA_LOSS, "'", path_, "': tensor '", t.name, "' is beyond the config's ",
                   c.blocks, " blocks");
    }
  }
  return Status();
}

namespace {

// Which stored row is logical row `row`; see Checkpoint::Source.
int64_t StoredRow(int64_t row, int64_t rotary_head_dim) {
  if (rotary_head_dim == 0) return row;
  const int64_t within = row % rotary_head_dim, half = rotary_head_dim / 2;
  return row - within + within % half * 2 + within / half;
}

}  // namespace

Status Checkpoint::SourceOf(const TensorInfo& tensor, const Source** out) const {
  const auto it = index_.find(tensor.name);
  if (it == index_.end() || &tensors_[it->second] != &tensor) {
    return Error(ENGINE_INVALID_ARGUMENT, "tensor '", tensor.name, "' is not one of '", path_, "'");
  }
  *out = &sources_[it->second];
  ENGINE_RETURN_IF_ERROR((*out)->file->CheckUnchanged());
  return (*out)->scales_file == nullptr ? Status() : (*out)->scales_file->CheckUnchanged();
}

template <typename T, typename DecodeFn>
Status Checkpoint::ReadWith(const TensorInfo& tensor, int64_t begin, int64_t end, T* dst,
                            DecodeFn fn) const {
  const Source* found = nullptr;
  ENGINE_RETURN_IF_ERROR(SourceOf(tensor, &found));
  if (begin < 0 || end < begin || end > tensor.rows()) {
    return Error(ENGINE_OUT_OF_RANGE, "rows [", begin, ", ", end, ") of tensor '", tensor.name,
                 "' were asked for; it has ", tensor.rows());
  }
  const Source& source = *found;
  const int64_t n = tensor.columns();
  const int64_t row_bytes = n / BlockElements(tensor.encoding) * BlockBytes(tensor.encoding);
  const uint8_t* base = source.file->data() + source.offset;
  const int64_t dim = source.rotary_head_dim;
  if (dim == 0) {
    fn(tensor.encoding, base + begin * row_bytes, (end - begin) * n, dst);
    return Status();
  }
  for (int64_t r = begin; r < end; ++r) {
    fn(tensor.encoding, base + StoredRow(r, dim) * row_bytes, n, dst + (r - begin) * n);
  }
  return Status();
}

template <typename T>
Status Checkpoint::ReadInt8(const TensorInfo& t, int64_t begin, int64_t end, T* dst) const {
  ENGINE_RETURN_IF_ERROR(ReadWith(t, begin, end, dst, [](auto... args) { Decode(args...); }));
  const int64_t columns = t.columns(), group = t.group == 0 ? columns : t.group;
  std::vector<float> scales(static_cast<size_t>(t.groups()));
  for (int64_t r = begin; r < end; ++r, dst += columns) {
    ENGINE_RETURN_IF_ERROR(ReadScales(t, r, scales.data()));
    for (int64_t k = 0; k < columns; ++k) {
      dst[k] = static_cast<T>(scales[static_cast<size_t>(k / group)]) * dst[k];
    }
  }
  return Status();
}

Status Checkpoint::ReadScales(const TensorInfo& tensor, int64_t row, float* to) const {
  const Source* source = nullptr;
  ENGINE_RETURN_IF_ERROR(SourceOf(tensor, &source));
  if (source->scales_file == nullptr || row < 0 || row >= tensor.rows()) {
    return Error(ENGINE_OUT_OF_RANGE, "tensor '", tensor.name, "' has no scales for row ", row);
  }
  const int64_t count = tensor.groups();
  Decode(source->scales_encoding,
         source->scales_file->data() + source->scales_offset +
             row * count * BlockBytes(source->scales_encoding),
         count, to);
  return Status();
}

Status Checkpoint::ReadRows(const TensorInfo& t, int64_t begin, int64_t end, float* dst) const {
  if (t.encoding == Encoding::kI8) return ReadInt8(t, begin, end, dst);
  return ReadWith(t, begin, end, dst, [](auto... args) { Decode(args...); });
}

Status Checkpoint::ReadRows(const TensorInfo& t, int64_t begin, int64_t end, double* dst) const {
  if (t.encoding == Encoding::kI8) return ReadInt8(t, begin, end, dst);
  return ReadWith(t, begin, end, dst, [](auto... args) { Decode(args...); });
}

Status Checkpoint::ReadRowsBf16(const TensorInfo& t, int64_t begin, int64_t end,
                                uint16_t* dst) const {
  if (t.encoding != Encoding::kI8) {
    return ReadWith(t, begin, end, dst, [](auto... args) { DecodeBf16(args...); });
  }
  std::vector<float> row(static_cast<size_t>(t.columns()));
  for (int64_t r = begin; r < end; ++r, dst += t.columns()) {
    ENGINE_RETURN_IF_ERROR(ReadInt8(t, r, r + 1, row.data()));
    for (size_t k = 0; k < row.size(); ++k) dst[k] = FloatToBf16(row[k]);
  }
  return Status();
}

Status Checkpoint::StoredRows(const TensorInfo& tensor, const uint8_t** to) const {
  const Source* found = nullptr;
  ENGINE_RETURN_IF_ERROR(SourceOf(tensor, &found));
  const Source& source = *found;
  const int64_t row_bytes =
      tensor.columns() / BlockElements(tensor.encoding) * BlockBytes(tensor.encoding);
  const uint8_t* base = source.file->data() + source.offset;
  for (int64_t r = 0; r < tensor.rows(); ++r) {
    to[r] = base + StoredRow(r, source.rotary_head_dim) * row_bytes;
  }
  return Status();
}

const uint8_t* Checkpoint::AsStored(const TensorInfo& tensor,
                                    std::shared_ptr<const void>* keep) const {
  const Source* source = nullptr;
  if (!SourceOf(tensor, &source).ok() || source->rotary_head_dim != 0) return nullptr;
  const uint8_t* at = source->file->data() + source->offset;
  const auto width = static_cast<uintptr_t>(BlockBytes(tensor.encoding));
  if (BlockElements(tensor.encoding) != 1 || reinterpret_cast<uintptr_t>(at) % width != 0) {
    return nullptr;
  }
  *keep = source->file->mapping();
  return at;
}

std::string Checkpoint::Identity() const {
  std::string out;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const TensorInfo& t = tensors_[i];
    out += t.name + ':' + EncodingName(t.encoding);
    for (int64_t d : t.shape) out += 'x' + std::to_string(d);
    const auto sample = [&out](const uint8_t* base, uint64_t bytes) {
      constexpr uint64_t kSample = 64;
      for (const uint64_t at : {uint64_t{0}, bytes / 3, bytes / 3 * 2}) {
        const uint64_t count = std::min(kSample, bytes - at);
        out.append(reinterpret_cast<const char*>(base + at), count);
      }
    };
    const Source& source = sources_[i];
    sample(source.file->data() + source.offset, t.bytes);
    if (source.scales_file == nullptr) continue;
    out += '/' + std::to_string(t.group);
    sample(source.scales_file->data() + source.scales_offset,
           static_cast<uint64_t>(t.rows() * t.groups() * BlockBytes(source.scales_encoding)));
  }
  // Each look maps its neighbourhood, which would count as memory that the process holds.
  std::set<const MappedFile*> files;
  for (const Source& source : sources_) {
    files.insert(source.file);
    if (source.scales_file != nullptr) files.insert(source.scales_file);
  }
  for (const MappedFile* file : files) file->DropPages(0, file->size());
  return out;
}

void Checkpoint::Drop(const TensorInfo& tensor) const {
  const auto it = index_.find(tensor.name);
  if (it == index_.end()) return;
  const Source& source = sources_[it->second];
  // Touching a page may map a huge one around it.
  constexpr uint64_t kHuge = 2 << 20;
  const auto drop = [](const MappedFile& file, uint64_t begin, uint64_t bytes) {
    const uint64_t first = begin / kHuge * kHuge;
    file.DropPages(first, (begin + bytes - first + kHuge - 1) / kHuge * kHuge);
  };
  drop(*source.file, source.offset, tensor.bytes);
  if (source.scales_file == nullptr) return;
  drop(*source.scales_file, source.scales_offset,
       static_cast<uint64_t>(tensor.rows() * tensor.groups() * BlockBytes(source.scales_encoding)));
}

Status OpenCheckpoint(const std::string& path, std::unique_ptr<Checkpoint>* out) {
  return Caught([&]() -> Status {
    namespace fs = std::filesystem;
    std::error_code ignored;
    const fs::file_status status = fs::status(path, ignored);
    if (status.type() == fs::file_type::not_found || path.empty()) {
      return Error(ENGINE_NOT_FOUND, "checkpoint '", path,
                   "' does not exist; give a GGUF file or a Hugging Face folder");
    }
    if (status.type() != fs::file_type::directory) {
      return internal::OpenGgufCheckpoint(path, path, out);
    }
    if (fs::exists(fs::path(path) / "config.json", ignored)) {
      return internal::OpenHfFolder(path, out);
    }
    std::vector<std::string> files;
    for (const auto& entry : fs::directory_iterator(path, ignored)) {
      if (entry.path().extension() == ".gguf") files.push_back(entry.path().string());
    }
    if (files.size() == 1) return internal::OpenGgufCheckpoint(path, files.front(), out);
    return Error(ENGINE_INVALID_ARGUMENT, "folder '", path, "' has no config.json and ",
                 files.size(), " .gguf files; give a Hugging Face folder or one GGUF file");
  });
}

Status OpenTokenizer(const Checkpoint& checkpoint, std::unique_ptr<Tokenizer>* out) {
  return Caught([&]() -> Status { return checkpoint.MakeTokenizer(out); });
}

}  // namespace engine::model
