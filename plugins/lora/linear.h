// What the transform puts at a linear: the branch beside whatever stood there. Autograd records it
// by itself. Invariant: outside training it computes what engine.low_rank/1 says of its table.
#ifndef PLUGINS_LORA_LINEAR_H_
#define PLUGINS_LORA_LINEAR_H_

#include <optional>
#include <string>

#include "engine/torch_ops.h"
#include "engine/transform.hpp"

namespace engine::lora {

// What the parameters of a branch at `site` are called: as PEFT names them in its files, and for a
// named adapter as in its models.
struct BranchNames {
  std::string a, b, magnitude, dropout;
  BranchNames(const std::string& site, const std::string& adapter) {
    const std::string end = adapter.empty() ? ".weight" : "." + adapter + ".weight";
    a = site + ".lora_A" + end;
    b = site + ".lora_B" + end;
    magnitude = site + ".lora_magnitude_vector" + (adapter.empty() ? "" : end);
    dropout = site + ".lora_dropout" + (adapter.empty() ? "" : "." + adapter);
  }
};

// The tensors of a branch; those that are trained are leaves.
struct BranchTensors {
  ops::Tensor a, b;                             // [rank, in], [out, rank]
  std::optional<ops::Tensor> magnitude;         // [out]
  std::optional<ops::Tensor> start_a, start_b;  // see engine_low_rank
};

// Lengths of the rows of W + scale * B·A, [out], where W is the model's parameter `weight`. No part
// of any gradient.
Status RowLengths(engine_model* model, uint32_t weight, const ops::Tensor& a, const ops::Tensor& b,
                  double scale, std::optional<ops::Tensor>* out);

struct DropoutOption {
  double p = 0;
  uint64_t seed = 0;
};

class LoraLinear : public SiteImpl {
 public:
  // `weight` is the number of the site's parameter; `adapter` is empty where it has no name.
  LoraLinear(const engine_site_impl* base, const std::string& site, const std::string& adapter,
             uint32_t weight, BranchTensors tensors, double scale, const DropoutOption& dropout);

  Status Forward(engine_forward* pass, const AtenTensorHandle* in, uint32_t n_in,
                 AtenTensorHandle* out, uint32_t n_out) override;
  const void* Extension(std::string_view id) override {
    return id == ENGINE_EXT_LOW_RANK ? &table_ : nullptr;
  }

 private:
  const BranchTensors tensors_;
  const std::string adapter_;
  const uint32_t weight_;
  engine_low_rank table_ = {};
};

}  // namespace engine::lora

#endif  // PLUGINS_LORA_LINEAR_H_
