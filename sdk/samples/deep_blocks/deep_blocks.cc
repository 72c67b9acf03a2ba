// A tutorial: a checkpoint policy of one's own, of the STABLE tier. The host recomputes
// (engine.autograd/1); a policy says what. This one recomputes the deeper blocks.
#include <memory>
#include <string>
#include <vector>

#include "deep_blocks.engine.hpp"
#include "engine/model_tensors.hpp"
#include "engine/plugin.hpp"

namespace samples::deep_blocks {

using engine::Status;

class Recomputed : public engine::SiteImpl {
 public:
  Recomputed(const engine_site_impl* base, std::vector<engine::ops::Tensor> params)
      : params_(std::move(params)) {
    // What is recomputed is the same function: lowering looks through, so that serving a model
    // with this transform is as fast as without.
    same_.struct_size = sizeof same_;
    same_.base = base;
  }

  Status Forward(engine_forward* pass, const AtenTensorHandle* in, uint32_t n_in,
                 AtenTensorHandle* out, uint32_t n_out) override {
    // The replay comes with the backward, after this call: the pass is retained until then.
    struct Replay {
      const engine_site_impl* base;
      engine_forward* pass;
    };
    engine::ThisHost().model->forward_retain(pass);
    std::vector<AtenTensorHandle> params;
    for (const auto& tensor : params_) params.push_back(tensor.get());
    return Status(engine::ThisHost().autograd->checkpoint(
        [](void* state, const AtenTensorHandle* i, uint32_t n, AtenTensorHandle* o, uint32_t m) {
          const auto& replay = *static_cast<Replay*>(state);
          return replay.base->forward(replay.base->self, replay.pass, i, n, o, m);
        },
        new Replay{same_.base, pass},
        [](void* state) {  // when neither forward nor backward needs it any longer
          const std::unique_ptr<Replay> replay(static_cast<Replay*>(state));
          engine::ThisHost().model->forward_release(replay->pass);
        },
        in, n_in, params.data(), static_cast<uint32_t>(params.size()), out, n_out));
  }

  const void* Extension(std::string_view id) override {
    return id == ENGINE_EXT_SAME_FUNCTION ? &same_ : nullptr;
  }

 private:
  engine_same_function same_ = {};
  const std::vector<engine::ops::Tensor> params_;  // trained inside: they must get their gradients
};

struct DeepBlocks : engine::Transform {
  // The phase says where in a chain it may stand: after adapters, before lowering.
  ENGINE_TRANSFORM("deep_blocks", "Recomputes the deeper blocks during backward.",
                   ENGINE_PHASE_RECOMPUTE)
  ENGINE_OPTIONS(DeepBlocksOptions)

  Status Plan(const engine::Model& model, engine::Diff& diff) override {
    const engine_model_info info = model.Info();
    const double first = options.from * static_cast<double>(info.blocks);
    const auto sites = model.Sites();
    for (uint32_t i = 0; i < sites.size(); ++i) {
      if (sites[i].kind != ENGINE_SITE_BLOCK || sites[i].block < first) continue;
      // Of each token: what the MLP and the attention keep, and the input alone.
      const int64_t input = 4 * info.hidden;
      ENGINE_RETURN_IF_ERROR(diff.Replace(i, "recomputed in backward; bytes are per token",
                                          input + 8 * info.mlp + 8 * info.hidden, input));
    }
    return Status();  // no site at all is an error that the host tells
  }

  Status Rewrite(const engine::Model& model, uint32_t index,
                 std::unique_ptr<engine::SiteImpl>* out) override {
    const std::string block = std::string(engine::View(model.Sites()[index].name)) + ".";
    std::vector<engine::ops::Tensor> trained;
    ENGINE_RETURN_IF_ERROR(engine::TrainedUnder(model, block, &trained));
    *out = std::make_unique<Recomputed>(model.Impl(index), std::move(trained));
    return Status();
  }
};

}  // namespace samples::deep_blocks

ENGINE_PLUGIN((engine::PluginInfo{.id = "samples.deep_blocks",
                                  .version = "1.0.0",
                                  .summary = "A checkpoint policy.",
                                  .license = "Apache-2.0",
                                  .schemas = samples::deep_blocks::kSchema,
                                  .schemas_size = sizeof samples::deep_blocks::kSchema}),
              engine::Nodes<>, engine::Transforms<samples::deep_blocks::DeepBlocks>)
