// The trainable transform: sites keep their function, their weights become leaves of autograd.
#include "engine/plugin.hpp"

#include <set>

#include "engine/torch_ops.h"
#include "engine/util.hpp"
#include "options.engine.hpp"

namespace engine::trainable {
namespace {

// What stood there, whose weight this view of the model has replaced.
class Same : public SiteImpl {
 public:
  explicit Same(const engine_site_impl* base) {
    table_.struct_size = sizeof table_;
    table_.base = base;
  }
  Status Forward(engine_forward* pass, const AtenTensorHandle* in, uint32_t n_in,
                 AtenTensorHandle* out, uint32_t n_out) override {
    return Status(table_.base->forward(table_.base->self, pass, in, n_in, out, n_out));
  }
  const void* Extension(std::string_view id) override {
    return id == ENGINE_EXT_SAME_FUNCTION ? &table_ : nullptr;
  }

 private:
  engine_same_function table_ = {};
};

struct Trainable : Transform {
  ENGINE_TRANSFORM("trainable",
                   "Makes a model's own weights trainable, all of them or those of some sites. "
                   "Weights held as integers cannot be: put it before int8 or leave that out.",
                   ENGINE_PHASE_ADAPTER)
  ENGINE_OPTIONS(TrainableOptions)

  Status Plan(const Model& model, Diff& diff) override {
    const std::vector<engine_site_info> sites = model.Sites();
    std::vector<bool> met(options.targets.size());
    std::set<std::string> taken;  // a tied weight is one
    for (uint32_t i = 0; i < sites.size(); ++i) {
      if (sites[i].weight.size == 0) continue;
      bool wanted = options.targets.empty();
      for (size_t t = 0; t < met.size(); ++t) {
        if (!MatchesSite(options.targets[t], View(sites[i].name))) continue;
        wanted = met[t] = true;
      }
      if (!wanted) continue;
      uint32_t index = 0;
      ENGINE_RETURN_IF_ERROR(Find(model, sites[i], &index));
      engine_param_info param = Sized<engine_param_info>();
      ENGINE_RETURN_IF_ERROR(Status(Model::Api()->param(model.get(), index, &param)));
      int64_t bytes = DtypeBytes(model.Info().dtype);
      for (uint32_t d = 0; d < param.rank; ++d) bytes *= param.shape[d];
      const bool first = taken.insert(std::string(View(sites[i].weight))).second;
      ENGINE_RETURN_IF_ERROR(
          diff.Replace(i, "trained; bytes are weight, gradient and two means of AdamW",
                       first ? bytes : 0, first ? 4 * bytes : 0));
    }
    for (size_t t = 0; t < met.size(); ++t) {
      if (met[t]) continue;
      return Error(ENGINE_NOT_FOUND, "target \"", options.targets[t],
                   "\" matches no site that has a weight; there are for instance model.norm and ",
                   "model.layers.0.mlp.up_proj");
    }
    return Status();
  }

  Status Rewrite(const Model& model, uint32_t index, std::unique_ptr<SiteImpl>* out) override {
    const engine_model_host* api = Model::Api();
    engine_site_info site = Sized<engine_site_info>();
    ENGINE_RETURN_IF_ERROR(Status(api->site(model.get(), index, &site)));
    uint32_t number = 0;
    ENGINE_RETURN_IF_ERROR(Find(model, site, &number));
    engine_param_info info = Sized<engine_param_info>();
    ENGINE_RETURN_IF_ERROR(Status(api->param(model.get(), number, &info)));
    if (info.codec != ENGINE_CODEC_DENSE) {
      return Error(ENGINE_FAILED_PRECONDITION, "weight '", View(info.name),
                   "' is held as integers, which have no gradient; leave int8 out, or train an "
                   "adapter such as lora");
    }
    *out = std::make_unique<Same>(model.Impl(index));
    if (info.trainable != 0) return Status();  // its other site was here before
    const uint32_t dtype = model.Info().dtype;
    if (dtype != ENGINE_F32 && dtype != ENGINE_F64) {
      return Error(ENGINE_FAILED_PRECONDITION,
                   "weights are trained in F32 or F64; load the model in one of them");
    }
    AtenTensorHandle handle = nullptr;
    ENGINE_RETURN_IF_ERROR(Status(api->param_copy(model.get(), number, &handle)));
    const ops::Tensor weight(handle);
    ops::SetRequiresGrad(weight, true);
    info.trainable = 1;
    info.optimizer_group = Str("base");
    return Status(api->param_replace(model.get(), &info, ops::Release(weight)));
  }

 private:
  static Status Find(const Model& model, const engine_site_info& site, uint32_t* index) {
    return Status(Model::Api()->param_find(model.get(), site.weight, index));
  }
};

}  // namespace
}  // namespace engine::trainable

ENGINE_PLUGIN((engine::PluginInfo{.id = "engine.trainable",
                                  .version = "0.1.0",
                                  .summary = "Full fine-tuning: a model's own weights trained.",
                                  .license = "Apache-2.0",
                                  .schemas = engine::trainable::kSchema,
                                  .schemas_size = sizeof engine::trainable::kSchema}),
              engine::Nodes<>, engine::Transforms<engine::trainable::Trainable>)
