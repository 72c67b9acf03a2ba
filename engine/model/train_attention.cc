// Causal attention as one autograd node over the kernels, forward and backward.
#include "engine/model/train_nodes.h"
#include "engine/model/train_ops.h"

namespace engine::model {
namespace {

struct AttentionNode : torch::autograd::Node {
  Saved saved;  // q, k, v
  Tensor out, log_sums;
  std::vector<kernels::CausalStretch> stretches;
  int64_t head_dim = 0;

  std::string name() const override { return "EngineAttention"; }
  void release_variables() override {
    saved.Drop();
    out = log_sums = Tensor();
  }
  static kernels::CausalArgs Args(const variable_list& qkv, int64_t head_dim,
                                  const std::vector<kernels::CausalStretch>& stretches) {
    return {qkv[0].size(1) / head_dim,
            qkv[1].size(1) / head_dim,
            head_dim,
            stretches,
            qkv[0].const_data_ptr<float>(),
            qkv[1].const_data_ptr<float>(),
            qkv[2].const_data_ptr<float>()};
  }
  variable_list apply(variable_list&& grads) override {
    const at::NoGradGuard no_grad;
    const variable_list kept = saved.Take();
    variable_list rows;
    for (const Tensor& t : kept) rows.push_back(AsRows(t).to(at::kFloat));
    const Tensor dout = AsRows(grads[0]).to(at::kFloat), y = out.to(at::kFloat);
    Tensor dq = at::empty_like(rows[0]), dk = at::zeros_like(rows[1]), dv = at::zeros_like(rows[2]);
    kernels::CausalBackward(Args(rows, head_dim, stretches), y.const_data_ptr<float>(),
                            log_sums.const_data_ptr<float>(), dout.const_data_ptr<float>(),
                            dq.mutable_data_ptr<float>(), dk.mutable_data_ptr<float>(),
                            dv.mutable_data_ptr<float>());
    variable_list result = {dq, dk, dv};
    for (size_t i = 0; i < 3; ++i) {
      result[i] = result[i].to(kept[i].scalar_type()).view(kept[i].sizes());
    }
    return result;
  }
};

}  // namespace

bool FusedAttention(const torch::stable::Tensor& q, const torch::stable::Tensor& k,
                    const torch::stable::Tensor& v, int64_t head_dim,
                    const std::vector<kernels::CausalStretch>& stretches,
                    std::optional<torch::stable::Tensor>* out) {
  const variable_list inputs = {ToAten(q), ToAten(k), ToAten(v)};
  for (const Tensor& t : inputs) {
    if (!OnRows(t)) return false;
  }
  auto node = c10::make_intrusive<AttentionNode>();
  node->stretches = stretches;
  node->head_dim = head_dim;
  variable_list outputs;
  {
    const at::NoGradGuard no_grad;
    variable_list rows;
    for (const Tensor& t : inputs) rows.push_back(AsRows(t).to(at::kFloat));
    Tensor wide = at::empty_like(rows[0]);
    node->log_sums = at::empty({rows[0].size(0), rows[0].size(1) / head_dim}, rows[0].options());
    kernels::CausalForward(AttentionNode::Args(rows, head_dim, stretches),
                           wide.mutable_data_ptr<float>(),
                           node->log_sums.mutable_data_ptr<float>());
    node->out = wide.to(inputs[0].scalar_type());
    outputs.push_back(node->out.view(inputs[0].sizes()));
  }
  if (Recording(inputs)) {
    for (const Tensor& t : inputs) node->saved.Keep(t);
    Record(node, inputs, &outputs);
  }
  *out = ToStable(outputs[0]);
  return true;
}

}  // namespace engine::model
