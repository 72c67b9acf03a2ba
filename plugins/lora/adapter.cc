#include "adapter.h"

#include <algorithm>
#include <set>

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

// The name of one tensor of a branch in the file.
std::string Key(std::string_view site, std::string_view which) {
  std::string key = kPrefix + std::string(site) + "." + std::string(which);
  return which == "lora_magnitude_vector" ? key : key + ".weight";
}

bool IsTrue(const nlohmann::json& config, const char* key) {
  return config.contains(key) && config[key].is_boolean() && config[key].get<bool>();
}

// What changes the function and is not computed here; empty: nothing does.
std::string Unknown(const nlohmann::json& config) {
  for (const char* key : {"fan_in_fan_out", "lora_bias", "use_qalora"}) {
    if (IsTrue(config, key)) return std::string(key) + " is true, which is not supported";
  }
  for (const char* key : {"layer_replication", "target_parameters", "trainable_token_indices",
                          "alora_invocation_tokens", "megatron_config"}) {
    if (config.contains(key) && !config[key].empty()) {
      return std::string(key) + " is set, which is not supported";
    }
  }
  // The linears of this family have no biases, so whichever were to train, there are none; a bias
  // in the file is a tensor that fits no linear.
  if (config.contains("bias") && config["bias"] != "none" && config["bias"] != "all" &&
      config["bias"] != "lora_only") {
    return "bias is " + config["bias"].dump().substr(0, 100) +
           "; it can be \"none\", \"all\" or \"lora_only\"";
  }
  return "";
}

}  // namespace

Adapter::~Adapter() {
  if (files_ != nullptr) ThisHost().model->files_close(files_);
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
  if (const std::string unknown = Unknown(config); !unknown.empty()) return wrong(unknown);
  adapter->dora_ = IsTrue(config, "use_dora");
  if (config.contains("lora_dropout")) {
    const auto& dropout = config["lora_dropout"];
    if (!dropout.is_number() || !(dropout >= 0.0 && dropout < 1.0)) {
      return wrong("lora_dropout must be a number from 0 to below 1");
    }
    adapter->dropout_ = dropout.get<double>();
  }
  if (config.contains("init_lora_weights") && config["init_lora_weights"].is_string()) {
    const std::string init = config["init_lora_weights"];
    adapter->pissa_ = init == "pissa";
    // These begin with a part of the base's weight as well, one that cannot be found again.
    for (const char* other : {"pissa_niter_", "olora", "corda", "loftq"}) {
      if (init.rfind(other, 0) != 0) continue;
      return wrong("init_lora_weights is \"" + init.substr(0, 100) +
                   "\": the adapter belongs to a changed base; let PEFT save it with "
                   "path_initial_model_for_weight_conversion");
    }
    if (adapter->pissa_ && adapter->dora_) {
      return wrong("init_lora_weights \"pissa\" beside use_dora is not supported");
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

bool Adapter::There(const std::string& key) const {
  return std::find(names_.begin(), names_.end(), key) != names_.end();
}

bool Adapter::Has(std::string_view site) const {
  return There(Key(site, "lora_A")) && There(Key(site, "lora_B")) &&
         (!dora_ || There(Key(site, "lora_magnitude_vector")));
}

bool Adapter::HasWhole(std::string_view param) const { return There(kPrefix + std::string(param)); }

Status Adapter::Read(const std::string& key, uint32_t dtype,
                     std::optional<ops::Tensor>* out) const {
  AtenTensorHandle handle = nullptr;
  ENGINE_RETURN_IF_ERROR(Status(ThisHost().model->files_tensor(files_, Str(key), dtype, &handle)));
  out->emplace(handle);
  // NaN and infinity alike make x - x differ from zero.
  const ops::Tensor sum = ops::To(ops::Sum(ops::Sub(**out, **out)), ENGINE_F64);
  if (*ops::Data<double>(sum) == 0) return Status();
  return Error(ENGINE_DATA_LOSS, folder_, ": tensor '", key, "' holds values that are not finite");
}

Status Adapter::Load(std::string_view site, std::string_view which, uint32_t dtype,
                     std::optional<ops::Tensor>* out) const {
  return Read(Key(site, which), dtype, out);
}

Status Adapter::LoadWhole(std::string_view param, uint32_t dtype,
                          std::optional<ops::Tensor>* out) const {
  return Read(kPrefix + std::string(param), dtype, out);
}

std::vector<std::string> Adapter::Unused(const std::vector<std::string>& sites,
                                         const std::vector<std::string>& weights) const {
  std::set<std::string> taken;
  for (const std::string& site : sites) {
    if (!Has(site)) continue;
    taken.insert({Key(site, "lora_A"), Key(site, "lora_B")});
    if (dora_) taken.insert(Key(site, "lora_magnitude_vector"));
  }
  for (const std::string& weight : weights) taken.insert(kPrefix + weight);
  std::vector<std::string> unused;
  for (const std::string& name : names_) {
    if (taken.count(name) == 0) unused.push_back(name);
  }
  return unused;
}

}  // namespace engine::lora
