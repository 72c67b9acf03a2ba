// The fused parts of training, and recomputation, on a GPU: what they compute there is what they
// compute on the CPU. Skipped where LibTorch or the machine has no GPU.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/inductor/aoti_torch/utils.h>

#include <functional>

#include "engine/model/autograd.h"
#include "engine/model/loss.h"
#include "engine/model/train_ops.h"

namespace engine::tests {
namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;

torch::stable::Tensor ToStable(const Tensor& t) {
  return torch::stable::Tensor(torch::aot_inductor::new_tensor_handle(Tensor(t)));
}
Tensor ToAten(const torch::stable::Tensor& t) {
  return *torch::aot_inductor::tensor_handle_to_tensor_pointer(t.get());
}

class Cuda : public testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "no GPU here";
  }
};

// Numbers that do not depend on the device.
Tensor Waves(at::IntArrayRef sizes, double phase) {
  const int64_t count = c10::multiply_integers(sizes);
  return (at::arange(count, at::kDouble) * 0.731 + phase).sin().view(sizes) * 0.5;
}

// Outputs and gradients of a function of leaves, on a device, in a dtype; brought to the CPU in
// F64.
Tensors Results(const Tensors& leaves, at::Device device, at::ScalarType type,
                const std::function<Tensors(const Tensors&)>& f) {
  Tensors at_device, results;
  for (const Tensor& t : leaves) {
    at_device.push_back(t.detach().to(device, type).clone().set_requires_grad(true));
  }
  const Tensors outputs = f(at_device);
  Tensor sum = at::zeros({}, at::TensorOptions().device(device).dtype(type));
  for (const Tensor& y : outputs) {
    sum = sum + (y * Waves(y.sizes(), 1.0).to(device, type)).sum();
    results.push_back(y.detach().to(at::kCPU, at::kDouble));
  }
  torch::autograd::backward({sum}, {});
  for (const Tensor& t : at_device) {
    results.push_back(t.grad().defined() ? t.grad().to(at::kCPU, at::kDouble) : Tensor());
  }
  return results;
}

void Compare(const Tensors& leaves, const std::function<Tensors(const Tensors&)>& f) {
  const Tensors want = Results(leaves, at::kCPU, at::kDouble, f);
  for (const auto& [type, bound] : {std::pair(at::kDouble, 1e-10), std::pair(at::kFloat, 2e-4)}) {
    const Tensors got = Results(leaves, at::Device(at::kCUDA, 0), type, f);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_EQ(got[i].defined(), want[i].defined()) << i;
      if (!got[i].defined()) continue;
      EXPECT_LT((got[i] - want[i]).abs().max().item<double>(), bound) << "result " << i;
    }
  }
}

model::LinearParts Parts(const Tensor& w, const Tensor& a, const Tensor& b, double dropout = 0) {
  model::LinearParts p;
  p.weight = ToStable(w);
  p.a = ToStable(a);
  p.b = ToStable(b);
  p.scale = 2;
  p.dropout = {dropout, 5, 7};
  return p;
}

TEST_F(Cuda, Norms) {
  Compare({Waves({2, 9, 48}, 0), Waves({48}, 1)}, [](const Tensors& x) -> Tensors {
    return {ToAten(model::FusedNorm(ToStable(x[0]), ToStable(x[1]), 1e-5))};
  });
}

TEST_F(Cuda, LinearsWithBranchesAndRotation) {
  const Tensors leaves = {Waves({2, 9, 48}, 0), Waves({32, 48}, 1), Waves({4, 48}, 2),
                          Waves({32, 4}, 3),    Waves({16, 48}, 4), Waves({4, 48}, 5),
                          Waves({16, 4}, 6)};
  for (const double dropout : {0.0, 0.3}) {
    Compare(leaves, [&](const Tensors& x) -> Tensors {
      // Both halves of a head turn alike.
      const auto angles = [&](double phase) {
        const Tensor half = Waves({9, 8}, phase).to(x[0].options());
        return at::cat({half, half}, 1);
      };
      const Tensor cos = angles(0.1), sin = angles(0.7);
      const auto c = ToStable(cos), s = ToStable(sin);
      const auto y = model::FusedLinears(
          ToStable(x[0]), {Parts(x[1], x[2], x[3], dropout), Parts(x[4], x[5], x[6], dropout)},
          {{&c, &s}, {}});
      return {ToAten(y[0]), ToAten(y[1])};
    });
  }
}

TEST_F(Cuda, Mlps) {
  Compare({Waves({2, 9, 24}, 0), Waves({40, 24}, 1), Waves({3, 24}, 2), Waves({40, 3}, 3),
           Waves({40, 24}, 4), Waves({3, 24}, 5), Waves({40, 3}, 6), Waves({24, 40}, 7),
           Waves({3, 40}, 8), Waves({24, 3}, 9)},
          [](const Tensors& x) -> Tensors {
            return {ToAten(model::FusedMlp(ToStable(x[0]), Parts(x[1], x[2], x[3]),
                                           Parts(x[4], x[5], x[6]), Parts(x[7], x[8], x[9])))};
          });
}

TEST_F(Cuda, Losses) {
  for (const double smoothing : {0.0, 0.1}) {
    Compare({Waves({20, 24}, 0), Waves({50, 24}, 1)}, [&](const Tensors& x) -> Tensors {
      const auto whole = at::TensorOptions().device(x[0].device()).dtype(at::kLong);
      const Tensor rows = at::arange(2, 18, whole), labels = at::arange(16, whole) * 3 % 50;
      model::LinearParts head;
      head.weight = ToStable(x[1]);
      std::optional<torch::stable::Tensor> sum;
      const Status status = model::FusedLoss(ToStable(x[0]), ToStable(rows), ToStable(labels), head,
                                             smoothing, 5, &sum);
      EXPECT_TRUE(status.ok()) << status.message();
      return {ToAten(*sum)};
    });
  }
}

TEST_F(Cuda, RecomputationKeepsTheBits) {
  const at::Device gpu(at::kCUDA, 0);
  const Tensors leaves = {Waves({16, 24}, 0), Waves({24, 24}, 1)};
  const auto block = [](const Tensors& x) -> Tensors {
    return {at::silu(at::mm(x[0], x[1].t())) * x[0]};
  };
  const auto again = [&](const Tensors& x) -> Tensors {
    struct State {
      Tensor weight;
    };
    Tensor input = x[0], weight = x[1];
    const auto held = ToStable(input), param = ToStable(weight);
    AtenTensorHandle in = held.get(), params = param.get(), out = nullptr;
    const Status status(model::AutogradHost()->checkpoint(
        [](void* state, const AtenTensorHandle* i, uint32_t, AtenTensorHandle* o,
           uint32_t) -> engine_status* {
          const Tensor& t = *torch::aot_inductor::tensor_handle_to_tensor_pointer(i[0]);
          const Tensor& w = static_cast<State*>(state)->weight;
          o[0] = torch::aot_inductor::new_tensor_handle(at::silu(at::mm(t, w.t())) * t);
          return nullptr;
        },
        new State{weight}, [](void* state) { delete static_cast<State*>(state); }, &in, 1, &params,
        1, &out, 1));
    EXPECT_TRUE(status.ok()) << status.message();
    const torch::stable::Tensor owner(out);
    return {ToAten(owner)};
  };
  const Tensors want = Results(leaves, gpu, at::kFloat, block),
                got = Results(leaves, gpu, at::kFloat, again);
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(at::equal(got[i], want[i])) << i;
}

}  // namespace
}  // namespace engine::tests
