// AdamW over a list of tensors, on raw memory, in the order of torch.optim.AdamW's single-tensor
// form so that the results agree with it.
#ifndef PLUGINS_TRAINER_ADAMW_H_
#define PLUGINS_TRAINER_ADAMW_H_

#include <cstdint>
#include <vector>

#include "engine/status.hpp"
#include "engine/torch_ops.h"

namespace engine::trainer {

struct AdamWSettings {
  double beta1, beta2, eps, weight_decay;
};

class AdamW {
 public:
  struct Param {
    ops::Tensor tensor;
    double lr_ratio = 1;  // of the step's learning rate
  };
  // All in one dtype, F32 or F64, contiguous.
  Status Init(const AdamWSettings& settings, std::vector<Param> params);
  // One step with the gradients of all parameters times `factor`.
  void Step(const std::vector<ops::Tensor>& grads, double factor, double lr);

  // What a run that goes on needs; the tensors are the optimizer's own.
  const ops::Tensor& mean(size_t i) const { return mean_[i]; }
  const ops::Tensor& square(size_t i) const { return square_[i]; }
  void set_steps(int64_t steps) { step_ = steps; }

 private:
  template <typename T>
  void StepOf(const std::vector<ops::Tensor>& grads, double factor, double lr);
  AdamWSettings settings_ = {};
  std::vector<Param> params_;
  std::vector<ops::Tensor> mean_, square_;
  uint32_t dtype_ = ENGINE_F32;
  int64_t step_ = 0;
};

}  // namespace engine::trainer

#endif  // PLUGINS_TRAINER_ADAMW_H_
