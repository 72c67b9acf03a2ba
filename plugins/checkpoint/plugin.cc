// The checkpoint transform: parts of a model are run again during backward, through the host's
// autograd service.
#include "engine/plugin.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>

#include "engine/model_tensors.hpp"
#include "engine/util.hpp"
#include "engine/wire.hpp"
#include "options.engine.hpp"
#include "solver.h"

namespace engine::checkpoint {
namespace {

// What a budget means for batches of a shape; the same for all sites of a transform.
class Budget {
 public:
  Budget(uint64_t bytes, const Model& model) : bytes_(static_cast<double>(bytes)) {
    const std::vector<engine_site_info> sites = model.Sites();
    for (uint32_t i = 0; i < sites.size(); ++i) {
      if (sites[i].kind == ENGINE_SITE_BLOCK) blocks_.push_back(i);
      if (sites[i].kind == ENGINE_SITE_MLP) mlps_.push_back(i);
    }
  }

  Status Recomputes(const engine_forward* pass, uint32_t site, bool* yes) {
    std::lock_guard lock(mutex_);
    const Choice* choice = nullptr;
    ENGINE_RETURN_IF_ERROR(ChoiceOf(pass, &choice));
    const auto among = [&](const std::vector<uint32_t>& list, const std::vector<bool>& chosen) {
      const auto at = std::find(list.begin(), list.end(), site);
      return at != list.end() && chosen[static_cast<size_t>(at - list.begin())];
    };
    *yes = among(blocks_, choice->blocks) || among(mlps_, choice->mlps);
    return Status();
  }

 private:
  Status ChoiceOf(const engine_forward* pass, const Choice** out) {
    const engine_model_host* api = ThisHost().model;
    int64_t batch = 0, tokens = 0;
    api->forward_size(pass, &batch, &tokens);
    const auto [at, fresh] = choices_.try_emplace({batch, tokens});
    *out = &at->second;
    if (!fresh) return Status();
    const auto rows = static_cast<double>(batch * tokens);
    std::vector<BlockCost> costs;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      auto block = Sized<engine_site_cost>(), mlp = Sized<engine_site_cost>();
      Status status(api->site_cost(pass, blocks_[i], &block));
      if (status.ok()) status = Status(api->site_cost(pass, mlps_[i], &mlp));
      if (!status.ok()) {
        choices_.erase(at);
        return status;
      }
      costs.push_back({block.input_bytes * rows, block.saved_bytes * rows, mlp.saved_bytes * rows,
                       block.replay_flops * rows, mlp.replay_flops * rows});
    }
    at->second = Solve(costs, bytes_);
    const auto mib = [](double bytes) { return static_cast<int64_t>(bytes / 1048576 + 0.999); };
    if (!at->second.fits) {
      const double least = at->second.kept;
      choices_.erase(at);
      return Error(ENGINE_RESOURCE_EXHAUSTED, "the budget of ", mib(bytes_),
                   " MiB is too small for a batch of ", batch, " x ", tokens,
                   " tokens: with every block recomputed their inputs alone take ", mib(least),
                   " MiB");
    }
    const auto count = std::count(at->second.blocks.begin(), at->second.blocks.end(), true);
    Log(ENGINE_LOG_INFO, "checkpoint", "batches of ", batch, " x ", tokens, ": ", count, " of ",
        blocks_.size(), " blocks recomputed, ", mib(at->second.kept), " MiB of activations kept");
    return Status();
  }

  const double bytes_;
  std::vector<uint32_t> blocks_, mlps_;
  std::mutex mutex_;
  std::map<std::pair<int64_t, int64_t>, Choice> choices_;  // guarded by mutex_
};

class Recomputed : public SiteImpl {
 public:
  // `params` are the trainable tensors under the site; without a budget it is recomputed always or
  // never.
  Recomputed(const engine_site_impl* base, uint32_t site, std::vector<ops::Tensor> params,
             std::shared_ptr<Budget> budget, bool never)
      : site_(site), params_(std::move(params)), budget_(std::move(budget)), never_(never) {
    same_.struct_size = sizeof same_;
    same_.base = base;
    recomputed_.struct_size = sizeof recomputed_;
    recomputed_.in_pass = [](void* self, const engine_forward* p, uint8_t* yes) -> engine_status* {
      return Guard([&] {
        bool is = false;
        const Status status = static_cast<Recomputed*>(static_cast<SiteImpl*>(self))->In(p, &is);
        *yes = is ? 1 : 0;
        return status;
      });
    };
  }
  // Whether it is recomputed in this pass.
  Status In(const engine_forward* pass, bool* yes) const {
    *yes = !never_;
    return budget_ == nullptr ? Status() : budget_->Recomputes(pass, site_, yes);
  }

  Status Forward(engine_forward* pass, const AtenTensorHandle* in, uint32_t n_in,
                 AtenTensorHandle* out, uint32_t n_out) override {
    bool recompute = false;
    ENGINE_RETURN_IF_ERROR(In(pass, &recompute));
    if (!recompute)
      return Status(same_.base->forward(same_.base->self, pass, in, n_in, out, n_out));
    // The pass must outlive this call: its replay comes with the backward.
    struct Replay {
      const engine_site_impl* base;
      engine_forward* pass;
      uint32_t site;
    };
    ThisHost().model->forward_retain(pass);
    std::vector<AtenTensorHandle> params;
    for (const ops::Tensor& tensor : params_) params.push_back(tensor.get());
    return Status(ThisHost().autograd->checkpoint(
        [](void* state, const AtenTensorHandle* i, uint32_t n, AtenTensorHandle* o,
           uint32_t m) -> engine_status* {
          const auto& replay = *static_cast<Replay*>(state);
          ThisHost().model->forward_only(replay.pass, replay.site);
          return replay.base->forward(replay.base->self, replay.pass, i, n, o, m);
        },
        new Replay{same_.base, pass, site_},
        [](void* state) {
          auto* replay = static_cast<Replay*>(state);
          ThisHost().model->forward_release(replay->pass);
          delete replay;
        },
        in, n_in, params.data(), static_cast<uint32_t>(params.size()), out, n_out));
  }
  const void* Extension(std::string_view id) override {
    if (id == ENGINE_EXT_RECOMPUTED) return &recomputed_;
    return id == ENGINE_EXT_SAME_FUNCTION ? &same_ : nullptr;
  }

 private:
  engine_same_function same_ = {};
  engine_recomputed recomputed_ = {};
  const uint32_t site_;
  const std::vector<ops::Tensor> params_;
  const std::shared_ptr<Budget> budget_;
  const bool never_;
};

struct Checkpoint : Transform {
  ENGINE_TRANSFORM("checkpoint",
                   "Recomputes blocks, or parts of them, during backward instead of keeping their "
                   "activations; or as much as a budget of bytes asks for. Loss and gradients keep "
                   "their bits. Without training it changes nothing.",
                   ENGINE_PHASE_RECOMPUTE)
  ENGINE_OPTIONS(CheckpointOptions)

  Status Prepare() override {
    if (options.has_policy + options.has_every + !options.regions.empty() > 1) {
      return Error(
          ENGINE_INVALID_ARGUMENT,
          "one of policy, every and regions says what is recomputed; leave the others out");
    }
    if (!options.has_policy || options.policy == "NONE" || options.policy == "EVERY_BLOCK") {
      return Status();
    }
    const Status status = wire::ParseByteSize(options.policy, &budget_);
    if (status.ok() && budget_ > 0) return Status();
    return Error(ENGINE_INVALID_ARGUMENT, "policy is \"", options.policy,
                 "\"; it must be NONE, EVERY_BLOCK, or a number of bytes such as \"600MiB\"");
  }

  bool Wanted(const engine_site_info& site) const {
    const bool block = site.kind == ENGINE_SITE_BLOCK;
    if (budget_ > 0 || options.policy == "NONE") return block || site.kind == ENGINE_SITE_MLP;
    if (options.regions.empty()) return block && site.block % options.every == 0;
    const bool region = block || site.kind == ENGINE_SITE_ATTENTION || site.kind == ENGINE_SITE_MLP;
    return region &&
           std::any_of(options.regions.begin(), options.regions.end(),
                       [&](const std::string& r) { return MatchesSite(r, View(site.name)); });
  }

  Status Plan(const Model& model, Diff& diff) override {
    const engine_model_info info = model.Info();
    const std::vector<engine_site_info> sites = model.Sites();
    const int64_t bytes = DtypeBytes(info.dtype);
    // What is kept of each for a token, in elements, beside its input.
    const int64_t mlp = 2 * info.mlp;
    const int64_t attention = (2 * info.heads + 2 * info.kv_heads) * info.head_dim + info.heads;
    std::vector<bool> met(options.regions.size());
    std::string block_name;  // of a recomputed block
    for (uint32_t i = 0; i < sites.size(); ++i) {
      for (size_t r = 0; r < met.size(); ++r) {
        met[r] =
            met[r] || (Wanted(sites[i]) && MatchesSite(options.regions[r], View(sites[i].name)));
      }
      if (!Wanted(sites[i])) continue;
      const std::string name(View(sites[i].name));
      const bool block = sites[i].kind == ENGINE_SITE_BLOCK;
      if (!block && budget_ == 0 && options.policy != "NONE" && !block_name.empty() &&
          name.rfind(block_name + ".", 0) == 0) {
        return Error(ENGINE_INVALID_ARGUMENT, "region \"", name, "\" lies within \"", block_name,
                     "\", which is recomputed as a whole");
      }
      if (block) block_name = name;
      const int64_t inside = block                              ? 3 * info.hidden + mlp + attention
                             : sites[i].kind == ENGINE_SITE_MLP ? mlp
                                                                : attention;
      const char* note = budget_ > 0                ? "recomputed as far as the budget asks"
                         : options.policy == "NONE" ? "kept"
                                                    : "recomputed in backward; bytes are per token";
      ENGINE_RETURN_IF_ERROR(
          diff.Replace(i, note, (inside + info.hidden) * bytes, info.hidden * bytes));
    }
    for (size_t r = 0; r < met.size(); ++r) {
      if (met[r]) continue;
      return Error(ENGINE_NOT_FOUND, "region \"", options.regions[r],
                   "\" matches no block, attention or MLP; there are for instance model.layers.0, "
                   "model.layers.0.self_attn and model.layers.0.mlp");
    }
    return Status();
  }

  Status Rewrite(const Model& model, uint32_t index, std::unique_ptr<SiteImpl>* out) override {
    if (budget_ > 0 && shared_ == nullptr) shared_ = std::make_shared<Budget>(budget_, model);
    engine_site_info site = Sized<engine_site_info>();
    ENGINE_RETURN_IF_ERROR(Status(Model::Api()->site(model.get(), index, &site)));
    std::vector<ops::Tensor> params;
    ENGINE_RETURN_IF_ERROR(TrainedUnder(model, std::string(View(site.name)) + ".", &params));
    *out = std::make_unique<Recomputed>(model.Impl(index), index, std::move(params), shared_,
                                        options.policy == "NONE");
    return Status();
  }

 private:
  uint64_t budget_ = 0;  // 0: none
  std::shared_ptr<Budget> shared_;
};

}  // namespace
}  // namespace engine::checkpoint

ENGINE_PLUGIN((engine::PluginInfo{.id = "engine.checkpoint",
                                  .version = "0.2.0",
                                  .summary = "Recomputation of blocks during backward.",
                                  .license = "Apache-2.0",
                                  .schemas = engine::checkpoint::kSchema,
                                  .schemas_size = sizeof engine::checkpoint::kSchema}),
              engine::Nodes<>, engine::Transforms<engine::checkpoint::Checkpoint>)
