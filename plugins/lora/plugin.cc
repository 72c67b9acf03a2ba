// The lora transform: a low-rank branch beside whatever stands at a linear, dense or packed.
#include "engine/plugin.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <set>
#include <utility>

#include "adapter.h"
#include "engine/made_of.hpp"
#include "engine/model_tensors.hpp"
#include "engine/named_number.hpp"
#include "engine/util.hpp"
#include "linear.h"
#include "options.engine.hpp"
#include "start.h"

namespace engine::lora {
namespace {

struct Lora : Transform {
  ENGINE_TRANSFORM(
      "lora",
      "Adds a trainable low-rank branch to linears and keeps the base frozen. The base "
      "may be dense or quantized. Reads adapters that PEFT wrote.",
      ENGINE_PHASE_ADAPTER)
  ENGINE_OPTIONS(LoraOptions)

  Status Prepare() override {
    if (!(options.dropout < 1)) {
      return Error(ENGINE_INVALID_ARGUMENT, "a dropout of 1 leaves nothing to train on");
    }
    ENGINE_RETURN_IF_ERROR(CheckName());
    dropout_ = {options.dropout, options.seed};
    if (options.has_adapter) return OpenAdapter();
    rules_ = {options.rank, options.alpha, options.rslora, {}, {}, &MatchesSite};
    dora_ = options.dora;
    pissa_ = options.init == LoraOptions::Init::PISSA;
    std::pair<std::string, double> exception;
    for (const std::string& text : options.rank_pattern) {
      ENGINE_RETURN_IF_ERROR(ParseNamedNumber(text, "q_proj=16", kMostRank, true, &exception));
      rules_.ranks.emplace_back(exception.first, static_cast<uint32_t>(exception.second));
    }
    for (const std::string& text : options.alpha_pattern) {
      ENGINE_RETURN_IF_ERROR(ParseNamedNumber(text, "q_proj=16", kMostAlpha, false, &exception));
      rules_.alphas.push_back(exception);
    }
    if (pissa_ && dora_) {
      return Error(ENGINE_INVALID_ARGUMENT,
                   "init PISSA beside dora could not be saved as an adapter; choose one");
    }
    if (pissa_ && !(options.alpha > 0)) {
      return Error(ENGINE_INVALID_ARGUMENT, "init PISSA needs an alpha above 0");
    }
    return NameFits();
  }

  Status CheckName() const {
    const std::string& name = options.name;
    const bool good = std::all_of(name.begin(), name.end(), [](unsigned char c) {
      return c < 128 && (std::isalnum(c) != 0 || c == '_' || c == '-');
    });
    if (!options.has_name || (good && !name.empty() && name.size() <= 64)) return Status();
    return Error(ENGINE_INVALID_ARGUMENT, "the name \"", name.substr(0, 64),
                 "\" must be 1 to 64 letters, digits, '_' and '-': it becomes part of names of "
                 "parameters and a folder's");
  }

  // A named branch is there for some requests alone; the weights below it are everybody's.
  Status NameFits() const {
    if (options.name.empty() || !pissa_) return Status();
    return Error(ENGINE_INVALID_ARGUMENT,
                 "PISSA takes its part out of the weights that all requests ",
                 "use, so that it takes no name; save it as a plain adapter first, and name that");
  }

  Status OpenAdapter() {
    if (options.has_rank || options.has_alpha || options.has_rslora || options.has_dora ||
        options.has_init || !options.targets.empty() || !options.rank_pattern.empty() ||
        !options.alpha_pattern.empty()) {
      return Error(ENGINE_INVALID_ARGUMENT,
                   "rank, alpha, rslora, dora, init, targets and their patterns are the adapter's "
                   "own; leave them out beside adapter");
    }
    ENGINE_RETURN_IF_ERROR(Adapter::Open(options.adapter, &adapter_));
    rules_ = adapter_->rules();
    dora_ = adapter_->dora();
    pissa_ = adapter_->pissa();
    if (!options.has_dropout) dropout_.p = adapter_->dropout();
    return NameFits();
  }

  bool Wanted(const engine_site_info& site) const {
    if (site.kind != ENGINE_SITE_LINEAR) return false;
    if (adapter_ != nullptr) return adapter_->Has(View(site.name));
    if (options.targets.empty()) return true;
    for (const std::string& pattern : options.targets) {
      if (MatchesSite(pattern, View(site.name))) return true;
    }
    return false;
  }

  Status Plan(const Model& model, Diff& diff) override {
    const int64_t bytes = DtypeBytes(model.Info().dtype);
    const std::vector<engine_site_info> sites = model.Sites();
    std::vector<std::string> linears, weights;
    std::vector<std::string> patterns = options.targets;
    if (adapter_ == nullptr) {
      for (const auto& [pattern, rank] : rules_.ranks) patterns.push_back(pattern);
      for (const auto& [pattern, alpha] : rules_.alphas) patterns.push_back(pattern);
    }
    std::vector<bool> met(patterns.size());
    uint32_t number = 0;
    if (!options.name.empty() &&
        Status(Model::Api()->adapter_find(model.get(), Str(options.name), &number)).ok()) {
      return Error(ENGINE_ALREADY_EXISTS, "the model has an adapter named '", options.name,
                   "' already; a name stands for one adapter");
    }
    for (uint32_t i = 0; i < sites.size(); ++i) {
      if (sites[i].kind == ENGINE_SITE_LINEAR) linears.emplace_back(View(sites[i].name));
      if (sites[i].weight.size != 0) weights.emplace_back(View(sites[i].weight));
      for (size_t t = 0; t < met.size(); ++t) {
        met[t] = met[t] || (sites[i].kind == ENGINE_SITE_LINEAR &&
                            MatchesSite(patterns[t], View(sites[i].name)));
      }
      if (!Wanted(sites[i])) continue;
      ENGINE_RETURN_IF_ERROR(FitsOver(model, i, View(sites[i].name)));
      char note[96];
      const Branch branch = rules_.Of(View(sites[i].name));
      std::snprintf(note, sizeof note, "low-rank branch%s%s, rank %u, scale %g",
                    dora_ ? " with magnitudes" : "",
                    pissa_ ? " of the greatest singular values" : "", branch.rank, branch.scale);
      const std::string whose = options.name.empty() ? "" : ", adapter " + options.name;
      const int64_t rank = int64_t{branch.rank} * (pissa_ ? 2 : 1);
      const int64_t own = pissa_ ? sites[i].in * sites[i].out : 0;
      ENGINE_RETURN_IF_ERROR(diff.Replace(
          i, note + whose, 0,
          ((sites[i].in + sites[i].out) * rank + (dora_ ? sites[i].out : 0) + own) * bytes));
    }
    for (size_t t = 0; t < met.size(); ++t) {
      if (!met[t]) {
        return Error(ENGINE_NOT_FOUND, t < options.targets.size() ? "target \"" : "pattern \"",
                     patterns[t], "\" matches no linear; there are for instance ", linears.front(),
                     " and ", linears.back());
      }
    }
    if (adapter_ != nullptr) {
      const std::vector<std::string> unused = adapter_->Unused(linears, weights);
      if (!unused.empty()) {
        return Error(ENGINE_FAILED_PRECONDITION, adapter_->folder(), " holds ", unused.size(),
                     " tensors that fit no linear of this model, the first being '", unused[0],
                     "'");
      }
      for (const std::string& weight : weights) {
        if (options.name.empty() || !adapter_->HasWhole(weight)) continue;
        return Error(ENGINE_FAILED_PRECONDITION, adapter_->folder(), " replaces '", weight,
                     "' whole (modules_to_save), which requests that choose another adapter use "
                     "too; leave the name out, or train it without whole weights");
      }
    }
    return Status();
  }

  // Whether this branch may stand over those that are there.
  Status FitsOver(const Model& model, uint32_t site, std::string_view name) const {
    std::vector<const engine_low_rank*> branches;
    Peel(*model.Impl(site), &branches);
    for (const engine_low_rank* low : branches) {
      const bool named = low->adapter.size != 0;
      if (dora_ && (!named || options.name.empty())) {
        return Error(ENGINE_FAILED_PRECONDITION, "site '", name,
                     "' has a low-rank branch already; dora scales base and branch as one, so "
                     "that it must be the first, but for adapters of other names");
      }
      if (!named && options.name.empty()) {
        return Error(ENGINE_ALREADY_EXISTS, "site '", name,
                     "' has a low-rank branch without a name already; give one of the two a name, "
                     "by which requests choose it, or other targets");
      }
    }
    return Status();
  }

  Status Rewrite(const Model& model, uint32_t index, std::unique_ptr<SiteImpl>* out) override {
    engine_site_info site = Sized<engine_site_info>();
    ENGINE_RETURN_IF_ERROR(Status(Model::Api()->site(model.get(), index, &site)));
    const std::string name(View(site.name));
    const Branch branch = rules_.Of(name);
    uint32_t weight = 0;
    ENGINE_RETURN_IF_ERROR(Status(Model::Api()->param_find(model.get(), site.weight, &weight)));
    std::optional<BranchTensors> tensors;
    ENGINE_RETURN_IF_ERROR(Tensors(model, site, branch, weight, &tensors));
    const BranchNames names(name, options.name);
    ENGINE_RETURN_IF_ERROR(AddTrained(model, names.a, tensors->a, "adapter.a"));
    ENGINE_RETURN_IF_ERROR(AddTrained(model, names.b, tensors->b, "adapter.b"));
    if (tensors->magnitude) {
      ENGINE_RETURN_IF_ERROR(
          AddTrained(model, names.magnitude, *tensors->magnitude, "adapter.magnitude"));
    }
    *out = std::make_unique<LoraLinear>(model.Impl(index), name, options.name, weight,
                                        *std::move(tensors), branch.scale, dropout_);
    return Status();
  }

  // Whole weights of the adapter (PEFT's modules_to_save).
  Status Finish(const Model& model) override {
    if (adapter_ == nullptr) return Status();
    std::set<std::string> weights;
    for (const engine_site_info& site : model.Sites()) weights.emplace(View(site.weight));
    const std::vector<engine_param_info> params = model.Params();
    for (engine_param_info info : params) {
      const std::string name(View(info.name));
      if (weights.count(name) == 0 || !adapter_->HasWhole(name)) continue;
      if (info.tie_group.size != 0) {
        return Error(ENGINE_UNIMPLEMENTED, adapter_->folder(), " replaces '", View(info.name),
                     "', which is the head as well in this model; use a checkpoint with a head of "
                     "its own");
      }
      if (info.codec != ENGINE_CODEC_DENSE) {
        return Error(ENGINE_FAILED_PRECONDITION, adapter_->folder(), " replaces '", View(info.name),
                     "', which this model holds as integers; leave int8 out for it");
      }
      std::optional<ops::Tensor> tensor;
      ENGINE_RETURN_IF_ERROR(adapter_->LoadWhole(name, model.Info().dtype, &tensor));
      ops::SetRequiresGrad(*tensor, true);
      info.trainable = 1;
      info.optimizer_group = Str("base");
      ENGINE_RETURN_IF_ERROR(
          Status(Model::Api()->param_replace(model.get(), &info, ops::Release(*tensor))));
    }
    return Status();
  }

 private:
  // The tensors of one linear's branch, new or the adapter's; the base's weight is replaced where
  // they begin with a part of it.
  Status Tensors(const Model& model, const engine_site_info& site, const Branch& branch,
                 uint32_t weight, std::optional<BranchTensors>* out) const {
    const uint32_t dtype = model.Info().dtype;
    const int64_t rank = branch.rank;
    const std::string name(View(site.name));
    std::optional<Principal> principal;
    if (pissa_) ENGINE_RETURN_IF_ERROR(TakeOut(model, branch, weight, &principal));
    if (adapter_ != nullptr) {
      std::optional<ops::Tensor> a, b, magnitude;
      ENGINE_RETURN_IF_ERROR(adapter_->Load(name, "lora_A", dtype, &a));
      ENGINE_RETURN_IF_ERROR(adapter_->Load(name, "lora_B", dtype, &b));
      // A transposed adapter would compute another function fluently where dimensions agree.
      if (ops::Sizes(*a) != ops::Ints{rank, site.in} ||
          ops::Sizes(*b) != ops::Ints{site.out, rank}) {
        return Error(ENGINE_INVALID_ARGUMENT, "lora_A must be [", rank, ", ", site.in,
                     "] and lora_B [", site.out, ", ", rank, "]");
      }
      if (dora_) {
        ENGINE_RETURN_IF_ERROR(adapter_->Load(name, "lora_magnitude_vector", dtype, &magnitude));
        if (ops::Sizes(*magnitude) != ops::Ints{site.out}) {
          return Error(ENGINE_INVALID_ARGUMENT, "lora_magnitude_vector must be [", site.out, "]");
        }
      }
      out->emplace(BranchTensors{*a, *b, magnitude, {}, {}});
    } else if (principal) {
      out->emplace(BranchTensors{ops::Clone(principal->a), ops::Clone(principal->b), {}, {}, {}});
    } else {
      const ops::Tensor a =
          UniformA(options.seed, BranchNames(name, options.name).a, rank, site.in, dtype);
      const ops::Tensor b = ops::Full({site.out, rank}, 0, dtype);
      std::optional<ops::Tensor> magnitude;
      if (dora_) {
        ENGINE_RETURN_IF_ERROR(RowLengths(model.get(), weight, a, b, branch.scale, &magnitude));
      }
      out->emplace(BranchTensors{a, b, magnitude, {}, {}});
    }
    if (!principal) return Status();
    (*out)->start_a = principal->a;
    (*out)->start_b = principal->b;
    return Status();
  }

  // Takes the principal part out of the weight, which becomes one of this view's own.
  static Status TakeOut(const Model& model, const Branch& branch, uint32_t weight,
                        std::optional<Principal>* out) {
    const engine_model_host* api = Model::Api();
    engine_param_info info = Sized<engine_param_info>();
    ENGINE_RETURN_IF_ERROR(Status(api->param(model.get(), weight, &info)));
    if (info.codec != ENGINE_CODEC_DENSE || info.trainable != 0) {
      return Error(ENGINE_FAILED_PRECONDITION, "weight '", View(info.name), "' is ",
                   info.trainable != 0 ? "trained itself" : "held as integers",
                   ", from which PISSA can take nothing out; leave that out, or take init UNIFORM");
    }
    if (info.dtype != ENGINE_F32 && info.dtype != ENGINE_F64) {
      return Error(ENGINE_FAILED_PRECONDITION,
                   "PISSA computes singular values in F32 or F64; load the model in one of them");
    }
    AtenTensorHandle handle = nullptr;
    ENGINE_RETURN_IF_ERROR(Status(api->param_copy(model.get(), weight, &handle)));
    ENGINE_RETURN_IF_ERROR(PrincipalBranch(ops::Tensor(handle), branch.rank, branch.scale, out));
    return Status(api->param_replace(model.get(), &info, ops::Release((*out)->rest)));
  }

  BranchRules rules_;
  bool dora_ = false, pissa_ = false;
  DropoutOption dropout_;
  std::unique_ptr<Adapter> adapter_;
};

}  // namespace
}  // namespace engine::lora

ENGINE_PLUGIN((engine::PluginInfo{.id = "engine.lora",
                                  .version = "0.1.0",
                                  .summary = "Low-rank adapters over dense and quantized linears.",
                                  .license = "Apache-2.0",
                                  .schemas = engine::lora::kSchema,
                                  .schemas_size = sizeof engine::lora::kSchema}),
              engine::Nodes<>, engine::Transforms<engine::lora::Lora>)
