// A plugin of the STABLE tier that goes through what the host offers to adapters, built with the
// SDK of 1.0 and the stable ABI of LibTorch 2.13, and stored, so that later hosts and later
// LibTorch can be held to it. Three ways to the same loss and the same gradients.
#include <algorithm>
#include <memory>
#include <string>

#include "engine/plugin.hpp"
#include "engine/torch_ops.h"
#include "stable.engine.hpp"

namespace replay::stable {

using engine::Error;
using engine::Status;
using engine::View;
namespace ops = engine::ops;

// y * (1 + s) over the last dimension.
ops::Tensor Scaled(const ops::Tensor& y, const ops::Tensor& s) {
  return ops::Add(y, ops::Mul(y, s));
}

class ScaledLinear : public engine::SiteImpl {
 public:
  ScaledLinear(const engine_site_impl* base, ops::Tensor scale, ScaleOptions::How how)
      : base_(base), scale_(std::move(scale)), how_(how) {}

  Status Forward(engine_forward* pass, const AtenTensorHandle* in, uint32_t n_in,
                 AtenTensorHandle* out, uint32_t n_out) override {
    if (n_in != 1 || n_out != 1) return Error(ENGINE_INVALID_ARGUMENT, "one in, one out");
    if (how_ == ScaleOptions::How::RECOMPUTED) return Recomputed(pass, in, out);
    AtenTensorHandle handle = nullptr;
    ENGINE_RETURN_IF_ERROR(Status(base_->forward(base_->self, pass, in, 1, &handle, 1)));
    const ops::Tensor y(handle);
    if (how_ == ScaleOptions::How::COMPOSED) {
      out[0] = ops::Release(Scaled(y, scale_));
      return Status();
    }
    const AtenTensorHandle both[] = {y.get(), scale_.get()};
    return Status(engine::ThisHost().autograd->apply(
        [](void*, const AtenTensorHandle* i, uint32_t, AtenTensorHandle* o, uint32_t) {
          return engine::Guard([&] {
            o[0] = ops::Release(Scaled(ops::Borrow(i[0]), ops::Borrow(i[1])));
            return Status();
          });
        },
        [](void*, const AtenTensorHandle* i, uint32_t, AtenTensorHandle* o, uint32_t) {
          return engine::Guard([&] {
            const ops::Tensor y = ops::Borrow(i[0]), s = ops::Borrow(i[1]), dz = ops::Borrow(i[2]);
            ops::Ints dims;
            for (int64_t d = 0; d + 1 < y.dim(); ++d) dims.push_back(d);
            o[0] = ops::Release(Scaled(dz, s));
            o[1] = ops::Release(ops::Sum(ops::Mul(dz, y), dims, /*keep=*/false));
            return Status();
          });
        },
        nullptr, nullptr, both, 2, out, 1));
  }

 private:
  Status Recomputed(engine_forward* pass, const AtenTensorHandle* in, AtenTensorHandle* out) {
    struct Replay {
      const ScaledLinear* self;
      engine_forward* pass;
    };
    engine::ThisHost().model->forward_retain(pass);
    const AtenTensorHandle params[] = {scale_.get()};
    return Status(engine::ThisHost().autograd->checkpoint(
        [](void* state, const AtenTensorHandle* i, uint32_t, AtenTensorHandle* o, uint32_t) {
          return engine::Guard([&] {
            const auto& replay = *static_cast<Replay*>(state);
            const engine_site_impl* base = replay.self->base_;
            AtenTensorHandle handle = nullptr;
            ENGINE_RETURN_IF_ERROR(
                Status(base->forward(base->self, replay.pass, i, 1, &handle, 1)));
            o[0] = ops::Release(Scaled(ops::Tensor(handle), replay.self->scale_));
            return Status();
          });
        },
        new Replay{this, pass},
        [](void* state) {
          auto* replay = static_cast<Replay*>(state);
          engine::ThisHost().model->forward_release(replay->pass);
          delete replay;
        },
        in, 1, params, 1, out, 1));
  }

  const engine_site_impl* base_;  // the host keeps it alive
  const ops::Tensor scale_;       // [out], a leaf
  const ScaleOptions::How how_;
};

struct Scale : engine::Transform {
  ENGINE_TRANSFORM("replay_scale", "Scales what linears give by a trained vector.",
                   ENGINE_PHASE_ADAPTER)
  ENGINE_OPTIONS(ScaleOptions)

  bool Wanted(const engine_site_info& site) const {
    return site.kind == ENGINE_SITE_LINEAR &&
           std::any_of(options.targets.begin(), options.targets.end(), [&](const std::string& t) {
             return engine::MatchesSite(t, View(site.name));
           });
  }

  Status Plan(const engine::Model& model, engine::Diff& diff) override {
    const auto sites = model.Sites();
    for (uint32_t i = 0; i < sites.size(); ++i) {
      if (!Wanted(sites[i])) continue;
      ENGINE_RETURN_IF_ERROR(diff.Replace(i, "scaled", 0, sites[i].out * 4));
    }
    return Status();
  }

  Status Rewrite(const engine::Model& model, uint32_t index,
                 std::unique_ptr<engine::SiteImpl>* out) override {
    engine_site_info site = engine::Sized<engine_site_info>();
    ENGINE_RETURN_IF_ERROR(Status(engine::Model::Api()->site(model.get(), index, &site)));
    const ops::Tensor scale = ops::Full({site.out}, options.start, model.Info().dtype);
    ops::SetRequiresGrad(scale, true);
    const std::string name = std::string(View(site.name)) + ".scale";
    engine_param_info info = engine::Sized<engine_param_info>();
    info.rank = 1;
    info.name = engine::Str(name);
    info.shape[0] = site.out;
    info.dtype = model.Info().dtype;
    info.trainable = 1;
    info.optimizer_group = engine::Str("scale");
    ENGINE_RETURN_IF_ERROR(
        Status(engine::Model::Api()->param_add(model.get(), &info, ops::Release(scale))));
    *out = std::make_unique<ScaledLinear>(model.Impl(index), scale, options.how);
    return Status();
  }
};

}  // namespace replay::stable

ENGINE_PLUGIN((engine::PluginInfo{.id = "replay.stable",
                                  .version = "1.0.0",
                                  .summary = "Scaled linears.",
                                  .license = "Apache-2.0",
                                  .schemas = replay::stable::kSchema,
                                  .schemas_size = sizeof replay::stable::kSchema}),
              engine::Nodes<>, engine::Transforms<replay::stable::Scale>)
