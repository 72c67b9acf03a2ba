#include "engine/model/torch_ops_reference.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/inductor/aoti_torch/utils.h>

#include <functional>
#include <map>

namespace engine::model {

std::vector<AtenTensorHandle> Reference(const std::string& function,
                                        const std::vector<AtenTensorHandle>& handles) {
  using T = const std::vector<at::Tensor>&;
  static const std::map<std::string, std::function<at::Tensor(T)>> kFunctions = {
      {"Add", [](T x) { return x[0] + x[1]; }},
      {"AddScaled", [](T x) { return at::add(x[0], x[1], 0.3); }},
      {"Sub", [](T x) { return x[0] - x[1]; }},
      {"Mul", [](T x) { return x[0] * x[1]; }},
      {"Scale", [](T x) { return x[0] * 1.7; }},
      {"Div", [](T x) { return x[0] / (x[1] * x[1] + 1.0); }},
      {"Neg", [](T x) { return -x[0]; }},
      {"Abs", [](T x) { return x[0].abs(); }},
      {"Exp", [](T x) { return x[0].exp(); }},
      {"Log", [](T x) { return (x[0] * x[0] + 1.0).log(); }},
      {"Sqrt", [](T x) { return (x[0] * x[0] + 1.0).sqrt(); }},
      {"Rsqrt", [](T x) { return (x[0] * x[0] + 1.0).rsqrt(); }},
      {"Sigmoid", [](T x) { return x[0].sigmoid(); }},
      {"Tanh", [](T x) { return x[0].tanh(); }},
      {"Relu", [](T x) { return x[0].relu(); }},
      {"Silu", [](T x) { return at::silu(x[0]); }},
      {"Matmul", [](T x) { return at::matmul(x[0], x[1].transpose(0, 1)); }},
      {"Linear", [](T x) { return at::linear(x[0], x[1]); }},
      {"Softmax", [](T x) { return at::softmax(x[0], 1); }},
      {"LogSoftmax", [](T x) { return at::log_softmax(x[0], 1); }},
      {"Mean", [](T x) { return x[0].mean(1, true); }},
      {"Sum", [](T x) { return x[0].sum(0); }},
      {"Amax", [](T x) { return x[0].amax(1); }},
      {"Reshape",
       [](T x) {
         return x[0].reshape({2, -1});
       }},
      {"Permute",
       [](T x) {
         return x[0].permute({1, 0}).contiguous();
       }},
      {"Narrow", [](T x) { return x[0].narrow(1, 1, 3); }},
      {"Cat",
       [](T x) {
         return at::cat({x[0], x[1]}, 1);
       }},
      {"Stack",
       [](T x) {
         return at::stack({x[0], x[1]}, 0);
       }},
      {"Expand",
       [](T x) {
         return x[0].unsqueeze(0).expand({3, 4, 6});
       }},
      {"Where", [](T x) { return at::where(x[0].detach().eq(x[0].detach().abs()), x[0], x[1]); }},
      {"Attention",
       [](T x) {
         const at::Tensor q = x[0].reshape({1, 2, 4, 3});
         const at::Tensor k = x[1].reshape({1, 2, 4, 3}).narrow(1, 0, 1);
         return at::scaled_dot_product_attention(q, k, k, {}, 0.0, true, std::nullopt, true);
       }},
      {"CrossEntropy",
       [](T x) {
         const at::Tensor labels = at::tensor({1, 5, -100, 0}, at::kLong);
         return at::cross_entropy_loss(x[0], labels, {}, 2, -100, 0.0);
       }},
      {"Embedding",
       [](T x) {
         return at::embedding(x[0], at::tensor({3, 0, 3}, at::kLong));
       }},
  };
  std::vector<at::Tensor> inputs;
  for (AtenTensorHandle h : handles) {
    inputs.push_back(torch::aot_inductor::tensor_handle_to_tensor_pointer(h)->detach().clone());
    inputs.back().set_requires_grad(true);
  }
  const at::Tensor result = kFunctions.at(function)(inputs);
  torch::autograd::backward({(result * result).sum()});
  std::vector<AtenTensorHandle> out = {
      torch::aot_inductor::new_tensor_handle(result.detach().contiguous())};
  for (const at::Tensor& input : inputs) {
    out.push_back(input.grad().defined()
                      ? torch::aot_inductor::new_tensor_handle(at::Tensor(input.grad()))
                      : nullptr);
  }
  return out;
}

}  // namespace engine::model
