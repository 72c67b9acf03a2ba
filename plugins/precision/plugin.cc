// The precision transform: says at the Loss site what products of training run in; the host
// computes so.
#include "engine/plugin.hpp"

#include "engine/torch_ops.h"
#include "engine/util.hpp"
#include "options.engine.hpp"

namespace engine::precision {
namespace {

class Narrow : public SiteImpl {
 public:
  Narrow(const engine_site_impl* base, uint32_t dtype) {
    same_.struct_size = sizeof same_;
    same_.base = base;
    autocast_.struct_size = sizeof autocast_;
    autocast_.dtype = dtype;
  }
  Status Forward(engine_forward* pass, const AtenTensorHandle* in, uint32_t n_in,
                 AtenTensorHandle* out, uint32_t n_out) override {
    return Status(same_.base->forward(same_.base->self, pass, in, n_in, out, n_out));
  }
  const void* Extension(std::string_view id) override {
    if (id == ENGINE_EXT_AUTOCAST) return autocast_.dtype == ENGINE_BF16 ? &autocast_ : nullptr;
    return id == ENGINE_EXT_SAME_FUNCTION ? &same_ : nullptr;
  }

 private:
  engine_same_function same_ = {};
  engine_autocast autocast_ = {};
};

struct Precision : Transform {
  ENGINE_TRANSFORM(
      "precision",
      "Runs the matrix products of training in bf16 where that pays, with weights that "
      "train kept in F32. Serving is not touched.",
      ENGINE_PHASE_LOWERING)
  ENGINE_OPTIONS(PrecisionOptions)

  Status Plan(const Model& model, Diff& diff) override {
    using Dtype = PrecisionOptions::Dtype;
    if (options.dtype == Dtype::F16) {
      return Error(ENGINE_UNIMPLEMENTED,
                   "F16 needs a GPU; on this CPU use BF16, F32, or AUTO, which chooses");
    }
    engine_str why = {};
    dtype_ = ThisHost().autograd->product_type(&why);
    why_ = std::string(View(why));
    if (options.dtype != Dtype::AUTO) {
      dtype_ = options.dtype == Dtype::BF16 ? ENGINE_BF16 : ENGINE_F32;
      why_ = "as it was asked for; " + why_;
    }
    if (model.Info().dtype != ENGINE_F32) {
      if (options.dtype == Dtype::BF16) {
        return Error(ENGINE_FAILED_PRECONDITION,
                     "mixed precision needs a model that was loaded in F32: its weights that train "
                     "stay so");
      }
      dtype_ = ENGINE_F32;
      why_ = "the model was not loaded in F32";
    }
    const std::vector<engine_site_info> sites = model.Sites();
    for (uint32_t i = 0; i < sites.size(); ++i) {
      if (sites[i].kind != ENGINE_SITE_LOSS) continue;
      ENGINE_RETURN_IF_ERROR(diff.Replace(
          i,
          std::string(dtype_ == ENGINE_BF16 ? "products in bf16" : "products as the model is") +
              ": " + why_,
          0, 0));
    }
    return Status();
  }

  Status Rewrite(const Model& model, uint32_t index, std::unique_ptr<SiteImpl>* out) override {
    Log(ENGINE_LOG_INFO, "precision", dtype_ == ENGINE_BF16 ? "bf16" : "the model's dtype", ": ",
        why_);
    *out = std::make_unique<Narrow>(model.Impl(index), dtype_);
    return Status();
  }

 private:
  uint32_t dtype_ = ENGINE_F32;
  std::string why_;
};

}  // namespace
}  // namespace engine::precision

ENGINE_PLUGIN((engine::PluginInfo{.id = "engine.precision",
                                  .version = "0.1.0",
                                  .summary = "Training with matrix products in bf16.",
                                  .license = "Apache-2.0",
                                  .schemas = engine::precision::kSchema,
                                  .schemas_size = sizeof engine::precision::kSchema}),
              engine::Nodes<>, engine::Transforms<engine::precision::Precision>)
