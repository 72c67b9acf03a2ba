// The checkpoint transform: blocks are run again during backward, through the host's autograd
// service.
#include "engine/plugin.hpp"

#include "engine/torch_ops.h"
#include "engine/util.hpp"
#include "options.engine.hpp"

namespace engine::checkpoint {
namespace {

class Recomputed : public SiteImpl {
 public:
  // `params` are the trainable tensors under the block.
  Recomputed(const engine_site_impl* base, std::vector<ops::Tensor> params)
      : params_(std::move(params)) {
    same_.struct_size = sizeof same_;
    same_.base = base;
  }

  Status Forward(engine_forward* pass, const AtenTensorHandle* in, uint32_t n_in,
                 AtenTensorHandle* out, uint32_t n_out) override {
    // The pass must outlive this call: its replay comes with the backward.
    struct Replay {
      const engine_site_impl* base;
      engine_forward* pass;
    };
    ThisHost().model->forward_retain(pass);
    std::vector<AtenTensorHandle> params;
    for (const ops::Tensor& tensor : params_) params.push_back(tensor.get());
    return Status(ThisHost().autograd->checkpoint(
        [](void* state, const AtenTensorHandle* i, uint32_t n, AtenTensorHandle* o,
           uint32_t m) -> engine_status* {
          const auto& replay = *static_cast<Replay*>(state);
          return replay.base->forward(replay.base->self, replay.pass, i, n, o, m);
        },
        new Replay{same_.base, pass},
        [](void* state) {
          auto* replay = static_cast<Replay*>(state);
          ThisHost().model->forward_release(replay->pass);
          delete replay;
        },
        in, n_in, params.data(), static_cast<uint32_t>(params.size()), out, n_out));
  }
  const void* Extension(std::string_view id) override {
    return id == ENGINE_EXT_SAME_FUNCTION ? &same_ : nullptr;
  }

 private:
  engine_same_function same_ = {};
  const std::vector<ops::Tensor> params_;
};

struct Checkpoint : Transform {
  ENGINE_TRANSFORM("checkpoint",
                   "Recomputes blocks during backward instead of keeping their activations. Loss "
                   "and gradients keep their bits. Without training it changes nothing.",
                   ENGINE_PHASE_RECOMPUTE)
  ENGINE_OPTIONS(CheckpointOptions)

  Status Plan(const Model& model, Diff& diff) override {
    const engine_model_info info = model.Info();
    const std::vector<engine_site_info> sites = model.Sites();
    // What autograd keeps of one block for each token, in elements: inputs of norms, linears and
    // the attention, gate, up and their product.
    const int64_t elements =
        6 * info.hidden + 2 * (info.heads + info.kv_heads) * info.head_dim + 4 * info.mlp;
    const int64_t bytes = DtypeBytes(info.dtype);
    for (uint32_t i = 0; i < sites.size(); ++i) {
      if (sites[i].kind != ENGINE_SITE_BLOCK || sites[i].block % options.every != 0) continue;
      ENGINE_RETURN_IF_ERROR(diff.Replace(i, "recomputed in backward; bytes are per token",
                                          elements * bytes, info.hidden * bytes));
    }
    return Status();
  }

  Status Rewrite(const Model& model, uint32_t index, std::unique_ptr<SiteImpl>* out) override {
    engine_site_info site = {};
    site.struct_size = sizeof site;
    ENGINE_RETURN_IF_ERROR(Status(Model::Api()->site(model.get(), index, &site)));
    const std::string prefix = std::string(View(site.name)) + ".";
    std::vector<ops::Tensor> params;
    const std::vector<engine_param_info> all = model.Params();
    for (uint32_t i = 0; i < all.size(); ++i) {
      if (all[i].trainable == 0 || View(all[i].name).rfind(prefix, 0) != 0) continue;
      AtenTensorHandle handle = nullptr;
      ENGINE_RETURN_IF_ERROR(Status(Model::Api()->param_tensor(model.get(), i, &handle)));
      params.emplace_back(handle);
    }
    *out = std::make_unique<Recomputed>(model.Impl(index), std::move(params));
    return Status();
  }
};

}  // namespace
}  // namespace engine::checkpoint

ENGINE_PLUGIN((engine::PluginInfo{.id = "engine.checkpoint",
                                  .version = "0.1.0",
                                  .summary = "Recomputation of blocks during backward.",
                                  .license = "Apache-2.0",
                                  .schemas = engine::checkpoint::kSchema,
                                  .schemas_size = sizeof engine::checkpoint::kSchema}),
              engine::Nodes<>, engine::Transforms<engine::checkpoint::Checkpoint>)
