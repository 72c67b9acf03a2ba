// A Hugging Face folder as a checkpoint: config.json, safetensors in one file or in shards.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "engine/model/formats/checkpoint.h"
#include "engine/model/formats/json_problem.h"
#include "engine/model/formats/printable.h"
#include "engine/model/formats/safetensors.h"
#include "engine/model/formats/tokenizer.h"
#include "engine/util.hpp"
#include "nlohmann/json.hpp"

namespace engine::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uintmax_t kMaxText = 256u << 20;  // of any one JSON file

// An absent file leaves *text empty; that is an error only when `required`.
Status ReadText(const fs::path& path, bool required, std::string* text) {
  text->clear();
  std::error_code error;
  if (!fs::exists(path, error)) {
    if (!required) return Status();
    return Error(ENGINE_NOT_FOUND, "'", path.string(), "' does not exist");
  }
  const uintmax_t size = fs::file_size(path, error);
  if (error || size > kMaxText) {
    return Error(ENGINE_INVALID_ARGUMENT, "'", path.string(), "' is not a regular file of at most ",
                 kMaxText, " bytes");
  }
  std::ifstream in(path, std::ios::binary);
  text->resize(size);
  if (!in.read(text->data(), static_cast<std::streamsize>(size))) {
    return Error(ENGINE_UNAVAILABLE, "'", path.string(), "' cannot be read");
  }
  return Status();
}

class HfFolder final : public Checkpoint {
 public:
  Status Open(const std::string& path) {
    path_ = path;
    const fs::path folder(path);
    std::string config, generation, tokenizer;
    ENGINE_RETURN_IF_ERROR(ReadText(folder / "config.json", true, &config));
    ENGINE_RETURN_IF_ERROR(ReadText(folder / "generation_config.json", false, &generation));
    ENGINE_RETURN_IF_ERROR(ReadText(folder / "tokenizer_config.json", false, &tokenizer));
    ENGINE_RETURN_IF_ERROR(ConfigFromHf(config, generation, tokenizer,
                                        "'" + (folder / "config.json").string() + "'", &config_));
    std::string chat;
    ENGINE_RETURN_IF_ERROR(ReadText(folder / "chat_template.jinja", false, &chat));
    if (!chat.empty()) config_.chat_template = chat;
    std::vector<std::string> files;
    ENGINE_RETURN_IF_ERROR(Shards(folder, &files));
    for (const std::string& file : files) {
      std::unique_ptr<SafetensorsFile> opened;
      ENGINE_RETURN_IF_ERROR(SafetensorsFile::Open((folder / file).string(), &opened));
      files_.push_back(std::move(opened));
    }
    for (const auto& file : files_) ENGINE_RETURN_IF_ERROR(TakeFile(*file));
    if (Find("lm_head.weight") == nullptr && !config_.tied_embedding) {
      return Error(ENGINE_DATA_LOSS, "'", path_,
                   "': tensor 'lm_head.weight' is missing and "
                   "config.json does not say \"tie_word_embeddings\": true");
    }
    return CheckComplete();
  }

  Status MakeTokenizer(std::unique_ptr<Tokenizer>* out) const override {
    const fs::path file = fs::path(path_) / "tokenizer.json";
    std::string text;
    ENGINE_RETURN_IF_ERROR(ReadText(file, true, &text));
    return TokenizerFromJson(text, "'" + file.string() + "'", out);
  }

 private:
  Status Shards(const fs::path& folder, std::vector<std::string>* files) {
    std::error_code error;
    if (fs::exists(folder / "model.safetensors", error)) {
      files->push_back("model.safetensors");
      return Status();
    }
    const fs::path index_path = folder / "model.safetensors.index.json";
    std::string text;
    ENGINE_RETURN_IF_ERROR(ReadText(index_path, false, &text));
    const json index = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!text.empty() && !index.is_object()) {
      return Error(ENGINE_DATA_LOSS, "'", index_path.string(), "': ", JsonProblem(text));
    }
    if (text.empty() || !index.is_object() || !index.contains("weight_map") ||
        !index["weight_map"].is_object()) {
      return Error(ENGINE_NOT_FOUND, "folder '", path_, "' has neither model.safetensors nor a ",
                   "model.safetensors.index.json with a weight_map");
    }
    std::set<std::string> names;
    for (const auto& [tensor, file] : index["weight_map"].items()) {
      const std::string name = file.is_string() ? file.get<std::string>() : "";
      // A plain name: an index must not reach outside its folder.
      if (name.empty() || name.find('/') != std::string::npos || name[0] == '.' ||
          name.find('\0') != std::string::npos) {
        return Error(ENGINE_INVALID_ARGUMENT, "'", index_path.string(), "': the file of tensor '",
                     Printable(tensor), "' must be a plain file name");
      }
      names.insert(name);
    }
    files->assign(names.begin(), names.end());
    return Status();
  }

  Status TakeFile(const SafetensorsFile& file) {
    const std::string& path = file.file().path();
    for (const SafetensorsTensor& t : file.tensors()) {
      // Old checkpoints store this constant; it follows from the config.
      if (t.name.ends_with("rotary_emb.inv_freq")) continue;
      // With a tied embedding a stored head would be a stale copy.
      if (t.name.starts_with("lm_head.weight") && config_.tied_embedding) continue;
      if (config_.int8_group >= 0) {
        // Taken with their weights.
        if (t.name.ends_with(kScale) && IsInt8(t.name.substr(0, t.name.size() - kSuffix))) continue;
        if (t.dtype == "I8" && t.name.ends_with(".weight")) {
          ENGINE_RETURN_IF_ERROR(TakeInt8(file, t));
          continue;
        }
      }
      if (!t.floating || t.shape.empty() || t.elements == 0) {
        return Error(ENGINE_UNIMPLEMENTED, "'", path, "': tensor '", t.name, "' (", t.dtype, ", ",
                     t.elements,
                     " elements) is not a matrix or vector of "
                     "floating-point numbers");
      }
      TensorInfo info;
      info.name = t.name;
      info.shape = t.shape;
      info.encoding = t.encoding;
      info.bytes = t.bytes;
      ENGINE_RETURN_IF_ERROR(Add(std::move(info), {&file.file(), t.offset}));
    }
    return Status();
  }

  // The tensor of that name in any of the files.
  const SafetensorsTensor* FindStored(const std::string& name, const SafetensorsFile** in) const {
    for (const auto& file : files_) {
      const SafetensorsTensor* t = file->Find(name);
      if (t == nullptr) continue;
      *in = file.get();
      return t;
    }
    return nullptr;
  }
  bool IsInt8(const std::string& name) const {
    const SafetensorsFile* ignored = nullptr;
    const SafetensorsTensor* t = FindStored(name, &ignored);
    return t != nullptr && t->dtype == "I8";
  }

  Status TakeInt8(const SafetensorsFile& file, const SafetensorsTensor& t) {
    const auto bad = [&](const auto&... parts) {
      return Error(ENGINE_DATA_LOSS, "'", file.file().path(), "': tensor '", t.name,
                   "': ", parts...);
    };
    if (t.shape.size() != 2 || t.elements == 0) return bad("int8 weights must be a matrix");
    const SafetensorsFile* scales_file = nullptr;
    const SafetensorsTensor* scales = FindStored(t.name + "_scale", &scales_file);
    if (scales == nullptr || !scales->floating) {
      return bad("its scales, a floating-point tensor '", t.name, "_scale', are missing");
    }
    TensorInfo info;
    info.name = t.name;
    info.shape = t.shape;
    info.encoding = Encoding::kI8;
    info.bytes = t.bytes;
    info.group = config_.int8_group;
    std::vector<int64_t> want = {t.shape[0], info.groups()};
    const bool flat = info.group == 0 && scales->shape == std::vector<int64_t>{t.shape[0]};
    if (scales->shape != want && !flat) {
      return bad("its scales have ", scales->elements, " elements; quantization_config implies [",
                 want[0], ", ", want[1], "]");
    }
    std::vector<float> values;
    ENGINE_RETURN_IF_ERROR(scales_file->Read(*scales, &values));
    info.half_scales = true;
    for (const float v : values) {
      if (!std::isfinite(v)) return bad("a scale is not finite");
      info.half_scales &= HalfToFloat(FloatToHalf(v)) == v;
    }
    return Add(std::move(info),
               {&file.file(), t.offset, 0, &scales_file->file(), scales->offset, scales->encoding});
  }

  static constexpr std::string_view kScale = ".weight_scale";
  static constexpr size_t kSuffix = std::string_view("_scale").size();
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
};

}  // namespace

Status internal::OpenHfFolder(const std::string& path, std::unique_ptr<Checkpoint>* out) {
  auto checkpoint = std::make_unique<HfFolder>();
  ENGINE_RETURN_IF_ERROR(checkpoint->Open(path));
  *out = std::move(checkpoint);
  return Status();
}

}  // namespace engine::model
