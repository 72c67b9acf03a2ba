#include "adapter_folder.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "engine/made_of.hpp"
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

// By the adapter's name; empty: the one without.
std::map<std::string, Branches> FindBranches(const engine::Model& view) {
  std::map<std::string, Branches> adapters;
  const std::vector<engine_site_info> sites = view.Sites();
  for (uint32_t i = 0; i < sites.size(); ++i) {
    std::vector<const engine_low_rank*> found;
    Peel(*view.Impl(i), &found);
    for (const engine_low_rank* low : found) {
      // Beside the whole weight the branch is its own halves and those that it began with.
      const int64_t rank = int64_t{low->rank} * (low->start_a != nullptr ? 2 : 1);
      adapters[std::string(View(low->adapter))][std::string(View(sites[i].name))] = {
          rank, low->scale * static_cast<double>(rank), low->dropout, low->magnitude != nullptr,
          low};
    }
  }
  return adapters;
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

std::string ModelCard(const AdapterFolder::Adapter& adapter, const ordered_json& base) {
  // JSON's quoted text is YAML's as well.
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

// A tensor of a branch as the file has it.
struct Kept {
  std::string adapter, name;
  ops::Tensor values;
};

// What is kept of each tensor of the branches, by where its values are.
std::map<const void*, Kept> KeptOf(const std::map<std::string, Branches>& adapters) {
  std::map<const void*, Kept> kept;
  for (const auto& [adapter, branches] : adapters) {
    for (const auto& [site, branch] : branches) {
      const engine_low_rank& low = *branch.table;
      const auto add = [&](AtenTensorHandle of, const char* name, const ops::Tensor& values) {
        kept.insert({ops::Data<void>(ops::Borrow(of)), {adapter, kPrefix + site + name, values}});
      };
      const bool whole = low.start_a == nullptr;
      const ops::Tensor a = ops::Detach(ops::Borrow(low.a)), b = ops::Detach(ops::Borrow(low.b));
      add(low.a, ".lora_A.weight", whole ? a : ops::Cat({a, ops::Borrow(low.start_a)}, 0));
      add(low.b, ".lora_B.weight",
          whole ? b : ops::Cat({b, ops::Neg(ops::Borrow(low.start_b))}, 1));
      if (low.magnitude == nullptr) continue;
      add(low.magnitude, ".lora_magnitude_vector", ops::Detach(ops::Borrow(low.magnitude)));
    }
  }
  return kept;
}

// Weights that are trained whole, by the modules that hold them: what PEFT calls modules_to_save.
Status FindWhole(const engine::Model& view, const std::map<std::string, Branches>& adapters,
                 std::set<std::string>* modules) {
  std::map<std::string, std::string> module_of;
  for (const engine_site_info& site : view.Sites()) {
    if (site.weight.size != 0) module_of[std::string(View(site.weight))] = View(site.name);
  }
  for (const engine_param_info& param : view.Params()) {
    const auto it = module_of.find(std::string(View(param.name)));
    if (param.trainable == 0 || it == module_of.end()) continue;
    const bool below = std::any_of(adapters.begin(), adapters.end(), [&](const auto& adapter) {
      return adapter.second.count(it->second) != 0;
    });
    if (param.tie_group.size != 0 || below) {
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
  const std::map<std::string, Branches> adapters = FindBranches(view);
  if (adapters.empty()) {
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
  ENGINE_RETURN_IF_ERROR(FindWhole(view, adapters, &whole));
  std::map<std::string, AdapterFolder::Adapter*> by_name;
  out->adapters.resize(adapters.size());
  for (const auto& [name, branches] : adapters) {
    AdapterFolder::Adapter& adapter = out->adapters[by_name.size()];
    adapter.name = name;
    adapter.config = Config(branches, name.empty() ? whole : std::set<std::string>(), out->base);
    by_name[name] = &adapter;
  }
  const std::map<const void*, Kept> kept = KeptOf(adapters);
  const std::vector<engine_param_info> params = view.Params();
  for (uint32_t i = 0; i < params.size(); ++i) {
    if (params[i].trainable == 0) continue;
    AtenTensorHandle handle = nullptr;
    ENGINE_RETURN_IF_ERROR(Status(api->param_tensor(model, i, &handle)));
    const std::string name(View(params[i].name));
    const ops::Tensor values = ops::Detach(ops::Tensor(handle));
    ENGINE_RETURN_IF_ERROR(CheckFinite(name, values));
    const auto it = kept.find(ops::Data<void>(values));
    if (it != kept.end()) {
      by_name[it->second.adapter]->tensors.push_back({it->second.name, it->second.values});
      continue;
    }
    const auto unnamed = by_name.find("");
    if (unnamed == by_name.end()) {
      return Error(ENGINE_FAILED_PRECONDITION, "'", name,
                   "' is trained whole, which an adapter with a name cannot say: other adapters "
                   "would meet it too; leave the name out, or the weight out of trainable");
    }
    unnamed->second->tensors.push_back({kPrefix + name, values});
  }
  return Status();
}

Status WriteAdapterFolder(const AdapterFolder& all, const std::string& folder) {
  const engine_model_host* api = ThisHost().model;
  for (const AdapterFolder::Adapter& adapter : all.adapters) {
    std::vector<engine_str> names;
    std::vector<AtenTensorHandle> handles;
    for (const NamedTensor& t : adapter.tensors) {
      names.push_back(Str(t.name));
      handles.push_back(t.tensor.get());
    }
    const std::string to = adapter.name.empty() ? folder : folder + "/" + adapter.name;
    const std::string file = to + "/adapter_model.safetensors";
    ENGINE_RETURN_IF_ERROR(Status(api->files_write(Str(file), names.data(), handles.data(),
                                                   static_cast<uint32_t>(handles.size()))));
    std::vector<std::pair<std::string, std::string>> texts = {
        {to + "/adapter_config.json", Dump(adapter.config)},
        {to + "/provenance.json", all.provenance}};
    const std::string card = to + "/README.md";
    std::error_code ignored;
    if (!std::filesystem::exists(card, ignored)) {
      texts.emplace_back(card, ModelCard(adapter, all.base));
    }
    for (const auto& [path, text] : texts) {
      ENGINE_RETURN_IF_ERROR(Status(api->write_text(Str(path), Str(text))));
    }
  }
  return Status();
}

Status SaveAdapter(engine_model* model, const std::string& folder) {
  AdapterFolder all;
  ENGINE_RETURN_IF_ERROR(GatherAdapter(model, &all));
  return WriteAdapterFolder(all, folder);
}

}  // namespace engine::trainer
