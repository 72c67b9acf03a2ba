#include "adapter_folder.h"

#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "engine/transform.hpp"
#include "engine/util.hpp"

namespace engine::trainer {
namespace {

using nlohmann::ordered_json;

constexpr char kPrefix[] = "base_model.model.";

struct Branch {
  int64_t rank;
  double alpha, dropout;  // the alpha gives the scale
};
using Branches = std::map<std::string, Branch>;  // by the linear's name

Branches FindBranches(const engine::Model& view) {
  Branches branches;
  const std::vector<engine_site_info> sites = view.Sites();
  for (uint32_t i = 0; i < sites.size(); ++i) {
    const auto* low = view.Extension<engine_low_rank>(i, ENGINE_EXT_LOW_RANK);
    if (low == nullptr) continue;
    branches[std::string(View(sites[i].name))] = {
        low->rank, low->scale * static_cast<double>(low->rank), low->dropout};
  }
  return branches;
}

// The core fields, and of the others those that are not PEFT's defaults: older releases refuse
// fields that they do not know.
ordered_json Config(const Branches& branches, const std::string& base) {
  std::set<std::string> targets;
  const auto [rank, alpha, dropout] = branches.begin()->second;
  ordered_json ranks = ordered_json::object(), alphas = ranks;
  for (const auto& [name, branch] : branches) {
    targets.insert(name.substr(name.rfind('.') + 1));
    if (branch.rank != rank) ranks[name] = branch.rank;
    if (branch.alpha != alpha) alphas[name] = branch.alpha;
  }
  ordered_json config;
  config["peft_type"] = "LORA";
  config["task_type"] = "CAUSAL_LM";
  config["base_model_name_or_path"] = base;
  config["r"] = rank;
  config["lora_alpha"] = alpha;
  if (!ranks.empty()) config["rank_pattern"] = ranks;
  if (!alphas.empty()) config["alpha_pattern"] = alphas;
  config["lora_dropout"] = dropout;
  config["bias"] = "none";
  config["fan_in_fan_out"] = false;
  config["inference_mode"] = true;
  config["target_modules"] = targets;
  return config;
}

std::string Dump(const ordered_json& j) {
  return j.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::string ModelCard(const AdapterFolder& adapter) {
  // JSON's quoted text is YAML's as well.
  const ordered_json base = adapter.base;
  std::string card = "---\nlibrary_name: peft\nbase_model: " +
                     base.dump(-1, ' ', false, ordered_json::error_handler_t::replace) +
                     "\ntags:\n- lora\n---\n\n";
  card += "A LoRA adapter (" + std::to_string(adapter.tensors.size()) + " tensors, rank " +
          adapter.config["r"].dump() + ", alpha " + adapter.config["lora_alpha"].dump() +
          ") for the base model above. provenance.json tells which file it was trained on.\n";
  return card;
}

}  // namespace

Status GatherAdapter(engine_model* model, AdapterFolder* out) {
  const engine_model_host* api = ThisHost().model;
  const engine::Model view(model);
  const Branches branches = FindBranches(view);
  if (branches.empty()) {
    return Error(
        ENGINE_FAILED_PRECONDITION,
        "an adapter is to be written, but the model has none; put lora before the trainer");
  }
  ENGINE_RETURN_IF_ERROR(Status(api->provenance(model, &AppendTo, &out->provenance)));
  const auto provenance = ordered_json::parse(out->provenance, nullptr, false);
  if (provenance.is_object() && provenance.contains("base")) {
    out->base = provenance["base"].value("path", "");
  }
  out->config = Config(branches, out->base);
  const std::vector<engine_param_info> params = view.Params();
  for (uint32_t i = 0; i < params.size(); ++i) {
    if (params[i].trainable == 0) continue;
    AtenTensorHandle handle = nullptr;
    ENGINE_RETURN_IF_ERROR(Status(api->param_tensor(model, i, &handle)));
    const ops::Tensor tensor(handle);
    // NaN and infinity alike make x - x differ from zero.
    const ops::Tensor values = ops::Detach(tensor);
    const ops::Tensor poison = ops::To(ops::Sum(ops::Sub(values, values)), ENGINE_F64);
    if (*ops::Data<double>(poison) != 0) {
      return Error(ENGINE_DATA_LOSS, "'", View(params[i].name),
                   "' holds values that are not finite; the adapter is not written");
    }
    out->tensors.push_back({kPrefix + std::string(View(params[i].name)), tensor});
  }
  return Status();
}

Status WriteAdapterFolder(const AdapterFolder& adapter, const std::string& folder) {
  const engine_model_host* api = ThisHost().model;
  std::vector<engine_str> names;
  std::vector<AtenTensorHandle> handles;
  for (const NamedTensor& t : adapter.tensors) {
    names.push_back(Str(t.name));
    handles.push_back(t.tensor.get());
  }
  const std::string file = folder + "/adapter_model.safetensors";
  ENGINE_RETURN_IF_ERROR(Status(api->files_write(Str(file), names.data(), handles.data(),
                                                 static_cast<uint32_t>(handles.size()))));
  std::vector<std::pair<std::string, std::string>> texts = {
      {folder + "/adapter_config.json", Dump(adapter.config)},
      {folder + "/provenance.json", adapter.provenance}};
  const std::string card = folder + "/README.md";
  std::error_code ignored;
  if (!std::filesystem::exists(card, ignored)) texts.emplace_back(card, ModelCard(adapter));
  for (const auto& [path, text] : texts) {
    ENGINE_RETURN_IF_ERROR(Status(api->write_text(Str(path), Str(text))));
  }
  return Status();
}

Status SaveAdapter(engine_model* model, const std::string& folder) {
  AdapterFolder adapter;
  ENGINE_RETURN_IF_ERROR(GatherAdapter(model, &adapter));
  return WriteAdapterFolder(adapter, folder);
}

}  // namespace engine::trainer
