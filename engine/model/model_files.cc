#include "engine/model/model_files.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "engine/model/formats/safetensors.h"
#include "engine/status.hpp"
#include "engine/torch_ops.h"

struct engine_files {
  std::unique_ptr<engine::model::SafetensorsFile> file;
};

namespace engine::model {
namespace {

using ops::Tensor;

const char* SafetensorsName(uint32_t dtype) {
  switch (dtype) {
    case ENGINE_F64:
      return "F64";
    case ENGINE_F32:
      return "F32";
    case ENGINE_BF16:
      return "BF16";
    case ENGINE_F16:
      return "F16";
    default:
      return nullptr;
  }
}

}  // namespace

engine_status* FilesOpen(engine_str path, engine_files** out) {
  return Guard([&] {
    auto files = std::make_unique<engine_files>();
    ENGINE_RETURN_IF_ERROR(SafetensorsFile::Open(std::string(View(path)), &files->file));
    *out = files.release();
    return Status();
  });
}

engine_status* FilesName(const engine_files* files, uint32_t i, engine_str* name) {
  if (i >= files->file->tensors().size()) {
    return engine::internal::NewStatus(ENGINE_OUT_OF_RANGE,
                                       "no tensor has the number " + std::to_string(i));
  }
  *name = Str(files->file->tensors()[i].name);
  return nullptr;
}

engine_status* FilesTensor(const engine_files* files, engine_str name, uint32_t dtype,
                           AtenTensorHandle* out) {
  return Guard([&]() -> Status {
    const SafetensorsTensor* stored = files->file->Find(View(name));
    if (stored == nullptr) {
      return Error(ENGINE_NOT_FOUND, "the file has no tensor '", View(name), "'");
    }
    const auto read = [&]<typename T>(std::vector<T> values, uint32_t as) -> Status {
      ENGINE_RETURN_IF_ERROR(files->file->Read(*stored, &values));
      const Tensor tensor = ops::Empty(stored->shape, as);
      std::copy(values.begin(), values.end(), ops::Data<T>(tensor));
      *out = ops::Release(ops::To(tensor, dtype));
      return Status();
    };
    // F64 is read as it is.
    return dtype == ENGINE_F64 ? read(std::vector<double>(), ENGINE_F64)
                               : read(std::vector<float>(), ENGINE_F32);
  });
}

engine_status* FilesWrite(engine_str path, const engine_str* names, const AtenTensorHandle* tensors,
                          uint32_t count) {
  return Guard([&]() -> Status {
    std::vector<Tensor> held;
    std::vector<SafetensorsSource> sources;
    for (uint32_t i = 0; i < count; ++i) {
      held.push_back(ops::Contiguous(ops::Detach(ops::Borrow(tensors[i]))));
      const char* dtype = SafetensorsName(ops::DtypeOf(held.back()));
      if (dtype == nullptr) {
        return Error(ENGINE_INVALID_ARGUMENT, "tensor '", View(names[i]),
                     "' holds no floating-point numbers");
      }
      sources.push_back({std::string(View(names[i])), dtype, ops::Sizes(held.back()),
                         ops::Data<void>(held.back())});
    }
    const std::filesystem::path file(View(path));
    std::error_code ignored;
    if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), ignored);
    return WriteSafetensors(file.string(), sources, {{"format", "pt"}});
  });
}

engine_status* ReadText(engine_str path, engine_put put, void* arg) {
  return Guard([&]() -> Status {
    constexpr uintmax_t kMost = 16u << 20;
    const std::string name(View(path));
    std::error_code error;
    const uintmax_t size = std::filesystem::file_size(name, error);
    if (error) return Error(ENGINE_NOT_FOUND, "file '", name, "': ", error.message());
    if (size > kMost) {
      return Error(ENGINE_OUT_OF_RANGE, "file '", name, "' has ", size, " bytes; at most ", kMost,
                   " are read");
    }
    std::ifstream in(name, std::ios::binary);
    std::string text(size, '\0');
    in.read(text.data(), static_cast<std::streamsize>(size));
    if (!in) return Error(ENGINE_DATA_LOSS, "file '", name, "' could not be read whole");
    return Status(put(arg, Str(text)));
  });
}

engine_status* WriteText(engine_str path, engine_str text) {
  return Guard([&]() -> Status {
    const std::filesystem::path file(View(path));
    std::error_code error;
    if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), error);
    const std::string temporary = file.string() + ".tmp";
    {
      std::ofstream out(temporary, std::ios::binary);
      out.write(text.data, static_cast<std::streamsize>(text.size));
      out.flush();
      if (!out) return Error(ENGINE_UNAVAILABLE, "file '", temporary, "' cannot be written");
    }
    std::filesystem::rename(temporary, file, error);
    if (error) return Error(ENGINE_UNAVAILABLE, "file '", file.string(), "': ", error.message());
    return Status();
  });
}

void FilesClose(engine_files* files) { delete files; }
uint32_t FilesCount(const engine_files* files) {
  return static_cast<uint32_t>(files->file->tensors().size());
}

}  // namespace engine::model
