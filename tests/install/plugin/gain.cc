// A plugin of the STABLE tier: the transform `gain` multiplies what the head gives. No kernel of
// the engine knows it, so the head runs as LibTorch operations.
#include <memory>

#include "engine/plugin.hpp"
#include "engine/torch_ops.h"
#include "gain.engine.hpp"

namespace acme::gain {

class LoudHead : public engine::SiteImpl {
 public:
  LoudHead(const engine_site_impl* head, double factor) : head_(head), factor_(factor) {}

  engine::Status Forward(engine_forward* pass, const AtenTensorHandle* in, uint32_t n_in,
                         AtenTensorHandle* out, uint32_t n_out) override {
    AtenTensorHandle logits = nullptr;
    ENGINE_RETURN_IF_ERROR(
        engine::Status(head_->forward(head_->self, pass, in, n_in, &logits, n_out)));
    const engine::ops::Tensor owned(logits);
    out[0] = engine::ops::Release(engine::ops::Scale(owned, factor_));
    return engine::Status();
  }

 private:
  const engine_site_impl* head_;  // the host keeps it alive
  double factor_;
};

struct Gain : engine::Transform {
  ENGINE_TRANSFORM("gain", "Multiplies the logits of a model.", ENGINE_PHASE_ADAPTER)
  ENGINE_OPTIONS(GainOptions)

  engine::Status Plan(const engine::Model& model, engine::Diff& diff) override {
    const auto sites = model.Sites();
    for (uint32_t i = 0; i < sites.size(); ++i) {
      if (sites[i].kind != ENGINE_SITE_HEAD) continue;
      ENGINE_RETURN_IF_ERROR(diff.Replace(i, "logits multiplied", 0, 0));
    }
    return engine::Status();
  }

  engine::Status Rewrite(const engine::Model& model, uint32_t site,
                         std::unique_ptr<engine::SiteImpl>* out) override {
    *out = std::make_unique<LoudHead>(model.Impl(site), options.factor);
    return engine::Status();
  }
};

}  // namespace acme::gain

ENGINE_PLUGIN((engine::PluginInfo{.id = "com.acme.gain",
                                  .version = "1.0.0",
                                  .summary = "Louder logits.",
                                  .license = "MIT",
                                  .schemas = acme::gain::kSchema,
                                  .schemas_size = sizeof acme::gain::kSchema}),
              engine::Nodes<>, engine::Transforms<acme::gain::Gain>)
