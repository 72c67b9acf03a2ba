#include "adapter.h"

#include <algorithm>

#include "engine/torch_ops.h"
#include "engine/util.hpp"
#include "nlohmann/json.hpp"

namespace engine::lora {
namespace {

constexpr char kPrefix[] = "base_model.model.";

// As PEFT matches a pattern: the whole name, or its end after a dot.
bool EndsAt(std::string_view pattern, std::string_view site) {
  if (site.size() < pattern.size() || site.substr(site.size() - pattern.size()) != pattern) {
    return false;
  }
  return site.size() == pattern.size() || site[site.size() - pattern.size() - 1] == '.';
}

}  // namespace

Adapter::~Adapter() {
  if (files_ != nullptr) ThisHost().model->files_close(files_);
}

std::string Adapter::Key(std::string_view site, const char* which) const {
  return kPrefix + std::string(site) + "." + which + ".weight";
}

Status Adapter::Open(const std::string& folder, std::unique_ptr<Adapter>* out) {
  std::unique_ptr<Adapter> adapter(new Adapter);
  adapter->folder_ = folder;
  const engine_model_host* api = ThisHost().model;
  const std::string config_path = folder + "/adapter_config.json";
  std::string text;
  ENGINE_RETURN_IF_ERROR(Status(api->read_text(Str(config_path), &AppendTo, &text)));
  const auto config = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto wrong = [&](const std::string& what) {
    return Error(ENGINE_INVALID_ARGUMENT, config_path, ": ", what);
  };
  if (!config.is_object()) return wrong("is no JSON object");
  if (config.value("peft_type", "") != "LORA") return wrong("peft_type is not \"LORA\"");
  if (!config.contains("r") || !config["r"].is_number_unsigned() || config["r"] == 0 ||
      config["r"].get<uint64_t>() > 65536) {
    return wrong("r must be a whole number from 1 to 65536");
  }
  adapter->rules_.rank = config["r"].get<uint32_t>();
  if (!config.contains("lora_alpha") || !config["lora_alpha"].is_number()) {
    return wrong("lora_alpha must be a number");
  }
  adapter->rules_.alpha = config["lora_alpha"].get<double>();
  // Settings that change the function and are not computed here.
  for (const char* key : {"use_dora", "fan_in_fan_out", "lora_bias"}) {
    if (config.contains(key) && config[key].is_boolean() && config[key].get<bool>()) {
      return wrong(std::string(key) + " is true, which is not supported");
    }
  }
  BranchRules& rules = adapter->rules_;
  rules.rslora = config.value("use_rslora", false);
  rules.matches = &EndsAt;
  for (const char* key : {"rank_pattern", "alpha_pattern"}) {
    if (!config.contains(key) || !config[key].is_object()) continue;
    const bool ranks = key[0] == 'r';
    for (const auto& [name, value] : config[key].items()) {
      const std::string where = std::string(key) + " of \"" + name.substr(0, 100) + "\"";
      // PEFT reads names as regular expressions; the plain ones are what its tools write.
      if (name.empty() || name.find_first_of("^$*+?()[]{}|\\") != std::string::npos) {
        return wrong(where + " is a regular expression, which is not supported");
      }
      const bool good = ranks ? value.is_number_unsigned() && value > 0 && value <= kMostRank
                              : value.is_number() && value > 0 && value <= kMostAlpha;
      if (!good)
        return wrong(where + " must be a " + (ranks ? "whole number" : "number") + " above 0");
      if (ranks) {
        rules.ranks.emplace_back(name, value.get<uint32_t>());
      } else {
        rules.alphas.emplace_back(name, value.get<double>());
      }
    }
  }
  const std::string tensors = folder + "/adapter_model.safetensors";
  ENGINE_RETURN_IF_ERROR(Status(api->files_open(Str(tensors), &adapter->files_)));
  for (uint32_t i = 0; i < api->files_count(adapter->files_); ++i) {
    engine_str name = {};
    ENGINE_RETURN_IF_ERROR(Status(api->files_name(adapter->files_, i, &name)));
    adapter->names_.emplace_back(View(name));
  }
  *out = std::move(adapter);
  return Status();
}

bool Adapter::Has(std::string_view site) const {
  const auto there = [&](const std::string& key) {
    return std::find(names_.begin(), names_.end(), key) != names_.end();
  };
  return there(Key(site, "lora_A")) && there(Key(site, "lora_B"));
}

Status Adapter::Load(std::string_view site, const char* which, uint32_t dtype,
                     AtenTensorHandle* out) const {
  const std::string key = Key(site, which);
  AtenTensorHandle handle = nullptr;
  ENGINE_RETURN_IF_ERROR(Status(ThisHost().model->files_tensor(files_, Str(key), dtype, &handle)));
  const ops::Tensor tensor(handle);
  // NaN and infinity alike make x - x differ from zero.
  const ops::Tensor sum = ops::To(ops::Sum(ops::Sub(tensor, tensor)), ENGINE_F64);
  if (*ops::Data<double>(sum) != 0) {
    return Error(ENGINE_DATA_LOSS, folder_, ": tensor '", key,
                 "' holds values that are not finite");
  }
  *out = ops::Release(tensor);
  return Status();
}

std::vector<std::string> Adapter::Unused(const std::vector<std::string>& sites) const {
  std::vector<std::string> unused;
  for (const std::string& name : names_) {
    const bool taken = std::any_of(sites.begin(), sites.end(), [&](const std::string& site) {
      return name == Key(site, "lora_A") || name == Key(site, "lora_B");
    });
    if (!taken) unused.push_back(name);
  }
  return unused;
}

}  // namespace engine::lora
