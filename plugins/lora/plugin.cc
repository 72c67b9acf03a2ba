// The lora transform: a low-rank branch beside whatever stands at a linear, dense or packed.
#include "engine/plugin.hpp"

#include <cmath>
#include <utility>

#include "adapter.h"
#include "engine/philox.hpp"
#include "engine/torch_ops.h"
#include "engine/util.hpp"
#include "options.engine.hpp"

namespace engine::lora {
namespace {

// y = base(x) + scale * (x·Aᵀ)·Bᵀ; autograd records it by itself.
class LoraLinear : public SiteImpl {
 public:
  LoraLinear(const engine_site_impl* base, ops::Tensor a, ops::Tensor b, double scale)
      : a_(std::move(a)), b_(std::move(b)) {
    table_.struct_size = sizeof table_;
    table_.rank = static_cast<uint32_t>(a_.size(0));
    table_.base = base;
    table_.a = a_.get();
    table_.b = b_.get();
    table_.scale = scale;
  }

  Status Forward(engine_forward* pass, const AtenTensorHandle* in, uint32_t n_in,
                 AtenTensorHandle* out, uint32_t n_out) override {
    AtenTensorHandle base = nullptr;
    ENGINE_RETURN_IF_ERROR(
        Status(table_.base->forward(table_.base->self, pass, in, n_in, &base, n_out)));
    const ops::Tensor y(base);
    const ops::Tensor branch = ops::Linear(ops::Linear(ops::Borrow(in[0]), a_), b_);
    out[0] = ops::Release(ops::AddScaled(y, branch, table_.scale));
    return Status();
  }
  const void* Extension(std::string_view id) override {
    return id == ENGINE_EXT_LOW_RANK ? &table_ : nullptr;
  }

 private:
  const ops::Tensor a_, b_;  // [rank, in], [out, rank]
  engine_low_rank table_ = {};
};

struct Lora : Transform {
  ENGINE_TRANSFORM(
      "lora",
      "Adds a trainable low-rank branch to linears and keeps the base frozen. The base "
      "may be dense or quantized. Reads adapters that PEFT wrote.",
      ENGINE_PHASE_ADAPTER)
  ENGINE_OPTIONS(LoraOptions)

  Status Prepare() override {
    rules_ = {options.rank, options.alpha, options.rslora, {}, {}, &MatchesSite};
    std::pair<std::string, double> exception;
    for (const std::string& text : options.rank_pattern) {
      ENGINE_RETURN_IF_ERROR(ParseException(text, kMostRank, true, &exception));
      rules_.ranks.emplace_back(exception.first, static_cast<uint32_t>(exception.second));
    }
    for (const std::string& text : options.alpha_pattern) {
      ENGINE_RETURN_IF_ERROR(ParseException(text, kMostAlpha, false, &exception));
      rules_.alphas.push_back(exception);
    }
    if (!options.has_adapter) return Status();
    if (options.has_rank || options.has_alpha || options.has_rslora || !options.targets.empty() ||
        !rules_.ranks.empty() || !rules_.alphas.empty()) {
      return Error(ENGINE_INVALID_ARGUMENT,
                   "rank, alpha, rslora, targets and their patterns are the adapter's own; leave "
                   "them out beside adapter");
    }
    ENGINE_RETURN_IF_ERROR(Adapter::Open(options.adapter, &adapter_));
    rules_ = adapter_->rules();
    return Status();
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
    std::vector<std::string> linears;
    std::vector<std::string> patterns = options.targets;
    if (adapter_ == nullptr) {
      for (const auto& [pattern, rank] : rules_.ranks) patterns.push_back(pattern);
      for (const auto& [pattern, alpha] : rules_.alphas) patterns.push_back(pattern);
    }
    std::vector<bool> met(patterns.size());
    for (uint32_t i = 0; i < sites.size(); ++i) {
      if (sites[i].kind == ENGINE_SITE_LINEAR) linears.emplace_back(View(sites[i].name));
      for (size_t t = 0; t < met.size(); ++t) {
        met[t] = met[t] || (sites[i].kind == ENGINE_SITE_LINEAR &&
                            MatchesSite(patterns[t], View(sites[i].name)));
      }
      if (!Wanted(sites[i])) continue;
      char note[96];
      const Branch branch = rules_.Of(View(sites[i].name));
      std::snprintf(note, sizeof note, "low-rank branch, rank %u, scale %g", branch.rank,
                    branch.scale);
      ENGINE_RETURN_IF_ERROR(
          diff.Replace(i, note, 0, (sites[i].in + sites[i].out) * int64_t{branch.rank} * bytes));
    }
    for (size_t t = 0; t < met.size(); ++t) {
      if (!met[t]) {
        return Error(ENGINE_NOT_FOUND, t < options.targets.size() ? "target \"" : "pattern \"",
                     patterns[t], "\" matches no linear; there are for instance ", linears.front(),
                     " and ", linears.back());
      }
    }
    if (adapter_ != nullptr) {
      const std::vector<std::string> unused = adapter_->Unused(linears);
      if (!unused.empty()) {
        return Error(ENGINE_FAILED_PRECONDITION, adapter_->folder(), " holds ", unused.size(),
                     " tensors that fit no linear of this model, the first being '", unused[0],
                     "'");
      }
    }
    return Status();
  }

  Status Rewrite(const Model& model, uint32_t index, std::unique_ptr<SiteImpl>* out) override {
    engine_site_info site = {};
    site.struct_size = sizeof site;
    ENGINE_RETURN_IF_ERROR(Status(Model::Api()->site(model.get(), index, &site)));
    const uint32_t dtype = model.Info().dtype;
    const Branch branch = rules_.Of(View(site.name));
    const auto rank = static_cast<int64_t>(branch.rank);
    std::optional<ops::Tensor> a, b;
    if (adapter_ != nullptr) {
      AtenTensorHandle handle = nullptr;
      ENGINE_RETURN_IF_ERROR(adapter_->Load(View(site.name), "lora_A", dtype, &handle));
      a.emplace(handle);
      ENGINE_RETURN_IF_ERROR(adapter_->Load(View(site.name), "lora_B", dtype, &handle));
      b.emplace(handle);
    } else {
      a.emplace(InitialA(std::string(View(site.name)), rank, site.in, dtype));
      b.emplace(ops::Full({site.out, rank}, 0, dtype));
    }
    // A transposed adapter would compute another function fluently where dimensions agree.
    if (ops::Sizes(*a) != ops::Ints{rank, site.in} || ops::Sizes(*b) != ops::Ints{site.out, rank}) {
      return Error(ENGINE_INVALID_ARGUMENT, "lora_A must be [", rank, ", ", site.in,
                   "] and lora_B [", site.out, ", ", rank, "]");
    }
    for (const auto& [which, tensor] : {std::pair("lora_A", *a), std::pair("lora_B", *b)}) {
      ops::SetRequiresGrad(tensor, true);
      const std::string name = std::string(View(site.name)) + "." + which + ".weight";
      engine_param_info info = {};
      info.struct_size = sizeof info;
      info.rank = 2;
      info.name = Str(name);
      info.shape[0] = tensor.size(0);
      info.shape[1] = tensor.size(1);
      info.dtype = dtype;
      info.trainable = 1;
      info.init_key = Str(name);
      info.optimizer_group = Str("adapter");
      ENGINE_RETURN_IF_ERROR(
          Status(Model::Api()->param_add(model.get(), &info, ops::Release(tensor))));
    }
    *out = std::make_unique<LoraLinear>(model.Impl(index), *a, *b, branch.scale);
    return Status();
  }

 private:
  // Uniform in ±1/sqrt(in): Kaiming with a = sqrt(5). Each element's draw depends on the seed, the
  // site and its index alone.
  ops::Tensor InitialA(const std::string& site, int64_t rank, int64_t in, uint32_t dtype) const {
    const ops::Tensor a = ops::Empty({rank, in}, ENGINE_F64);
    const Philox random(options.seed, site + ".lora_A.weight");
    const double bound = 1.0 / std::sqrt(static_cast<double>(in));
    for (int64_t i = 0; i < rank * in; ++i) {
      ops::Data<double>(a)[i] = (2 * random.Uniform(static_cast<uint64_t>(i)) - 1) * bound;
    }
    return ops::To(a, dtype);
  }

  BranchRules rules_;
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
