// A tutorial: a transform of the STABLE tier. It is built against LibTorch's stable ABI, links
// nothing, and runs with later LibTorch releases as it is.
//
// DoRA (Liu et al. 2024, arXiv:2402.09353): y = g * (W x + s B A x) with g = m / |W + s B A| for
// each row. A, B and m train; the length in g is held fixed in the gradient. LibTorch's stable ABI
// has no custom backward: the host offers one, engine.autograd/1, used here for the product with g.
#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>

#include "dora.engine.hpp"
#include "engine/model_tensors.hpp"
#include "engine/philox.hpp"
#include "engine/plugin.hpp"

namespace samples::dora {

namespace ops = engine::ops;
using engine::Status;

// z = u * m / length over the last dimension; gradients for u and m, none for the length.
Status ScaleRows(const ops::Tensor& u, const ops::Tensor& m, const ops::Tensor& length,
                 AtenTensorHandle* out) {
  const AtenTensorHandle in[] = {u.get(), m.get(), length.get()};
  const auto forward = [](void*, const AtenTensorHandle* i, uint32_t, AtenTensorHandle* o,
                          uint32_t) {
    return engine::Guard([&] {  // exceptions must not leave this library
      o[0] =
          ops::Release(ops::Mul(ops::Borrow(i[0]), ops::Div(ops::Borrow(i[1]), ops::Borrow(i[2]))));
      return Status();
    });
  };
  // Gets what forward got, then the gradient of what it gave.
  const auto backward = [](void*, const AtenTensorHandle* i, uint32_t, AtenTensorHandle* o,
                           uint32_t) {
    return engine::Guard([&] {
      const ops::Tensor u = ops::Borrow(i[0]), m = ops::Borrow(i[1]), length = ops::Borrow(i[2]),
                        dz = ops::Borrow(i[3]);
      ops::Ints rows;
      for (int64_t d = 0; d + 1 < u.dim(); ++d) rows.push_back(d);
      o[0] = ops::Release(ops::Mul(dz, ops::Div(m, length)));
      o[1] = ops::Release(ops::Div(ops::Sum(ops::Mul(dz, u), rows, /*keep=*/false), length));
      o[2] = nullptr;
      return Status();
    });
  };
  return Status(
      engine::ThisHost().autograd->apply(forward, backward, nullptr, nullptr, in, 3, out, 1));
}

// What stands at an adapted linear. The host owns it and keeps what it replaced alive.
class DoraLinear : public engine::SiteImpl {
 public:
  DoraLinear(const engine_site_impl* base, ops::Tensor weight, ops::Tensor a, ops::Tensor b,
             double scale)
      : base_(base),
        weight_(std::move(weight)),
        a_(std::move(a)),
        b_(std::move(b)),
        scale_(scale),
        magnitude_(Length()) {
    ops::SetRequiresGrad(magnitude_, true);
  }
  const ops::Tensor& magnitude() const { return magnitude_; }

  Status Forward(engine_forward* pass, const AtenTensorHandle* in, uint32_t n_in,
                 AtenTensorHandle* out, uint32_t n_out) override {
    if (n_in != 1 || n_out != 1) return engine::Error(ENGINE_INVALID_ARGUMENT, "one in, one out");
    const ops::Tensor x = ops::Borrow(in[0]);
    std::optional<ops::Tensor> y;
    ENGINE_RETURN_IF_ERROR(engine::RunSite(*base_, pass, x, &y));
    const ops::Tensor u = ops::AddScaled(*y, ops::Linear(ops::Linear(x, a_), b_), scale_);
    return ScaleRows(u, magnitude_, Length(), out);
  }

 private:
  // |W + s B A| of each row; Detach keeps it out of the gradient.
  ops::Tensor Length() const {
    const ops::Tensor w =
        ops::AddScaled(weight_, ops::Matmul(ops::Detach(b_), ops::Detach(a_)), scale_);
    return ops::Sqrt(ops::Sum(ops::Mul(w, w), {1}, /*keep=*/false));
  }

  const engine_site_impl* base_;
  const ops::Tensor weight_, a_, b_;
  const double scale_;
  const ops::Tensor magnitude_;
};

struct Dora : engine::Transform {
  ENGINE_TRANSFORM("dora", "Adapters with a length of their own.", ENGINE_PHASE_ADAPTER)
  ENGINE_OPTIONS(DoraOptions)

  // First says what it will replace, without reading a weight; `engine explain` prints it.
  Status Plan(const engine::Model& model, engine::Diff& diff) override {
    const auto sites = model.Sites();
    for (uint32_t i = 0; i < sites.size(); ++i) {
      const auto& s = sites[i];
      if (s.kind != ENGINE_SITE_LINEAR) continue;
      const bool wanted = std::any_of(
          options.target.begin(), options.target.end(),
          [&](const std::string& t) { return engine::MatchesSite(t, engine::View(s.name)); });
      const int64_t bytes = 4 * (options.rank * (s.in + s.out) + s.out);
      if (wanted) ENGINE_RETURN_IF_ERROR(diff.Replace(i, "with a DoRA branch", 0, bytes));
    }
    return Status();
  }

  Status Rewrite(const engine::Model& model, uint32_t index,
                 std::unique_ptr<engine::SiteImpl>* out) override {
    const engine_site_info site = model.Sites()[index];
    std::optional<ops::Tensor> weight;
    ENGINE_RETURN_IF_ERROR(engine::ParamTensor(model, site.weight, &weight));

    // A is uniform in +-1/sqrt(in) and B zero, so that training begins at the base model. Numbers
    // depend on seed and name alone: the same adapter on every machine.
    const uint32_t dtype = model.Info().dtype;
    const std::string name(engine::View(site.name));
    ops::Tensor a = ops::Empty({options.rank, site.in}, ENGINE_F64);
    const engine::Philox random(options.seed, name);
    for (int64_t i = 0; i < a.numel(); ++i) {
      ops::Data<double>(a)[i] = (2 * random.Uniform(static_cast<uint64_t>(i)) - 1) /
                                std::sqrt(static_cast<double>(site.in));
    }
    a = ops::To(a, dtype);
    const ops::Tensor b = ops::Full({site.out, options.rank}, 0, dtype);
    auto linear = std::make_unique<DoraLinear>(model.Impl(index), ops::Detach(*weight), a, b,
                                               options.alpha / options.rank);
    ENGINE_RETURN_IF_ERROR(engine::AddTrained(model, name + ".dora_A", a));
    ENGINE_RETURN_IF_ERROR(engine::AddTrained(model, name + ".dora_B", b));
    ENGINE_RETURN_IF_ERROR(engine::AddTrained(model, name + ".dora_m", linear->magnitude()));
    *out = std::move(linear);
    return Status();
  }
};

}  // namespace samples::dora

ENGINE_PLUGIN((engine::PluginInfo{.id = "samples.dora",
                                  .version = "1.0.0",
                                  .summary = "DoRA adapters.",
                                  .license = "Apache-2.0",
                                  .schemas = samples::dora::kSchema,
                                  .schemas_size = sizeof samples::dora::kSchema}),
              engine::Nodes<>, engine::Transforms<samples::dora::Dora>)
