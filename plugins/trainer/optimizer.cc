#include "optimizer.h"

namespace engine::trainer {

Status Optimizer::Init(std::vector<Param> params) {
  params_ = std::move(params);
  for (const Param& param : params_) {
    dtype_ = ops::DtypeOf(param.tensor);
    if (dtype_ != ENGINE_F32 && dtype_ != ENGINE_F64) {
      return Error(ENGINE_UNIMPLEMENTED,
                   "training runs in F32 or F64; load the model in one of them");
    }
    MakeStates(param.tensor);
  }
  return Status();
}

void Optimizer::Step(const std::vector<ops::Tensor>& grads, double factor, double lr) {
  ++step_;
  for (size_t i = 0; i < params_.size(); ++i) {
    StepOne(i, ops::Contiguous(grads[i]), factor, lr * params_[i].lr_ratio);
  }
}

}  // namespace engine::trainer
