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
  bool magnitude;
  const engine_low_rank* table;
};
using Branches = std::map<std::string, Branch>;  // by the linear's name

Branches FindBranches(const engine::Model& view) {
  Branches branches;
  const std::vector<engine_site_info> sites = view.Sites();
  for (uint32_t i = 0; i < sites.size(); ++i) {
    const auto* low = view.Extension<engine_low_rank>(i, ENGINE_EXT_LOW_RANK);
    if (low == nullptr) continue;
    // Beside the whole weight the branch is its own halves and those that it began with.
    const int64_t rank = int64_t{low->rank} * (low->start_a != nullptr ? 2 : 1);
    branches[std::string(View(sites[i].name))] = {rank, low->scale * static_cast<double>(rank),
                                                  low->dropout, low->magnitude != nullptr, low};
  }
  return branches;
}

// The core fields, and of the others those that are not PEFT's defaults: older releases refuse
// fields that they do not know. `whole` names modules whose own weights are kept.
ordered_json Config(const Branches& branches, const std::set<std::string>& whole,
                    const std::string& base) {
  std::set<std::string> targets;
  const Branch& first = branches.begin()->second;
  ordered_json ranks = ordered_json::object(), alphas = ranks;
  for (const auto& [name, branch] : branches) {
    targets.insert(name.substr(name.rfind('.') + 1));
    if (branch.rank != first.rank) ranks[name] = branch.rank;
    if (branch.alpha != first.alpha) alphas[name] = branch.alpha;
  }
  ordered_json config;
  config["peft_type"] = "LORA";
  config["task_type"] = "CAUSAL_LM";
  config["base_model_name_or_path"] = base;
  config["r"] = first.rank;
  config["lora_alpha"] = first.alpha;
  if (!ranks.empty()) config["rank_pattern"] = ranks;
  if (!alphas.empty()) config["alpha_pattern"] = alphas;
  config["lora_dropout"] = first.dropout;
  if (first.magnitude) config["use_dora"] = true;
  if (!whole.empty()) config["modules_to_save"] = whole;
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

// NaN and infinity alike make x - x differ from zero.
Status CheckFinite(const std::string& name, const ops::Tensor& values) {
  const ops::Tensor poison = ops::To(ops::Sum(ops::Sub(values, values)), ENGINE_F64);
  if (*ops::Data<double>(poison) == 0) return Status();
  return Error(ENGINE_DATA_LOSS, "'", name,
               "' holds values that are not finite; the adapter is not written");
}

// What is kept of a trained half of a branch, whose name ends in lora_A.weight or lora_B.weight.
ops::Tensor Kept(const Branches& branches, const std::string& name, const ops::Tensor& values) {
  for (const bool a : {true, false}) {
    const std::string_view end = a ? ".lora_A.weight" : ".lora_B.weight";
    if (name.size() < end.size() || name.substr(name.size() - end.size()) != end) continue;
    const auto it = branches.find(name.substr(0, name.size() - end.size()));
    if (it == branches.end() || it->second.table->start_a == nullptr) break;
    const engine_low_rank& low = *it->second.table;
    return a ? ops::Cat({values, ops::Borrow(low.start_a)}, 0)
             : ops::Cat({values, ops::Neg(ops::Borrow(low.start_b))}, 1);
  }
  return values;
}

// Weights that are trained whole, by the modules that hold them: what PEFT calls modules_to_save.
Status FindWhole(const engine::Model& view, const Branches& branches,
                 std::set<std::string>* modules) {
  std::map<std::string, std::string> module_of;
  for (const engine_site_info& site : view.Sites()) {
    if (site.weight.size != 0) module_of[std::string(View(site.weight))] = View(site.name);
  }
  for (const engine_param_info& param : view.Params()) {
    const auto it = module_of.find(std::string(View(param.name)));
    if (param.trainable == 0 || it == module_of.end()) continue;
    if (param.tie_group.size != 0 || branches.count(it->second) != 0) {
      return Error(ENGINE_UNIMPLEMENTED, "'", it->first, "' is trained, and is ",
                   param.tie_group.size != 0 ? "the embedding and the head in one"
                                             : "the weight below a low-rank branch",
                   ", which an adapter cannot say; leave it out of trainable, or write the model "
                   "whole with export_model");
    }
    modules->insert(it->second);
  }
  return Status();
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
  std::set<std::string> whole;
  ENGINE_RETURN_IF_ERROR(FindWhole(view, branches, &whole));
  out->config = Config(branches, whole, out->base);
  const std::vector<engine_param_info> params = view.Params();
  for (uint32_t i = 0; i < params.size(); ++i) {
    if (params[i].trainable == 0) continue;
    AtenTensorHandle handle = nullptr;
    ENGINE_RETURN_IF_ERROR(Status(api->param_tensor(model, i, &handle)));
    const std::string name(View(params[i].name));
    const ops::Tensor values = ops::Detach(ops::Tensor(handle));
    ENGINE_RETURN_IF_ERROR(CheckFinite(name, values));
    out->tensors.push_back({kPrefix + name, Kept(branches, name, values)});
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
