// A tutorial: a transform of the NATIVE tier, with LibTorch's C++ headers. It is the tier for what
// neither of the others can do, and it has a price: the library loads in the very LibTorch and C++
// standard library that it was built for; `engine plugin list --why` tells what differs.
//
// An MLP is down(silu(gate x) * (up x)). Here the two products of x are made as one, and the
// activation in one pass over memory. Without options a kind needs no .proto file.
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/silu.h>

#include <cmath>
#include <memory>
#include <string>

#include "engine/native.hpp"
#include "engine/plugin.hpp"

namespace samples::fused_mlp {

using engine::Status;

class FusedMlp : public engine::SiteImpl {
 public:
  FusedMlp(const at::Tensor& gate, const at::Tensor& up, at::Tensor down)
      : both_(at::cat({gate, up}, 0)), down_(std::move(down)) {}

  Status Forward(engine_forward*, const AtenTensorHandle* in, uint32_t, AtenTensorHandle* out,
                 uint32_t) override {
    // The same handle crosses in all tiers; here it is an at::Tensor.
    const at::Tensor& x = engine::native::Borrow(in[0]);
    at::Tensor h = at::linear(x, both_);  // [..., 2 * width]
    const int64_t width = h.size(-1) / 2;
    const bool recorded = at::GradMode::is_enabled() && h.requires_grad();
    if (recorded || h.scalar_type() != at::kFloat) {
      // Autograd records these.
      h = at::mul(at::silu(h.narrow(-1, 0, width)), h.narrow(-1, width, width));
    } else {
      float* row = h.mutable_data_ptr<float>();
      for (int64_t r = 0; r < h.numel() / (2 * width); ++r, row += 2 * width) {
        for (int64_t i = 0; i < width; ++i) row[i] *= row[width + i] / (1 + std::exp(-row[i]));
      }
      h = h.narrow(-1, 0, width);
    }
    out[0] = engine::native::Release(at::linear(h, down_));
    return Status();
  }

 private:
  const at::Tensor both_, down_;
};

struct FusedMlps : engine::Transform {
  ENGINE_TRANSFORM("fused_mlp", "Computes an MLP's first two products as one.",
                   ENGINE_PHASE_ADAPTER)

  Status Plan(const engine::Model& model, engine::Diff& diff) override {
    const engine_model_info info = model.Info();
    const auto sites = model.Sites();
    for (uint32_t i = 0; i < sites.size(); ++i) {
      if (sites[i].kind != ENGINE_SITE_MLP) continue;
      const int64_t bytes = 4 * 2 * info.hidden * info.mlp;  // of the joined weight
      ENGINE_RETURN_IF_ERROR(diff.Replace(i, "gate and up as one product", 0, bytes));
    }
    return Status();
  }

  Status Rewrite(const engine::Model& model, uint32_t index,
                 std::unique_ptr<engine::SiteImpl>* out) override {
    const std::string name(engine::View(model.Sites()[index].name));
    at::Tensor gate, up, down;
    ENGINE_RETURN_IF_ERROR(Weight(model, name + ".gate_proj.weight", &gate));
    ENGINE_RETURN_IF_ERROR(Weight(model, name + ".up_proj.weight", &up));
    ENGINE_RETURN_IF_ERROR(Weight(model, name + ".down_proj.weight", &down));
    *out = std::make_unique<FusedMlp>(gate, up, down);
    return Status();
  }

 private:
  static Status Weight(const engine::Model& model, const std::string& name, at::Tensor* out) {
    const engine_model_host* api = engine::Model::Api();
    uint32_t number = 0;
    AtenTensorHandle handle = nullptr;
    ENGINE_RETURN_IF_ERROR(Status(api->param_find(model.get(), engine::Str(name), &number)));
    ENGINE_RETURN_IF_ERROR(Status(api->param_tensor(model.get(), number, &handle)));
    *out = engine::native::Take(handle);  // the handle was handed over to us
    return Status();
  }
};

}  // namespace samples::fused_mlp

ENGINE_PLUGIN((engine::PluginInfo{.id = "samples.fused_mlp",
                                  .version = "1.0.0",
                                  .summary = "MLPs of two products.",
                                  .license = "Apache-2.0"}),
              engine::Nodes<>, engine::Transforms<samples::fused_mlp::FusedMlps>)
