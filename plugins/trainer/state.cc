#include "state.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <memory>
#include <system_error>

#include "engine/ext/model.h"
#include "engine/host.hpp"
#include "engine/util.hpp"
#include "nlohmann/json.hpp"

namespace engine::trainer {
namespace {

namespace fs = std::filesystem;
constexpr std::string_view kPrefix = "checkpoint-";
constexpr std::string_view kFormat = "engine.training/1";

// Steps of the folders there are, rising.
std::vector<uint32_t> StepsIn(const std::string& folder) {
  std::vector<uint32_t> steps;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind(kPrefix, 0) != 0) continue;
    uint32_t step = 0;
    const char* end = name.data() + name.size();
    const auto [at, wrong] = std::from_chars(name.data() + kPrefix.size(), end, step);
    if (wrong == std::errc() && at == end) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::string FolderOf(const std::string& folder, uint32_t step) {
  return folder + "/" + std::string(kPrefix) + std::to_string(step);
}

std::string LatestOf(const std::string& folder) { return folder + "/latest.json"; }

Status Failed(const std::string& what, const std::string& path, const std::error_code& error) {
  return Error(ENGINE_UNAVAILABLE, "'", path, "' could not be ", what, ": ", error.message());
}

}  // namespace

Status SaveState(const std::string& folder, const RunState& state, uint32_t keep) {
  const engine_model_host* api = ThisHost().model;
  const std::string whole = FolderOf(folder, state.step), partial = folder + "/.partial";
  std::error_code error;
  fs::remove_all(partial, error);
  fs::create_directories(partial, error);
  if (error) return Failed("made", partial, error);
  std::vector<engine_str> names;
  std::vector<AtenTensorHandle> handles;
  for (const NamedTensor& t : state.tensors) {
    names.push_back(Str(t.name));
    handles.push_back(t.tensor.get());
  }
  const std::string tensors = partial + "/state.safetensors", latest = LatestOf(folder);
  ENGINE_RETURN_IF_ERROR(Status(api->files_write(Str(tensors), names.data(), handles.data(),
                                                 static_cast<uint32_t>(handles.size()))));
  fs::remove_all(whole, error);  // the same step again: of a run that began anew
  fs::rename(partial, whole, error);
  if (error) return Failed("written", whole, error);
  nlohmann::ordered_json j;
  j["format"] = kFormat;
  j["step"] = state.step;
  j["next"] = state.next;
  const std::string text = j.dump(2) + "\n";
  ENGINE_RETURN_IF_ERROR(Status(api->write_text(Str(latest), Str(text))));
  const std::vector<uint32_t> steps = StepsIn(folder);
  for (size_t i = 0; i + keep < steps.size(); ++i)
    fs::remove_all(FolderOf(folder, steps[i]), error);
  return Status();
}

Status LoadState(const std::string& folder, RunState* state, bool* found) {
  const engine_model_host* api = ThisHost().model;
  const std::string latest = LatestOf(folder);
  *found = fs::exists(latest);
  if (!*found) return Status();
  std::string text;
  ENGINE_RETURN_IF_ERROR(Status(api->read_text(Str(latest), &AppendTo, &text)));
  const auto j = nlohmann::json::parse(text, nullptr, false);
  const auto whole = [&](const char* key) {
    return j.is_object() && j.contains(key) && j[key].is_number_unsigned();
  };
  if (!whole("step") || !whole("next") || j["step"] > UINT32_MAX ||
      j.value("format", "") != kFormat) {
    return Error(ENGINE_DATA_LOSS, "'", latest, "' is none of the format ", kFormat,
                 "; remove it to begin anew, or name another folder");
  }
  state->step = j["step"].get<uint32_t>();
  state->next = j["next"].get<uint64_t>();
  const std::string at = FolderOf(folder, state->step), tensors = at + "/state.safetensors";
  const auto wrong = [&](const std::string& what) {
    return Error(ENGINE_DATA_LOSS, "'", at, "' ", what,
                 "; it is of another run: name another folder, or remove this one to begin anew");
  };
  engine_files* opened = nullptr;
  ENGINE_RETURN_IF_ERROR(Status(api->files_open(Str(tensors), &opened)));
  const std::unique_ptr<engine_files, void (*)(engine_files*)> files(opened, api->files_close);
  if (api->files_count(files.get()) != state->tensors.size()) {
    return wrong("holds " + std::to_string(api->files_count(files.get())) +
                 " tensors, and this run "
                 "trains with " +
                 std::to_string(state->tensors.size()));
  }
  for (NamedTensor& t : state->tensors) {
    AtenTensorHandle handle = nullptr;
    ENGINE_RETURN_IF_ERROR(
        Status(api->files_tensor(files.get(), Str(t.name), ops::DtypeOf(t.tensor), &handle)));
    const ops::Tensor saved(handle);
    if (ops::Sizes(saved) != ops::Sizes(t.tensor)) {
      return wrong("holds '" + t.name + "' in another shape than this run trains");
    }
    ops::Tensor into = ops::Detach(t.tensor);
    ops::CopyInto(into, saved);
  }
  return Status();
}

}  // namespace engine::trainer
