#include "calibrate.h"

#include <algorithm>
#include <cmath>

#include "engine/util.hpp"

namespace engine::int8 {
namespace {

constexpr size_t kLeastTokens = 16;
// A token of any text is shorter than this, so a longer beginning need not be read.
constexpr size_t kTokenBytes = 64;
// What a scale may be at most, and its inverse at least: weights stay far from half precision's
// end.
constexpr float kMostScale = 1e3f;

// The greatest magnitude in each column of the weight, or what `columns` holds already.
Status ColumnPeaks(const Model& model, const engine_site_info& site, std::vector<float>* columns) {
  const engine_model_host* api = Model::Api();
  uint32_t param = 0;
  ENGINE_RETURN_IF_ERROR(Status(api->param_find(model.get(), site.weight, &param)));
  constexpr int64_t kRows = 64;
  const auto in = static_cast<size_t>(site.in);
  std::vector<float> rows(kRows * in);
  for (int64_t r = 0; r < site.out; r += kRows) {
    const int64_t end = std::min(site.out, r + kRows);
    ENGINE_RETURN_IF_ERROR(Status(api->param_rows(model.get(), param, r, end, rows.data())));
    for (size_t i = 0; i < static_cast<size_t>(end - r); ++i) {
      for (size_t k = 0; k < in; ++k) {
        (*columns)[k] = std::max((*columns)[k], std::fabs(rows[i * in + k]));
      }
    }
  }
  return Status();
}

}  // namespace

Status Calibration::Measure(const Model& model, const std::string& path, uint32_t tokens) {
  const engine_model_host* api = Model::Api();
  std::string text;
  ENGINE_RETURN_IF_ERROR(Status(api->read_text(Str(path), &AppendTo, &text)));
  if (const size_t most = tokens * kTokenBytes; text.size() > most) {
    const size_t space = text.find_last_of(" \n", most);
    text.resize(space == std::string::npos ? most : space);
  }
  std::vector<int32_t> ids;
  ENGINE_RETURN_IF_ERROR(model.Encode(text, 0, &ids));
  if (ids.size() < kLeastTokens) {
    return Error(ENGINE_OUT_OF_RANGE, "calibrate: '", path, "' holds ", ids.size(),
                 " tokens; at least ", kLeastTokens, " are needed");
  }
  ids.resize(std::min<size_t>(ids.size(), tokens));
  peaks_.assign(model.Sites().size(), {});
  return Status(api->input_peaks(
      model.get(), ids.data(), ids.size(),
      [](void* arg, uint32_t site, const float* peaks, int64_t in) -> engine_status* {
        return Guard([&] {
          (*static_cast<std::vector<std::vector<float>>*>(arg))[site].assign(peaks, peaks + in);
          return Status();
        });
      },
      &peaks_));
}

Status Calibration::ScalesOf(const Model& model, uint32_t site, const std::vector<bool>& quantized,
                             const std::vector<float>** scales) {
  const std::vector<float>& inputs = peaks_[site];
  if (inputs.empty()) {
    return Error(ENGINE_FAILED_PRECONDITION,
                 "calibrate: what comes in here is hidden by an earlier transform");
  }
  const auto [at, fresh] = scales_.try_emplace(inputs);
  *scales = &at->second;
  if (!fresh) return Status();
  const std::vector<engine_site_info> sites = model.Sites();
  std::vector<float> weights(inputs.size());
  for (uint32_t i = 0; i < sites.size(); ++i) {
    if (!quantized[i] || peaks_[i] != inputs) continue;
    ENGINE_RETURN_IF_ERROR(ColumnPeaks(model, sites[i], &weights));
  }
  at->second.resize(inputs.size());
  for (size_t k = 0; k < inputs.size(); ++k) {
    const bool used = inputs[k] > 0 && weights[k] > 0;
    at->second[k] =
        used ? std::clamp(std::sqrt(weights[k] / inputs[k]), 1 / kMostScale, kMostScale) : 1.0f;
  }
  return Status();
}

}  // namespace engine::int8
