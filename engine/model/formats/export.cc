#include "engine/model/formats/export.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "engine/model/formats/output_file.h"
#include "engine/model/formats/quantize.h"
#include "engine/model/formats/tokenizer.h"
#include "engine/util.hpp"

namespace engine::model {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFolderFiles[] = {
    "config.json",         "generation_config.json",  "tokenizer.json",    "tokenizer_config.json",
    "chat_template.jinja", "special_tokens_map.json", "model.safetensors", "provenance.json"};

// Only what an export may have made is ever removed.
Status CheckReplaceable(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const bool ours =
        std::find(std::begin(kFolderFiles), std::end(kFolderFiles), name) != std::end(kFolderFiles);
    if (!ours || !entry.is_regular_file(error)) {
      return Error(ENGINE_FAILED_PRECONDITION, "folder '", folder.string(), "' holds '", name,
                   "', which is no part of a model that this command writes; it is not replaced. "
                   "Choose another folder");
    }
  }
  if (!error) return Status();
  return Error(ENGINE_PERMISSION_DENIED, "folder '", folder.string(),
               "' cannot be read: ", error.message());
}

// A file or folder under another name until it is complete.
class Temporary {
 public:
  explicit Temporary(fs::path path) : path_(std::move(path)) {}
  ~Temporary() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string path() const { return path_.string(); }
  Status MakeFolder() const {
    std::error_code error;
    if (fs::create_directory(path_, error)) return Status();
    return Error(ENGINE_PERMISSION_DENIED, "cannot create the folder '", path_.string(),
                 "': ", error ? error.message() : "it is there already");
  }
  // Changes places with `to`, or moves there when nothing is; one step of the file system.
  Status MoveTo(const fs::path& to) const {
    std::error_code error;
    const unsigned flags = fs::exists(to, error) ? RENAME_EXCHANGE : RENAME_NOREPLACE;
    if (renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, to.c_str(), flags) == 0) return Status();
    // File systems that cannot exchange can still replace a file.
    if (errno == EINVAL && fs::is_regular_file(path_, error) &&
        std::rename(path_.c_str(), to.c_str()) == 0) {
      return Status();
    }
    return Error(ENGINE_UNAVAILABLE, "cannot move '", path_.string(), "' to '", to.string(),
                 "': ", std::strerror(errno));
  }

 private:
  const fs::path path_;
};

bool Near(double a, double b) { return std::fabs(a - b) <= 1e-6 * std::fabs(a); }

// What was written is read again as anyone would: the same model but for the rounding of weights.
Status Verify(const Checkpoint& checkpoint, const std::string& path) {
  std::unique_ptr<Checkpoint> copy;
  std::unique_ptr<Tokenizer> before, after;
  ENGINE_RETURN_IF_ERROR(OpenCheckpoint(path, &copy));
  ENGINE_RETURN_IF_ERROR(OpenTokenizer(*copy, &after));
  ENGINE_RETURN_IF_ERROR(OpenTokenizer(checkpoint, &before));
  const ModelConfig &a = checkpoint.config(), &b = copy->config();
  const TokenizerSpec &s = before->spec(), &t = after->spec();
  const auto merge = [](const Merge& x, const Merge& y) {
    return x.left == y.left && x.right == y.right && x.result == y.result;
  };
  const auto added = [](const AddedToken& x, const AddedToken& y) {
    return x.id == y.id && x.text == y.text && x.special == y.special && x.lstrip == y.lstrip &&
           x.rstrip == y.rstrip && x.single_word == y.single_word;
  };
  const auto by_id = [](std::vector<AddedToken> list) {
    std::sort(list.begin(), list.end(), [](const auto& x, const auto& y) { return x.id < y.id; });
    return list;
  };
  const std::vector<AddedToken> added_before = by_id(s.added), added_after = by_id(t.added);
  const std::pair<const char*, bool> same[] = {
      {"sizes", a.hidden == b.hidden && a.blocks == b.blocks && a.heads == b.heads &&
                    a.kv_heads == b.kv_heads && a.head_dim == b.head_dim && a.mlp == b.mlp &&
                    a.vocab == b.vocab && a.context == b.context &&
                    a.tied_embedding == b.tied_embedding},
      {"epsilon of the norms", Near(a.norm_eps, b.norm_eps)},
      {"rotary frequencies", Near(a.rope_theta, b.rope_theta) &&
                                 std::equal(a.rope_divisors.begin(), a.rope_divisors.end(),
                                            b.rope_divisors.begin(), b.rope_divisors.end(), Near)},
      // A GGUF file's reader takes further end tokens by their texts.
      {"end tokens", a.bos == b.bos && a.eos == b.eos &&
                         std::includes(b.stop_ids.begin(), b.stop_ids.end(), a.stop_ids.begin(),
                                       a.stop_ids.end())},
      {"chat template", a.chat_template == b.chat_template},
      // Rows of the embedding without a token may have got names.
      {"tokens", s.tokens.size() <= t.tokens.size() &&
                     std::equal(s.tokens.begin(), s.tokens.end(), t.tokens.begin())},
      {"merges", std::equal(before->merges().begin(), before->merges().end(),
                            after->merges().begin(), after->merges().end(), merge)},
      {"special tokens", std::equal(added_before.begin(), added_before.end(), added_after.begin(),
                                    added_after.end(), added)},
      {"pre-tokenizer", s.form == t.form},
      {"tokens around a text", s.prefix_ids == t.prefix_ids && s.suffix_ids == t.suffix_ids},
  };
  for (const auto& [what, is_same] : same) {
    if (is_same) continue;
    return Error(ENGINE_UNIMPLEMENTED, "the ", what, " of '", checkpoint.path(),
                 "' would be others in the new file, whose format cannot say them; nothing was "
                 "written. The other format (a .gguf file, or a folder) may do");
  }
  return Status();
}

// Without the empty last part of "name/".
fs::path Place(const std::string& path) {
  std::error_code ignored;
  const fs::path to = fs::absolute(path, ignored).lexically_normal();
  return to.has_filename() ? to : to.parent_path();
}

}  // namespace

Status ParseExportFormat(const std::string& path, std::string type, ExportFormat* out) {
  static constexpr struct {
    const char* name;
    Encoding encoding;
  } kTypes[] = {{"F64", Encoding::kF64},   {"F32", Encoding::kF32},   {"F16", Encoding::kF16},
                {"BF16", Encoding::kBF16}, {"Q8_0", Encoding::kQ8_0}, {"INT8", Encoding::kI8}};
  for (char& c : type) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  out->gguf = path.ends_with(".gguf");
  for (const auto& known : kTypes) {
    if (type != known.name) continue;
    out->matrices = known.encoding;
    if (known.encoding != (out->gguf ? Encoding::kI8 : Encoding::kQ8_0)) return Status();
    return Error(ENGINE_INVALID_ARGUMENT, "type ", type, " does not go with '", path,
                 "': Q8_0 is written to a file whose name ends in .gguf, INT8 to a folder");
  }
  return Error(ENGINE_INVALID_ARGUMENT, "type '", type,
               "' is not known; there are F64, F32, F16 and BF16, Q8_0 for a .gguf file and INT8 "
               "for a folder");
}

Status CheckExportPath(const Checkpoint& checkpoint, const ExportRequest& request) {
  std::error_code error;
  const std::string& path = request.path;
  const fs::path out(path);
  const bool folder = !request.format.gguf;
  const fs::file_status there = fs::status(out, error);
  if (!fs::exists(there)) {
    const fs::path parent = Place(path).parent_path();
    if (fs::is_directory(parent, error)) return Status();
    return Error(ENGINE_NOT_FOUND, "the folder '", parent.string(), "' of '", path,
                 "' does not exist; make it first");
  }
  if (!request.replace) {
    return Error(ENGINE_ALREADY_EXISTS, "'", path,
                 "' exists; give --force (in a pipeline replace: true) to replace it");
  }
  const GgufFile* gguf = checkpoint.gguf();
  if (fs::equivalent(out, checkpoint.path(), error) ||
      (gguf != nullptr && fs::equivalent(out, gguf->file().path(), error))) {
    return Error(ENGINE_INVALID_ARGUMENT, "'", path,
                 "' is the model that is read; it would be lost for good. Write to another path");
  }
  if (folder ? !fs::is_directory(there) : !fs::is_regular_file(there)) {
    return Error(ENGINE_FAILED_PRECONDITION, "'", path, "' is not a ",
                 folder ? "folder" : "regular file", "; it is not replaced");
  }
  return folder ? CheckReplaceable(out) : Status();
}

Status ExportCheckpoint(const Checkpoint& checkpoint, const ExportRequest& request) {
  ENGINE_RETURN_IF_ERROR(CheckExportPath(checkpoint, request));
  return Status(Guard([&]() -> Status {
    const fs::path place = Place(request.path);
    const Temporary temporary(place.string() + ".new." + std::to_string(getpid()));
    if (request.format.gguf) {
      ENGINE_RETURN_IF_ERROR(internal::WriteGguf(checkpoint, request, temporary.path()));
    } else {
      ENGINE_RETURN_IF_ERROR(temporary.MakeFolder());
      ENGINE_RETURN_IF_ERROR(internal::WriteFolder(checkpoint, request, temporary.path()));
    }
    ENGINE_RETURN_IF_ERROR(Verify(checkpoint, temporary.path()));
    return temporary.MoveTo(place);
  }));
}

internal::Rows internal::RowsOf(const Checkpoint& checkpoint, const TensorInfo& tensor,
                                const RowSource* source) {
  if (source != nullptr && source->Replaces(tensor)) {
    return [source, &tensor](int64_t begin, int64_t end, double* to) {
      return source->Rows(tensor, begin, end, to);
    };
  }
  return [&checkpoint, &tensor](int64_t begin, int64_t end, double* to) {
    return checkpoint.ReadRows(tensor, begin, end, to);
  };
}

namespace {

template <typename T>
void Put(T value, int64_t i, uint8_t* to) {
  std::memcpy(to + i * static_cast<int64_t>(sizeof value), &value, sizeof value);
}

// One row; false where a value is not finite or becomes so in this encoding.
bool EncodeRow(Encoding encoding, const double* x, int64_t count, std::vector<float>* narrow,
               uint8_t* to) {
  narrow->assign(x, x + count);
  const float* f = narrow->data();
  if (encoding == Encoding::kQ8_0) return EncodeQ8_0(f, count, to);
  double poison = 0;
  for (int64_t i = 0; i < count; ++i) {
    double stored = x[i];
    if (encoding == Encoding::kF64) {
      Put(x[i], i, to);
    } else if (encoding == Encoding::kF32) {
      Put(f[i], i, to);
      stored = double{f[i]};
    } else if (encoding == Encoding::kF16) {
      const uint16_t half = FloatToHalf(f[i]);
      Put(half, i, to);
      stored = double{HalfToFloat(half)};
    } else {
      const uint16_t bits = FloatToBf16(f[i]);
      Put(bits, i, to);
      stored = double{Bf16ToFloat(bits)};
    }
    poison += stored - stored;
  }
  return poison == 0;
}

}  // namespace

Status internal::WriteRows(const std::string& name, const std::vector<int64_t>& shape,
                           Encoding encoding, const Rows& rows, OutputFile* file) {
  const int64_t columns = shape.back(), count = shape.size() == 2 ? shape[0] : 1;
  const int64_t row_bytes = columns / BlockElements(encoding) * BlockBytes(encoding);
  constexpr int64_t kPiece = 256;
  std::vector<double> values(static_cast<size_t>(std::min(count, kPiece) * columns));
  std::vector<uint8_t> encoded(static_cast<size_t>(row_bytes));
  std::vector<float> narrow;
  for (int64_t r = 0; r < count; r += kPiece) {
    const int64_t end = std::min(count, r + kPiece);
    ENGINE_RETURN_IF_ERROR(rows(r, end, values.data()));
    for (int64_t i = r; i < end; ++i) {
      if (!EncodeRow(encoding, values.data() + (i - r) * columns, columns, &narrow,
                     encoded.data())) {
        return Error(ENGINE_DATA_LOSS, "row ", i, " of tensor '", name,
                     "' holds values that are not finite or too great for ",
                     EncodingName(encoding));
      }
      ENGINE_RETURN_IF_ERROR(file->Append(encoded.data(), encoded.size()));
    }
  }
  return Status();
}

}  // namespace engine::model
